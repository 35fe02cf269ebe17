"""What happened after an answer, told over HTTP: one event, or many under `events`; all of them are stored, or none. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from workbench.errors import RecordRefused, StoreError
from workbench.gateway.json_body import json_object
from workbench.gateway.problem import Problem, bad_request
from workbench.observability.feedback_log import Accepted

FEEDBACK, OUTCOMES = "/v1/feedback", "/v1/outcomes"
KIND_OF: Mapping[str, str] = {FEEDBACK: "scores", OUTCOMES: "outcomes"}
"""Route to the kind of event that it takes."""
_RETRY_AFTER_S = 1.0

Tell = Callable[[str, str, Sequence[Any]], Accepted]
"""(kind, app, events); queues them all, or raises RecordRefused or StoreError."""


def accepted(body: bytes, kind: str, *, app: str, tell: Tell) -> Accepted:
    """The events of a body, queued.

    Raises:
        Problem: the body holds none, one of them is malformed, or the log takes no more for the moment.
    """
    told = json_object(body)
    events = told.get("events") if "events" in told else [told]
    if type(events) is not list or ("events" in told and len(told) > 1):
        raise bad_request("events: a list is needed, and nothing beside it.", param="events")
    try:
        return tell(kind, app, events)
    except RecordRefused as refusal:
        raise bad_request(f"{refusal}.", param=refusal.subject, code=refusal.reason) from None
    except StoreError as fault:
        raise not_stored() from fault


def not_stored() -> Problem:
    """What a teller hears while the log takes nothing."""
    return Problem(503, "log_unavailable", "The log takes nothing for the moment; send it again.", retry_after_s=_RETRY_AFTER_S)


def answer(ids: Sequence[str]) -> bytes:
    """The ids of what was stored, in the order of the events."""
    return orjson.dumps({"ids": list(ids)})
