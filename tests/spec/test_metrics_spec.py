"""metrics.yaml: what an app may count, and the exact word for each mistake."""

from __future__ import annotations

import re

import pytest
import yaml

from workbench.errors import SpecError
from workbench.observability.facts import REQUESTS
from workbench.observability.steps import SPANS
from workbench.spec.loading import load_app_folder, parse_spec
from workbench.spec.metrics import COLUMNS, MetricsSpec, Spans
from workbench.spec.schemas import schema_of

GOOD = {
    "name": "long_answer_rate",
    "description": "Share of answers that nobody reads to their end.",
    "kind": "rate",
    "when": {"column": "output_tokens", "op": "gt", "value": 500},
    "direction": "lower_is_better",
}
LATENCY = {"kind": "quantile", "value": {"column": "latency_ms"}, "q": 0.9, "unit": "ms", "when": None}


def read(**change) -> MetricsSpec:
    metric = {key: value for key, value in (GOOD | change).items() if value is not None}
    return parse_spec(MetricsSpec, "metrics.yaml", yaml.safe_dump({"metrics": [metric]}).encode())


def test_every_declared_column_is_one_of_the_log_with_that_type():
    types = {"text": "string", "flag": "boolean", "texts": "array<string>"}
    for name, holds in COLUMNS.items():
        dtype = REQUESTS[name].type()
        assert dtype.is_numeric() if holds == "number" else str(dtype) == types[holds], name
    assert set(Spans.model_fields) <= set(SPANS.columns)


@pytest.mark.parametrize(
    "change",
    [
        {},
        LATENCY,
        {"kind": "mean", "value": {"score": "tone"}, "unit": "score", "when": None},
        {"kind": "sum", "value": {"spans": {"kind": "tool", "status": ["error", "timeout"]}}, "unit": "calls", "when": None},
        {"kind": "ratio", "value": {"column": "cost_usd"}, "per": {"outcome": "order", "total": True}, "unit": "USD", "when": None},
        {
            "when": {
                "all": [{"column": "status", "op": "in", "value": ["ok", "error"]}, {"none": [{"score": "tone", "op": "lt", "value": 3}]}]
            }
        },
        {"when": {"any": [{"column": "violation_rules", "op": "contains", "value": "pii"}, {"column": "error_type", "op": "is_missing"}]}},
        {"among": {"column": "is_fallback", "op": "eq", "value": False}},
    ],
)
def test_what_is_written_is_stored_and_read_back_the_same(change):
    spec = read(**change)
    assert MetricsSpec.model_validate(spec.model_dump(mode="json", exclude_defaults=True)) == spec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "rat"}, 'metrics[0].kind: got "rat"; allowed: rate, mean, sum, quantile, ratio; did you mean "rate"?'),
        ({"name": "Long"}, "metrics[0].name: "),
        ({"direction": None}, "metrics[0].direction: "),
        ({"description": None}, "metrics[0].description: "),
        ({"where": {"workflow": "x"}}, 'metrics[0].where: unknown key "where"'),
        ({"unit": "ms"}, "metrics[0]: unit: a rate is a share; leave it out"),
        ({"q": 0.5}, "metrics[0]: q: a rate takes when; leave it out"),
        (LATENCY | {"q": None}, "metrics[0]: q: a quantile takes value and q"),
        (LATENCY | {"q": 1.0}, "metrics[0].q: "),
        (LATENCY | {"unit": None}, "metrics[0]: unit: a quantile needs one"),
        (LATENCY | {"value": {"column": "status"}}, "metrics[0]: value: status holds text; needed a number"),
        (
            LATENCY | {"value": {"column": "latency_ms", "score": "x"}},
            "metrics[0].value: got column and score; needed exactly one of column",
        ),
        (LATENCY | {"value": {"column": "latency_ms", "total": True}}, "metrics[0].value: total: only with an outcome"),
        (LATENCY | {"value": {"spans": {"knd": "tool"}}}, 'metrics[0].value.spans.knd: unknown key "knd"; did you mean "kind"?'),
        ({"when": {"column": "outputtokens", "op": "gt", "value": 1}}, 'metrics[0].when.column: got "outputtokens"; allowed: workflow'),
        ({"when": {"column": "unit_hash", "op": "eq", "value": "u"}}, 'metrics[0].when.column: got "unit_hash"'),
        ({"when": {"column": "output_tokens", "op": ">", "value": 1}}, 'metrics[0].when.op: got ">"; allowed: eq, ne'),
        (
            {"when": {"column": "output_tokens", "op": "gt", "value": "1"}},
            "metrics[0].when: value: column output_tokens is compared with a num",
        ),
        ({"when": {"column": "output_tokens", "op": "gt"}}, "metrics[0].when: value: gt takes one value"),
        ({"when": {"column": "status", "op": "gt", "value": "ok"}}, 'metrics[0].when: op: got "gt"; column status takes eq, in'),
        ({"when": {"column": "status", "op": "in", "value": "ok"}}, "metrics[0].when: value: in takes a list"),
        ({"when": {"column": "status", "op": "eq", "value": ["ok"]}}, "metrics[0].when: value: eq takes one value"),
        ({"when": {"column": "status", "op": "is_known", "value": "ok"}}, "metrics[0].when: value: is_known takes none"),
        ({"when": {"column": "status", "value": "ok"}}, "metrics[0].when: op: missing; column status takes"),
        (
            {"when": {"column": "is_fallback", "op": "eq", "value": "yes"}},
            "metrics[0].when: value: column is_fallback is compared with true or",
        ),
        ({"when": {"op": "eq", "value": 1}}, "metrics[0].when: got none of them; needed exactly one of column, score, spans, outcome, all"),
        ({"when": {"all": []}}, "metrics[0].when.all: got 0 entries; needed at least 1"),
        ({"when": {"any": [GOOD["when"]], "op": "eq"}}, "metrics[0].when: op and value belong to a comparison"),
        ({"when": {"any": [{"column": "status", "op": "eq"}]}}, "metrics[0].when.any[0]: value: eq takes one value"),
        ({"when": {"score": "a", "op": "gt", "value": 1}, "among": {"score": "b", "op": "gt", "value": 1}}, "reads the scores a, b"),
        ({"kind": "sum", "value": {"score": "a"}, "unit": "score", "when": None}, "metrics[0]: a sum cannot read a score"),
    ],
)
def test_each_mistake_is_named_with_its_line(change, said):
    with pytest.raises(SpecError, match=r"metrics\.yaml:[0-9]+: ") as error:
        read(**change)
    assert said in str(error.value)


def test_names_are_unique_and_no_kpi_s(tmp_path):
    with pytest.raises(SpecError, match="names must be unique; long_answer_rate appears more than once"):
        parse_spec(MetricsSpec, "metrics.yaml", yaml.safe_dump({"metrics": [GOOD, GOOD]}).encode())
    app = {"app": "shop", "title": "s", "risk_tier": "low", "kpis": [{"name": "long_answer_rate", "outcome": "order"}]}
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(app))
    (tmp_path / "metrics.yaml").write_text(yaml.safe_dump({"metrics": [GOOD]}))
    with pytest.raises(SpecError, match=re.escape('metrics[0].name: "long_answer_rate" is a KPI of app.yaml; rename one')):
        load_app_folder(tmp_path)


def test_a_folder_without_the_file_has_no_metrics_and_a_misspelt_one_is_reported(tmp_path):
    (tmp_path / "app.yaml").write_text(yaml.safe_dump({"app": "shop", "title": "s", "risk_tier": "low"}))
    assert load_app_folder(tmp_path).metrics is None
    (tmp_path / "metric.yaml").write_text("metrics: []\n")
    with pytest.raises(SpecError, match=r'metric\.yaml: nothing reads a file of this name; did you mean "metrics\.yaml"\?'):
        load_app_folder(tmp_path)


def test_the_schema_is_exported():
    schema = schema_of("metrics")
    assert schema["title"] == "metrics.yaml"
    assert set(schema["$defs"]["CustomMetric"]["properties"]) >= {"name", "kind", "when", "among", "value", "per", "q", "unit", "direction"}
