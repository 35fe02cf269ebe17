"""Is an objective kept? Counts in, states out; no clock and no store.

No traffic is not 100 %: a window without events is NO_DATA. Undecided events are never good: where they could turn an answer, the answer is
INSUFFICIENT. So fewer events, or fewer that are decided, never turn anything into OK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from workbench.observability.alarms import Alarm, AlarmState
from workbench.spec.base import format_duration
from workbench.spec.slo import Objective, SloSpec
from workbench.stats.burn import Burn, Events, Line, Severity, burn, exceeds, lines, most, time_to_spend


class State(StrEnum):
    """Worst first; the state of several is the worst of them."""

    BURNING_FAST = "BURNING_FAST"
    """The budget is spent so fast that somebody is called now."""
    BURNING_SLOW = "BURNING_SLOW"
    """The budget is spent faster than it lasts: a ticket."""
    SPENT = "SPENT"
    """Nothing of the budget is left."""
    NO_DATA = "NO_DATA"
    """A window holds no event at all."""
    INSUFFICIENT = "INSUFFICIENT"
    """Too few events, or too many undecided ones, to say that all is well."""
    OK = "OK"


NEGATIVE = frozenset({State.BURNING_FAST, State.BURNING_SLOW, State.SPENT})
"""States that are a verdict against the application; the other two besides OK say that there is none."""
_BURNING: dict[Severity, State] = {"page": State.BURNING_FAST, "ticket": State.BURNING_SLOW}
_ORDER = tuple(State)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def worst(states: Iterable[State]) -> State:
    """The worst of these states; NO_DATA of none."""
    return min(states, key=_ORDER.index, default=State.NO_DATA)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineJudgement:
    """What one alert line says."""

    line: Line
    state: State
    reason: str
    """Short and stable: `burning`, `burning_unseen`, `over`, `within`, `no_events`, `few_events`, `undecided`."""
    sentence: str
    long: Events
    short: Events
    long_burn: Burn
    short_burn: Burn

    @property
    def is_firing(self) -> bool:
        return self.state in NEGATIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How an objective stands, at one moment."""

    objective: Objective
    owner: str | None
    min_events: int
    start: datetime
    """Of the objective's window."""
    until: datetime
    """Its end, exclusive: now, or earlier where success takes its time to be known."""
    state: State
    reason: str
    """That of the budget or of the line which decided."""
    sentence: str
    budget_sentence: str
    """How the budget of the whole window stands; the sentence itself where the budget decided."""
    events: Events
    """Of the whole window."""
    good_share: float | None
    """Of the decided events; None without any."""
    budget_left: float | None
    """Share of the error budget; 0 when it is spent, negative when more than all of it is; None without decided events."""
    lines: tuple[LineJudgement, ...]
    unreachable: tuple[Line, ...]
    """Lines that never fire, because even an outage burns more slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """All objectives and alarms of an app, at one moment."""

    app: str
    at: datetime
    judgements: tuple[Judgement, ...]
    """In the order of the file."""
    alarms: tuple[Alarm, ...]

    @property
    def state(self) -> State:
        """The worst of the objectives; an alarm is none of these, and says for itself whether it is raised."""
        return worst(judgement.state for judgement in self.judgements)

    @property
    def raised(self) -> tuple[Alarm, ...]:
        return tuple(alarm for alarm in self.alarms if alarm.state is AlarmState.RAISED)

    @property
    def exit_code(self) -> int:
        """0 all is well, 1 a budget burns or is spent or an alarm is raised, 3 not enough data to say."""
        if self.state in NEGATIVE or self.raised:
            return 1
        return 0 if self.state is State.OK else 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """An objective with what its file says for all of them."""

    objective: Objective
    owner: str | None
    min_events: int
    lines: tuple[Line, ...]
    settles_after: timedelta
    """Windows end that long before now."""

    @classmethod
    def of(cls, spec: SloSpec, objective: Objective, *, settles_after: timedelta = timedelta(0)) -> Terms:
        """The objective's own words, else those of the file, else the defaults.

        Args:
            spec: the file.
            objective: one of its objectives.
            settles_after: how long success waits for a business event, where the objective says nothing itself.
        """
        chosen = objective.alerts if objective.alerts is not None else spec.alerts
        own = tuple(Line(burn_rate=each.burn_rate, long=each.long, short=each.short, severity=each.severity) for each in chosen or ())
        return cls(
            objective=objective,
            owner=objective.owner or spec.owner,
            min_events=objective.min_events or spec.min_events,
            lines=own if chosen is not None else lines(objective.span),
            settles_after=settles_after if objective.settles_after is None else objective.settles_after,
        )

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """Start and end of the objective's window, at this moment."""
        until = now - self.settles_after
        return (window_start(self.objective.calendar, until) if self.objective.calendar else until - self.objective.span), until

    @property
    def longest_line(self) -> timedelta:
        return max((line.long for line in self.lines), default=timedelta(0))


def window_start(calendar: str, until: datetime) -> datetime:
    """Start of the calendar week (Monday), month or quarter in UTC that the moment before `until` lies in."""
    day = (until - timedelta(microseconds=1)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if calendar == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1, month=day.month if calendar == "month" else 3 * ((day.month - 1) // 3) + 1)


def judge(terms: Terms, now: datetime, count: Callable[[datetime, datetime], Events]) -> Judgement:
    """How the objective stands.

    Args:
        terms: what is asked.
        now: aware UTC.
        count: the events of a half-open stretch of time.
    """
    objective, (start, until) = terms.objective, terms.window(now)
    events = as_asked(count(start, until), objective)
    spent = burn(events, objective.target)
    judged = tuple(_line(terms, line, as_asked(count(until - line.long, until), objective),
                         as_asked(count(until - line.short, until), objective)) for line in terms.lines)  # fmt: skip
    budget = _budget(terms, events, spent, judged)
    firing = [(each.state, each.reason, each.sentence) for each in judged]
    state, reason, sentence = min([budget, *firing], key=lambda found: _ORDER.index(found[0]))
    if state is State.OK:
        reason, sentence = budget[1:]
    return Judgement(
        objective=objective,
        owner=terms.owner,
        min_events=terms.min_events,
        start=start,
        until=until,
        state=state,
        reason=reason,
        sentence=sentence,
        budget_sentence=budget[2],
        events=events,
        good_share=events.good / events.decided if events.decided > 0 else None,
        budget_left=None if spent.low is None else 1 - spent.low,
        lines=judged,
        unreachable=tuple(line for line in terms.lines if not exceeds(most(objective.target), line.burn_rate)),
    )


def as_asked(events: Events, objective: Objective) -> Events:
    """The events, the undecided ones among the bad where the objective wants them there."""
    if objective.undecided == "left_out":
        return events
    return Events(good=events.good, bad=events.bad + events.undecided)


def _budget(terms: Terms, events: Events, spent: Burn, judged: Sequence[LineJudgement]) -> tuple[State, str, str]:
    """State, reason and sentence of the whole window's budget."""
    objective = terms.objective
    window = f"this {objective.calendar}" if objective.calendar else f"the last {span_words(objective.span)}"
    if spent.high is None:
        return State.NO_DATA, "no_events", f"There was no event in {window}; no traffic is not a kept objective."
    if spent.low is None or events.decided < terms.min_events:
        decided = "1 decided event" if events.decided == 1 else f"{_count(events.decided)} decided events"
        seen = f"{decided} in {window}, {terms.min_events:,} are needed"
        return State.INSUFFICIENT, "few_events", f"Too little to judge: {seen}."
    good = f"{events.good / events.decided * 100:.2f} % of {_count(events.decided)} events in {window} were good"
    share = f"{good}, the target is {objective.target * 100:.6g} %"
    if exceeds(spent.low, 1):
        return State.SPENT, "budget_spent", f"The error budget is spent {spent.low:.2f} times: {share}."
    if exceeds(spent.high, 1):
        undecided = f"{_count(events.undecided)} of {_count(events.all)} are undecided, and could be the rest of the budget"
        return State.INSUFFICIENT, "undecided", f"{share}; {undecided}."
    left = f"{max(0.0, 1 - spent.low) * 100:.0f} % of the error budget is left"
    return State.OK, "within_budget", f"{left}: {share}{_lasting(objective, spent.low, judged)}."


def _lasting(objective: Objective, spent: float, judged: Sequence[LineJudgement]) -> str:
    """How long the rest of the budget lasts at the newest rate, where that is not for ever."""
    newest = next((each.long_burn.low for each in judged if each.long_burn.low), None)
    lasts = time_to_spend(objective.span, newest, 1 - spent) if newest is not None and newest > 1 else None
    return f"; at the present rate it lasts {_span(lasts)}" if lasts is not None else ""


def span_words(span: timedelta) -> str:
    """A window as people call it: `28d` and never `4w`."""
    return f"{span // _DAY}d" if not span % _DAY else format_duration(span)


def _span(span: timedelta) -> str:
    return f"{span / _HOUR:.1f} hours" if span < 2 * _DAY else f"{span / _DAY:.1f} days"


def _line(terms: Terms, line: Line, long: Events, short: Events) -> LineJudgement:
    """What one alert line says.

    It fires on both windows. A short window without a decided event does not end an alert: nothing shows that the burning ended.
    """
    target = terms.objective.target
    seen = _Seen(line=line, long=long, short=short, over=burn(long, target), now=burn(short, target), min_events=terms.min_events)
    state, reason, sentence = seen.said()
    return LineJudgement(
        line=line, state=state, reason=reason, sentence=sentence, long=long, short=short, long_burn=seen.over, short_burn=seen.now
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the two windows of a line hold."""

    line: Line
    long: Events
    short: Events
    over: Burn
    """Over the long window."""
    now: Burn
    """Over the short one."""
    min_events: int

    def said(self) -> tuple[State, str, str]:
        """State, reason and sentence."""
        span, short, bar = span_words(self.line.long), span_words(self.line.short), f"{self.line.burn_rate:.3g} times"
        if self.over.high is None:
            return State.NO_DATA, "no_events", f"There was no event in the last {span}, so nothing shows how fast the budget burns now."
        if not exceeds(self.over.high, self.line.burn_rate):
            return State.OK, "within", f"The budget burns {_times(self.over)} over {span}, below {bar}."
        if self.now.high is not None and not exceeds(self.now.high, self.line.burn_rate):
            return State.OK, "over", f"The budget burnt {_times(self.over)} over {span}, but only {_times(self.now)} in the last {short}."
        return self._burning(span, short, bar)

    def _burning(self, span: str, short: str, bar: str) -> tuple[State, str, str]:
        """What is said where nothing shows that the budget does not burn."""
        bad = f"{_count(self.long.bad)} of {_count(self.long.decided)} decided events"
        if self.over.low is None or self.long.decided < self.min_events:
            few = f"{bad} in the last {span} were bad; {self.min_events:,} events are needed to call somebody, or to say that all is well"
            return State.INSUFFICIENT, "few_events", f"Too few to judge: {few}."
        if not exceeds(self.over.low, self.line.burn_rate):
            rates = f"the budget burns between {self.over.low:.3g} and {self.over.high:.3g} times, the line is {bar}"
            return State.INSUFFICIENT, "undecided", f"{_undecided(self.long)} in the last {span} are undecided: {rates}."
        seen = f"The budget burns {self.over.low:.3g} times too fast over {span} ({bad} were bad)"
        firing = _BURNING[self.line.severity]
        if self.now.low is None:
            return firing, "burning_unseen", f"{seen}, and nothing in the last {short} shows that it ended; the line is {bar}."
        if not exceeds(self.now.low, self.line.burn_rate):
            unknown = f"{_undecided(self.short)} in the last {short} are undecided"
            return State.INSUFFICIENT, "undecided", f"{seen}; whether it still does cannot be said: {unknown}."
        return firing, "burning", f"{seen}, and {self.now.low:.3g} times in the last {short}; the line is {bar}."


def _times(rate: Burn) -> str:
    return "at an unknown rate" if rate.low is None else f"{rate.low:.2g} times"


def _undecided(events: Events) -> str:
    return f"{_count(events.undecided)} of {_count(events.all)} events"


def _count(n: float) -> str:
    return f"{n:,.0f}"
