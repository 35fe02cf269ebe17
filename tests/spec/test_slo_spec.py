"""slo.yaml: what may stand in it, and what is said of what may not."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from pydantic import ValidationError

from workbench.demo.resources import demo_folder
from workbench.errors import SpecError
from workbench.observability.bars import faults as unknown_names
from workbench.spec.loading import load_app_folder, load_spec
from workbench.spec.schemas import schema_of, schema_text
from workbench.spec.slo import SloSpec
from workbench.spec.starter import write_starter

GOOD = """\
owner: primary
objectives:
  - name: answers
    indicator: availability
    target: 0.99
  - name: quick
    indicator: latency
    under: 3s
    target: 0.95
    window: 7d
    alerts:
      - {burn_rate: 5, long: 1h, short: 5m, severity: page}
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slo.yaml"


def faults(path, text):
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(SloSpec, path)
    return caught.value.seen.split("\n")


def test_a_right_file_becomes_its_objectives_with_their_defaults(path):
    path.write_text(GOOD)
    spec = load_spec(SloSpec, path)
    answers, quick = spec.objectives
    assert (answers.span, answers.undecided, answers.alerts, spec.min_events) == (timedelta(days=28), "left_out", None, 50)
    assert (quick.span, quick.under, quick.alerts[0].severity) == (timedelta(days=7), timedelta(seconds=3), "page")
    assert spec.alarms.false_alarms_per_week == 1


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("target: 0.99", "target: 1", "slo.yaml:3: objectives[0]: target: got 1; needed a share between 0 and 1, which leaves a budget"),
        ("target: 0.99", "target: 99", "slo.yaml:5: objectives[0].target: got 99; needed at most 1"),
        ("under: 3s", "under: 3", "slo.yaml:8: objectives[1].under: 3 is not a duration; write a positive number and a unit"),
        ("    under: 3s\n", "", "slo.yaml:6: objectives[1]: under: missing; latency needs the time that a good request stays under"),
        ("availability", "availability\n    under: 1s", "slo.yaml:3: objectives[0]: under: got 1s; only latency and ttft compare a time"),
        ("window: 7d", "window: 7d\n    calendar: week", "slo.yaml:6: objectives[1]: give either window or calendar"),
        ("window: 7d", "window: 2h", "slo.yaml:6: objectives[1]: window: got 2h; needed from 1d to 366d"),
        ("short: 5m", "short: 1h", "slo.yaml:12: objectives[1].alerts[0]: short: got 1h, which is not shorter than long (1h)"),
        ("short: 5m", "short: 90s", "slo.yaml:12: objectives[1].alerts[0]: long and short are whole minutes"),
        ("burn_rate: 5", "burn_rate: 0.5", "slo.yaml:12: objectives[1].alerts[0].burn_rate: got 0.5; needed at least 1"),
        ("severity: page", "severity: pager", 'slo.yaml:12: objectives[1].alerts[0].severity: got "pager"; allowed: page, ticket'),
        ("name: quick", "name: answers", "slo.yaml:1: objectives: answers is declared more than once"),
        ("owner: primary", "ownr: primary", 'slo.yaml:1: ownr: unknown key "ownr"; did you mean "owner"?'),
        ("owner: primary", "min_events: 0", "slo.yaml:1: min_events: got 0; needed at least 1"),
    ],
)
def test_each_fault_is_named_with_its_place(path, old, new, fault):
    found = faults(path, GOOD.replace(old, new, 1))
    assert any(line.startswith(fault) for line in found), found


def test_a_file_without_objectives_promises_nothing_and_is_refused(path):
    assert faults(path, "objectives: []\n") == ["slo.yaml:1: objectives: got 0 entries; needed at least 1"]


def test_owners_and_workflows_must_be_declared(tmp_path):
    folder = tmp_path / "shop"
    write_starter(folder, "shop")
    (folder / "slo.yaml").write_text(
        GOOD.replace("owner: primary", "owner: nobody").replace("name: quick", "name: quick\n    workflow: refnd")
    )
    with pytest.raises(SpecError) as caught:
        load_app_folder(folder)
    assert 'slo.yaml:1: owner: "nobody" is not in people.yaml' in caught.value.seen
    assert 'slo.yaml:7: objectives[1].workflow: workflow "refnd" is not declared in app.yaml' in caught.value.seen


def test_a_misnamed_file_is_not_passed_over(tmp_path):
    folder = tmp_path / "shop"
    write_starter(folder, "shop")
    (folder / "slo.yaml").rename(folder / "slos.yaml")
    with pytest.raises(SpecError, match=r'slos.yaml: nothing reads a file of this name; did you mean "slo.yaml"'):
        load_app_folder(folder)


def test_an_indicator_is_one_of_its_own_or_a_rate_of_the_catalogue():
    app = load_app_folder(demo_folder()).app
    spec = SloSpec.model_validate(
        {
            "objectives": [
                {"name": "a", "indicator": "fallback_rate", "target": 0.99},
                {"name": "b", "indicator": "latncy", "target": 0.99},
                {"name": "c", "indicator": "latency_p95", "target": 0.99},
            ]
        }
    )
    first, second = unknown_names(app, None, None, spec)
    assert first == 'slo.yaml: objectives[1].indicator: no indicator and no rate is called latncy; did you mean "latency"?'
    assert second.startswith("slo.yaml: objectives[2].indicator: no indicator and no rate is called latency_p95")


def test_the_schema_is_exported_and_knows_the_fields():
    schema = schema_of("slo")
    assert schema["title"] == "slo.yaml"
    assert set(schema["$defs"]["Objective"]["required"]) == {"name", "indicator", "target"}
    assert json.loads(schema_text("slo")) == schema


@pytest.mark.parametrize("rate", [0, -1, 8, float("nan"), float("inf")])
def test_a_false_alarm_rate_that_nobody_can_mean_is_refused(rate):
    with pytest.raises(ValidationError):
        SloSpec.model_validate(
            {"alarms": {"false_alarms_per_week": rate}, "objectives": [{"name": "a", "indicator": "success", "target": 0.9}]}
        )
