"""What a shadow stage shows: whether the candidate's copies went worse than the requests that stable answered. Pure.

For failures and for violations alike: the candidate is taken back when the lower end of its Wilson interval is above the upper end of
stable's times the plan's margin. That is asked at every look without a correction, so the intervals are wide (99.9 %): nobody is at
risk meanwhile, and what is less clear is for the canary to judge. The stage never proves that a candidate is good.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workbench.observability.shadow_rows import ShadowCounts
from workbench.release.judge_kinds import Decision
from workbench.release.judge_model import Place, plain
from workbench.release.plan_clock import SILENCE_S
from workbench.spec.plan import Shadow
from workbench.stats.proportion import wilson

LEVEL = 0.999
"""Coverage of each interval."""
STALE_AFTER = timedelta(seconds=10)
"""Age of the newest data from which on it does not go on."""
SILENT_AFTER = timedelta(seconds=SILENCE_S)
"""Age of the newest copy from which on it does not go on."""
RULE = "shadow's lower end above stable's upper end x margin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Units with something bad, of the same requests."""

    name: str
    """`failures` or `violations`."""
    n: int
    """Units compared."""
    stable: int
    shadow: int
    stable_high: float
    """Upper end of stable's rate."""
    shadow_low: float
    """Lower end of the shadow's."""
    limit: float
    """What the shadow's lower end must not pass: stable's upper end times the margin."""

    @property
    def is_harmful(self) -> bool:
        return self.shadow_low > self.limit

    @property
    def words(self) -> str:
        """The comparison, in a few words."""
        return (
            f"{self.name} in {self.shadow} of {self.n} units with the candidate and {self.stable} with stable "
            f"(at least {self.shadow_low:.1%}, against at most {self.limit:.1%})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowJudgement:
    """What a shadow stage advises, and all it rests on."""

    decision: Decision
    """`PROMOTE` (nothing speaks against the first step), `ROLLBACK`, `HOLD` or `NO_DATA`."""
    reason: str
    """`harm`, `unharmed`, `gathering`, `incomparable`, `stale` or `no_rows`."""
    sentence: str
    at: datetime
    data_at: datetime | None
    units_candidate: int
    """Units whose requests were copied."""
    n_withheld: int
    """Copies that say nothing, as a tool was withheld in them."""
    rates: tuple[Rates, ...]
    margin: float
    high_water: Place | None = None
    """A shadow stage keeps no memory of rows."""

    def as_json(self) -> dict[str, Any]:
        """For the ledger and for other programs."""
        return {"kind": "shadow", "rule": RULE, **{name: plain(getattr(self, name)) for name in self.__dataclass_fields__}}


def judge_shadow(counts: ShadowCounts, stage: Shadow, *, at: datetime) -> ShadowJudgement:
    """The judgement of a stage by what was counted.

    Args:
        counts: of its release.
        stage: of its plan.
        at: the present.
    """
    rates = tuple(
        _rates(name, counts.compared, *bad, margin=stage.margin)
        for name, bad in (("failures", counts.failed), ("violations", counts.violating))
        if counts.compared
    )
    decision, reason, sentence = _advice(counts, stage, rates, at)
    return ShadowJudgement(
        decision=decision,
        reason=reason,
        sentence=sentence,
        at=at,
        data_at=counts.copied_at or counts.data_at,
        units_candidate=counts.units,
        n_withheld=counts.n_withheld,
        rates=rates,
        margin=stage.margin,
    )


def _rates(name: str, n: int, stable: int, shadow: int, *, margin: float) -> Rates:
    high, low = wilson(stable, n, level=LEVEL).high, wilson(shadow, n, level=LEVEL).low
    stable_high, shadow_low = 1.0 if high is None else high, 0.0 if low is None else low
    return Rates(name=name, n=n, stable=stable, shadow=shadow, stable_high=stable_high, shadow_low=shadow_low, limit=stable_high * margin)


def _advice(counts: ShadowCounts, stage: Shadow, rates: tuple[Rates, ...], at: datetime) -> tuple[Decision, str, str]:
    harmful = [rate for rate in rates if rate.is_harmful]
    if harmful:
        said = "; ".join(rate.words for rate in harmful)
        return Decision.ROLLBACK, "harm", f"its copies went worse than the requests that stable answered: {said}"
    if not counts.units or counts.data_at is None:
        return Decision.NO_DATA, "no_rows", "no copy of a request was answered yet"
    age, silence = at - counts.data_at, at - (counts.copied_at or counts.data_at)
    if abs(age) > STALE_AFTER:
        return Decision.HOLD, "stale", f"the newest data are {age / timedelta(seconds=1):.0f} s old"
    if abs(silence) > SILENT_AFTER:
        return Decision.HOLD, "stale", f"the newest copy is {silence / timedelta(seconds=1):.0f} s old"
    if not rates or counts.compared * 2 < min(stage.min_units, counts.units):
        said = f"{counts.compared} of {counts.units} units can be compared; {counts.n_withheld} copies had a tool withheld"
        return Decision.HOLD, "incomparable" if counts.units >= stage.min_units else "gathering", said
    return Decision.PROMOTE, "unharmed", f"nothing of its copies speaks against the first step: {'; '.join(rate.words for rate in rates)}"
