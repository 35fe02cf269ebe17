"""A rollback drill as evidence, and what a gate says of it. Pure.

`release` carries drills out. What a drill found is a value here, because readiness reads it and must not look upwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from workbench.errors import IntegrityError
from workbench.observability.evidence import row_set, sealed
from workbench.observability.model import Evidence
from workbench.readiness.model import GateResult, Verdict
from workbench.readiness.wording import counted, span_words
from workbench.spec.base import format_duration, parse_duration
from workbench.spec.gates import DRILL_METRIC, Family, GateSpec

KIND = "rollback_drill"
"""Of the evidence."""
BAR_S = 1.0
"""Within so long every gateway has to follow."""
DEFAULT_GATE = GateSpec(
    id="drill", title="Rollback rehearsed", metric=DRILL_METRIC, at_most=BAR_S, max_age=parse_duration("90d"), is_blocking=False
)
"""What is shown of an app that declares no gate on its drills. It stops nobody: that a rollback has to be rehearsed, an app says itself."""
DEFAULT_ID = "rollback.drill"
FAULTS = frozenset({"nothing_to_restore", "not_followed", "too_slow"})
"""Reasons for which a drill did not work."""
_AGAIN = "rehearse it while gateways serve: `workbench release drill APP`"
_CLOCK_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a rollback drill found."""

    app: str
    at: datetime
    stable: str | None
    """The bundle in service."""
    route_version: int
    """Of the route that was written for it; it serves what the one before did."""
    plan_digest: str
    """Of the rollout plan at that time; under another plan a rollback may be another one."""
    restores: str | None
    """The bundle that a rollback restores; None where that is the app's fallback or nothing."""
    target: str
    """The same in words."""
    fault: str
    """Why that cannot be restored; empty when it can."""
    seconds: Mapping[str, float]
    """Gateway to the seconds from the ledger's commit until it served by the new route; those that did."""
    missing: tuple[str, ...]
    """Gateways that served when it began and did not follow while it was waited for."""
    silent: tuple[str, ...]
    """Gateways that had not been heard of for a while when it began; they were not waited for."""
    evidence_id: str = ""

    @property
    def n(self) -> int:
        """Gateways that had to follow."""
        return len(self.seconds) + len(self.missing)

    @property
    def slowest_s(self) -> float | None:
        """Seconds of the last one; None where none followed."""
        return max(self.seconds.values(), default=None)

    @property
    def is_good(self) -> bool:
        """Whether every gateway followed in time, and what a rollback restores is there."""
        return not self.fault and not self.missing and self.slowest_s is not None and self.slowest_s <= BAR_S

    @property
    def sentence(self) -> str:
        """What was found, without its time."""
        slowest = self.slowest_s
        followed = f"{len(self.seconds)} of {counted(self.n, 'gateway')} followed"
        within = f" within {slowest:.2f} s" if slowest is not None else ""
        absent = f", not {' and not '.join(self.missing)}" if self.missing else ""
        quiet = f"; {counted(len(self.silent), 'more was', 'more were')} not heard of" if self.silent else ""
        restored = f"what it restores cannot be restored: {self.fault}" if self.fault else f"it restores {self.target}"
        return f"{followed}{within}{absent}{quiet}; {restored}"


def evidence_of(found: Rehearsal, *, waited_s: float) -> Evidence:
    """The sealed record of a drill.

    Args:
        found: what it found.
        waited_s: for how long gateways were waited for.
    """
    return sealed(
        Evidence(
            evidence_id="",
            kind=KIND,
            app=found.app,
            subject=found.stable or "",
            baseline=None,
            query={"route_version": found.route_version, "plan": found.plan_digest, "waited_s": waited_s, "at": found.at.isoformat()},
            statistics={
                "restores": found.restores,
                "target": found.target,
                "fault": found.fault,
                "seconds": dict(found.seconds),
                "missing": list(found.missing),
                "silent": list(found.silent),
                "slowest_s": found.slowest_s,
            },
            row_set=row_set(()),
            snapshot=None,
            collected_at=found.at,
        )
    )


def rehearsal_of(record: Evidence) -> Rehearsal:
    """The drill of a record.

    Raises:
        IntegrityError: it is no record of a drill.
    """
    said, asked = record.statistics, record.query
    try:
        return Rehearsal(
            app=record.app,
            at=datetime.fromisoformat(asked["at"]),
            stable=record.subject or None,
            route_version=asked["route_version"],
            plan_digest=asked["plan"],
            restores=said["restores"],
            target=said["target"],
            fault=said["fault"],
            seconds={name: float(value) for name, value in said["seconds"].items()},
            missing=tuple(said["missing"]),
            silent=tuple(said["silent"]),
            evidence_id=record.evidence_id,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"evidence {record.evidence_id}", seen=f"it is no record of a drill ({error})") from error


def assess_rehearsal(gate: GateSpec, found: Rehearsal | None, *, plan_digest: str, now: datetime, owner: str | None = None) -> GateResult:
    """The verdict of a gate on the newest drill of its app.

    A drill that did not work is FAIL however old it is: what ages loses its yes, not its no.

    Args:
        gate: on `rollback_drill_s`: the seconds that the slowest gateway may take, how many gateways it takes, and for how long it counts.
        found: the newest drill; None before the first, which is a missing measurement and not a failed one.
        plan_digest: of the rollout plan now.
        now: the present.
        owner: who answers for the gate.
    """
    bar = BAR_S if gate.at_most is None else gate.at_most
    blank = GateResult(
        gate_id=gate.id,
        title=gate.title or "Rollback rehearsed",
        family=Family.ROLLBACK,
        is_blocking=gate.is_blocking,
        verdict=Verdict.MISSING,
        reason="never_rehearsed",
        sentence="The rollback was never rehearsed.",
        owner=owner,
        next_step=_AGAIN,
    )
    if found is None:
        return blank
    age = now - found.at
    when = f"The rollback was rehearsed {'just now' if age < timedelta(minutes=1) else f'{span_words(age)} ago'}"
    blank = replace(blank, evidence_ids=(found.evidence_id,), n=found.n, sentence=f"{when}: {found.sentence}.")
    verdict, reason, why = _judged(gate, found, bar, age, is_same_plan=found.plan_digest == plan_digest)
    is_good = verdict is Verdict.PASS
    sentence = f"{blank.sentence.removesuffix('.')}{f'; {why}' if why else ''}."
    return replace(blank, verdict=verdict, reason=reason, sentence=sentence, next_step="" if is_good else _AGAIN)


def _judged(gate: GateSpec, found: Rehearsal, bar: float, age: timedelta, *, is_same_plan: bool) -> tuple[Verdict, str, str]:  # noqa: PLR0911 - a line per rule
    """Verdict, reason code, and what is amiss in words."""
    slowest = found.slowest_s
    if age < -_CLOCK_TOLERANCE:
        return Verdict.ERROR, "from_the_future", f"that is dated {found.at:%Y-%m-%d %H:%M} UTC, after the present"
    if found.fault:
        return Verdict.FAIL, "nothing_to_restore", ""
    if found.missing or slowest is None:
        return Verdict.FAIL, "not_followed", "every gateway that serves has to"
    if slowest > bar:
        return Verdict.FAIL, "too_slow", f"the limit is {bar:g} s"
    if age > gate.max_age:
        return Verdict.STALE, "too_old", f"it counts for {format_duration(gate.max_age)}"
    if not is_same_plan:
        return Verdict.STALE, "plan_changed", "plan.yaml has changed since"
    if found.n < gate.min_n:
        return Verdict.INSUFFICIENT, "too_few", f"{counted(gate.min_n, 'gateway')} are needed"
    return Verdict.PASS, "in_time", ""
