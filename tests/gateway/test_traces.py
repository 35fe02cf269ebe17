"""An application instrumented with OpenTelemetry's SDK, and gateways as processes that take its spans in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Tracer, format_trace_id

from tests.forks import run
from tests.gateway.place import APP, ROOT, Place, processes, wait_until
from tests.gateway.standin import send
from workbench.observability.sealing import Sealer

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 97}


class Noted(SpanExporter):
    """Sends what another exporter sends, and notes whether it was taken."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        self._inner = OTLPSpanExporter(endpoint=f"{url}/v1/traces", headers=headers, compression=Compression.Gzip, timeout=20)
        self.taken: list[SpanExportResult] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.taken.append(self._inner.export(spans))
        return self.taken[-1]

    def shutdown(self) -> None:
        self._inner.shutdown()


@contextmanager
def instrumented(url: str, key: str) -> Iterator[tuple[Tracer, Noted]]:
    """The tracer of an application that exports each span as it ends, children before their parents."""
    provider = TracerProvider(resource=Resource({"service.name": "assistant"}), shutdown_on_exit=False)
    exporter = Noted(url, key)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield provider.get_tracer("assistant"), exporter
    finally:
        provider.shutdown()


def metrics(place: Place, *names: str) -> dict[str, Any]:
    """What `workbench metrics show` prints, from a process of its own."""
    command = [sys.executable, "-m", "workbench", "metrics", "show", *names, "--json"]
    done = run(command, env=place.variables, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    return dict(row)


def flag(url: str, key: str, unit: str) -> dict[str, Any]:
    """Which bundle serves a unit, as OFREP tells the application."""
    body = json.dumps({"context": {"targetingKey": unit}}).encode()
    found: dict[str, Any] = send(url, "POST", f"/ofrep/v1/evaluate/flags/{APP}", body=body, headers={"authorization": f"Bearer {key}"}).json
    return found


def stored(place: Place, request_id: str) -> dict[str, Any]:
    found = place.ws.metrics.request(APP, request_id)
    return dict(found) if found else {}


@pytest.mark.slow
def test_an_application_that_runs_its_bundle_itself_and_is_instrumented_is_in_the_metrics_provisional_then_final(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORKBENCH_TRACE_QUIET_S", "5")
    with processes(2, place) as [one, other], instrumented(one.url, place.key) as (tracer, exporter):
        assigned = flag(one.url, place.key, "u-1")
        serving = {"workbench.bundle": assigned["value"], "workbench.arm": assigned["variant"], "workbench.unit": "u-1"}
        serving |= {f"workbench.{name}": assigned["metadata"][name] for name in ("share", "route_version")}
        with tracer.start_as_current_span("POST /ask", kind=SpanKind.SERVER, attributes=serving) as root:
            trace_id = format_trace_id(root.get_span_context().trace_id)
            with tracer.start_as_current_span("chat m-1", kind=SpanKind.CLIENT, attributes=CHAT):
                pass
        assert exporter.taken == [SpanExportResult.SUCCESS] * 2
        wait_until(lambda: stored(place, trace_id))
        assert stored(place, trace_id)["is_final"] is False
        told = metrics(place, "volume", "input_tokens", "--by", "bundle,arm")
        assert (told["bundle"], told["arm"], told["volume"], told["input_tokens"]) == (place.v1, "stable", 1, 97)
        one.kill()  # another gateway settles what it took in
        wait_until(lambda: stored(place, trace_id)["is_final"])
        unit_hash = Sealer(place.ws.redactor, place.ws.unit_key).unit_hash("u-1")
        newest = f"SELECT unit_hash FROM lake.requests WHERE request_id = '{trace_id}' ORDER BY revision DESC LIMIT 1"
        assert place.ws.lake.read(lambda lake: lake.execute(newest).fetchone()) == (unit_hash,)
        got = send(other.url, "GET", f"/v1/requests/{trace_id}", headers={"authorization": f"Bearer {place.key}"})
        assert (got.json["is_final"], got.json["input_tokens"], got.json["status"]) == (True, 97, "ok")
