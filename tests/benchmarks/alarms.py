"""How often alarms on a series are false, and what they find: on series that are only chance, and on labelled ones of real servers.

One setting for all series: an alarm may be chance once a week. The real ones are CloudWatch series of the Numenta Anomaly Benchmark, five
minutes a step; a window that people labelled counts as found when a value inside it is unusual, and an alarm that begins outside of every
window counts as false. Beside it, a limit of three standard deviations around the mean of the last day, which knows no hours.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean, pstdev

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
    labels = json.loads((NAB / "labels" / "combined_windows.json").read_text())
    ours, rival = [], []
    for path in sorted((NAB / "realAWSCloudwatch").glob("*.csv")):
        times, values = read(path)
        windows = [tuple(map(datetime.fromisoformat, window)) for window in labels[f"realAWSCloudwatch/{path.name}"]]
        judged = list(steps(values, per_day=NAB_PER_DAY, false_alarms_per_week=RATE))
        ours.append(seen(times, [step.is_unusual for step in judged], [step.is_judged for step in judged], windows))
        rival.append(seen(times, *three_sigma(values), windows))
        yield Figure(
            what=path.stem,
            value=ours[-1].false / ours[-1].weeks,
            unit="false a week",
            note=f"{ours[-1].found} of {ours[-1].windows} windows",
        )
    for name, all_seen in (("all series", ours), ("three sigma of the last day", rival)):
        false, weeks = sum(each.false for each in all_seen), sum(each.weeks for each in all_seen)
        found, windows = sum(each.found for each in all_seen), sum(each.windows for each in all_seen)
        yield Figure(what=f"{name}: false alarms", value=false / weeks, unit="a week", note=f"{false} in {weeks:.1f} judged weeks")
        yield Figure(
            what=f"{name}: windows found", value=found / windows, unit="share", note=f"{found} of {windows} that were judged at all"
        )


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


def three_sigma(values: Sequence[float | None]) -> tuple[list[bool], list[bool]]:
    """Which values are more than three standard deviations from the mean of the day before, and which were judged."""
    flags, judged = [], []
    for place, value in enumerate(values):
        before = [each for each in values[max(0, place - NAB_PER_DAY) : place] if each is not None]
        is_judged = value is not None and len(before) >= NAB_PER_DAY // 2
        judged.append(is_judged)
        flags.append(bool(is_judged and value is not None and abs(value - fmean(before)) > 3 * pstdev(before)))
    return flags, judged
