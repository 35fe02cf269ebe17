"""Business impact over a real lake: attribution, open periods, the split, and what is refused."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, outcome, request, spec
from workbench.errors import UnknownSubject, UsageError
from workbench.observability.impact import BusinessImpact
from workbench.observability.impact_model import Answer, Design, Reason, Standing, State, answer
from workbench.spec.app import AppSpec

NOW = NOON + timedelta(days=1)
KPIS = (
    {"name": "solved", "outcome": "solved", "within": "1d", "baseline": 0.4, "target": 0.5, "target_date": "2026-01-01"},
    {"name": "basket", "outcome": "order", "aggregate": "sum", "unit": "EUR", "within": "1d", "per": "day", "target": 1.0},
    {"name": "order_value", "outcome": "order", "aggregate": "mean", "unit": "EUR", "within": "1d"},
)


class Town:
    """Users of one app over two weeks, divided by the routes of one release; what they do is a function of the seed."""

    def __init__(self, app: str = "shop", *, lost: float = 0.0) -> None:
        draw = random.Random(4)
        self.app = app
        self.requests: list[dict] = []
        self.outcomes: list[dict] = []
        for number in range(2400):
            share = 0.1 if number < 1200 else 0.5
            ts = NOON - timedelta(days=14) + timedelta(days=number / 2400 * 13, minutes=draw.random() * 60)
            is_candidate, habit = draw.random() < share, draw.lognormvariate(0, 0.5)
            if is_candidate and draw.random() < lost:
                continue
            self._user(draw, f"u{number}", ts, share=share, is_candidate=is_candidate, habit=habit)

    def _user(self, draw: random.Random, unit: str, ts: datetime, *, share: float, is_candidate: bool, habit: float) -> None:
        route = {"arm": "candidate" if is_candidate else "stable", "bundle": "new" if is_candidate else "old", "traffic_share": share}
        route |= {"app": self.app, "release_id": "shop.2", "route_version": 3}
        is_solved = draw.random() < (0.75 if is_candidate else 0.5)
        status = "ok" if is_solved else "handed_off"
        asked = request(ts_start=ts, **route, unit_hash=unit, session_id=f"s-{unit}", cost_usd=0.01, status=status)
        self.requests.append(asked)
        if is_solved:
            self.outcomes.append(self._at(outcome("solved", request_id=asked["request_id"], value=1.0), ts + timedelta(hours=2)))
        if draw.random() < 0.5:
            worth = 30 * habit * draw.lognormvariate(0, 0.2)
            self.outcomes.append(self._at(outcome("order", session_id=f"s-{unit}", value=worth, currency="EUR"), ts + timedelta(hours=2)))
        worth = 30 * habit * draw.lognormvariate(0, 0.2)
        self.outcomes.append(self._at(outcome("order", unit_hash=unit, value=worth, currency="EUR"), ts - timedelta(days=5)))

    def _at(self, event: dict, ts: datetime) -> dict:
        return {**event, "app": self.app, "ts": ts}


class Corner:
    """An app of its own in the lake that these tests share."""

    def __init__(self, fixture: Fixture, specs: dict[str, AppSpec], *kpis: dict) -> None:
        self.app = f"corner-{len(specs)}"
        specs[self.app] = spec(self.app, kpis=kpis)
        self._kpis = specs[self.app].kpis
        self._fixture = fixture
        self._impact = BusinessImpact(fixture.lake, app_spec=specs.get, clock=lambda: NOW)

    def add(self, requests=(), *, outcomes=()) -> None:
        self._fixture.add([{**row, "app": self.app} for row in requests], outcomes=[{**row, "app": self.app} for row in outcomes])

    def report(self, **how):
        return self._impact.report(self.app, **how)

    def effects(self, **how):
        return self._impact.effects(self.app, **how)

    def before(self, bundle: str):
        (found,) = self._impact.before(self.app, self._kpis, bundle).values()
        return found

    def one(self, metric: str):
        return self._fixture.one(metric, app=self.app)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One lake with a town, and its twin that lost users of the candidate; and the apps' declarations, to which tests add."""
    specs = {app: spec(app, kpis=KPIS) for app in ("shop", "lossy")}
    fixture = Fixture(tmp_path_factory.mktemp("town"), specs)
    towns = Town(), Town("lossy", lost=0.25)
    fixture.add([row for town in towns for row in town.requests], outcomes=[row for town in towns for row in town.outcomes])
    yield fixture, specs, towns[0]
    fixture.close()


@pytest.fixture(scope="module")
def town(shared):
    fixture, specs, people = shared
    return fixture, BusinessImpact(fixture.lake, app_spec=specs.get, clock=lambda: NOW), people


@pytest.fixture
def small(shared):
    """An app without rows, with the KPIs that a test declares."""
    fixture, specs, _ = shared
    return lambda *kpis: Corner(fixture, specs, *kpis)


def test_a_rate_by_day_is_the_catalogues_with_the_same_interval_once_the_day_is_closed(town):
    fixture, impact, _ = town
    frame = fixture.metrics.query("solved", app="shop", grain="1d", detail=True)
    rows = {row["ts"]: row for row in frame.iter_rows(named=True)}
    periods = impact.report("shop", kpi="solved", by="day").kpis[0].periods
    closed = [period for period in periods if period.state is not State.OPEN]
    assert all(rows[period.start]["solved_n"] <= period.n for period in periods if period.start in rows)
    assert len(closed) > 10
    for period in closed:
        row = rows[period.start]
        assert (period.value, period.n, period.outcomes) == (pytest.approx(row["solved"]), row["solved_n"], row["solved_count"])
        assert (period.low, period.high) == (pytest.approx(row["solved_low"]), pytest.approx(row["solved_high"]))


def test_means_and_sums_over_everything_are_the_catalogues(town):
    fixture, impact, _ = town
    known = {name: fixture.one(name, app="shop") for name in ("order_value", "basket")}
    report = impact.report("shop", by="month")
    periods = report.of("basket").periods
    assert sum(period.total for period in periods) == pytest.approx(known["basket"][0])
    assert sum(period.outcomes for period in periods) == known["order_value"][1]
    mean = sum(period.total for period in report.of("order_value").periods) / known["order_value"][1]
    assert mean == pytest.approx(known["order_value"][0])


def test_periods_follow_each_other_without_gaps_and_the_last_ones_are_open(town):
    _, impact, _ = town
    found = impact.report("shop", kpi="solved", by="day").kpis[0]
    for earlier, later in zip(found.periods, found.periods[1:], strict=False):
        assert earlier.until == later.start
    states = [period.state for period in found.periods]
    assert states == sorted(states, key=lambda state: state is State.OPEN)
    as_of = impact.report("shop", kpi="solved").as_of
    for period in found.periods:
        assert (period.state is State.OPEN) == (period.until + timedelta(days=1) > as_of)


def test_an_open_period_is_compared_with_nothing(town):
    _, impact, _ = town
    for found in impact.report("shop", by="day").kpis:
        for period in found.periods:
            if period.state is State.OPEN:
                assert (period.target, period.baseline) == (Standing.UNKNOWN, Standing.UNKNOWN)
        assert found.now.state is State.COMPLETE


def test_the_effect_is_what_the_town_was_made_of(town):
    _, impact, people = town
    solved, basket, value = impact.effects("shop")
    assert solved.finding.reason is Reason.BETTER
    assert solved.design is Design.ROUTED
    assert (solved.release_id, solved.candidate.name, solved.baseline.name) == ("shop.2", "new", "old")
    assert solved.measured[0].absolute.contains(0.25)
    assert solved.measured[0].relative.contains(0.5)
    assert not solved.split.is_broken
    assert [stretch.share for stretch in solved.stretches] == [0.1, 0.5]
    assert solved.candidate.units + solved.baseline.units == len(people.requests)
    for effect in (basket, value):
        assert effect.finding.reason is Reason.NO_DIFFERENCE_SHOWN
        assert effect.measured[0].absolute.contains(0)


def test_the_pre_period_narrows_the_effect_and_says_by_how_much(town):
    _, impact, _ = town
    value = impact.effects("shop", kpi="order_value")[0]
    adjusted, plain = value.measured
    assert (adjusted.way, plain.way) == ("adjusted by the pre-period", "as observed")
    shorter = (adjusted.absolute.high - adjusted.absolute.low) / (plain.absolute.high - plain.absolute.low)
    assert shorter == pytest.approx((1 - value.variance.reduction) ** 0.5, rel=0.1)
    assert value.variance.reduction > 0.3
    none = impact.effects("shop", kpi="order_value", pre="1d")[0]
    assert [measured.way for measured in none.measured] == ["as observed"]
    assert none.variance.theta is None


def test_swapping_the_bundles_turns_the_effect(town):
    _, impact, _ = town
    (forth,) = impact.effects("shop", kpi="solved", candidate="new", baseline="old")
    (back,) = impact.effects("shop", kpi="solved", candidate="old", baseline="new")
    assert forth.measured == impact.effects("shop", kpi="solved")[0].measured
    assert back.measured[0].absolute.value == pytest.approx(-forth.measured[0].absolute.value)
    assert back.measured[0].absolute_p == pytest.approx(forth.measured[0].absolute_p)
    assert back.split.p == pytest.approx(forth.split.p)
    assert back.finding.reason is Reason.WORSE


def test_a_condition_on_what_the_bundle_causes_breaks_the_split(town):
    """Only users who were handed to a person: the candidate solves more, so fewer of its users are."""
    _, impact, _ = town
    effects = impact.effects("shop", where={"status": "handed_off"})
    for effect in effects:
        assert effect.finding.reason is Reason.SPLIT_MISMATCH
        assert effect.measured == ()
        assert (effect.candidate.value, effect.baseline.value) == (None, None)
    assert answer(effect.finding.reason for effect in effects) is Answer.NO


def test_a_series_with_lost_units_is_refused_an_effect(town):
    _, impact, _ = town
    (effect,) = impact.effects("lossy", kpi="solved")
    assert effect.finding.reason is Reason.SPLIT_MISMATCH
    assert effect.split.p < 0.001
    assert not effect.measured
    assert "no effect is shown" in effect.finding.sentence


def test_a_drill_is_refused_like_the_real_thing_and_says_what_it_is(town):
    _, impact, _ = town
    (drill,) = impact.effects("shop", kpi="solved", drill_lost=0.3)
    (real,) = impact.effects("shop", kpi="solved")
    assert drill.candidate.units == pytest.approx(0.7 * real.candidate.units, abs=1)
    assert drill.baseline.units == real.baseline.units
    assert (drill.finding.reason, drill.measured) == (Reason.SPLIT_MISMATCH, ())
    assert drill.finding.sentence.startswith("A drill, as if 30 % of the candidate's units had been lost.")
    assert (drill.drill_lost, real.drill_lost) == (0.3, 0.0)


def test_events_go_to_their_request_else_their_session_else_their_unit(small):
    corner = small({"name": "orders", "outcome": "order", "within": "2h"})
    first = request(ts_start=NOON, unit_hash="u", session_id="a")
    second = request(ts_start=NOON + timedelta(hours=1), unit_hash="u", session_id="b")
    other = request(ts_start=NOON, unit_hash="w", session_id="c")
    events = [
        outcome("order", request_id=first["request_id"], minute=5),
        outcome("order", session_id="b", minute=70),
        outcome("order", unit_hash="w", minute=10),
        outcome("order", session_id="c", minute=125),
        outcome("order", unit_hash="u", minute=-30),
        outcome("order", session_id="nobody", minute=10),
        outcome("order", request_id="unknown", unit_hash="u", minute=10),
    ]
    corner.add([first, second, other], outcomes=events)
    found = corner.report(by="day").kpis[0]
    a = found.attributed
    assert (a.by_request, a.by_session, a.by_unit, a.too_late, a.before, a.nobodys) == (1, 1, 1, 1, 1, 2)
    assert a.counted == 3
    assert (found.periods[0].value, found.periods[0].n) == (1.0, 3)
    assert corner.one("orders") == (1.0, 2), "the second session's time is not over"


def test_a_session_that_returns_is_in_the_catalogue_and_in_impact_what_it_was(small):
    """By the hour that it has from its first request on: in the table of periods, in the effect and in what a release is compared with."""
    corner = small({"name": "orders", "outcome": "order", "within": "1h"})
    began = NOON - timedelta(days=8)
    first = [request(ts_start=began, session_id=name, unit_hash=name, bundle="a") for name in ("reached", "missed", "at the end")]
    again = [request(ts_start=NOON - timedelta(minutes=5), session_id=row["session_id"], unit_hash=row["unit_hash"]) for row in first]
    came = [
        {**outcome("order", request_id=first[0]["request_id"]), "ts": began + timedelta(minutes=59)},
        {**outcome("order", session_id="missed"), "ts": NOON - timedelta(minutes=1)},
        {**outcome("order", request_id=again[2]["request_id"]), "ts": began + timedelta(hours=1)},
    ]
    corner.add([*first, *again], outcomes=came)
    found = corner.report(by="day").kpis[0]
    assert corner.one("orders") == (pytest.approx(2 / 3), 3)
    assert (found.now.value, found.now.n, found.now.start.date()) == (pytest.approx(2 / 3), 3, began.date())
    assert (found.attributed.counted, found.attributed.too_late) == (2, 1)
    before = corner.before("a")
    assert (before.n, before.mean) == (3, pytest.approx(2 / 3))


def test_an_amount_has_the_time_of_its_own_request(small):
    corner = small({"name": "revenue", "outcome": "order", "aggregate": "sum", "unit": "EUR", "within": "1h"})
    asked = [request(ts_start=NOON + timedelta(hours=hour), session_id="a") for hour in (-9, -3)]
    corner.add(asked, outcomes=[outcome("order", session_id="a", value=5.0, minute=minute) for minute in (-150, -100)])
    assert corner.one("revenue") == (5.0, 1)
    assert corner.report(by="day").kpis[0].attributed.too_late == 1


def test_what_came_too_late_is_nobodys_in_the_catalogue_either(small):
    corner = small({"name": "orders", "outcome": "order", "aggregate": "sum", "unit": "EUR", "within": "1h"})
    asked = request(ts_start=NOON, unit_hash="u", session_id="a")
    corner.add([asked], outcomes=[outcome("order", request_id=asked["request_id"], value=5.0, minute=m) for m in (60, 61)])
    assert corner.report(by="day").kpis[0].periods[0].total == 5.0
    assert corner.one("orders") == (5.0, 1)


def test_a_correction_of_an_event_replaces_it_and_other_money_is_not_added(small):
    corner = small({"name": "orders", "outcome": "order", "aggregate": "sum", "unit": "EUR"})
    asked = request(ts_start=NOON, unit_hash="u")
    event = outcome("order", request_id=asked["request_id"], value=50.0, currency="EUR")
    corner.add([asked], outcomes=[event, outcome("order", request_id=asked["request_id"], value=9.0, currency="USD")])
    corner.add(outcomes=[{**event, "value": 20.0}])
    assert corner.report(by="day").kpis[0].periods[0].total == 20.0


def test_a_unit_that_met_both_bundles_is_counted_and_kept_or_left_out_by_rule(small):
    corner = small({"name": "solved", "outcome": "solved"})
    route = {"release_id": "shop.1", "traffic_share": 0.5}
    rows = []
    for number in range(80):
        side = ("candidate", "new") if number % 2 else ("stable", "old")
        rows.append(request(ts_start=NOON, unit_hash=f"u{number}", arm=side[0], bundle=side[1], **route))
    rows += [
        request(ts_start=NOON + timedelta(hours=1), unit_hash=f"u{number}", arm="candidate", bundle="new", **route) for number in (0, 2)
    ]
    corner.add(rows, outcomes=[outcome("solved", request_id=row["request_id"], minute=61) for row in rows[:30]])
    (kept,) = corner.effects()
    (dropped,) = corner.effects(crossed="exclude")
    assert (kept.crossed, kept.candidate.judged, kept.baseline.judged) == (2, 40, 40)
    assert (dropped.crossed, dropped.candidate.judged, dropped.baseline.judged) == (2, 40, 38)
    assert kept.split == dropped.split


def test_units_whose_window_is_not_over_are_left_out_and_without_others_nothing_is_shown(small):
    corner = small({"name": "solved", "outcome": "solved", "within": "3d"})
    rows = [
        request(ts_start=NOON, unit_hash=f"u{n}", arm="candidate" if n % 2 else "stable", bundle="new" if n % 2 else "old",
                release_id="shop.1", traffic_share=0.5)
        for n in range(100)
    ]  # fmt: skip
    corner.add(rows, outcomes=[outcome("solved", request_id=rows[0]["request_id"], minute=5)])
    (effect,) = corner.effects()
    assert (effect.finding.reason, effect.open_units, effect.measured) == (Reason.WINDOW_OPEN, 100, ())
    report = corner.report(by="day").kpis[0]
    assert report.finding.reason is Reason.NO_COMPLETE_PERIOD
    assert report.overall is None


def test_requests_without_a_unit_are_in_no_experiment(small):
    corner = small({"name": "solved", "outcome": "solved"})
    route = {"release_id": "shop.1", "traffic_share": 0.5}
    rows = [request(unit_hash=f"u{n}", arm="candidate" if n % 2 else "stable", bundle="ab"[n % 2], **route) for n in range(80)]
    rows += [request(arm="stable", bundle="a", **route) for _ in range(50)]
    corner.add(rows)
    (effect,) = corner.effects()
    assert (effect.nameless, effect.candidate.units, effect.baseline.units) == (50, 40, 40)
    assert effect.finding.reason is Reason.NO_VARIATION


def test_traffic_that_no_route_divided_is_compared_with_a_caution(small):
    corner = small({"name": "solved", "outcome": "solved"})
    rows = [request(unit_hash=f"u{n}", arm="none", bundle="ab"[n % 2], ts_start=NOON) for n in range(200)]
    corner.add(rows, outcomes=[outcome("solved", request_id=row["request_id"], minute=1) for row in rows[:120:2]])
    (effect,) = corner.effects(candidate="a", baseline="b")
    assert (effect.design, effect.split) == (Design.UNROUTED, None)
    assert effect.finding.reason is Reason.BETTER
    assert "Nobody assigned these units by chance" in effect.finding.sentence
    (newest,) = corner.effects()
    assert newest.finding.reason is Reason.NO_TRAFFIC


def test_shadow_answers_reach_nobody_and_have_no_outcome(small):
    corner = small({"name": "solved", "outcome": "solved"})
    real = request(ts_start=NOON, unit_hash="u", session_id="s", bundle="a")
    shadow = request(ts_start=NOON + timedelta(minutes=1), unit_hash="u", session_id="s", arm="shadow", bundle="b")
    corner.add([real, shadow], outcomes=[outcome("solved", session_id="s", minute=5)])
    period = corner.report(by="day", where={"bundle": "a"}).kpis[0].periods[0]
    assert (period.outcomes, period.requests) == (1, 1)


def test_an_unpriced_session_does_not_make_outcomes_cheaper(small):
    corner = small({"name": "solved", "outcome": "solved"})
    day = NOON - timedelta(days=3)
    rows = [request(ts_start=day, unit_hash=f"u{n}", cost_usd=0.5 if n < 4 else None) for n in range(8)]
    corner.add([*rows, request(ts_start=NOON)], outcomes=[outcome("solved", request_id=row["request_id"]) for row in rows[2:]])
    found = corner.report(by="day").kpis[0]
    assert (found.cost_per_outcome.value, found.priced_share) == (pytest.approx(2.0 / 2), 0.5)
    assert found.periods[0].cost_usd == pytest.approx(2.0)


def test_an_app_without_rows_says_so_and_is_no_number(small):
    corner = small(*KPIS)
    report = corner.report()
    assert report.as_of is None
    assert answer(report.reasons) is Answer.NOT_ENOUGH_EVIDENCE
    assert all(found.periods == () and found.overall is None and found.now is None for found in report.kpis)
    assert {effect.finding.reason for effect in corner.effects()} == {Reason.NO_TRAFFIC}


def test_a_lake_to_which_nothing_was_written_is_no_number_either(tmp_path):
    fixture = Fixture(tmp_path)
    impact = BusinessImpact(fixture.lake, app_spec={"shop": spec(kpis=KPIS)}.get, clock=lambda: NOW)
    assert (impact.report("shop").as_of, impact.report("shop").snapshot) == (None, None)
    assert {effect.finding.reason for effect in impact.effects("shop")} == {Reason.NO_TRAFFIC}
    with pytest.raises(UnknownSubject):
        impact.report("nowhere")
    fixture.close()


def test_a_kpi_nobody_logged_is_missing_not_zero(small):
    corner = small({"name": "order_value", "outcome": "order", "aggregate": "mean", "unit": "EUR"})
    corner.add([request(ts_start=NOON - timedelta(days=3)), request(ts_start=NOON)])
    found = corner.report(by="day").kpis[0]
    assert {period.state for period in found.periods[:-1]} == {State.MISSING}
    assert all(period.value is None for period in found.periods)
    assert found.finding.reason is Reason.NO_COMPLETE_PERIOD


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"kpi": "slved"}, UnknownSubject),
        ({"by": "year"}, UnknownSubject),
        ({"window": "soon"}, UsageError),
        ({"where": {"colour": "red"}}, UnknownSubject),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(small, how, error):
    corner = small(*KPIS)
    with pytest.raises(error):
        corner.report(**how)


@pytest.mark.parametrize(
    "how",
    [{"candidate": "a"}, {"candidate": "a", "baseline": "a"}, {"crossed": "both"}, {"drill_lost": 1.0}, {"pre": "a while"}, {"kpi": "x"}],
)
def test_what_cannot_be_compared_is_refused_by_name(small, how):
    corner = small(*KPIS)
    with pytest.raises(UsageError):
        corner.effects(**how)


def test_an_app_without_kpis_has_no_business_result_to_look_at(small):
    corner = small()
    with pytest.raises(UsageError, match="declares no KPI"):
        corner.report()


def test_a_record_of_a_kpi_keeps_its_form_where_the_new_words_are_not_declared():
    from workbench.observability.asking import Definitions

    old = {"name": "solved", "outcome": "solved"}
    plain, windowed = spec(kpis=[old]), spec(kpis=[{**old, "within": "1d"}])
    content = Definitions.of([plain]).as_json()["kpis"]["solved"]["shop"]
    assert not {"within", "per"} & set(content)
    stored = Definitions.of([windowed]).as_json()
    assert stored["kpis"]["solved"]["shop"]["within"] == "1d"
    assert Definitions.from_json(stored).as_json() == stored


def test_months_are_calendar_months_in_utc(small):
    corner = small({"name": "solved", "outcome": "solved"})
    ends = [datetime(2026, 1, 31, 23, 59, tzinfo=UTC), datetime(2026, 2, 1, 0, 0, tzinfo=UTC), datetime(2026, 3, 1, 0, 0, tzinfo=UTC)]
    corner.add([request(ts_start=ts) for ts in ends])
    periods = corner.report(by="month").kpis[0].periods
    assert [(period.start.month, period.n) for period in periods] == [(1, 1), (2, 1), (3, 1)]


def test_a_window_that_is_no_time_is_refused():
    with pytest.raises(ValueError, match="not a duration"):
        AppSpec.model_validate({"app": "a", "title": "a", "risk_tier": "low", "kpis": [{"name": "k", "outcome": "o", "within": "0s"}]})


def test_less_data_never_makes_a_no_a_yes(town):
    """Half of the users: an effect may become unclear, and never the other way."""
    _, impact, _ = town
    whole = impact.effects("shop", kpi="solved")[0]
    for days in ("9d", "6d", "3d", "1d"):
        part = impact.effects("shop", kpi="solved", window=days)[0]
        assert part.finding.reason in {
            whole.finding.reason,
            Reason.NO_DIFFERENCE_SHOWN,
            Reason.FEW_UNITS,
            Reason.WINDOW_OPEN,
            Reason.NO_TRAFFIC,
        }
