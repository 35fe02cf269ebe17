"""Where providers are, and their keys: read from the environment, never from a spec, so that neither is registered, diffed or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from workbench.errors import UsageError

_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a provider is."""

    name: str
    url: str
    """Base URL, without the slash at its end."""
    key: str | None = field(repr=False)


def variable(name: str, what: str) -> str:
    """The environment variable that says something about a provider: `WORKBENCH_PROVIDER_MY_HOST_URL` for `my-host`."""
    return f"WORKBENCH_PROVIDER_{in_capitals(name)}_{what}"


def in_capitals(name: str) -> str:
    """The name as a part of an environment variable's."""
    return re.sub("[^A-Z0-9]+", "_", name.upper())


def address_of(name: str, environ: Mapping[str, str]) -> Address | None:
    """What the environment says of the provider; None when it gives no URL.

    Raises:
        UsageError: the URL or the key is nothing that can be used; the key is not quoted.
    """
    url = environ.get(variable(name, "URL"), "").strip().rstrip("/")
    if not url:
        return None
    if not _is_base_url(url):
        raise UsageError(
            variable(name, "URL"),
            seen="it is no base URL, or holds a user or a password",
            needed="for example https://api.example.com/v1",
            next_step=f"the key belongs into {variable(name, 'KEY_FILE')}",
        )
    return Address(name=name, url=url, key=secret_of(variable(name, "KEY"), environ))


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_place = parts.hostname is not None and parts.port != 0
    except ValueError:
        return False
    return has_place and parts.scheme in ("http", "https") and not (parts.query or parts.fragment or parts.username or parts.password)


def secret_of(name: str, environ: Mapping[str, str]) -> str | None:
    """The secret in the variable, or in the file that the variable of that name and `_FILE` names; None where neither is set.

    Raises:
        UsageError: both are set, the file cannot be read, or it is nothing that a header can carry. It is not quoted.
    """
    given, path = environ.get(name, "").strip(), environ.get(f"{name}_FILE", "").strip()
    if given and path:
        raise UsageError(name, seen=f"{name}_FILE is set, too", needed="one of them", next_step="unset the other one")
    if path:
        try:
            given = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not plain text"
            raise UsageError(f"{name}_FILE", seen=f"{path}: {why}", needed="a file that holds the key alone") from None
    if given and not _KEY.fullmatch(given):
        raise UsageError(name, seen="the key has blanks or characters that no key has", needed="the key alone, on one line")
    return given or None
