"""Candidate against baseline: pairing, wins and losses, and what cannot be said; on made and on recorded traffic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, request, score
from workbench.errors import WorkbenchError
from workbench.observability.catalogue import CATALOGUE
from workbench.observability.metrics import SAME, Metrics

TAU2 = Path(__file__).parents[3] / "shared" / "realdata" / "tau2"


@pytest.fixture
def shop(tmp_path):
    made = Fixture(tmp_path)
    yield made
    made.close()


def side(bundle: str, answers: list[bool], *, units: list[str | None] | None = None, **more) -> tuple[list[dict], list[dict]]:
    """One request per answer, scored success or failure."""
    units = units or [f"u{i}" for i in range(len(answers))]
    rows = [request(bundle=bundle, unit_hash=unit, **{k: v[i] for k, v in more.items()}) for i, unit in enumerate(units)]
    return rows, [score(row, "success", float(answer)) for row, answer in zip(rows, answers, strict=True)]


def add(shop: Fixture, *sides) -> None:
    for rows, scores in sides:
        shop.add(rows, scores=scores)


def test_the_same_units_once_each_are_paired(shop):
    add(shop, side("new", [True] * 9 + [False]), side("old", [True] * 5 + [False] * 5))
    found = shop.metrics.compare("success_rate", app="shop", bundle="new", baseline="old").statistics
    difference = found["difference"]
    assert found["design"] == "paired"
    assert (difference["n_pairs"], difference["wins"], difference["losses"]) == (10, 4, 0)
    assert (difference["p"], difference["p_method"]) == (0.125, "exact McNemar")
    assert difference["estimate"] == pytest.approx(0.4)
    assert found["candidate"]["estimate"] == 0.9
    assert found["baseline"]["count"] == 5


def test_a_failure_rate_counts_wins_the_other_way_round(shop):
    add(shop, side("new", [True] * 9 + [False]), side("old", [True] * 5 + [False] * 5))
    found = shop.metrics.compare("failure_rate", app="shop", bundle="new", baseline="old").statistics["difference"]
    assert (found["wins"], found["losses"], found["estimate"]) == (4, 0, pytest.approx(-0.4))


@pytest.mark.parametrize(
    "units",
    [[f"u{i}" for i in range(9)] + ["u0"], [f"u{i}" for i in range(9)] + [None], [f"u{i}" for i in range(1, 11)]],
    ids=["a unit twice", "a request without unit", "another unit"],
)
def test_anything_else_is_not_paired(shop, units):
    add(shop, side("new", [True] * 9 + [False], units=units), side("old", [True] * 5 + [False] * 5))
    found = shop.metrics.compare("success_rate", app="shop", bundle="new", baseline="old").statistics
    assert found["design"] == "unpaired"
    assert found["difference"]["n_pairs"] is None
    assert found["difference"]["wins"] is None
    assert 0 < found["difference"]["p"] < 1
    assert found["difference"]["low"] < found["difference"]["estimate"] < found["difference"]["high"]


def test_an_undecided_side_leaves_its_pair_out(shop):
    rows, scores = side("new", [True] * 10)
    add(shop, (rows, scores[:7]), side("old", [False] * 10))
    found = shop.metrics.compare("success_rate", app="shop", bundle="new", baseline="old").statistics
    assert found["design"] == "paired"
    assert (found["difference"]["n_pairs"], found["difference"]["wins"]) == (7, 7)


def test_paired_means_are_tested_by_pairs(shop):
    new, old = [0.9, 0.7, 0.8, 0.4, 0.95], [0.5, 0.6, 0.9, 0.3, 0.7]
    for bundle, values in (("new", new), ("old", old)):
        rows, _ = side(bundle, [True] * 5)
        shop.add(rows, scores=[score(row, "quality", value) for row, value in zip(rows, values, strict=True)])
    found = shop.metrics.compare("quality_mean", app="shop", bundle="new", baseline="old").statistics["difference"]
    theirs = ttest_rel(new, old)
    assert found["p"] == pytest.approx(theirs.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(theirs.confidence_interval()))
    assert (found["wins"], found["losses"], found["method"]) == (4, 1, "paired t")


def test_quantiles_are_compared_by_their_far_corners(shop):
    for bundle, factor in (("new", 2.0), ("old", 1.0)):
        shop.add([request(bundle=bundle, latency_ms=factor * (100 + i)) for i in range(200)])
    found = shop.metrics.compare("latency_p50", app="shop", bundle="new", baseline="old").statistics
    assert found["ratio"]["estimate"] == pytest.approx(2.0)
    assert 1.5 < found["ratio"]["low"] < 2 < found["ratio"]["high"] < 2.7
    assert found["difference"]["low"] > 0
    assert found["difference"]["p"] is None


def test_a_p95_of_40_against_40_has_a_ratio_and_no_interval(shop):
    for bundle in ("new", "old"):
        shop.add([request(bundle=bundle, latency_ms=100.0 + i) for i in range(40)])
    ratio = shop.metrics.compare("latency_p95", app="shop", bundle="new", baseline="old").statistics["ratio"]
    assert (ratio["estimate"], ratio["low"], ratio["high"]) == (1.0, None, None)


ONE_OF_EACH = {
    (metric.kind, metric.needs, metric.direction): name for name, metric in CATALOGUE.items() if not name.startswith("retrieval_")
}


@pytest.mark.parametrize("metric", [*ONE_OF_EACH.values(), "retrieval_hit@1", "retrieval_mrr"])
def test_a_side_without_data_leaves_the_comparison_open(shop, metric):
    shop.add([request(bundle="new", latency_ms=1.0, cost_usd=1.0, is_fallback=False)])
    record = shop.metrics.compare(metric, app="shop", bundle="new", baseline="old")
    assert record.statistics["difference"]["estimate"] is None
    assert record.statistics["difference"]["p"] is None
    assert record.statistics["ratio"]["estimate"] is None
    assert record.statistics["baseline"]["estimate"] is None
    assert shop.metrics.verify(record) == SAME


def test_no_error_on_either_side_is_not_certainty(shop):
    for bundle in ("new", "old"):
        shop.add([request(bundle=bundle, unit_hash=f"u{i}", n_tool_calls=3, n_tool_errors=0) for i in range(20)])
    found = shop.metrics.compare("tool_error_rate", app="shop", bundle="new", baseline="old").statistics
    assert found["difference"]["high"] > 0.1
    assert found["ratio"]["estimate"] is None


def test_one_row_less_does_not_make_units_that_disagree_surer(shop):
    answers = [i % 2 == 0 for i in range(60)]
    (rows, scores), opposite = side("new", answers), side("old", [not answer for answer in answers])
    shop.add(rows, scores=scores)
    shop.add(*opposite[:1], scores=opposite[1])
    add(shop, side("less", [not answer for answer in answers[1:]], units=[f"u{i}" for i in range(1, 60)]))
    whole, fewer = (shop.metrics.compare("success_rate", app="shop", bundle="new", baseline=old).statistics for old in ("old", "less"))
    assert (whole["design"], fewer["design"]) == ("paired", "unpaired")
    widths = [found["difference"]["high"] - found["difference"]["low"] for found in (whole, fewer)]
    assert widths[1] > 0.97 * widths[0]
    assert "shared units" in fewer["difference"]["method"]


def test_each_side_says_when_its_rows_happened(shop):
    for bundle, days in (("new", -400), ("old", 0)):
        shop.add([request(bundle=bundle, latency_ms=1.0, ts_start=NOON + timedelta(days=days, minutes=i)) for i in range(3)])
    found = shop.metrics.compare("latency_p50", app="shop", bundle="new", baseline="old").statistics
    assert found["candidate"]["last"] == (NOON + timedelta(days=-400, minutes=2)).isoformat()
    assert found["baseline"]["first"] == NOON.isoformat()


def test_equal_scores_of_two_units_do_not_prove_a_difference(shop):
    for bundle, value in (("new", 0.9), ("old", 0.8)):
        rows, _ = side(bundle, [True] * 2)
        shop.add(rows, scores=[score(row, "quality", value) for row in rows])
    difference = shop.metrics.compare("quality_mean", app="shop", bundle="new", baseline="old").statistics["difference"]
    assert difference["low"] < 0 < difference["high"]
    assert difference["p"] > 0.05


@pytest.mark.slow
@pytest.mark.skipif(not TAU2.exists(), reason="recorded support conversations are not on this machine")
@pytest.mark.parametrize(
    ("domain", "known"),
    [
        (
            "retail",
            {"success": (0.85, 0.85), "pairs": (6, 6, 40), "p": 1.0, "seconds": ((24.8, 35.0), (35.1, 62.7)), "tool_errors": (12, 23)},
        ),
        ("telecom", {"success": (0.45, 0.75), "pairs": (12, 0, 40), "p": 0.00049, "seconds": ((53.0, 76.6), (56.4, 175.4))}),
    ],
)
def test_recorded_conversations_give_the_known_answers(tmp_path, domain, known):
    metrics, app, (base, tuned) = imported(tmp_path, domain)
    frame = metrics.query(["success_rate", "latency_p50", "latency_p95", "tool_error_rate", "volume"], by=["bundle"], app=app, detail=True)
    rows = {row["bundle"]: row for row in frame.iter_rows(named=True)}
    assert tuple(rows[b]["success_rate"] for b in (base, tuned)) == known["success"]
    found = tuple(tuple(round(rows[b][f"latency_p{q}"] / 1000, 1) for q in (50, 95)) for b in (base, tuned))
    assert found == known["seconds"]
    tool_errors = tuple(rows[b]["tool_error_rate_count"] for b in (base, tuned))
    assert tool_errors == known.get("tool_errors", tool_errors)
    difference = metrics.compare("success_rate", app=app, bundle=tuned, baseline=base).statistics["difference"]
    assert (difference["wins"], difference["losses"], difference["n_pairs"]) == known["pairs"]
    assert difference["p"] == pytest.approx(known["p"], abs=5e-6)


def imported(home: Path, domain: str) -> tuple[Metrics, str, tuple[str, str]]:
    """Metrics over one domain, its app, and the bundles: first the base model's, then the tuned one's."""
    from workbench.ledger.store import Ledger
    from workbench.observability.imports import Imports
    from workbench.observability.redaction import Redactor
    from workbench.versions.service import Versions

    def clock() -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC)

    class Everybody:
        person, via, assurance = "primary", "cli", "local"

        def require(self, author, act, app) -> None:
            pass

    fixture, one = Fixture(home), Everybody()
    versions = Versions(Ledger.open(f"sqlite:///{home}/ledger.sqlite", clock=clock), authority=one, author=one, clock=clock)
    imports = Imports(fixture.logs, versions, redactor=Redactor(b"r" * 32), unit_key=b"u" * 32, authority=one, author=one, clock=clock)
    bundles = []
    for name in (f"gpt-4.1_{domain}_1trial.json", f"ft-gpt-4.1-sft_{domain}_1trial.json"):
        before = set(bundles)
        report = imports.run("tau2", [TAU2 / domain / name])
        assert report.stored > 0
        app = fixture.metrics.query(["volume"], by=["app"])["app"][0]
        bundles += sorted(set(fixture.metrics.bundles_with_rows(app)) - before)
    if len(bundles) != 2:
        raise WorkbenchError("import", seen=f"bundles {bundles}")
    return fixture.metrics, app, (bundles[0], bundles[1])
