"""How often alarms on a series are false, and what they find: on series that are only chance, and on labelled ones of real servers.

One setting for all series: an alarm may be chance once a week. The real ones are CloudWatch series of the Numenta Anomaly Benchmark, five
minutes a step; a window that people labelled counts as found when a value inside it is unusual, and an alarm that begins outside of every
window counts as false. Beside it, a limit of so many standard deviations around the mean of the last day, which knows no hours: three, as
it is often set, and as many as give no more false alarms than ours, tuned on these very series.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from tests.benchmarks import Figure, Report
from tests.stats.test_anomaly import NULLS, PER_DAY, WEEK
from workbench.stats.anomaly import clear_after, onsets, steps
from workbench.stats.proportion import wilson

RATE = 1.0
STREAMS, WEEKS = 20, 16
LEARNING_WEEKS = 4
NAB = Path(__file__).parents[3] / "shared" / "realdata" / "nab"
STEP = timedelta(minutes=5)
NAB_PER_DAY = 288
CLEAR_AFTER_STEPS = clear_after(NAB_PER_DAY)
WEEK_OF_STEPS = 7 * NAB_PER_DAY


@dataclass(frozen=True)
class Seen:
    """What one series came to."""

    found: int
    windows: int
    false: int
    weeks: float


def run() -> Report:
    return Report(title="Alarms, one setting: at most one a week by chance", figures=[*on_chance(), *on_servers()])


def on_chance() -> Iterator[Figure]:
    """False alarms a week on each kind of null series."""
    for name, make in NULLS.items():
        alarms = hours = 0
        for seed in range(STREAMS):
            series = make(np.random.default_rng(1000 + seed), WEEKS).tolist()
            judged = list(steps(series, per_day=PER_DAY, false_alarms_per_week=RATE))[LEARNING_WEEKS * WEEK :]
            hours += sum(step.is_judged for step in judged)
            alarms += len(onsets([step.is_unusual for step in judged], patience=3))
        share = wilson(alarms, hours)
        ends = f"95 % interval {share.low * WEEK:.2f} to {share.high * WEEK:.2f}, {hours / WEEK:.0f} weeks"
        yield Figure(what=f"false alarms, {name}", value=alarms / hours * WEEK, unit="a week", at_most=RATE, note=ends)


def on_servers() -> Iterator[Figure]:
    if not NAB.is_dir():
        yield Figure(what="labelled windows of real servers", value=None, unit="", note="the data are not here")
        return
    series = [Server.read(path) for path in sorted((NAB / "realAWSCloudwatch").glob("*.csv"))]
    ours = [each.judged() for each in series]
    for server, one in zip(series, ours, strict=True):
        yield Figure(what=server.name, value=one.false / one.weeks, unit="false a week", note=f"{one.found} of {one.windows} windows")
    rate = sum(one.false for one in ours) / sum(one.weeks for one in ours)
    yield from together("all series", ours)
    yield from together("3 sigma of the last day", [each.by_sigma(3) for each in series])
    for sigma in range(4, 60):
        tuned = [each.by_sigma(sigma) for each in series]
        if sum(one.false for one in tuned) / sum(one.weeks for one in tuned) <= rate:
            yield from together(f"{sigma} sigma of the last day, tuned here", tuned)
            return


def together(name: str, all_seen: Sequence[Seen]) -> Iterator[Figure]:
    """False alarms a week and windows found, over all series."""
    false, weeks = sum(each.false for each in all_seen), sum(each.weeks for each in all_seen)
    found, windows = sum(each.found for each in all_seen), sum(each.windows for each in all_seen)
    yield Figure(what=f"{name}: false alarms", value=false / weeks, unit="a week", note=f"{false} in {weeks:.1f} judged weeks")
    yield Figure(what=f"{name}: windows found", value=found / windows, unit="share", note=f"{found} of {windows} that were judged at all")


@dataclass(frozen=True)
class Server:
    """One labelled series."""

    name: str
    times: list[datetime]
    values: list[float | None]
    windows: list[tuple[datetime, ...]]
    sigmas: list[float | None]
    """How many standard deviations each value lies from the mean of the day before."""

    @classmethod
    def read(cls, path: Path) -> Server:
        times, values = read(path)
        labels = json.loads((NAB / "labels" / "combined_windows.json").read_text())[f"realAWSCloudwatch/{path.name}"]
        windows = [tuple(map(datetime.fromisoformat, window)) for window in labels]
        return cls(name=path.stem, times=times, values=values, windows=windows, sigmas=sigmas_of(values))

    def judged(self) -> Seen:
        found = list(steps(self.values, per_day=NAB_PER_DAY, false_alarms_per_week=RATE))
        return seen(self.times, [step.is_unusual for step in found], [step.is_judged for step in found], self.windows)

    def by_sigma(self, most: float) -> Seen:
        flags = [sigma is not None and sigma > most for sigma in self.sigmas]
        return seen(self.times, flags, [sigma is not None for sigma in self.sigmas], self.windows)


def read(path: Path) -> tuple[list[datetime], list[float | None]]:
    """The series on a regular grid; a step that is not there was not observed."""
    with path.open() as file:
        rows = [(datetime.fromisoformat(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
    by_step = {round((at - rows[0][0]) / STEP): value for at, value in rows}
    n = max(by_step) + 1
    return [rows[0][0] + place * STEP for place in range(n)], [by_step.get(place) for place in range(n)]


def seen(times: Sequence[datetime], flags: Sequence[bool], judged: Sequence[bool], windows: Sequence[tuple[datetime, ...]]) -> Seen:
    """Windows of which something was judged, those found among them, and alarms that began outside of all."""

    def is_within(at: datetime) -> bool:
        return any(start <= at <= end for start, end in windows)

    places = [[place for place, at in enumerate(times) if start <= at <= end and judged[place]] for start, end in windows]
    outside = sum(is_judged and not is_within(at) for at, is_judged in zip(times, judged, strict=True))
    begun = onsets(flags, patience=CLEAR_AFTER_STEPS)
    return Seen(
        found=sum(any(flags[place] for place in inside) for inside in places),
        windows=sum(bool(inside) for inside in places),
        false=sum(not is_within(times[place]) for place in begun),
        weeks=outside / WEEK_OF_STEPS,
    )


def sigmas_of(values: Sequence[float | None]) -> list[float | None]:
    """How many standard deviations each value lies from the mean of the day before; None where there is hardly a day."""
    found: list[float | None] = []
    for place, value in enumerate(values):
        before = np.array([each for each in values[max(0, place - NAB_PER_DAY) : place] if each is not None])
        if value is None or before.size < NAB_PER_DAY // 2:
            found.append(None)
        else:
            distance, spread = abs(value - before.mean()), before.std()
            found.append(distance / spread if spread else 0.0 if not distance else 1e9)
    return found
