"""From what a question is answered: from every request, or from sums of hours and days; and what that means for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from workbench.errors import UsageError
from workbench.observability.asking import Question
from workbench.observability.dimensions import GRAINS, apps_of
from workbench.observability.metric import Kind, needs_of
from workbench.observability.reader import EMPTY, Reader
from workbench.observability.rollup import ERROR_BOUND
from workbench.observability.tables import ROLLUP_KEY
from workbench.spec.app import StatusRule

WORTH_ROWS = 1_000_000
"""From how many requests that need not be read the roll-up answers, where nobody says from what."""


class Path(StrEnum):
    """Where the numbers come from."""

    EXACT = "requests"
    """Each request in its newest revision."""
    ROLLUP = "roll-up"
    """Sums of whole hours and days, and the requests of those that have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How a question was answered."""

    path: Path
    error_bound: float
    """Largest relative distance of a percentile from the observation that it stands for (nearest rank); 0 for what is exact. Counts, rates
    and sums are exact on both paths."""
    reason: str
    """Why this path."""


class MetricFrame(pl.DataFrame):
    """The answer to a metric query, which knows how it was found. Frames made from it do not."""

    answered: Answered | None = None

    @classmethod
    def of(cls, frame: pl.DataFrame, answered: Answered) -> MetricFrame:
        """The frame with that knowledge."""
        made = cls(frame)
        made.answered = answered
        return made


def choose(reader: Reader, question: Question, *, exact: bool | None, needs_ends: bool) -> Answered:
    """From what the question is answered; for the roll-up the reader holds its sums afterwards.

    Args:
        reader: where the question is asked.
        question: what is asked.
        exact: True for the requests, False for the roll-up, None for whatever serves best.
        needs_ends: whether intervals are asked for.

    Raises:
        UsageError: `exact` is False and the roll-up cannot answer.
    """
    if exact:
        return _exact("asked exactly")
    reason = obstacle(question) or ("nothing is logged" if reader.snapshot == EMPTY else "")
    apps = apps_of(question.filters)
    if not reason and exact is None:
        if needs_ends:
            reason = "intervals are asked for"
        elif reader.summed_rows(question.window, apps) < WORTH_ROWS and not reader.has_older_sums(question.window, apps):
            reason = f"fewer than {WORTH_ROWS:,} requests are summed"
    if not reason:
        reader.roll_up(question)
        if "success" in needs_of(question.metrics) and reader.decided_by_scores(question):
            reason = "scores decide the success of some requests"
    if not reason:
        has_percentiles = any(metric.kind is Kind.QUANTILE for metric in question.metrics)
        return Answered(path=Path.ROLLUP, error_bound=ERROR_BOUND if has_percentiles else 0.0, reason="sums spare reading the requests")
    if exact is None:
        return _exact(reason)
    raise UsageError(
        "roll-up", seen=reason, needed="a question that hourly sums can answer", next_step="ask it of the requests: exact=True"
    )


def obstacle(question: Question) -> str:
    """Why sums of hours cannot answer the question; empty where they can, unless a score decides success."""
    for metric in question.metrics:
        if metric.rolled is None:
            return f"{metric.name} is not among the sums"
    for name in (*question.dims, *(name for name, _ in question.filters)):
        if name not in ROLLUP_KEY:
            return f"the sums do not tell {name} apart"
    if question.grain is not None and GRAINS[question.grain] < GRAINS["1h"]:
        return f"a step of {question.grain} is shorter than an hour"
    if "success" not in needs_of(question.metrics):
        return ""
    filters = dict(question.filters)
    for declared in question.definitions.rules.rules:
        is_asked = declared.app in filters.get("app", (declared.app,)) and declared.workflow in filters.get(
            "workflow", (declared.workflow,)
        )
        if is_asked and not isinstance(declared.rule, StatusRule):
            return f"success in workflow {declared.workflow} of {declared.app} depends on more than the status"
    return ""


def _exact(reason: str) -> Answered:
    return Answered(path=Path.EXACT, error_bound=0.0, reason=reason)
