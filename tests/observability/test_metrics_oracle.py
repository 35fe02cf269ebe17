"""The catalogue against plain Python on random logs, in a real lake."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observability.lakes import open_lake, open_logs
from tests.observability.metric_oracle import START, Oracle, random_log, spec_of
from workbench.observability.catalogue import CATALOGUE
from workbench.observability.metrics import SAME, Metrics
from workbench.observability.model import Window

pytestmark = pytest.mark.usefixtures("two_threads")  # the numbers depend on no order of work

KPIS = ["conversion", "prompt", "basket", "revenue"]
RETRIEVAL = [name for name in CATALOGUE if name.startswith("retrieval_") and name != "retrieval_hit_rate"]
"""Judged by `test_retrieval_metrics.py`; these logs have no lookups."""
ALIKE = {"latency_p50", "latency_p90", "ttft_p50", "ttft_p90", "ttft_p99", "cache_read_tokens", "reasoning_tokens"} | {
    f"{name}_p{q}" for name in ("input_tokens", "output_tokens") for q in (95, 99)
}
"""Of several that differ in a column or a number only, some are enough."""
EVERYTHING = [*(name for name in CATALOGUE if name not in {*RETRIEVAL, *ALIKE}), *KPIS]
_numbers = itertools.count()
FEW = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Shop:
    """One lake for all examples; each has an app of its own."""

    def __init__(self, home) -> None:
        self.lake = open_lake(home)
        self.logs = open_logs(home, lake=self.lake)
        self.metrics = Metrics(self.lake, app_spec=spec_of, clock=lambda: START + timedelta(days=30))

    def fill(self, seed: int) -> tuple[str, dict]:
        app = f"shop{next(_numbers)}"
        log = random_log(seed, app)
        self.logs.record(log)
        self.logs.flush()
        return app, log


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    place = Shop(tmp_path_factory.mktemp("metrics"))
    yield place
    place.logs.close()
    place.lake.close()


def check(row: dict, expected: dict[str, tuple[float | None, int]]) -> None:
    for name, (value, n) in expected.items():
        if name in ALIKE:
            continue
        assert row[f"{name}_n"] == n, name
        assert row[name] == (None if value is None else pytest.approx(value, rel=1e-11)), name


@pytest.mark.slow
@FEW
@given(st.integers(0, 2**32))
def test_every_metric_equals_the_loops(shop, seed):
    app, log = shop.fill(seed)
    oracle = Oracle(log, app)
    frame = shop.metrics.query(EVERYTHING, app=app)
    assert frame.height == 1
    check(frame.row(0, named=True), oracle.request_metrics(oracle.requests) | oracle.kpis(lambda _: True))


@pytest.mark.slow
@FEW
@given(st.integers(0, 2**32))
def test_every_group_equals_the_loops_over_its_rows(shop, seed):
    app, log = shop.fill(seed)
    oracle = Oracle(log, app)
    frame = shop.metrics.query(EVERYTHING, app=app, by=["bundle", "workflow"], grain="1h", detail=True)
    keys = [(r["bundle"], r["workflow"], r["ts_start"].replace(minute=0, second=0)) for r in oracle.requests]
    assert list(frame.select("bundle", "workflow", "ts").iter_rows()) == sorted(
        set(keys), key=lambda k: (k[0] is None, k[0] or "", k[1] is None, k[1] or "", k[2])
    )
    for row in frame.iter_rows(named=True):
        key = (row["bundle"], row["workflow"], row["ts"])

        def inside(r, key=key):
            return (r["bundle"], r["workflow"], r["ts_start"].replace(minute=0, second=0)) == key

        check(row, oracle.request_metrics([r for r in oracle.requests if inside(r)]) | oracle.kpis(inside))
        for name in EVERYTHING:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            assert low is None or low <= row[name] + 1e-9, name
            assert high is None or high >= row[name] - 1e-9, name


@pytest.mark.slow
@FEW
@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 500))
def test_a_window_and_filters_choose_exactly_their_rows(shop, seed, first, length):
    app, log = shop.fill(seed)
    window = Window(start=START + timedelta(minutes=first), until=START + timedelta(minutes=first + length))
    oracle = Oracle(log, app, until=window.until)

    def inside(r):
        return window.start <= r["ts_start"] < window.until and r["bundle"] in ("one", "two") and r["arm"] == "stable"

    rows = [r for r in oracle.requests if inside(r)]
    oracle.choose(rows)
    frame = shop.metrics.query(EVERYTHING, app=app, window=window, where={"bundle": "one, two", "arm": ["stable"]})
    assert frame.height == bool(rows)
    if rows:
        check(frame.row(0, named=True), oracle.request_metrics(rows) | oracle.kpis(inside))


@pytest.mark.slow
@FEW
@given(st.integers(0, 2**32), st.sampled_from(EVERYTHING))
def test_evidence_repeats_to_the_digit_and_shuffled_rows_give_the_same_statistics(shop, seed, metric):
    app, log = shop.fill(seed)
    first = shop.metrics.measure(metric, app=app, bundle="one")
    assert shop.metrics.verify(first) == SAME
    oracle = Oracle(log, app)
    value, n = (
        oracle.request_metrics(oracle.choose([r for r in oracle.requests if r["bundle"] == "one"]))
        | oracle.kpis(lambda r: r["bundle"] == "one")
    )[metric]
    assert first.statistics["n"] == n
    assert first.statistics["estimate"] == (None if value is None else pytest.approx(value, rel=1e-11))
    if any(r["bundle"] == "two" for r in oracle.requests) and any(r["bundle"] == "one" for r in oracle.requests):
        compared = shop.metrics.compare(metric, app=app, bundle="one", baseline="two")
        candidate = compared.statistics["candidate"]
        if candidate["method"] == first.statistics["method"]:  # sampled scores of the baseline alone weigh both sides
            assert candidate == first.statistics
        assert (candidate["n"], candidate["estimate"]) == (n, first.statistics["estimate"])
        assert shop.metrics.verify(compared) == SAME
