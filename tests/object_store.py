"""Servers on loopback: an S3 store in a process of its own, and one before it that fails, or never answers."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

#: What any client needs; the store takes every key.
CREDENTIALS = {"key": "test", "secret": "test", "client_kwargs": {"region_name": "us-east-1"}}

#: A great number of files. They are put there before the store serves: by requests it takes minutes.
MANY = 10_000
_STORE = """
import sys

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import main

store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
store.create_bucket("many", "us-east-1")
for i in range(int(sys.argv[1])):
    store.put_object("many", f"d/{i:05d}.jpg", b"")
main(["-H", "127.0.0.1", "-p", "0"])
"""


@contextlib.contextmanager
def s3_server(folder: Path, many: int = 0) -> Iterator[str]:
    """The address of a store that ends with the context; many: how many empty files s3://many/d/ has."""
    log = folder / "moto.log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", _STORE, str(many)], stdout=file, stderr=file)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(20)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(600):
        said = log.read_text()
        if "http://127.0.0.1:" in said:
            return "http://127.0.0.1:" + said.partition("http://127.0.0.1:")[2].split()[0]
        assert process.poll() is None, said
        time.sleep(0.1)
    raise AssertionError(said)


def put(endpoint: str, bucket: str, files: Mapping[str, bytes]) -> None:
    """Make a bucket of files."""
    import botocore.session

    session = botocore.session.get_session()
    client = session.create_client(
        "s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    with contextlib.closing(client):
        client.create_bucket(Bucket=bucket)
        for name, data in files.items():
            client.put_object(Bucket=bucket, Key=name, Body=data)


def variables(endpoint: str) -> dict[str, str]:
    """The environment in which s3:// means the store at `endpoint`."""
    settings = {"ENDPOINT_URL": endpoint, "KEY": "test", "SECRET": "test"}
    return {f"FSSPEC_S3_{name}": value for name, value in settings.items()}


#: Says of the nth request and its path what becomes of it: a status, seconds to wait, or None to be passed on.
Trouble = Callable[[int, str], "int | float | None"]
#: What answers a request: of method, path, headers and body.
Answering = Callable[[str, str, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]


@contextlib.contextmanager
def server(answer: Answering) -> Iterator[str]:
    """The address of a server which answers as told."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = answer(self.command, self.path, dict(self.headers), sent)
            with contextlib.suppress(OSError):  # who asked has gone
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the base class calls them so

        def log_message(self, *_: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


@contextlib.contextmanager
def troubled(endpoint: str, trouble: Trouble, named: bool = False) -> Iterator[str]:
    """The address of a server that passes on to `endpoint` what `trouble` lets through; named: told methods, too."""
    count = itertools.count()

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if (met := trouble(next(count), f"{method} {path}" if named else path)) is not None:
            if isinstance(met, int):
                return met, {}, b""
            time.sleep(met)
        passed = {"Content-Type": "application/octet-stream", **headers}
        passed.pop("Expect", None)
        request = urllib.request.Request(endpoint + path, body or None, passed, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, _kept(response.headers), response.read()
        except urllib.error.HTTPError as fault:
            with fault:
                return fault.code, _kept(fault.headers), fault.read()
        except OSError:  # the test is over, and the store with it
            return 502, {}, b""

    with server(answer) as address:
        yield address


def _kept(headers: Any) -> dict[str, str]:
    kept = ("content-type", "content-length", "etag", "last-modified", "content-range", "accept-ranges")
    return {name: value for name, value in headers.items() if name.lower() in kept}
