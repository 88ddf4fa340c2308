"""Secrets in URLs: what is refused, and what is left out where a URL is written down."""

from __future__ import annotations

import pytest

from ddfa_batch.schemas.errors import InputError
from ddfa_batch.tasks.files.url_secrets import refuse_password, refuse_secrets, without_secrets


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://bucket/a b.jpg", "s3://bucket/a b.jpg"),
        ("https://h/a.jpg?size=full&page=2", "https://h/a.jpg?size=full&page=2"),
        (
            "https://h/a?X-Amz-Credential=k/2026&X-Amz-Signature=s&v=1",
            "https://h/a?X-Amz-Credential=…&X-Amz-Signature=…&v=1",
        ),
        ("https://h/a?sv=1&sig=s%3D#x", "https://h/a?sv=…&sig=…#x"),
        ("https://h/a?access_token=s two", "https://h/a?access_token=… two"),
        ("got 403 of 'https://me:pw@h/a?key-pair-id=s'", "got 403 of 'https://…@h/a?key-pair-id=…'"),
        ("photos/?token=mine", "photos/?token=mine"),
    ],
)
def test_secrets_are_left_out_of_urls_and_of_nothing_else(text: str, kept: str) -> None:
    assert without_secrets(text) == kept


@pytest.mark.parametrize("url", ["https://me:pw@h/a.jpg", "sftp://:pw@h/a", "S3://k:pw@b/x?sig=pw"])
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    for refuse in (refuse_password, refuse_secrets):
        with pytest.raises(InputError) as raised:
            refuse(url)
        assert "pw" not in str(raised.value)


def test_a_signature_is_refused_for_an_output_only() -> None:
    url = "https://h/a?Signature=pw"
    assert refuse_password(url) == url
    with pytest.raises(InputError, match="has credentials in it"):
        refuse_secrets(url)


@pytest.mark.parametrize("url", ["s3://bucket/x@y:z/a", "sftp://me@h/a", "s3://bucket/a?versionId=3"])
def test_what_only_looks_like_a_secret_is_taken(url: str) -> None:
    assert refuse_secrets(url) == url
