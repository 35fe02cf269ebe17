"""The one order of verdicts, and how gate verdicts become the verdict of a review."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workbench.readiness.model import GateResult, ReviewVerdict, Verdict

LADDER: tuple[Verdict, ...] = (
    Verdict.FAIL,
    Verdict.ERROR,
    Verdict.STALE,
    Verdict.MISSING,
    Verdict.INSUFFICIENT,
    Verdict.WAIVED,
    Verdict.PASS,
    Verdict.NOT_APPLICABLE,
)
"""Worst first."""

UNPROVEN = frozenset({Verdict.ERROR, Verdict.STALE, Verdict.MISSING, Verdict.INSUFFICIENT})
"""Verdicts that say neither yes nor no; none of them ever counts as a pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gates together say, and which of them decided."""

    verdict: ReviewVerdict
    deciding: tuple[str, ...]
    """Gate ids, worst first; measured before declared where equally bad; empty for GO."""


def rank(verdict: Verdict) -> int:
    """Place on the ladder, 0 is worst."""
    return LADDER.index(verdict)


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst verdict; NOT_APPLICABLE when there is none."""
    return min(verdicts, key=rank, default=Verdict.NOT_APPLICABLE)


def is_measured(result: GateResult) -> bool:
    """Whether a number from the logs stands behind the result, and not a declaration."""
    return result.observed is not None


def decide(results: Sequence[GateResult]) -> Decision:
    """The verdict of a review over its gates.

    A blocking FAIL is NO_GO. Otherwise a blocking gate without a yes, or no blocking gate that applies at all, is
    NOT_ENOUGH_EVIDENCE. Only what remains is GO.
    """
    blocking = [result for result in results if result.is_blocking]
    worst = worst_of(result.verdict for result in blocking)
    if worst is Verdict.FAIL:
        return Decision(verdict=ReviewVerdict.NO_GO, deciding=_ids(blocking, {Verdict.FAIL}))
    if worst in UNPROVEN or worst is Verdict.NOT_APPLICABLE:
        return Decision(verdict=ReviewVerdict.NOT_ENOUGH_EVIDENCE, deciding=_ids(blocking, UNPROVEN))
    return Decision(verdict=ReviewVerdict.GO, deciding=())


def _ids(results: Sequence[GateResult], verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    wanted = set(verdicts)
    chosen = [result for result in results if result.verdict in wanted]
    ordered = sorted(chosen, key=lambda result: (rank(result.verdict), not is_measured(result)))
    return tuple(result.gate_id for result in ordered)
