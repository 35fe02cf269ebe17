"""A log in which every metric of the catalogue has something to say, and small groups of every size."""

from __future__ import annotations

import random
from datetime import timedelta

import yaml

from tests.observability.metric_oracle import START, random_log, spec_of
from workbench.observability.catalogue import CATALOGUE
from workbench.spec.metrics import MetricsSpec

APP, SAMPLED = "shop", "desk"
"""Of the second, not every request was judged, so that most of its scores stand for several."""
OWN = MetricsSpec.model_validate(
    yaml.safe_load("""
metrics:
  - {name: long_rate, description: d, kind: rate, direction: lower_is_better,
     when: {any: [{column: output_tokens, op: gt, value: 300}, {column: blocked_rules, op: contains, value: policy}]},
     among: {none: [{column: arm, op: in, value: [shadow]}]}}
  - {name: resolved_rate, description: d, kind: rate, direction: higher_is_better, when: {score: resolved, op: ge, value: 0.3}}
  - {name: lookups, description: d, kind: mean, unit: calls, direction: neither, value: {spans: {kind: retrieval}}}
  - {name: slow_p90, description: d, kind: quantile, q: 0.9, unit: ms, direction: lower_is_better,
     value: {column: latency_ms}, among: {column: n_tool_calls, op: ge, value: 1}}
  - {name: cost_by_order, description: d, kind: ratio, unit: USD, direction: lower_is_better,
     value: {column: cost_usd}, per: {outcome: order-shop}}
  - {name: earned, description: d, kind: mean, unit: EUR, direction: higher_is_better, value: {outcome: order-shop, total: true}}
""")
)
KPIS = tuple(kpi.name for kpi in spec_of(APP).kpis)
OF_FAMILIES = (
    *("latency_p75", "ttft_p99.9", "score:quality", "violation_rate:pii", "block_rate:policy"),
    *(f"retrieval_{name}@3" for name in ("hit", "recall", "precision", "ndcg", "judged")),
)
EVERYTHING = (*CATALOGUE, *OF_FAMILIES, *KPIS, *(metric.name for metric in OWN.metrics))
WEIGHTED = ("success_rate", "failure_rate", "retrieval_hit_rate", "cost_per_success", "quality_mean")
"""What depends on how many requests a score stands for."""
SIZES = range(1, 7)
ODD = 'it\'s a \\ "workflow" `of` 50 %'


def rows(seed: int = 11, n: int = 90) -> dict[str, list[dict]]:
    """The rows of every log table."""
    rng = random.Random(seed)
    log = random_log(seed, APP, n=n)
    for request in log["requests"]:
        if request["workflow"] == "other":
            request["workflow"] = ODD
    for score in log["scores"]:
        if score["name"] != "quality":
            score["sample_probability"] = None
    for size in SIZES:
        log["requests"] += [_plain(rng, f"own{size}", i, unit=f"own-{i}") for i in range(size)]
        log["requests"] += [_plain(rng, f"shared{size}", i, unit="somebody") for i in range(size)]
        log["requests"] += [_plain(rng, f"nobody{size}", i, unit=None) for i in range(size)]
    asked = sorted({request["request_id"] for request in log["requests"]})
    spans = [_lookup(rng, request_id, number) for request_id in asked for number in range(rng.choice((0, 0, 1, 2)))]
    judgments = [
        {"app": APP, "topic": f"t{t}", "query": f"Topic  {t}", "doc_id": f"d{d}", "grade": rng.choice((-1, 0, 1, 2)), "ts": START}
        for t in range(5)
        for d in rng.sample(range(12), 6)
    ]
    sampled = random_log(seed + 2, SAMPLED, n=n)
    both = {table: [*log[table], *sampled[table]] for table in log}
    return {**both, "spans": spans, "judgments": judgments}


def _plain(rng: random.Random, bundle: str, number: int, *, unit: str | None) -> dict:
    return {
        "request_id": f"{bundle}-{number}",
        "revision": 0,
        "app": APP,
        "ts_start": START + timedelta(minutes=number),
        "bundle": bundle,
        "workflow": rng.choice(("browse", None)),
        "unit_hash": unit,
        "session_id": f"{bundle}-s{number // 2}",
        "status": rng.choice(("ok", "error")),
        "is_fallback": False,
        "latency_ms": rng.lognormvariate(5, 1),
        "ttft_ms": rng.lognormvariate(3, 1),
        "input_tokens": rng.randrange(3000),
        "output_tokens": rng.randrange(500),
        "attempts": 1,
        "cost_usd": round(rng.random(), 6),
        "violation_rules": [],
        "blocked_rules": ["policy"],
    }


def _lookup(rng: random.Random, request_id: str, number: int) -> dict:
    listed = [
        {"doc_id": f"d{d}", "score": rng.choice((None, rng.random())), "rank": rng.choice((None, rank))}
        for rank, d in enumerate(rng.choices(range(12), k=rng.randrange(9)), 1)
    ]
    return {
        "span_id": f"l{number}",
        "trace_id": request_id,
        "request_id": request_id,
        "app": APP,
        "kind": "retrieval",
        "name": "search",
        "ts_start": START,
        "retrieval_query": rng.choice((None, f" topic {rng.randrange(7)}", f"TOPIC\t{rng.randrange(7)} ")),
        "retrieved": rng.choice((None, [], listed, listed, listed)),
    }
