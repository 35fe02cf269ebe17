"""The catalogue as people read it, and KPIs as metrics."""

from __future__ import annotations

import pytest

from workbench.errors import SpecError, UnknownSubject, UsageError
from workbench.observability.asking import Definitions
from workbench.observability.catalogue import CATALOGUE, FAMILIES, find, kpi_metric
from workbench.observability.metric import Kind
from workbench.observability.model import Direction
from workbench.spec.app import AppSpec, Kpi

NAMES = (
    "volume success_rate failure_rate undecided_rate error_rate latency_p50 latency_p90 latency_p95 latency_p99 "
    "ttft_p50 ttft_p90 ttft_p95 ttft_p99 tool_error_rate fallback_rate retry_rate attempts_mean handoff_rate violation_rate block_rate "
    "quality_mean retrieval_hit_rate input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens "
    "input_tokens_p50 input_tokens_p95 input_tokens_p99 output_tokens_p50 output_tokens_p95 output_tokens_p99 "
    "cost_usd cost_per_request cost_per_success users sessions requests_per_session "
    "retrieval_hit@1 retrieval_hit@5 retrieval_hit@10 retrieval_recall@5 retrieval_recall@10 retrieval_precision@5 retrieval_ndcg@10 "
    "retrieval_recall retrieval_mrr retrieval_map retrieval_ndcg retrieval_judged@10 retrieval_judged_rate retrieval_empty_rate "
    "retrieval_repeat_rate retrieval_top_score retrieval_score_gap"
)


def app(name="shop", **kpi):
    kpis = [{"name": "resolved", "outcome": "solved", **kpi}]
    return AppSpec.model_validate({"app": name, "title": name, "risk_tier": "low", "kpis": kpis})


def test_the_catalogue_holds_the_agreed_metrics_in_the_agreed_order():
    assert " ".join(CATALOGUE) == NAMES


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.name)
def test_each_metric_tells_an_analyst_what_it_is(metric):
    assert metric.description.endswith(".")
    assert metric.formula
    assert metric.unit in {"ms", "share", "USD", "tokens", "requests", "score", "attempts", "users", "sessions"}
    assert (metric.q is not None) == (metric.kind is Kind.QUANTILE)


def test_directions_say_which_way_is_better():
    higher = {name for name, metric in CATALOGUE.items() if metric.direction is Direction.HIGHER and "@" not in name}
    assert higher == {"success_rate", "quality_mean", "retrieval_hit_rate", "retrieval_judged_rate"} | {
        f"retrieval_{name}" for name in ("recall", "mrr", "map", "ndcg")
    }
    assert CATALOGUE["retrieval_hit@5"].direction is Direction.HIGHER
    assert CATALOGUE["volume"].direction is Direction.NEITHER


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_shows_an_example_of_itself(family):
    assert family.shown.name == family.name
    assert find(family.example).name == family.example
    assert family.example not in CATALOGUE


@pytest.mark.parametrize(
    ("name", "kind", "unit"),
    [
        ("latency_p99.9", Kind.QUANTILE, "ms"),
        ("ttft_p25", Kind.QUANTILE, "ms"),
        ("output_tokens_p75", Kind.QUANTILE, "tokens"),
        ("score:helpfulness", Kind.MEAN, "score"),
        ("score:tone of voice", Kind.MEAN, "score"),
        ("violation_rate:no_refunds", Kind.RATE, "share"),
        ("block_rate:pii", Kind.RATE, "share"),
        ("retrieval_hit@3", Kind.RATE, "share"),
        ("retrieval_ndcg@100", Kind.MEAN, "score"),
    ],
)
def test_a_name_of_a_family_is_a_metric(name, kind, unit):
    metric = find(name)
    assert (metric.name, metric.kind, metric.unit) == (name, kind, unit)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "latency_p0",
            "latency_p100",
            "latency_p",
            "latency_p5",
            "latency_p05",
            "latency_p50x",
            "cost_usd_p50",
            "score:",
            "score: x",
            "score",
            "violation_rate:",
        ),
        *("retrieval_hit@0", "retrieval_hit@1000", "retrieval_mrr@5", "retrieval_hit", "volume ", ""),
    ],
)
def test_other_names_are_none(name):
    assert find(name) is None


def test_a_kpi_is_a_metric_with_its_own_unit_and_direction():
    metric = kpi_metric(Kpi(name="handle_time", outcome="call", aggregate="mean", unit="minutes", direction="lower_is_better"))
    assert (metric.kind, metric.unit, metric.direction) == (Kind.MEAN, "minutes", Direction.LOWER)


def test_an_unknown_metric_names_the_nearest_and_what_lists_them():
    with pytest.raises(UnknownSubject) as error:
        Definitions.of([app()]).metric("latency_95")
    assert "did you mean 'latency_p95'?" in str(error.value)
    assert "`workbench metrics list` names all, with --app APP its KPIs" in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("sucess_rate", "did you mean 'success_rate'?"),
        ("Latency_P95", "did you mean 'latency_p95'"),
        ("p95", "did you mean 'latency_p95' or 'ttft_p95' or"),
        ("cost", "did you mean 'cost_usd' or 'cost_per_request' or"),
        ("quality", "did you mean 'quality_mean'?"),
        ("eror_rate", "did you mean 'error_rate'"),
    ],
)
def test_an_unknown_metric_names_what_was_likely_meant(word, meant):
    with pytest.raises(UnknownSubject, match=r"there is no such metric") as error:
        Definitions.of([app()]).metric(word)
    assert meant in str(error.value)


def test_a_word_like_no_metric_gets_what_lists_them_alone():
    with pytest.raises(UnknownSubject) as error:
        Definitions.of([app()]).metric("zzz")
    assert "did you mean" not in str(error.value)
    assert str(error.value).endswith("`workbench metrics list` names all, with --app APP its KPIs and own metrics too")


@pytest.mark.parametrize("word", ["latency_p101", "latency_p5", "ttft_p100", "output_tokens_p99.9999", "latency_p-1"])
def test_a_percentile_outside_of_the_range_is_told_the_range(word):
    with pytest.raises(UnknownSubject, match=r"there is no such percentile; needed: .*_p<N> with N from 10 to 99\.999"):
        Definitions.of([app()]).metric(word)


def test_an_unknown_metric_is_answered_in_one_short_line():
    with pytest.raises(UnknownSubject) as error:
        Definitions.of([app()]).metric("sucess_rate")
    assert (len(str(error.value)) < 200, "?;" in str(error.value)) == (True, False)


def test_a_kpi_named_like_a_metric_is_a_fault_of_the_spec():
    with pytest.raises(SpecError, match=r"KPI cost_usd of shop: the metric catalogue has a metric of this name.*rename the KPI"):
        Definitions.of([_clash()]).metric("cost_usd")
    assert Definitions.of([_clash()]).metric("latency_p95") is CATALOGUE["latency_p95"]


def _clash() -> AppSpec:
    return AppSpec.model_validate({"app": "shop", "title": "s", "risk_tier": "low", "kpis": [{"name": "cost_usd", "outcome": "bill"}]})


def test_apps_that_count_a_kpi_differently_are_not_added_up():
    with pytest.raises(UsageError, match="KPI resolved: shop, desk declare it with different"):
        Definitions.of([app("shop"), app("desk", aggregate="mean")]).metric("resolved")


def test_definitions_survive_being_stored():
    definitions = Definitions.of([app()])
    assert Definitions.from_json(definitions.as_json()).as_json() == definitions.as_json()
