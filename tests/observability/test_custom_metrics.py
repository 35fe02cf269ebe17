"""An app's own metrics, against plain Python, and everywhere that a metric of the catalogue can be used."""

from __future__ import annotations

import math
import random

import pytest
import yaml

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, outcome, request, score
from workbench.errors import SpecError, UsageError
from workbench.observability.asking import Definitions
from workbench.observability.bars import faults
from workbench.observability.metrics import SAME, Metrics
from workbench.observability.model import Direction
from workbench.spec.app import AppSpec
from workbench.spec.gates import GatesSpec
from workbench.spec.metrics import MetricsSpec

YAML = """
metrics:
  - {name: long_answer_rate, description: d, kind: rate, direction: lower_is_better,
     when: {column: output_tokens, op: gt, value: 500}, among: {column: status, op: eq, value: ok}}
  - {name: odd_rate, description: d, kind: rate, direction: neither,
     when: {any: [{column: blocked_rules, op: contains, value: pii}, {none: [{column: arm, op: in, value: [stable, shadow]}]}]}}
  - {name: tone_rate, description: d, kind: rate, direction: higher_is_better, when: {score: tone, op: ge, value: 3}}
  - {name: tone_mean, description: d, kind: mean, unit: score, direction: higher_is_better, value: {score: tone}}
  - {name: tool_failures, description: d, kind: mean, unit: calls, direction: lower_is_better,
     value: {spans: {kind: tool, status: [error, timeout]}}}
  - {name: slow_p90, description: d, kind: quantile, q: 0.9, unit: ms, direction: lower_is_better,
     value: {column: latency_ms}, among: {column: n_tool_calls, op: ge, value: 1}}
  - {name: orders, description: d, kind: sum, unit: orders, direction: higher_is_better, value: {outcome: order}}
  - {name: cost_by_order, description: d, kind: ratio, unit: USD, direction: lower_is_better,
     value: {column: cost_usd}, per: {outcome: order}}
  - {name: earned, description: d, kind: mean, unit: EUR, direction: higher_is_better, value: {outcome: order, total: true}}
"""
SPEC = MetricsSpec.model_validate(yaml.safe_load(YAML))
NAMES = [metric.name for metric in SPEC.metrics]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Fixture(tmp_path_factory.mktemp("custom"))
    made.metrics = Metrics(made.lake, app_spec=lambda _: None, app_metrics={"shop": SPEC}.get, clock=lambda: NOON)
    rng = random.Random(5)
    made.rows = [
        request(
            bundle=rng.choice(("one", "two")),
            unit_hash=f"u{rng.randrange(30)}",
            session_id=rng.choice((None, f"s{number}")),
            status=rng.choice(("ok", "ok", "error")),
            arm=rng.choice(("stable", "candidate", None)),
            output_tokens=rng.choice((None, 100, 500, 501, 900)),
            blocked_rules=rng.choice((None, [], ["pii"], ["tone", "pii"])),
            latency_ms=rng.choice((None, rng.uniform(1, 900))),
            n_tool_calls=rng.choice((None, 0, 1, 2)),
            cost_usd=rng.choice((None, round(rng.random(), 6))),
        )
        for number in range(60)
    ]
    made.tones = {r["request_id"]: (float(rng.randrange(6)), rng.choice((1.0, 0.5, 0.1))) for r in made.rows if rng.random() < 0.7}
    made.steps = {r["request_id"]: [rng.choice(("ok", "error", "timeout")) for _ in range(rng.randrange(4))] for r in made.rows}
    made.orders = {r["request_id"]: [float(rng.randrange(50)) for _ in range(rng.choice((0, 0, 1, 2)))] for r in made.rows}
    made.add(
        [*made.rows, request(app="other", output_tokens=900)],
        scores=[
            score(r, "tone", made.tones[r["request_id"]][0], sample_probability=made.tones[r["request_id"]][1])
            for r in made.rows
            if r["request_id"] in made.tones
        ],
        spans=[
            {"app": "shop", "request_id": r["request_id"], "trace_id": r["request_id"], "span_id": f"{n}", "kind": kind, "status": status}
            | {"ts_start": NOON}
            for r in made.rows
            for n, status in enumerate(made.steps[r["request_id"]])
            for kind in ["tool" if n % 2 == 0 else "model"]
        ],
        outcomes=[
            outcome(
                "order", minute=5, value=value, **({"session_id": r["session_id"]} if r["session_id"] else {"request_id": r["request_id"]})
            )
            for r in made.rows
            for value in made.orders[r["request_id"]]
        ],
    )
    yield made
    made.close()


def expected(shop, rows: list[dict]) -> dict[str, tuple[float | None, int]]:
    ok = [r for r in rows if r["status"] == "ok" and r["output_tokens"] is not None]
    toned = [shop.tones[r["request_id"]] for r in rows if r["request_id"] in shop.tones]
    weight = sum(1 / p for _, p in toned)
    counts = [
        sum(status != "ok" for n, status in enumerate(shop.steps[r["request_id"]]) if n % 2 == 0)
        for r in rows
        if shop.steps[r["request_id"]]
    ]
    times = sorted(r["latency_ms"] for r in rows if r["latency_ms"] is not None and (r["n_tool_calls"] or 0) >= 1)
    at = 0.9 * (len(times) - 1)
    orders = [len(shop.orders[r["request_id"]]) for r in rows]
    priced = [r for r in rows if r["cost_usd"] is not None]
    return {
        "long_answer_rate": (sum(r["output_tokens"] > 500 for r in ok) / len(ok), len(ok)),
        "odd_rate": _odd(rows),
        "tone_rate": (sum((value >= 3) / p for value, p in toned) / weight, len(toned)),
        "tone_mean": (sum(value / p for value, p in toned) / weight, len(toned)),
        "tool_failures": (sum(counts) / len(counts), len(counts)),
        "slow_p90": (times[int(at)] + (at % 1) * (times[min(int(at) + 1, len(times) - 1)] - times[int(at)]), len(times)),
        "orders": (sum(orders), len(rows)),
        "cost_by_order": (math.fsum(r["cost_usd"] for r in priced) / sum(len(shop.orders[r["request_id"]]) for r in priced), len(priced)),
        "earned": (sum(map(sum, (shop.orders[r["request_id"]] for r in rows))) / len(rows), len(rows)),
    }


def _odd(rows: list[dict]) -> tuple[float, int]:
    """True wins over unknown, unknown over false."""
    found = []
    for r in rows:
        has = None if r["blocked_rules"] is None else "pii" in r["blocked_rules"]
        other = None if r["arm"] is None else r["arm"] not in ("stable", "shadow")
        if has or other or (has is False and other is False):
            found.append(bool(has or other))
    return sum(found) / len(found), len(found)


def test_every_kind_over_every_source_equals_plain_python(shop):
    row = shop.metrics.query(NAMES, app="shop").row(0, named=True)
    for name, (value, n) in expected(shop, shop.rows).items():
        assert (row[name], row[f"{name}_n"]) == (pytest.approx(value, rel=1e-12), n), name


def test_they_are_grouped_with_metrics_of_the_catalogue_and_have_intervals(shop):
    frame = shop.metrics.query(["volume", *NAMES], app="shop", by="bundle", detail=True)
    for row in frame.iter_rows(named=True):
        rows = [r for r in shop.rows if r["bundle"] == row["bundle"]]
        assert row["volume"] == len(rows)
        for name, (value, n) in expected(shop, rows).items():
            assert (row[name], row[f"{name}_n"]) == (pytest.approx(value, rel=1e-12), n), name
        assert row["long_answer_rate_low"] < row["long_answer_rate"] < row["long_answer_rate_high"]
        assert row["tool_failures_low"] < row["tool_failures"] < row["tool_failures_high"]


@pytest.mark.parametrize("name", NAMES)
def test_evidence_keeps_the_definition_and_can_be_asked_again(shop, name):
    evidence = shop.metrics.measure(name, app="shop", bundle="one", min_n=5)
    assert evidence.statistics["n"] == expected(shop, [r for r in shop.rows if r["bundle"] == "one"])[name][1]
    assert list(evidence.query["definitions"]["metrics"]) == [name]
    assert shop.metrics.verify(evidence) == SAME
    forgetful = Metrics(shop.lake, app_spec=lambda _: None, clock=lambda: NOON)  # the declaration is gone, the record stands
    assert forgetful.verify(evidence) == SAME
    assert shop.metrics.verify(shop.metrics.compare(name, app="shop", bundle="one", baseline="two")) == SAME


def test_evidence_of_the_catalogue_names_no_metric_of_the_app(shop):
    assert "metrics" not in shop.metrics.measure("volume", app="shop", bundle="one").query["definitions"]


def test_requests_of_apps_that_do_not_declare_it_are_no_part_of_it(shop):
    assert shop.metrics.query("long_answer_rate")["long_answer_rate_n"][0] == expected(shop, shop.rows)["long_answer_rate"][1]


def test_the_analyst_reads_what_is_counted(shop):
    known = {metric.name: metric for metric in shop.metrics.known("shop")}
    assert [metric.name for metric in shop.metrics.known("shop")][-len(NAMES) :] == NAMES
    assert known["long_answer_rate"].formula == "requests with output_tokens > 500 / requests that report it among those with status = ok"
    assert known["odd_rate"].formula == (
        "requests with (blocked_rules contains pii or none of (arm one of stable, shadow)) / requests that report it"
    )
    steps = "the number of its steps with kind tool and status error or timeout"
    assert known["tool_failures"].formula == f"mean of {steps} over requests that report it"
    assert known["cost_by_order"].formula == "sum of cost_usd / sum of the number of its events 'order', over requests that report both"
    assert known["slow_p90"].direction is Direction.LOWER
    assert all(metric.description and metric.unit for metric in known.values())


def test_a_name_of_the_catalogue_or_a_second_meaning_is_refused():
    taken = MetricsSpec.model_validate({"metrics": [SPEC.metrics[0].model_dump(exclude_defaults=True) | {"name": "latency_p75"}]})
    with pytest.raises(SpecError, match="metric latency_p75 of shop: the metric catalogue has a metric of this name"):
        Definitions.of([], {"shop": taken}).metric("latency_p75")
    other = SPEC.metrics[0].model_copy(update={"description": "another"})
    with pytest.raises(UsageError, match="metric long_answer_rate: shop, desk declare it differently; ask for one app"):
        Definitions.of([], {"shop": SPEC, "desk": MetricsSpec(metrics=(other,))}).metric("long_answer_rate")


def test_gates_may_name_them_and_are_checked_against_their_unit():
    app = AppSpec.model_validate({"app": "shop", "title": "s", "risk_tier": "low"})
    gates = GatesSpec.model_validate(
        {"gates": [{"id": "a", "metric": "long_answer_rate", "at_most": 0.2}, {"id": "b", "metric": "long_answers", "at_most": 2}]}
    )
    assert faults(app, gates, None, metrics=SPEC) == (
        'gates.yaml: gates[1].metric: no metric is called long_answers; did you mean "long_answer_rate"?',
    )
    taken = MetricsSpec.model_validate({"metrics": [SPEC.metrics[0].model_dump(exclude_defaults=True) | {"name": "volume"}]})
    assert faults(app, None, None, metrics=taken) == ("metrics.yaml: metrics[0].name: volume is a metric of the catalogue; rename it",)
