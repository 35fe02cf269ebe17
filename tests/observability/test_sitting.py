"""Measurements that read the log once together say bit for bit what each says alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, request
from tests.observability.test_metrics_oracle import EVERYTHING, Shop
from workbench.errors import UnknownSubject, UsageError
from workbench.observability.evidence import content_of

pytestmark = pytest.mark.usefixtures("two_threads")  # the numbers depend on no order of work

WHERE = ({}, {"workflow": "buy"}, {"workflow": "ask,browse", "arm": "stable"}, {"status": "ok"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    place = Shop(tmp_path_factory.mktemp("sitting"))
    yield place
    place.logs.close()
    place.lake.close()


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**32),
    st.sampled_from(WHERE),
    st.sampled_from([None, 5]),
    st.lists(st.sampled_from(EVERYTHING), min_size=8, max_size=8, unique=True),
)
def test_together_is_the_same_as_alone(shop, seed, where, min_n, names):
    app, _ = shop.fill(seed)
    snapshot, how = shop.metrics.snapshot(), {"where": where, "min_n": min_n}
    pair = {"app": app, "bundle": "one", "baseline": "two"}

    def together(sitting):
        return [ask(name, **how) for name in names for ask in (sitting.measure, sitting.compare)]

    def alone(name):
        yield shop.metrics.measure(name, app=app, bundle="one", snapshot=snapshot, **how)
        yield shop.metrics.compare(name, snapshot=snapshot, **pair, **how)

    found = shop.metrics.sitting(together, snapshot=snapshot, **pair)
    expected = [record for name in names for record in alone(name)]
    assert [content_of(record) for record in found] == [content_of(record) for record in expected]
    assert found == expected
    sources = shop.metrics.sitting(lambda sitting: sitting.score_sources(), snapshot=snapshot, **pair)
    assert sources == shop.metrics.score_sources(app, "one", snapshot)


def test_a_sitting_is_one_look_at_one_snapshot(tmp_path, monkeypatch):
    log = Fixture(tmp_path)
    log.add([request(latency_ms=float(i), bundle=bundle) for i in range(9) for bundle in ("one", "two")])
    before = log.metrics.snapshot()
    log.add([request(latency_ms=99.0)])
    looks, look = [], log.lake.look
    monkeypatch.setattr(log.lake, "look", lambda work: looks.append(1) or look(work))

    def ask(sitting):
        return sitting.measure("latency_p50"), sitting.compare("latency_p95"), sitting.measure("volume", {"arm": "stable"})

    median, tail, none = log.metrics.sitting(ask, app="shop", bundle="one", baseline="two", snapshot=before)
    assert (median.statistics["estimate"], tail.statistics["candidate"]["n"], none.statistics["n"]) == (4.0, 9, 0)
    assert {median.snapshot, tail.snapshot, none.snapshot} == {before}
    assert len(looks) == 1
    log.close()


def test_a_wrong_question_does_not_end_the_sitting(tmp_path):
    log = Fixture(tmp_path)
    log.add([request(ts_start=NOON + timedelta(minutes=i)) for i in range(5)])

    def ask(sitting):
        with pytest.raises(UnknownSubject, match="did you mean 'volume'"):
            sitting.measure("volum")
        with pytest.raises(UsageError, match="no baseline was chosen"):
            sitting.compare("volume")
        return sitting.measure("volume")

    assert log.metrics.sitting(ask, app="shop", bundle="one").statistics["n"] == 5
    log.close()
