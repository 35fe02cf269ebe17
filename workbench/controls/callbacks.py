"""Telling a client's own server what a person decided: where to, how it is signed, and the sending.

Where to is declared in app.yaml; a request can name a callback, never an address. A letter is signed as Standard Webhooks 1.0 has it
(HMAC-SHA256 over id, time and body), so that any library of that name checks it. Its id is the handoff's: one that comes twice is the same.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
import orjson

from workbench.controls.addresses import in_capitals, secret_of
from workbench.controls.handoff import Handoff, HandoffResult
from workbench.errors import UsageError, WorkbenchError
from workbench.spec.app import AppSpec
from workbench.spec.faults import suggestion

TIMEOUT_S = 10.0
"""For one letter, until its answer's head is there; shorter than the first pause between two attempts."""
_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What one callback is told."""

    handoff_id: str
    app: str
    callback: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """Where a callback is, and what signs what is sent there."""

    url: str
    secret: bytes = field(repr=False)


def letter_of(handoff: Handoff, result: HandoffResult) -> Letter:
    """The letter that tells a decision."""
    body = {
        "handoff_id": handoff.handoff_id,
        "request_id": handoff.request_id,
        "app": handoff.app,
        "decision": result.decision,
        "answer": result.answer,
        "tool_calls": list(result.tool_calls),
    }
    return Letter(handoff_id=handoff.handoff_id, app=handoff.app, callback=handoff.callback or "", body=orjson.dumps(body))


def signed(letter: Letter, secret: bytes, *, at: datetime) -> dict[str, str]:
    """The headers under which a letter is sent.

    Source: Standard Webhooks, version 1.0.
    """
    seconds = str(int(at.timestamp()))
    mac = hmac.digest(secret, b".".join((letter.handoff_id.encode(), seconds.encode(), letter.body)), "sha256")
    return {
        "Content-Type": "application/json",
        "webhook-id": letter.handoff_id,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{b64encode(mac).decode()}",
    }


def variable(app: str, callback: str) -> str:
    """The environment variable with a callback's secret: `WORKBENCH_CALLBACK_SHOP__ORDERS_KEY` for `orders` of `shop`."""
    return f"WORKBENCH_CALLBACK_{in_capitals(app)}__{in_capitals(callback)}_KEY"


class Courier:
    """Sends letters to the declared callbacks.

    Args:
        app_spec: the declaration of an app, or None for an app that nobody declared.
        environ: where the secrets are.
        timeout_s: for one letter.
    """

    def __init__(self, app_spec: Callable[[str], AppSpec | None], environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._app_spec = app_spec
        self._environ = environ
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    def url(self, app: str, callback: str) -> str:
        """Where a callback is.

        Raises:
            UsageError: the app declares none of that name.
        """
        spec = self._app_spec(app)
        known = spec.handoff.callbacks if spec and spec.handoff else {}
        if callback not in known:
            seen = f"the app declares none of that name{suggestion(callback, known)}"
            raise UsageError(f"callback of {app}", seen=seen, needed="one of `handoff: callbacks` in app.yaml")
        return known[callback]

    def mailbox(self, app: str, callback: str) -> Mailbox:
        """Where a callback is, and what signs what is sent there.

        Raises:
            UsageError: it is not declared, or its secret is not set or is none; the secret is not quoted.
        """
        return Mailbox(url=self.url(app, callback), secret=_secret(variable(app, callback), self._environ))

    def post(self, letters: Sequence[Letter], *, at: datetime) -> tuple[str | None, ...]:
        """Send the letters, all at once; for each None when it arrived, else what went wrong, without any text of it."""
        return asyncio.run(self._post_all(letters, at))

    async def _post_all(self, letters: Sequence[Letter], at: datetime) -> tuple[str | None, ...]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=self._timeout) as session:
            return tuple(await asyncio.gather(*(self._post(session, letter, at) for letter in letters)))

    async def _post(self, session: aiohttp.ClientSession, letter: Letter, at: datetime) -> str | None:
        try:
            mailbox = await asyncio.to_thread(self.mailbox, letter.app, letter.callback)
            headers = signed(letter, mailbox.secret, at=at)
            async with session.post(mailbox.url, data=letter.body, headers=headers, allow_redirects=False) as response:
                return None if 200 <= response.status < 300 else f"it answered {response.status}"  # noqa: PLR2004 - any success
        except WorkbenchError as fault:
            return str(fault)
        except TimeoutError:
            return "it did not answer in time"
        except aiohttp.ClientError:
            return "it cannot be reached"


def _secret(name: str, environ: Mapping[str, str]) -> bytes:
    needed = f"{_PREFIX} and the base64 of {_SECRET_BYTES.start} to {_SECRET_BYTES.stop - 1} random bytes"
    text = secret_of(name, environ)
    if text is None:
        raise UsageError(name, seen="it is not set, so nothing can be signed", needed=needed, next_step=f"set it, or {name}_FILE")
    try:
        secret = b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith(_PREFIX) or len(secret) not in _SECRET_BYTES:
        raise UsageError(name, seen="it is no secret of a webhook", needed=needed)
    return secret
