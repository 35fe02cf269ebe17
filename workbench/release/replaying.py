"""Decisions made once more from the log: the release's rows in the order of their batches, to the judge, at each decision's place.

A decision keeps what the judge was asked, the digest of its memory, its judgement, and what else was known. From the rows alone all of
that comes out again bit by bit, but for its wording, or the decision cannot be trusted, or rows are gone.

The same judge reads the halves of the stable arm beside it. They differ by nothing, so what it says there is what it says by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from workbench.ledger.canonical import digest
from workbench.observability.release_rows import ReleaseReader
from workbench.release.course import Situation, asked_at, is_overdue, next_move
from workbench.release.judge_kinds import FIRST_RULES, RULES, Kind
from workbench.release.judge_model import CANDIDATE, STABLE, Judgement, Observation
from workbench.release.judge_terms import awaited_of, from_json
from workbench.release.judging import Memory
from workbench.release.model import DecisionRecord, Objection, Release, State
from workbench.release.ports import ReleaseLog

_NEITHER = -1
_HALF_BIT = np.uint64(1)
"""Place of the bit that halves units. It is of the unit's own hash, which the split of no release is made by."""


class Found(StrEnum):
    """What became of a decision when it was made again."""

    SAME = "SAME"
    DIFFERENT = "DIFFERENT"
    UNAVAILABLE = "UNAVAILABLE"
    """Rows that it rested on are gone (erased, or older than the log keeps them), or the rules by which it was judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One decision, made again."""

    decision: DecisionRecord
    found: Found
    sentence: str
    judgement: Judgement | None
    """The new one; None where nothing was judged, or can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A release's decisions, made again."""

    release: Release
    decisions: tuple[Replayed, ...]
    """Oldest first."""
    halves: Judgement | None
    """What the same judge says of two halves of the stable arm, after the rows of the last decision; None without a decision."""

    @property
    def found(self) -> Found:
        """The worst of all: what is different before what is gone."""
        seen = {each.found for each in self.decisions}
        return next((found for found in (Found.DIFFERENT, Found.UNAVAILABLE) if found in seen), Found.SAME)


def replay(release: Release, decisions: Sequence[DecisionRecord], log: ReleaseLog) -> Replay:
    """The decisions, made again.

    Args:
        release: whose they are.
        decisions: of the controller, oldest first.
        log: where its rows are.

    Raises:
        StoreError: the log cannot be read.
    """
    course = _Course(release, log)
    made = tuple(course.again(decision, decisions[:place]) for place, decision in enumerate(decisions))
    return Replay(release=release, decisions=made, halves=course.halves())


def halved(seen: Observation) -> Observation:
    """The stable arm alone, as if the units of one half were served by a candidate."""
    half = (seen.unit >> _HALF_BIT) & _HALF_BIT
    arm = np.where(seen.arm == STABLE, np.where(half == 1, CANDIDATE, STABLE), _NEITHER).astype(np.int8)
    return dataclasses.replace(seen, arm=arm, share=np.full(seen.n, 0.5))


def _without_words(judgement: Mapping[str, Any]) -> str:
    """Digest of all that a judgement says but its sentence and units, which another version may word differently."""
    metrics = [{name: value for name, value in metric.items() if name != "unit"} for metric in judgement["metrics"]]
    return digest({**{name: value for name, value in judgement.items() if name != "sentence"}, "metrics": metrics})


def _are_changed(rules: int, plan: Mapping[str, Any]) -> bool:
    """Whether rules have changed since these that concern what is judged by the plan.

    Rules 2 pair scores within one step, and leave out of an amount only what is in another currency.
    """
    if not plan or rules >= RULES:
        return False
    has_scores = any(metric.kind is Kind.SCORE for metric in from_json(plan).metrics)
    return has_scores or any(each.currency is not None for each in awaited_of(plan))


class _Course:
    """The way of a release, from its first row on."""

    def __init__(self, release: Release, log: ReleaseLog) -> None:
        self._release = release
        self._log = log
        self._arms: Memory | None = None
        self._halves: Memory | None = None
        self._reader: ReleaseReader | None = None
        self._last: DecisionRecord | None = None

    def again(self, decision: DecisionRecord, before: Sequence[DecisionRecord]) -> Replayed:
        inputs = decision.inputs
        if not decision.is_whole:
            return Replayed(decision=decision, found=Found.DIFFERENT, sentence="what it was decided on was altered", judgement=None)
        if (inputs["judgement"] or {}).get("kind") == "shadow":
            words = "it is of a shadow stage, whose copies were counted as they were then"
            return Replayed(decision=decision, found=Found.UNAVAILABLE, sentence=words, judgement=None)
        rules = inputs.get("rules", FIRST_RULES)
        if rules > RULES:
            words = f"it was judged by rules {rules} of a newer workbench; this one has {RULES}"
            return Replayed(decision=decision, found=Found.UNAVAILABLE, sentence=words, judgement=None)
        again = self._judged_again(decision, before)
        if again.found is Found.DIFFERENT and _are_changed(rules, inputs["plan"]):
            gone = f"it was judged by rules {rules}, which this version of the workbench has no more (it has {RULES})"
            return dataclasses.replace(again, found=Found.UNAVAILABLE, sentence=f"{gone}; by these {again.sentence}")
        return again

    def _judged_again(self, decision: DecisionRecord, before: Sequence[DecisionRecord]) -> Replayed:
        """The same of a decision on what the judge said."""
        inputs = decision.inputs
        stored, judgement = inputs["judgement"], None
        if stored is not None:
            memory = self._fed(decision)
            at = datetime.fromisoformat(stored["at"])
            judgement = memory.judged(
                self._release.plan,
                step=decision.step,
                canary_s=inputs["canary_s"],
                at=at,
                data_at=datetime.fromisoformat(stored["data_at"]) if stored["data_at"] else None,
            )
            if memory.state.rows < stored["rows"]:
                gone = f"{stored['rows'] - memory.state.rows:,} of the {stored['rows']:,} rows that it rested on are gone"
                return Replayed(decision=decision, found=Found.UNAVAILABLE, sentence=gone, judgement=judgement)
            if memory.state.digest != inputs["memory"]:
                return Replayed(decision=decision, found=Found.DIFFERENT, sentence="the log says something else now", judgement=judgement)
            if _without_words(judgement.as_json()) != _without_words(stored):
                words = f"the judge advises {judgement.decision} now: {judgement.sentence}"
                return Replayed(decision=decision, found=Found.DIFFERENT, sentence=words, judgement=judgement)
        move = next_move(self._situation(decision, before, judgement))
        if (str(move.decision), move.reason, move.act) != (decision.decision, decision.reason, inputs["act"]):
            words = f"it would be {move.decision} now: {move.sentence}"
            return Replayed(decision=decision, found=Found.DIFFERENT, sentence=words, judgement=judgement)
        return Replayed(decision=decision, found=Found.SAME, sentence="the same, bit by bit", judgement=judgement)

    def halves(self) -> Judgement | None:
        if self._halves is None or self._last is None:
            return None
        judged = self._last.inputs["judgement"]
        return self._halves.judged(
            self._release.plan,
            step=self._last.step,
            canary_s=0.0,
            at=datetime.fromisoformat(judged["at"]),
            data_at=datetime.fromisoformat(judged["at"]),
        )

    def _fed(self, decision: DecisionRecord) -> Memory:
        """The judge's memory after the rows of this decision."""
        self._last = decision
        if self._arms is None or self._halves is None:
            self._arms, self._halves = Memory.of(decision.inputs["plan"]), Memory.of(decision.inputs["plan"])
        if self._reader is None:
            self._reader = self._arms.reader(self._log, self._release)
        water = decision.inputs["judgement"]["high_water"]
        if water is not None and water["batch_id"] > self._reader.after:
            rows = self._reader.read(until=water["batch_id"])
            self._arms.feed(rows, self._release.plan)
            self._halves.feed(rows, self._release.plan, seen_as=halved)
        return self._arms

    def _situation(self, decision: DecisionRecord, before: Sequence[DecisionRecord], judgement: Judgement | None) -> Situation:
        inputs = decision.inputs
        return Situation(
            release=dataclasses.replace(self._release, state=State(inputs["state"]), step=inputs["step"], note=inputs["note"]),
            judgement=judgement,
            fault=inputs["fault"],
            waits=tuple(inputs["waits"]),
            objections=tuple(Objection(**each) for each in inputs["objections"]),
            is_overdue=is_overdue(self._release.plan, run_s=inputs["run_s"], canary_s=inputs["canary_s"]),
            asked=asked_at(before, decision.step, decision.release_version),
        )
