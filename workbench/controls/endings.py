"""What a caller gets when no model answered: what the bundle's chain declares for that, in its order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from workbench.controls.asking import ModelCaller
from workbench.controls.clock import Clock
from workbench.controls.events import Choice
from workbench.controls.turn import Step, Turn, said

NO_ANSWER = "We cannot answer right now. Please try again later."
"""What is said where a bundle declares no text."""


def ended(
    caller: ModelCaller, request: Mapping[str, Any] | None, *, code: str, is_late: bool, clock: Clock, start_s: float, steps: list[Step]
) -> Turn:
    """The turn that stands for the answer that did not come; its last step says what was given instead.

    Args:
        caller: knows the bundle's chain.
        request: the question to the model that failed; None where something else did.
        code: what failed, short.
        is_late: whether the time ran out.
        clock: of the call.
        start_s: when the turn began, on that clock.
        steps: of the turn; added to.
    """
    choices, kind, age_s = _given(caller, request)
    details = {"action": kind, "reason": code, "age_s": age_s}
    steps.append(Step(kind="fallback", name=kind, start_s=clock.now(), details=details))
    return Turn(
        choices=choices,
        status="timeout" if is_late else "error",
        is_fallback=True,
        error_type=code,
        wants_person=kind == "human",
        start_s=start_s,
        latency_s=clock.now() - start_s,
        steps=tuple(steps),
    )


class _Given(NamedTuple):
    """What is said, of which kind it is, and how old."""

    choices: tuple[Choice, ...]
    kind: str
    age_s: float | None = None


def _given(caller: ModelCaller, request: Mapping[str, Any] | None) -> _Given:
    """The first ending that can be given."""
    fallen = caller.ending(request or {})
    if fallen is None:
        return _Given(said(NO_ANSWER), "canned")
    if fallen.last_good is not None:
        return _Given(fallen.last_good.completion.choices, fallen.ending.kind, fallen.last_good.age_s)
    return _Given(said(fallen.ending.text or NO_ANSWER), fallen.ending.kind)
