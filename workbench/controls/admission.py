"""A call as it comes in, checked: what cannot be served or stored is refused before anything begins."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

from workbench.controls.deadline import DEFAULT_S
from workbench.controls.model import Asked, Call, Message, Priority
from workbench.controls.refusals import bad_request

LONGEST_NAME = 256
"""Characters of a unit, a session, a workflow or a request id."""
MOST_METADATA, LONGEST_METADATA = 64, 2048
"""Entries, and characters of a value."""
_ROLES = ("system", "developer", "user", "assistant", "tool")
_LAST = ("user", "tool")
"""Whose message may be the last: there is nothing to answer after the others."""


LIBRARY = "library"
"""The edge of calls that come from the same process."""
WHOLE = Asked()
"""The form of an answer about which the caller says nothing."""


class About(TypedDict, total=False):
    """What a caller may say about a call, besides the app and the messages."""

    unit: str | None
    """Whom it is for; without one the stable bundle answers, outside the comparison."""
    session: str | None
    """The talk that it belongs to."""
    workflow: str | None
    """What the user came to do, as app.yaml names it."""
    metadata: Mapping[str, str] | None
    """For the assistant's tools and the log."""
    deadline_s: float | None
    """Seconds from now that the caller waits; not above 0 when that moment is past."""
    request_id: str | None
    """Names the request in the log; made where none is given."""
    source: str
    """The edge that the call came by."""
    asked: Asked
    """The form of the answer, where the caller has a say in it."""
    priority: Priority
    """Under load, what nobody waits for is refused first."""
    callback: str | None
    """Name of the app's callback to which a held answer is delivered."""
    retries: int
    """How often the caller's own client tried before."""


def call_of(app: str, messages: Sequence[Message], *, received_at: datetime, **about: Unpack[About]) -> Call:
    """The call, when it is one.

    Raises:
        RequestRefused: `bad_request`, with the place that is wrong; nothing of the content is quoted.
    """
    if not _is_text(app):
        raise bad_request("the app is no name", needed="text")
    return Call(
        request_id=_name("request_id", about.get("request_id")) or _new_id(),
        app=app,
        messages=_messages(messages),
        unit=_name("unit", about.get("unit")),
        session_id=_name("session", about.get("session")),
        workflow=_name("workflow", about.get("workflow")),
        metadata=_metadata(about.get("metadata") or {}),
        received_at=received_at,
        deadline_s=_deadline(about.get("deadline_s")),
        source=about.get("source", LIBRARY),
        asked=about.get("asked", WHOLE),
        priority=about.get("priority", "interactive"),
        callback=_name("callback", about.get("callback")),
        retries=about.get("retries", 0),
    )


def _messages(messages: Any) -> tuple[Message, ...]:
    if not isinstance(messages, list | tuple):
        raise bad_request("messages is no list", needed="a list of messages")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise bad_request(f"messages[{place}] is no message", needed=f"an object with a role: {', '.join(_ROLES)}")
        if message["role"] == "user" and not _is_content(message.get("content")):
            raise bad_request(f"messages[{place}].content is no text", needed="a user's message with text, or with parts that have a type")
    if not messages or messages[-1]["role"] not in _LAST:
        raise bad_request(
            "the last message is not the user's" if messages else "messages is empty",
            needed="a message of the user, or a tool's result, at the end",
        )
    return tuple(messages)


def _is_content(content: object) -> bool:
    if isinstance(content, str):
        return True
    return isinstance(content, list) and bool(content) and all(isinstance(p, dict) and isinstance(p.get("type"), str) for p in content)


def require_text(call: Call) -> None:
    """Return when every message is plain text, as a hosted assistant expects it.

    Raises:
        RequestRefused: `bad_request`, with the place of the first that is not.
    """
    for place, message in enumerate(call.messages):
        if isinstance(message.get("content"), list):
            raise bad_request(f"messages[{place}].content has parts", needed="plain text, for this app runs its own assistant")


def _name(what: str, value: Any) -> str | None:
    """The name; None for an empty one."""
    if value is None or value == "":
        return None
    if not _is_text(value) or len(value) > LONGEST_NAME:
        raise bad_request(f"{what} is no name", needed=f"text of at most {LONGEST_NAME} characters")
    return str(value)


def _metadata(metadata: Any) -> Mapping[str, str]:
    if not isinstance(metadata, Mapping) or len(metadata) > MOST_METADATA:
        raise bad_request("metadata is no object of that size", needed=f"at most {MOST_METADATA} entries")
    for key, value in metadata.items():
        if not _is_text(key) or not _is_text(value) or len(key) > LONGEST_NAME or len(value) > LONGEST_METADATA:
            raise bad_request(
                "metadata has an entry that is no short text", needed=f"text, values of at most {LONGEST_METADATA} characters"
            )
    return dict(metadata)


def _deadline(deadline_s: Any) -> float:
    if deadline_s is None:
        return DEFAULT_S
    if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float) or math.isnan(deadline_s):
        raise bad_request("the deadline is no number", needed="seconds from now")
    return float(deadline_s)


def _new_id() -> str:
    """An id that no other request has; it need not be secret, and asking the kernel for randomness takes longer than all the rest here."""
    return f"req_{random.getrandbits(96):024x}"


def _is_text(value: object) -> bool:
    """Whether it is text that can be stored: no halves of surrogate pairs."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
