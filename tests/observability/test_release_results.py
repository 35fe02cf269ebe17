"""Business results of a release's talks: undecided until their window is over, whoever reads the log in which pieces."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observability.lakes import NOON, open_lake, open_logs
from workbench.observability.impact import BusinessImpact
from workbench.observability.impact_model import TalksBefore
from workbench.observability.lake import Lake
from workbench.observability.release_results import Awaited, ReleaseResults
from workbench.observability.release_rows import ReleaseReader, ReleaseRows
from workbench.observability.release_talks import REQUEST, SESSION, UNIT, Outcomes, Talks
from workbench.observability.release_units import Requests
from workbench.spec.app import AppSpec, Kpi

pytestmark = pytest.mark.usefixtures("two_threads")  # the same rows, in whatever order the log's engine reads them

WITHIN = 10
SESSIONS = 1000
"""Keys of sessions stand above those of requests, as their hashes lie apart."""


@dataclass(frozen=True)
class Req:
    """A record of a request: its number, its session, its unit, when it began."""

    key: int
    session: int | None = None
    unit: int = 0
    at: int = 0

    @property
    def talk(self) -> int:
        return self.key if self.session is None else SESSIONS + self.session


@dataclass(frozen=True)
class Out:
    """An outcome: its number, what it names, when it happened, its value."""

    key: int
    named: int
    whom: int
    at: int
    value: float | None = 1.0
    is_foreign: bool = False


Batch = tuple[Sequence[Req], Sequence[Out]]


def awaited(reading: str = "total") -> Awaited:
    return Awaited(name="orders", outcome="order", within_us=WITHIN, reading=reading)


def requests(batches: Sequence[tuple[int, Batch]]) -> Requests:
    rows = [(number, seq, each) for number, (asked, _) in batches for seq, each in enumerate(asked)]
    keys = {name: np.array([getattr(each, name) for _, _, each in rows], np.uint64) for name in ("key", "unit", "talk")}
    return Requests(
        batch_id=np.array([number for number, _, _ in rows], np.int64),
        seq=np.array([seq for _, seq, _ in rows], np.int64),
        arm=(keys["unit"] % np.uint64(2)).astype(np.int8),
        share=np.full(len(rows), 0.5),
        values=[],
        at_us=np.array([each.at for _, _, each in rows], np.int64),
        **keys,
    )


def outcomes(batches: Sequence[tuple[int, Batch]]) -> Outcomes:
    rows = [(number, each) for number, (_, came) in batches for each in came]
    values = [each.value for _, each in rows]
    return Outcomes(
        batch_id=np.array([number for number, _ in rows], np.int64),
        key=np.array([each.key for _, each in rows], np.uint64),
        names=np.array([each.named for _, each in rows], np.int64),
        whom=np.array([each.whom for _, each in rows], np.uint64),
        at_us=np.array([each.at for _, each in rows], np.int64),
        value=np.array([0.0 if value is None else value for value in values]),
        is_valued=np.array([value is not None for value in values], np.bool_),
        is_foreign=np.array([each.is_foreign for _, each in rows], np.bool_),
    )


def decided(batches: Sequence[Batch], *, cuts: Sequence[int] = (), reading: str = "total") -> list[tuple[int, int, float | None]]:
    """Batch, place of the talk and value of each result; None for one that cannot be counted. The log is read in pieces."""
    results, numbered, found = ReleaseResults([awaited(reading)]), list(enumerate(batches, start=1)), []
    edges = [0, *sorted({cut for cut in cuts if cut < len(batches)}), len(batches)]
    for begin, end in itertools.pairwise(edges):
        piece = results.take(requests(numbered[begin:end]), [outcomes(numbered[begin:end])])
        found += list(zip(piece.batch_id.tolist(), piece.talk.tolist(), piece.value.tolist(), strict=True))
    return [(batch, talk, None if math.isnan(value) else value) for batch, talk, value in found]


ONE = [Req(1, unit=1, at=0)]
LATER = ([Req(99, unit=9, at=100)], [Out(99, REQUEST, 99, 100, 5.0)])
"""A request and an outcome from long after all others."""


def test_a_talk_is_undecided_until_its_window_is_over_and_never_failed_before():
    before = (ONE, [Out(1, REQUEST, 1, 3, 20.0)])
    assert decided([before]) == []
    assert decided([before, ([Req(99, unit=9, at=100)], [])]) == [], "requests go on, and nobody knows whether outcomes do"
    assert decided([before, ([], [Out(9, UNIT, 9, 100)])]) == [], "an outcome dated in the future ends no window alone"
    dated_ahead = ([], [Out(9, UNIT, 9, 10_000)])
    assert decided([before, dated_ahead, ([Req(99, unit=9, at=100)], [])]) == [], "nor when requests go on and no outcome comes any more"
    assert decided([before, ([], [Out(9, UNIT, 9, WITHIN)]), ([Req(2, at=WITHIN)], [])]) == [], "its last moment is within"
    assert decided([before, LATER]) == [(2, 0, 20.0)]


def test_without_any_outcome_nothing_was_missed():
    assert decided([(ONE, []), *(([Req(n, at=n * 50)], []) for n in range(2, 20))]) == []
    assert decided([(ONE, []), LATER]) == [(2, 0, 0.0)], "once outcomes are known to come, its window is over"
    assert decided([(ONE, []), LATER], reading="mean") == [], "a talk without a value has no mean"


@pytest.mark.parametrize(("named", "whom"), [(REQUEST, 1), (SESSION, SESSIONS + 4), (UNIT, 1)])
def test_an_outcome_finds_its_talk_by_what_it_names(named, whom):
    talk = [Req(1, session=4, unit=1, at=2)]
    assert decided([(talk, []), ([], [Out(1, named, whom, 5, 20.0)]), LATER]) == [(3, 0, 20.0)]
    assert decided([([], [Out(1, named, whom, 5, 20.0)]), (talk, []), LATER]) == [(3, 0, 20.0)], "also before its request is known"
    assert decided([(talk, [Out(1, named, whom, 2 + WITHIN, 20.0)]), LATER]) == [(2, 0, 20.0)]
    assert decided([(talk, [Out(1, named, whom, 3 + WITHIN, 20.0)]), LATER]) == [(2, 0, 0.0)], "what comes later is nobody's"
    early = 20.0 if named == REQUEST else 0.0
    assert decided([(talk, [Out(1, named, whom, 1, 20.0)]), LATER]) == [(2, 0, early)], "only a request is named whenever it was"


def test_a_session_is_one_talk_and_its_window_begins_with_it():
    talk = [Req(1, session=4, unit=1, at=0), Req(2, session=4, unit=1, at=9)]
    assert decided([(talk, [Out(1, REQUEST, 2, 10, 20.0), Out(2, REQUEST, 2, 15, 3.0)]), LATER]) == [(2, 0, 20.0)]


def test_a_unit_s_outcome_is_that_of_its_newest_talk_that_had_begun():
    talks = [Req(1, unit=1, at=0), Req(2, unit=1, at=4), Req(3, unit=1, at=8)]
    order = Out(1, UNIT, 1, 5, 20.0)
    assert decided([(talks, [order]), LATER]) == [(2, 0, 0.0), (2, 1, 20.0), (2, 2, 0.0)]
    assert decided([([], [order]), (talks, []), LATER]) == [(3, 0, 0.0), (3, 1, 20.0), (3, 2, 0.0)], "also when it is told before them"


def test_a_unit_with_many_talks_is_found_the_one_that_was_known_then():
    """A tenant's outcomes, by going through its talks one by one; half of them are told long after, at once."""
    chance, log = np.random.default_rng(7), []
    for number in range(60):
        talks = [Req(1000 * number + n, unit=int(chance.integers(0, 3)), at=10 * number + int(chance.integers(0, 10))) for n in range(5)]
        told = [Out(1000 * number + n, UNIT, int(chance.integers(0, 4)), 10 * number + int(chance.integers(-15, 12))) for n in range(3)]
        log.append((talks, told))
    log.append(([], [Out(10**6 + n, UNIT, n % 3, int(chance.integers(-5, 600))) for n in range(50)]))
    known, batches = Talks(), list(enumerate(log, start=1))
    known.learn(requests(batches))
    begun = [(number, each) for number, (talks, _) in batches for each in talks]
    expected = []
    for number, (_, told) in batches:
        for out in told:
            mine = [n for n, (batch, each) in enumerate(begun) if each.unit == out.whom and batch <= number and each.at <= out.at]
            expected.append(mine[-1] if mine else -1)
    assert known.named_by(outcomes(batches)).tolist() == expected


def test_double_rows_of_an_outcome_count_once_and_the_newest_version_counts():
    order = Out(1, REQUEST, 1, 3, 20.0)
    assert decided([(ONE, [order, order]), ([], [order]), LATER]) == [(3, 0, 20.0)]
    assert decided([(ONE, [order]), ([], [Out(1, REQUEST, 1, 3, 7.0)]), LATER]) == [(3, 0, 7.0)]
    assert decided([(ONE, [order]), LATER, ([], [order])]) == [(2, 0, 20.0)], "also when it is told again after its talk was decided"
    moved = [(ONE, [order]), ([Req(2, unit=2, at=1)], [Out(1, REQUEST, 2, 3, 20.0)]), LATER]
    assert decided(moved) == [(3, 0, 0.0), (3, 1, 20.0)], "it belongs to one talk at a time"


def test_what_comes_after_the_decision_or_is_no_number_is_refused_and_told():
    assert decided([(ONE, []), LATER, ([], [Out(1, REQUEST, 1, 3, 20.0)])]) == [(2, 0, 0.0), (3, 0, None)]
    assert decided([(ONE, []), LATER, ([], [Out(1, REQUEST, 1, 50, 20.0)])]) == [(2, 0, 0.0)], "what is nobody's is late for nobody"
    for value in (math.nan, math.inf, -math.inf):
        batch = (ONE, [Out(1, REQUEST, 1, 3, value), Out(2, REQUEST, 1, 3, 5.0)])
        assert decided([batch, LATER]) == [(2, 0, None)]
        assert decided([batch, LATER], reading="mean") == [(2, 0, None)]
        assert decided([batch, LATER], reading="reached") == [(2, 0, 1.0)], "that it happened is known all the same"


def test_an_outcome_of_another_currency_is_left_out_and_told_and_its_talk_is_judged_by_the_others():
    foreign, euros = Out(1, REQUEST, 1, 3, 20.0, is_foreign=True), Out(2, REQUEST, 1, 3, 6.0)
    for reading in ("total", "mean"):
        assert decided([(ONE, [foreign, euros]), LATER], reading=reading) == [(2, 0, 6.0), (2, 0, None)]
    assert decided([(ONE, [foreign]), LATER]) == [(2, 0, 0.0), (2, 0, None)], "of the KPI's currency it brought nothing"
    assert decided([(ONE, [foreign]), LATER], reading="mean") == [(2, 0, None)]
    assert decided([(ONE, [foreign, foreign]), LATER]) == [(2, 0, 0.0), (2, 0, None)], "told twice it is one"
    corrected = Out(1, REQUEST, 1, 3, 18.0)
    assert decided([(ONE, [foreign]), ([], [corrected]), LATER]) == [(3, 0, 18.0)]
    assert decided([(ONE, [corrected]), ([], [foreign]), LATER]) == [(3, 0, 0.0), (3, 0, None)]
    assert decided([(ONE, [euros]), LATER, ([], [foreign])]) == [(2, 0, 6.0), (3, 0, None)], "too late it is refused as any"
    assert decided([(ONE, []), ([Req(99, unit=9, at=100)], [Out(9, REQUEST, 99, 100, 1.0, is_foreign=True)])]) == [(2, 0, 0.0)], (
        "that outcomes come in it shows all the same"
    )


def test_a_value_that_is_missing_is_nothing_and_not_zero():
    batch = (ONE, [Out(1, REQUEST, 1, 3, None), Out(2, REQUEST, 1, 3, 6.0)])
    assert [decided([batch, LATER], reading=each) for each in ("total", "mean", "reached")] == [[(2, 0, 6.0)], [(2, 0, 6.0)], [(2, 0, 1.0)]]
    assert decided([(ONE, [Out(1, REQUEST, 1, 3, None)]), LATER], reading="mean") == []


def test_of_a_kpi_its_kind_of_number_and_its_currency_are_read():
    def read(**columns) -> Awaited:
        kpi = Kpi.model_validate({"name": "k", "outcome": "order", "within": "2h", **columns})
        return Awaited.of(kpi, kpi.within or timedelta())

    assert (read().reading, read().within_us, read(unit="EUR").currency) == ("reached", 7_200_000_000, None)
    assert [read(aggregate=each, unit="EUR").reading for each in ("mean", "sum")] == ["mean", "total"]
    assert [read(aggregate="sum", unit=unit).currency for unit in ("EUR", "minutes", "eur")] == ["EUR", None, None]


_REQ = st.builds(
    Req,
    key=st.integers(1, 30),
    session=st.none() | st.integers(0, 5),
    unit=st.integers(0, 4),
    at=st.integers(0, 60),
)
_BY_NAME = st.tuples(st.just(REQUEST), st.integers(1, 30)) | st.tuples(st.just(SESSION), st.integers(SESSIONS, SESSIONS + 5))
_NAMED = _BY_NAME | st.tuples(st.just(UNIT), st.integers(0, 4))
_OUT = st.builds(
    lambda key, named, at, value, is_foreign: Out(key, *named, at, value, is_foreign),
    st.integers(0, 12),
    _NAMED,
    st.integers(0, 75),
    st.sampled_from([1.0, 2.5, None, math.nan]),
    st.booleans(),
)
_LOG = st.lists(st.tuples(st.lists(_REQ, max_size=5), st.lists(_OUT, max_size=4)), max_size=12)


@given(_LOG, st.sets(st.integers(1, 12)), st.sampled_from(["total", "mean", "reached"]))
def test_reading_in_pieces_gives_what_reading_at_once_gives(batches, cuts, reading):
    at_once = decided(batches, reading=reading)
    assert decided(batches, cuts=sorted(cuts), reading=reading) == at_once
    assert decided(batches, cuts=range(12), reading=reading) == at_once
    results = [(talk, value) for _, talk, value in at_once if value is not None]
    assert len({talk for talk, _ in results}) == len(results), "a talk is decided once"


def _naive(batches: Sequence[Batch]) -> list[tuple[int, int, float]]:
    """The same of outcomes that each are told once and name a request or a session, by going through the whole log at each batch.

    An outcome that waits for its talk is given up when windows that ended `WITHIN` after it began are over.
    """
    found: list[tuple[int, int, float]] = []
    begun_until = [-math.inf]
    """By batch: when those talks began whose window is over after it."""
    known_since: dict[int, int] = {}
    newest = -math.inf
    """Until when outcomes are known to come in."""
    told = {each.key: number for number, (_, outs) in enumerate(batches, start=1) for each in outs}
    for number in range(1, len(batches) + 1):
        known = [each for asked, _ in batches[:number] for each in asked]
        came = [each for _, outs in batches[:number] for each in outs]
        first: dict[int, Req] = {}
        for each in known:
            first.setdefault(each.key, each)
        talks: dict[int, Req] = {}
        for each in first.values():
            talks.setdefault(each.talk, each)
        for key in (*first, *talks):
            known_since.setdefault(key, number)
        now = max((each.at for each in known), default=-math.inf)
        newest = max([newest, *(min(each.at, now) for each in batches[number - 1][1])])
        over = newest - WITHIN
        for place, (key, begin) in enumerate(talks.items()):
            if begin.at < over and place not in {talk for _, talk, _ in found}:
                mine = [
                    each.value or 0.0
                    for each in came
                    if each.whom in known_since
                    and (first[each.whom].talk if each.named == REQUEST else each.whom) == key
                    and each.at <= begin.at + WITHIN
                    and (each.at >= begin.at or each.named == REQUEST)
                    and (told[each.key] >= known_since[each.whom] or each.at + WITHIN >= begun_until[known_since[each.whom] - 1])
                ]
                found.append((number, place, math.fsum(mine)))
        begun_until.append(max(over, begun_until[-1]))
    return sorted(found)


_TOLD_ONCE = st.lists(st.tuples(st.lists(_REQ, max_size=5), st.lists(_BY_NAME, max_size=4)), max_size=10)


@given(_TOLD_ONCE, st.randoms(use_true_random=False))
def test_results_are_those_of_going_through_the_whole_log_each_time(named, chance):
    keys = iter(range(1, 1000))
    batches = [
        (asked, [Out(next(keys), *each, chance.randint(0, 75), float(chance.randint(1, 9))) for each in told]) for asked, told in named
    ]
    assert sorted((batch, talk, value) for batch, talk, value in decided(batches) if value is not None) == _naive(batches)


# Out of a real lake


def asked(number: int, *, at_s: int | None = None, **columns: object) -> dict[str, object]:
    """A request's final record; the hash of its unit is its number as hex."""
    return {
        "request_id": f"r{number}",
        "revision": 1,
        "is_final": True,
        "app": "shop",
        "ts_start": NOON + timedelta(seconds=number if at_s is None else at_s),
        "arm": "candidate" if number % 4 == 0 else "stable",
        "bundle": "shop@2" if number % 4 == 0 else "shop@1",
        "traffic_share": 0.25,
        "release_id": "shop.1",
        "unit_hash": f"{number:016x}{'0' * 48}",
        "status": "ok",
        "latency_ms": 100.0,
        **columns,
    }


def order(number: int, value: float | None, *, at_s: int, event: str = "order", **columns: object) -> dict[str, object]:
    return {
        "outcome_id": f"o{number}",
        "app": "shop",
        "kpi": event,
        "value": value,
        "currency": "EUR",
        "ts": NOON + timedelta(seconds=at_s),
        "source": "shop",
        **columns,
    }


KPIS = [
    Kpi.model_validate({"name": "latency_to_order", "outcome": "order", "within": "20s"}),
    Kpi.model_validate({"name": "revenue", "outcome": "order", "within": "20s", "aggregate": "sum", "unit": "EUR"}),
]
AWAITED = [Awaited.of(kpi, kpi.within or timedelta()) for kpi in KPIS]
METRICS = ["failure_rate", *(kpi.name for kpi in KPIS)]
BATCHES = [
    ([asked(1, session_id="s1"), asked(2), asked(4), asked(5, unit_hash=None)], [order(1, 30.0, at_s=6, session_id="s1")]),
    ([asked(6)], [order(2, 12.0, at_s=8, unit_hash=f"{4:016x}{'0' * 48}"), order(3, 9.0, at_s=9, request_id="r2", currency="USD")]),
    ([], [order(1, 31.0, at_s=6, session_id="s1"), order(4, 5.0, at_s=9, request_id="r4", event="return")]),
    ([asked(40)], [order(5, 1.0, at_s=41, request_id="r40")]),
    ([], [order(6, 50.0, at_s=10, request_id="r6"), order(5, 1.0, at_s=41, request_id="r40")]),
]


@pytest.fixture
def lake(tmp_path) -> Lake:
    found = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=found)
    for rows, came in BATCHES:
        logs.record({"requests": rows, "outcomes": came})
        logs.flush()
    logs.close()
    return found


def listed(rows: ReleaseRows) -> list[tuple[int, int, int, int, dict[str, float | None]]]:
    """Batch, place, arm and unit of each row with a result, with what it is."""
    found = []
    for at in range(rows.n):
        values = {name: float(column[at]) for name, (column, present) in rows.values.items() if present[at] and name != "failure_rate"}
        if values:
            values = {name: None if math.isnan(value) else value for name, value in values.items()}
            found.append((int(rows.batch_id[at]), int(rows.place[at]), int(rows.arm[at]), int(rows.unit[at]), values))
    return found


def test_results_come_out_of_a_lake_with_the_arm_and_unit_of_their_talk(lake: Lake):
    rows = ReleaseReader(lambda: lake, "shop", "shop.1", METRICS, AWAITED).read()
    ordered, revenue = ([row[:1] + row[2:] for row in listed(rows) if name in row[-1]] for name in METRICS[1:])
    none = rows.unit[3]
    assert ordered == [
        (4, 0, 1, {"latency_to_order": 1.0}),
        (4, 0, 2, {"latency_to_order": 1.0}),
        (4, 1, 4, {"latency_to_order": 1.0}),
        (4, -1, none, {"latency_to_order": 0.0}),
        (4, 0, 6, {"latency_to_order": 0.0}),
        (5, 0, 6, {"latency_to_order": None}),
    ]
    assert [row[-1]["revenue"] for row in revenue] == [31.0, 0.0, None, 12.0, 0.0, 0.0, None], "dollars are no euros"
    assert rows.values["latency_to_order"][1].sum() == 6, "a KPI of such a name is no latency"


def test_a_lake_read_in_pieces_gives_the_same_rows(lake: Lake):
    whole = listed(ReleaseReader(lambda: lake, "shop", "shop.1", METRICS, AWAITED).read())
    for steps in ([1, 2, 3, 4, 5], [3, 5], [2, 4, 5]):
        reader = ReleaseReader(lambda: lake, "shop", "shop.1", METRICS, AWAITED)
        assert [row for until in steps for row in listed(reader.read(until=until))] == whole
        assert reader.read().n == 0


def test_what_a_bundle_s_talks_came_to_before_is_what_its_log_says(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    totals = [float(each) for each in np.random.default_rng(5).lognormal(3, 1, 40)]
    rows = [asked(4 * number + 1, at_s=number) for number in range(100)] + [asked(4, at_s=50), asked(997, at_s=200)]
    came = [order(number, value, at_s=number + 1, request_id=f"r{4 * number + 1}") for number, value in enumerate(totals)]
    late = order(90, 5.0, at_s=150, request_id="r1")
    logs.record({"requests": rows, "outcomes": [*came, late]})
    logs.flush()
    mean = Kpi.model_validate({"name": "basket", "outcome": "order", "within": "20s", "aggregate": "mean", "unit": "EUR"})
    spec = AppSpec.model_validate({"app": "shop", "title": "Shop", "risk_tier": "low"})
    impact = BusinessImpact(lake, app_spec=lambda _app: spec, clock=lambda: NOON + timedelta(days=1))
    found = impact.before("shop", [*KPIS, mean], "shop@1")
    assert (found["latency_to_order"].n, found["latency_to_order"].mean) == (100, pytest.approx(0.4))
    known = sorted([*totals, *[0.0] * 60])
    assert (found["revenue"].n, found["revenue"].low, found["revenue"].high) == (100, 0.0, pytest.approx(known[-1]))
    assert found["revenue"].mean == pytest.approx(math.fsum(known) / 100)
    assert (found["basket"].n, found["basket"].mean) == (40, pytest.approx(math.fsum(totals) / 40))
    assert impact.before("shop", KPIS, "shop@9")["revenue"].mean is None, "no talk is no data, and not 0"
    assert BusinessImpact(open_lake(tmp_path / "empty"), app_spec=lambda _app: spec, clock=lambda: NOON).before("shop", KPIS, "shop@1")[
        "revenue"
    ] == TalksBefore(kpi=KPIS[1], n=0, mean=None)
    logs.close()
