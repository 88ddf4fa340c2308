"""Secrets in URLs: passwords are refused, and what signs a URL is written down nowhere but where it is needed."""

from __future__ import annotations

import re

from ddfa_batch.schemas.errors import InputError

#: A user and a password before the host.
_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.-]+://)([^/?#\s@]*:[^/?#\s@]*)@")
#: Parameters of a query that are a secret, or sign it: of Amazon, Google, Azure, CloudFront, and whatever says so.
_SECRET = re.compile(
    r"(?i)([?&;](?:x-amz-[a-z-]+|x-goog-[a-z-]+|awsaccesskeyid|googleaccessid|signature|sig|se|sp|sv|sr|st|ske|skoid"
    r"|policy|key-pair-id|expires|[a-z_-]*(?:token|secret|password|passwd|api[_-]?key|access[_-]?key|auth)[a-z_-]*)=)"
    r"[^&;#\s'\"]+"
)


def without_secrets(text: str) -> str:
    """A text with URLs in it, what is secret in them left out."""
    if "://" not in text:
        return text
    return _SECRET.sub(r"\1…", _PASSWORD.sub(r"\1…@", text))


def refuse_password(url: str) -> str:
    """The URL; raises `InputError` where a password stands in it, which would end in every table."""
    if _PASSWORD.search(url):
        raise InputError(
            f"{without_secrets(url)} has a password in it, which would be written into tables; give it to fsspec by "
            "the environment or its configuration file (docs/inputs.md)."
        )
    return url


def refuse_secrets(url: str) -> str:
    """The URL of an output folder; raises `InputError` where anything secret stands in it."""
    if _SECRET.search(refuse_password(url)):
        raise InputError(
            f"{without_secrets(url)} has credentials in it; give them to fsspec by the environment or its "
            "configuration file (docs/inputs.md)."
        )
    return url
