"""Buttons: what one stands for, and proof that this bot made it. What it may do is decided at the click, by the server's state alone."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from workbench.errors import NotPermitted

_VALUE = re.compile(r"(?P<release>[a-z0-9_-]+\.[0-9]+):(?P<version>[0-9]+):(?P<seal>[0-9a-f]{16})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """What a pressed button stands for."""

    act: str
    release_id: str
    version: int
    """Of the release, when the button was drawn."""


class Seal:
    """Makes and reads the values of buttons.

    Args:
        key: the workspace's own.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def value(self, click: Click) -> str:
        """`support.3:4:<seal>`."""
        return f"{click.release_id}:{click.version}:{self._of(click)}"

    def read(self, act: str, value: str) -> Click:
        """What the button of this act and value stands for.

        Raises:
            NotPermitted: this workspace's bot did not make it.
        """
        found = _VALUE.fullmatch(value)
        click = Click(act=act, release_id=found["release"], version=int(found["version"])) if found else None
        if found is None or click is None or not hmac.compare_digest(self._of(click), found["seal"]):
            raise NotPermitted(
                f"button {act}", seen="it was not made by this bot", next_step="type the command instead, `/release help` shows it"
            )
        return click

    def _of(self, click: Click) -> str:
        text = f"{click.act}\n{click.release_id}\n{click.version}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:16]
