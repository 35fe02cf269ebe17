"""A real S3 server for tests: moto's, in a process of its own, loopback only, its objects in memory, gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest

BUCKET = "lake"
KEY = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "geheimgeheimgeheimgeheimgeheimgeheimgehe"}
"""Any will do; moto does not check signatures."""
_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@contextmanager
def running_objects() -> Iterator[str]:
    """The URL of an S3 server with an empty bucket, up for the block.

    Skips the test when moto is not installed; fails instead where the variable CI is set.
    """
    if importlib.util.find_spec("moto") is None:
        sentence = "moto is not installed; `pip install 'moto[s3]' flask flask-cors` provides it"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _make_bucket(url, server)
            yield url
        finally:
            server.terminate()


def environment(url: str) -> dict[str, str]:
    """What a process needs to reach the server."""
    return {**KEY, "AWS_ENDPOINT_URL_S3": url, "AWS_REGION": "us-east-1"}


def objects(url: str, prefix: str = "") -> dict[str, bytes]:
    """Every object below the prefix, by its key."""
    found: dict[str, bytes] = {}
    more = ""
    while True:
        listing = ET.fromstring(_get(f"{url}/{BUCKET}?list-type=2&prefix={prefix}{more}"))  # noqa: S314 - of our own server
        for key in listing.iter(f"{_NAMESPACE}Key"):
            found[str(key.text)] = _get(f"{url}/{BUCKET}/{quote(str(key.text))}")
        token = listing.findtext(f"{_NAMESPACE}NextContinuationToken")
        if token is None:
            return found
        more = f"&continuation-token={token}"


def remove(url: str, key: str) -> None:
    """Delete one object."""
    _ask(f"{url}/{BUCKET}/{quote(key)}", "DELETE")


def _get(url: str) -> bytes:
    return _ask(url, "GET")


def _ask(url: str, method: str) -> bytes:
    asked = urllib.request.Request(url, headers=_SIGNED, method=method)  # noqa: S310 - of this machine
    with urllib.request.urlopen(asked, timeout=30) as response:  # noqa: S310 - the same
        return bytes(response.read())


def _make_bucket(url: str, server: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=30).close()  # noqa: S310
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return
