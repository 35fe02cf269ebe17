"""The judge of canaries beside the rules of others: false alarms, detection, and how many users a bad candidate meets.

Three tables: every rule as shipped, every rule tuned to 5 % false alarms on the stream itself, and with the limits that were tuned on the
stationary stream. The judge is never tuned. Nine streams, 24,000 requests each through 5, 25 and 50 %; the judge reads every row, the
rules every 400.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from tests.benchmarks import RESULTS, Figure, Report
from tests.benchmarks.rivals import kayenta
from tests.benchmarks.rivals.replay import NEVER, Cell, joined, observation, replayed, shipped_plan, wrongly_proven
from tests.benchmarks.rivals.rules import LOOKS, RULES, Looks, Rule
from tests.benchmarks.rivals.streams import EFFECTS, NULL, STREAMS, N, baseline_ms, draw
from workbench.release.judge import begin, decide, observe
from workbench.stats.proportion import wilson

BROKEN = "i"
"""The stream on which no verdict is to be trusted: there the judge has to say so, and no bar stands."""
_BARRED = ("3", "5")
_WITH_KAYENTA, _KAYENTA_RUNS = ("a", "b"), 60


def _is_quick() -> bool:
    return bool(os.environ.get("BENCH_QUICK"))


def run() -> Report:
    begun = time.perf_counter()
    null, effect = (200, 60) if _is_quick() else (2000, 500)
    cells: dict[tuple[str, str], Cell] = {}
    rows: list[dict[str, object]] = []
    tuned_on_a: dict[str, np.ndarray] = {}
    for place, stream in enumerate(STREAMS):
        found = replayed(stream, place, [(NULL, null), *((one, effect) for one in EFFECTS)])
        cells = {one.name: cell for one, cell in zip((NULL, *EFFECTS), found, strict=True)}
        rows += _judge_rows(stream.name, cells)
        if stream.name in _WITH_KAYENTA:
            rows += _kayenta_rows(stream.name, cells)
        for rule in RULES:
            numbers = {name: rule.statistic(cell.looks) for name, cell in cells.items()}
            limits = {"as shipped": np.array(rule.shipped) if rule.shipped else None, "tuned": rule.tuned(numbers["null"])}
            tuned_on_a.setdefault(rule.name, limits["tuned"])
            limits["transferred"] = tuned_on_a[rule.name]
            for table, limit in limits.items():
                rows += [] if limit is None else _rule_rows(table, rule, limit, stream=stream.name, numbers=numbers, cells=cells)
        print(f"stream {stream.name} ({stream.says}) after {time.perf_counter() - begun:.0f} s", flush=True)
    seconds = time.perf_counter() - begun
    for table in ("as shipped", "tuned", "transferred"):
        print(_table(table, rows))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "judge-cells.json").write_text(json.dumps(rows, indent=1) + "\n")
    return Report(title=f"judge ({null} null and {effect} effect runs a cell)", figures=_figures(rows, seconds))


def _judge_rows(stream: str, cells: Mapping[str, Cell]) -> list[dict[str, object]]:
    rows = []
    for effect, cell in cells.items():
        judge, is_stopped = cell.judge, cell.judge.stopped < NEVER
        row = _row("judge", stream, effect, is_stopped, judge.exposed)
        row |= {
            "promoted": float(judge.is_promoted.mean()),
            "invalid": float(judge.is_invalid.mean()),
            "requests": float(np.median(judge.stopped + 1)),
            "blamed_right": float((judge.blame[is_stopped] == "failure_rate").mean()) if is_stopped.any() else None,
        }
        rows += [{**row, "table": table} for table in ("as shipped", "tuned", "transferred")]
    return rows


def _rule_rows(
    table: str, rule: Rule, limits: np.ndarray, *, stream: str, numbers: Mapping[str, np.ndarray], cells: Mapping[str, Cell]
) -> list[dict[str, object]]:
    rows = []
    for effect, cell in cells.items():
        stops = rule.stops(numbers[effect], limits)
        row = _row(rule.name, stream, effect, stops < LOOKS, _exposed(cell.looks, stops))
        rows.append({**row, "table": table, "style": rule.style})
    return rows


def _kayenta_rows(stream: str, cells: Mapping[str, Cell]) -> list[dict[str, object]]:
    """Of the first runs of each cell: the rule computes three intervals of ranks for each metric and look."""
    rows = []
    for effect, cell in cells.items():
        looks = cell.looks.of(slice(0, _KAYENTA_RUNS))
        stopped = kayenta.stops(looks)
        row = _row("kayenta", stream, effect, stopped < LOOKS, _exposed(looks, stopped))
        rows.append({**row, "table": "as shipped", "style": "reference"})
    return rows


def _exposed(looks: Looks, stops: np.ndarray) -> np.ndarray:
    return looks.units[np.arange(len(stops)), np.minimum(stops, LOOKS - 1)]


def _row(rule: str, stream: str, effect: str, is_stopped: np.ndarray, exposed: np.ndarray) -> dict[str, object]:
    """One cell. A run that was never stopped exposed all that there were."""
    n, stopped = len(is_stopped), int(is_stopped.sum())
    interval = wilson(stopped, n)
    return {
        "rule": rule,
        "stream": stream,
        "effect": effect,
        "n": n,
        "stopped": stopped / n,
        "low": interval.low,
        "high": interval.high,
        "exposed": float(np.median(exposed)),
        "exposed_p95": float(np.quantile(exposed, 0.95)),
    }


def _table(table: str, rows: list[dict[str, object]]) -> str:
    """One line per stream and rule: % stopped, and the median of units exposed where something is wrong."""
    lines = [f"\n{table}: % stopped (95 % Wilson bounds of the null), median units exposed"]
    lines.append(
        f"{'stream rule':24}{'null':>20}" + "".join(f"{effect.name:>15}" for effect in EFFECTS) + f"{'promoted':>10}{'invalid':>9}"
    )
    for stream in STREAMS:
        for rule in ("judge", *(rule.name for rule in RULES), "kayenta"):
            mine = {str(row["effect"]): row for row in rows if (row["table"], row["stream"], row["rule"]) == (table, stream.name, rule)}
            if not mine:
                continue
            null = mine["null"]
            line = f"{stream.name} {rule:22}{100 * null['stopped']:6.1f} ({100 * null['low']:4.1f}-{100 * null['high']:5.1f})"
            line += "".join(f"{100 * mine[one.name]['stopped']:7.1f} {mine[one.name]['exposed']:7.0f}" for one in EFFECTS)
            if "promoted" in null:
                line += f"{100 * null['promoted']:10.1f}{100 * null['invalid']:9.1f}"
            lines.append(line)
    return "\n".join(lines)


def _figures(rows: list[dict[str, object]], seconds: float) -> list[Figure]:
    def of(rule: str, stream: str, effect: str, table: str = "tuned") -> dict[str, object]:
        return next(r for r in rows if (r["rule"], r["stream"], r["effect"], r["table"]) == (rule, stream, effect, table))

    figures = []
    nulls = [row for row in rows if (row["rule"], row["effect"], row["table"]) == ("judge", "null", "as shipped")]
    for row in nulls:
        note = f"measured {100 * row['stopped']:.1f} %; invalid {100 * row['invalid']:.1f} %, promoted {100 * row['promoted']:.1f} %"
        figures.append(
            Figure(what=f"{row['stream']}: false rollback, lower bound", value=100 * row["low"], unit="%", at_most=5.0, note=note)
        )
    for stream in (stream.name for stream in STREAMS if stream.name != BROKEN):
        at_margin = of("judge", stream, "1.5")
        what = f"{stream}: promoted at ratio 1.5, which the last step has to rule out"
        figures.append(Figure(what=what, value=100 * at_margin["promoted"], unit="%", at_most=5.0, note="the judge as shipped"))
    for stream in (stream.name for stream in STREAMS if stream.name != BROKEN):
        for effect in _BARRED:
            best = min((of(r.name, stream, effect) for r in RULES if r.style == "threshold"), key=lambda row: (row["exposed"], row["rule"]))
            mine = of("judge", stream, effect)
            note = f"{mine['exposed']:.0f} units, {best['rule']} {best['exposed']:.0f}"
            ratio = mine["exposed"] / best["exposed"]
            figures.append(Figure(what=f"{stream}: exposure at ratio {effect}", value=ratio, unit="x best rule", at_most=0.75, note=note))
        best = max((of(r.name, stream, "1.5") for r in RULES if r.style == "z"), key=lambda row: row["stopped"])
        mine = of("judge", stream, "1.5")
        note = f"{100 * mine['stopped']:.1f} %, {best['rule']} {100 * best['stopped']:.1f} %"
        value = mine["stopped"] / best["stopped"] if best["stopped"] else None
        figures.append(Figure(what=f"{stream}: detection at ratio 1.5", value=value, unit="x tuned z", at_least=0.95, note=note))
    return [*figures, *_margins(n=60 if _is_quick() else 500), *_speed(), Figure(what="duration", value=seconds, unit="s")]


def _margins(n: int) -> list[Figure]:
    """How often a candidate exactly at the margin is proven better than it.

    On the stream of returning users this can be more often than beta: whoever fails often fails in both arms, so the ratio of users with
    a failure is nearer to 1 than that of failures.
    """
    figures = []
    for stream in (one for one in STREAMS if one.name in "ad"):
        for step, margin in enumerate((3, 2, 1.5)):
            proven = wrongly_proven(stream, step, n)
            low = 100 * (wilson(int(proven.sum()), n).low or 0.0)
            what = f"{stream.name}: failures at {margin} x proven better, lower bound"
            figures.append(Figure(what=what, value=low, unit="%", at_most=5.0, note=f"measured {100 * proven.mean():.1f} % of {n}"))
    return figures


_PIECES = 7


def _speed() -> list[Figure]:
    """How fast a million rows of one release are replayed, in batches as the log has them, and how long one judgement takes after them."""
    thresholds = baseline_ms(STREAMS[0])
    plan, parts = shipped_plan(thresholds), 42
    drawn = [observation(draw(STREAMS[0], NULL, (99, part)), 0, N) for part in range(parts)]
    batches = [joined(drawn[first : first + _PIECES]) for first in range(0, parts, _PIECES)]
    begun, state = time.perf_counter(), begin(plan)
    for batch in batches:
        state = observe(state, plan, batch)
    spent, rows = time.perf_counter() - begun, sum(batch.n for batch in batches)
    at, begun = datetime(2026, 1, 5, tzinfo=UTC), time.perf_counter()
    for _ in range(10):
        decide(state, plan, at, step=2, data_at=at)
    judgement_ms = (time.perf_counter() - begun) * 100
    return [
        Figure(
            what="replay",
            value=rows / spent,
            unit="rows/s",
            at_least=1_000_000,
            note=f"{rows:,} rows in pieces of {_PIECES * N:,}, one core",
        ),
        Figure(what="judgement after them", value=judgement_ms, unit="ms", at_most=50),
    ]
