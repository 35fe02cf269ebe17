"""Less data never helps: reviews over a real log, some of its rows taken away, the same gates again.

A log only grows, so a row is taken away by a later revision that no longer names the bundle. What may not happen:
a gate that did not pass passes afterwards, a gate stops applying, a review becomes GO. What may: fewer bad rows are better news,
so the rows that are taken away here either speak for the candidate, or are every second one of a pattern that repeats.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.readiness.test_review_service import NOW, OPERATOR, Clock, write_app
from workbench.readiness.model import Review, ReviewVerdict, Verdict
from workbench.workspace import Workspace

GATES = """
    gates:
      - {id: success, metric: success_rate, at_least: 0.8, min_n: 50}
      - {id: latency, metric: latency_p95, at_most: 800, min_n: 50}
      - {id: success_kept, metric: success_rate, against_baseline: {margin: 0.1}, min_n: 50}
      - {id: latency_kept, metric: latency_p95, against_baseline: {ratio: 1.2}, min_n: 50}
      - {id: violations, metric: violation_rate, at_most: 0.05, min_n: 50}
    """
PERIOD = 20


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A bundle's traffic: `n` requests, of each 20 of them `good` and `broken` ones, each unit seen `repeats` times."""

    n: int
    good: int
    broken: int = 0
    slow: float = 1.0
    repeats: int = 1


SOUND = Arm(n=400, good=18)
LOGS = {
    "sound": (SOUND, SOUND),
    "small": (Arm(n=100, good=17), Arm(n=100, good=17)),
    "too few": (Arm(n=40, good=20), Arm(n=40, good=16)),
    "slower": (Arm(n=400, good=18, slow=1.3), SOUND),
    "worse": (Arm(n=400, good=16), SOUND),
    "breaks rules": (Arm(n=400, good=18, broken=2), SOUND),
    "few units": (Arm(n=400, good=18, repeats=20), SOUND),
    "units on both sides": (Arm(n=400, good=17, repeats=4), Arm(n=400, good=17, repeats=4)),
}


def requests(bundle: str, arm: Arm, *, shared: bool) -> tuple[list[dict], list[dict]]:
    """Requests and scores of an arm; with `shared` both arms have the same units."""
    rows, scores = [], []
    for i in range(arm.n):
        start = NOW - timedelta(hours=2, seconds=i)
        latency = (500.0 + 10 * (i % PERIOD)) * arm.slow
        name = f"{bundle}-{i}"
        rows.append(
            {
                "request_id": name,
                "revision": 1,
                "is_final": True,
                "app": "support",
                "workflow": "ask",
                "ts_start": start,
                "ts_end": start + timedelta(milliseconds=latency),
                "latency_ms": latency,
                "bundle": bundle,
                "arm": "none",
                "status": "ok",
                "unit_hash": f"{'' if shared else bundle}unit-{i // PERIOD}-{i % PERIOD // arm.repeats}",
                "violation_rules": ["promise"] if i % PERIOD < arm.broken else [],
                "source": "test",
            }
        )
        scores.append(
            {
                "score_id": f"s-{name}",
                "app": "support",
                "request_id": name,
                "name": "resolved",
                "value": float(i % PERIOD < arm.good),
                "source": "rule",
                "ts": start + timedelta(minutes=1),
            }
        )
    return rows, scores


@dataclass(frozen=True)
class World:
    """A workspace with both arms logged."""

    ws: Workspace
    rows: dict[str, list[dict]]
    """Requests by side, `baseline` and `candidate`."""

    def review(self) -> Review:
        return self.ws.readiness.review("support", "v2")

    def take_away(self, is_gone: Callable[[str, int], bool], **change: None) -> None:
        """Revise the rows (side, place) that are gone: without a bundle, or with another change."""
        gone = [
            {**row, "revision": 2, **(change or {"bundle": None})}
            for side, rows in self.rows.items()
            for i, row in enumerate(rows)
            if is_gone(side, i)
        ]
        if gone:
            self.ws.logs.record({"requests": gone})
            self.ws.logs.flush()


@contextmanager
def world(folder: Path, candidate: Arm, baseline: Arm, *, shared: bool = False, scored: bool = True) -> Iterator[World]:
    app = write_app(folder / "app")
    (app / "gates.yaml").write_text(textwrap.dedent(GATES))
    with Workspace.open(folder / "home", clock=Clock(), actor=OPERATOR) as ws:
        ids = [ws.versions.register(app / "bundles" / name).bundle.bundle_id for name in ("v1", "v2")]
        sides = {}
        for side, bundle, arm in zip(("baseline", "candidate"), ids, (baseline, candidate), strict=True):
            sides[side], scores = requests(bundle, arm, shared=shared)
            ws.logs.record({"requests": sides[side], "scores": scores if scored else []})
        ws.logs.flush()
        yield World(ws, sides)


def assert_no_better(before: Review, after: Review) -> None:
    verdicts = {gate.gate_id: gate for gate in before.gates}
    for gate in after.gates:
        if gate.verdict in (Verdict.PASS, Verdict.NOT_APPLICABLE):
            assert verdicts[gate.gate_id].verdict is gate.verdict, (verdicts[gate.gate_id].sentence, gate.sentence)
    if after.verdict is ReviewVerdict.GO:
        assert before.verdict is ReviewVerdict.GO


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
def test_every_second_of_a_repeating_pattern_is_no_better_than_all(tmp_path, name):
    with world(tmp_path, *LOGS[name], shared=name.startswith("units")) as log:
        before = log.review()
        log.take_away(lambda _, i: i // PERIOD % 2 == 1)
        after = log.review()
    assert_no_better(before, after)
    success = [next(gate.observed for gate in review.gates if gate.gate_id == "success") for review in (before, after)]
    assert success[0] == success[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slower", "few units"])
@pytest.mark.parametrize(
    "is_gone",
    [
        lambda side, _: side == "baseline",
        lambda side, i: side == "baseline" and i > 0,
        lambda side, _: side == "candidate",
        lambda *_: True,
    ],
    ids=["baseline", "baseline but one", "candidate", "everything"],
)
def test_a_side_that_is_gone_never_helps(tmp_path, name, is_gone):
    with world(tmp_path, *LOGS[name]) as log:
        before = log.review()
        log.take_away(is_gone)
        after = log.review()
    assert_no_better(before, after)
    assert after.verdict is not ReviewVerdict.GO


def test_latencies_that_are_gone_where_they_were_bad_never_help(tmp_path):
    with world(tmp_path, *LOGS["slower"]) as log:
        before = log.review()
        log.take_away(lambda side, i: side == "candidate" and i % PERIOD >= PERIOD // 2, latency_ms=None)
        after = log.review()
    assert_no_better(before, after)
    reasons = {gate.gate_id: gate.reason for gate in after.gates}
    assert (reasons["latency"], reasons["latency_kept"]) == ("mostly_unmeasured", "mostly_unmeasured")


def test_a_log_without_scores_never_goes(tmp_path):
    with world(tmp_path, SOUND, SOUND, scored=False) as log:
        assert log.review().verdict is ReviewVerdict.NOT_ENOUGH_EVIDENCE


@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(set(LOGS) - {"few units", "units on both sides"})), shared=st.booleans(), gone=st.data())
def test_taking_away_what_speaks_for_the_candidate_never_helps(tmp_path_factory, name, shared, gone):
    """Its good and fast requests, and the baseline's bad and slow ones: without them the candidate looks no better."""
    candidate, baseline = LOGS[name]
    marks = gone.draw(st.sets(st.integers(0, candidate.n + baseline.n - 1), max_size=candidate.n))

    def speaks_for(side: str, i: int) -> bool:
        place = i % PERIOD
        if side == "candidate":
            return i in marks and candidate.broken <= place < min(candidate.good, PERIOD // 2)
        return candidate.n + i in marks and place >= baseline.good

    with world(tmp_path_factory.mktemp("log"), candidate, baseline, shared=shared) as log:
        before = log.review()
        log.take_away(speaks_for)
        assert_no_better(before, log.review())
