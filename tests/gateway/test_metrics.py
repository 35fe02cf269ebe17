"""What the gateway counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.gateway.standin import ANSWER, ASK, FLUSH, HOLDER, NOW, STATUS, StandIn, ask, gateway, send
from workbench.errors import RequestRefused
from workbench.gateway.access import Access
from workbench.gateway.metrics import MOST_SERIES, Meter, exposition

SECRET = "anna.meier@example.com"
_LINE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


@pytest.fixture
def controls() -> StandIn:
    return StandIn()


@pytest.fixture
def url(controls: StandIn) -> Iterator[str]:
    with gateway(controls) as base:
        yield base


def read(body: bytes) -> dict[str, float]:
    """The series of a text, by name and labels without the common prefix."""
    found = {}
    for line in body.decode().splitlines():
        if not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match, line
            series = f"{match[1]}{{{match[2]}}}" if match[2] else match[1]
            assert series not in found
            found[series.removeprefix("workbench_gateway_")] = float(match[3])
    return found


def metrics(url: str) -> dict[str, float]:
    got = send(url, "GET", "/metrics")
    assert (got.status, got.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return read(got.body)


def test_requests_are_counted_by_what_they_were_and_how_they_ended(controls: StandIn, url: str):
    for _ in range(3):
        ask(url)
    ask(url, {**ASK, "stream": True})
    ask(url, {**ASK, "model": SECRET}, x_workbench_unit=SECRET)
    send(url, "GET", f"/{SECRET}")
    controls.answer = lambda _asked: (_ for _ in ()).throw(RequestRefused("x", code="overloaded", http_status=429, seen="y"))
    ask(url)
    found = metrics(url)
    chat = 'route="/v1/chat/completions"'
    assert found[f'requests_total{{{chat},status="200",app="support",arm="stable"}}'] == 4
    assert found[f'requests_total{{{chat},status="404",app="support",arm=""}}'] == 1
    assert found[f'requests_total{{{chat},status="429",app="support",arm=""}}'] == 1
    assert found['requests_total{route="other",status="404",app="",arm=""}'] == 1
    assert found['problems_total{app="support",code="overloaded"}'] == 1
    assert found[f'request_duration_seconds_bucket{{{chat},le="+Inf"}}'] == found[f"request_duration_seconds_count{{{chat}}}"] == 6
    assert found["requests_in_flight"] == 1
    assert SECRET not in send(url, "GET", "/metrics").body.decode()


def test_what_the_controls_did_is_counted(controls: StandIn, url: str):
    controls.answer = lambda _asked: replace(
        ANSWER, is_fallback=True, handoff_id="h-1", blocked_rules=("refunds",), violation_rules=("tone", "tone")
    )
    got = ask(url)
    assert (got.headers["x-workbench-guards"], got.headers["x-handoff-id"]) == ("blocked=refunds, flagged=tone", "h-1")
    ask(url, {**ASK, "stream": True})
    found = metrics(url)
    assert found['fallbacks_total{app="support",arm="stable"}'] == found['handoffs_total{app="support",arm="stable"}'] == 2
    assert found['guard_verdicts_total{app="support",verdict="blocked",rule="refunds"}'] == 2
    assert found['guard_verdicts_total{app="support",verdict="flagged",rule="tone"}'] == 4


def test_the_state_of_the_parts_is_told_and_what_is_not_known_is_left_out(controls: StandIn, url: str):
    found = metrics(url)
    assert (found["ready"], found["route_age_seconds"], found["flush_lag_seconds"], found["keys_age_seconds"]) == (1, 0.1, 2, 0.5)
    assert (found['answers_total{arm="stable"}'], found["answers_without_unit_total"]) == (40, 3)
    assert (found['refused_total{code="overloaded"}'], found['traffic_share{app="support"}']) == (1, 0.05)
    controls.reasons = ("a reason",)
    assert metrics(url)["ready"] == 0
    assert found["spool_pressure"] == 0.25
    early, never = replace(STATUS, route_age_s=None), replace(FLUSH, last_success=None)
    unknown = exposition(Meter(), early, never, spool_pressure=0.0, keys_age_s=0.0, is_ready=True, now=NOW)
    assert not {"route_age_seconds", "flush_lag_seconds"} & read(unknown).keys()


def test_the_latency_buckets_add_up():
    meter = Meter()
    for duration_s in (0.0005, 0.001, 0.0011, 0.3, 99.0):
        meter.count(Access(request_id="r", method="POST", route="/x", status=200), duration_s=duration_s)
    found = read("\n".join(meter.lines()).encode())
    at = {
        bound: found[f'request_duration_seconds_bucket{{route="/x",le="{bound}"}}'] for bound in ("0.001", "0.0025", "0.5", "60.0", "+Inf")
    }
    assert at == {"0.001": 2, "0.0025": 3, "0.5": 4, "60.0": 4, "+Inf": 5}
    assert found['request_duration_seconds_sum{route="/x"}'] == pytest.approx(99.3026)


def test_no_label_grows_without_end_and_none_breaks_its_line():
    meter = Meter()
    for number in range(MOST_SERIES + 100):
        answer = replace(ANSWER, violation_rules=(f'rule"\\\n{number}',))
        meter.count(Access(request_id="r", method="POST", route="/x", status=200, key=HOLDER, arm="stable", answer=answer), duration_s=0.1)
    found = read("\n".join(meter.lines()).encode())
    verdicts = {series: n for series, n in found.items() if series.startswith("guard_verdicts_total")}
    assert len(verdicts) == MOST_SERIES + 1
    assert sum(verdicts.values()) == MOST_SERIES + 100
    assert verdicts['guard_verdicts_total{app="other",verdict="other",rule="other"}'] == 100


def test_prometheus_own_parser_reads_it(url: str):
    parser = pytest.importorskip("prometheus_client.parser")
    ask(url)
    families = list(parser.text_string_to_metric_families(send(url, "GET", "/metrics").body.decode()))
    assert {"workbench_gateway_requests", "workbench_gateway_request_duration_seconds"} <= {family.name for family in families}
