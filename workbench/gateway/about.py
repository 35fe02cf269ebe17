"""What a caller says of a request in its headers: for whom it is, to which talk it belongs, how long it waits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from workbench.controls.admission import LONGEST_NAME
from workbench.controls.model import Priority
from workbench.gateway.problem import bad_request

Headers = Mapping[bytes, bytes]
"""Names in lower case. Of a name that came twice, the last."""

_UNIT, _SESSION, _WORKFLOW = b"x-workbench-unit", b"x-workbench-session", b"x-workbench-workflow"
_DEADLINE_MS, _READ_TIMEOUT_S = b"x-deadline-ms", b"x-stainless-read-timeout"
_PRIORITY, _CALLBACK, _RETRIES = b"x-workbench-priority", b"x-workbench-callback", b"x-stainless-retry-count"
_PRIORITIES: Mapping[bytes, Priority] = {b"interactive": "interactive", b"batch": "batch", b"shadow": "shadow"}
_MOST_RETRIES = 100
_DIGITS = 9
"""Python turns no text of thousands of digits into a number."""
_MOST_METADATA, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
"""OpenAI's limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a request is about, besides what it asks."""

    unit: str | None
    session: str | None
    workflow: str | None
    metadata: Mapping[str, str]
    deadline_s: float | None
    """Seconds that the caller still waits, not above 0 when it is past; None when it does not say."""
    priority: Priority = "interactive"
    callback: str | None = None
    """Name of the app's callback to which a held answer is delivered."""
    retries: int = 0
    """How often the caller's own client tried before."""


def about(asked: Mapping[str, Any], headers: Headers) -> About:
    """What body and headers say; a header wins.

    Raises:
        Problem: something of it is malformed.
    """
    metadata = _metadata(asked.get("metadata"))
    session = _first(_text(headers, _SESSION), metadata.get("session_id"))
    return About(
        unit=_first(_text(headers, _UNIT), _name(asked, "safety_identifier"), _name(asked, "user"), session),
        session=session,
        workflow=_first(_text(headers, _WORKFLOW), metadata.get("workflow")),
        metadata=metadata,
        deadline_s=_deadline_s(headers),
        priority=_priority(headers),
        callback=_text(headers, _CALLBACK),
        retries=_retries(headers),
    )


def _metadata(metadata: Any) -> Mapping[str, str]:
    if metadata is None:
        return {}
    if type(metadata) is not dict or len(metadata) > _MOST_METADATA:
        raise bad_request(f"metadata: an object of at most {_MOST_METADATA} entries is needed.", param="metadata")
    for key, value in metadata.items():
        if type(value) is not str or len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            limits = f"names of at most {_LONGEST_KEY} and texts of at most {_LONGEST_VALUE} characters are needed"
            raise bad_request(f"metadata: {limits}.", param="metadata")
    return metadata


def _name(asked: Mapping[str, Any], name: str) -> str | None:
    value = asked.get(name)
    if value is None:
        return None
    if type(value) is not str or len(value) > LONGEST_NAME:
        raise bad_request(f"{name}: text of at most {LONGEST_NAME} characters is needed.", param=name)
    return value


def _first(*names: str | None) -> str | None:
    """The first name that says something, without the blanks around it: a header cannot carry those."""
    for name in names:
        if name and (said := name.strip()):
            return said
    return None


def _text(headers: Headers, name: bytes) -> str | None:
    """A header's text in UTF-8; None when it is absent.

    Raises:
        Problem: it is not UTF-8, or too long.
    """
    raw = headers.get(name)
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise bad_request(f"The header {name.decode()} is not UTF-8.", param=name.decode()) from None
    if len(text) > LONGEST_NAME:
        raise bad_request(f"The header {name.decode()} is longer than {LONGEST_NAME} characters.", param=name.decode())
    return text


def _priority(headers: Headers) -> Priority:
    """Who waits for the answer; a person where nothing is said.

    Raises:
        Problem: it is none of the three.
    """
    raw = headers.get(_PRIORITY)
    if raw is None:
        return "interactive"
    known = _PRIORITIES.get(raw)
    if known is None:
        raise bad_request(f"The header {_PRIORITY.decode()} is interactive, batch or shadow.", param=_PRIORITY.decode())
    return known


def _retries(headers: Headers) -> int:
    """What OpenAI's clients say of their own retries; 0 where it is no number, as nothing hangs on it but a budget."""
    raw = headers.get(_RETRIES, b"")
    return min(int(raw[:_DIGITS]), _MOST_RETRIES) if raw.isdigit() else 0


def _deadline_s(headers: Headers) -> float | None:
    """Seconds that the caller still waits: our own header, else the one that OpenAI's clients send.

    Raises:
        Problem: it is not a number.
    """
    for name, per_second in ((_DEADLINE_MS, 1000.0), (_READ_TIMEOUT_S, 1.0)):
        raw = headers.get(name)
        if raw is None:
            continue
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            raise bad_request(f"The header {name.decode()} is not a number.", param=name.decode())
        return value / per_second
    return None
