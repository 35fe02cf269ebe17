"""Trace files: every form of them, once, and nothing personal."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.observability.importing import imports_over
from tests.observability.lakes import count, open_lake, open_logs
from tests.observability.real_data import real
from tests.observability.test_otlp_log import SEALER, Site
from tests.observability.traces import agent, as_json, as_protobuf, asking, chat, message, span, tool
from workbench.errors import UsageError
from workbench.observability.importers.otlp import Otlp
from workbench.observability.importers.source import ImportOptions
from workbench.observability.lake import Lake
from workbench.observability.logs import Logs
from workbench.observability.otlp.receiving import Receiver
from workbench.observability.otlp.settling import Settler


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Logs]]:
    home = tmp_path_factory.mktemp("files")
    lake = open_lake(home)
    logs = open_logs(home, lake=lake)
    yield lake, logs
    logs.close()
    lake.close()


def trace_of(number: int) -> list[dict[str, Any]]:
    trace = f"{number:032x}"
    unit = {"user.id": f"customer-{number}", "workbench.app": "shop"}
    return [
        agent(1, trace=trace, ms=900, attributes=unit),
        chat(2, 1, trace=trace, attributes={"gen_ai.output.messages": asking("a"), "workbench.app": "shop"}),
        tool(3, 1, trace=trace, at=200, call_id="a", attributes={"workbench.app": "shop"}),
    ]


SPANS = [*trace_of(1), *trace_of(2)]
FORMS: dict[str, Callable[[], bytes]] = {
    "object": lambda: json.dumps(message(*SPANS), indent=1).encode(),
    "lines": lambda: b"\n".join(as_json(one) for one in reversed(SPANS)) + b"\n\n",
    "list": lambda: json.dumps([message(one) for one in SPANS]).encode(),
    "protobuf": lambda: as_protobuf(*SPANS),
    "lengths": lambda: b"".join(len(one).to_bytes(4, "big") + one for one in (as_protobuf(each) for each in SPANS)),
    "packed": lambda: gzip.compress(b"\n".join(as_json(one) for one in SPANS), mtime=0),
    "mark": lambda: b"\xef\xbb\xbf" + as_json(*SPANS),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_requests(tmp_path: Path, form: str):
    path = tmp_path / f"traces.{form}"
    path.write_bytes(FORMS[form]())
    found = [record.rows.requests[0] for record in Otlp().open(path, ImportOptions()).records()]  # type: ignore[union-attr]
    assert sorted((row["request_id"], row["input_tokens"], row["n_tool_calls"], row["latency_ms"]) for row in found) == [
        (f"{number:032x}", 10, 1, 900.0) for number in (1, 2)
    ]


def test_a_file_is_stored_once_and_what_comes_live_later_is_added(place: tuple[Lake, Logs], tmp_path: Path):
    lake, logs = place
    path = tmp_path / "traces.jsonl"
    path.write_bytes(as_json(*SPANS, resource={"enduser.id": "customer-0"}))
    imports = imports_over(logs)
    first, again = imports.run("otlp", [path]), imports.run("otlp", [path])
    assert (first.stored, first.refused, again.stored, again.earlier) == (2, 0, 0, 2)
    other = tmp_path / "copy.json"
    other.write_bytes(as_json(*SPANS) + b"\n")
    assert (imports.run("otlp", [other]).duplicates, count(lake, "spans", f"trace_id IN ('{1:032x}', '{2:032x}')")) == (2, 6)
    site = Site(lake, logs, logs._clock, Receiver(logs, SEALER, clock=logs._clock), Settler(lake, logs, quiet_s=0))  # type: ignore[arg-type]
    trace = f"{1:032x}"
    before = site.request(trace)
    assert (before["unit_hash"], before["is_final"]) == (SEALER.unit_hash("customer-1"), True)
    assert not any("customer" in json.dumps(row) for row in (*site.spans(trace), before))
    site.send(chat(9, 1, trace=trace, at=300))
    site.settle(after_s=0)
    after = site.request(trace)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"revision", "input_tokens", "output_tokens", "output", "output_hmac"} - (
        {"output", "output_hmac"} if after["output"] == before["output"] else set()
    )
    assert (after["input_tokens"], after["unit_hash"]) == (20, before["unit_hash"])


def test_a_trace_in_several_files_is_one_request_in_the_end(place: tuple[Lake, Logs], tmp_path: Path):
    lake, logs = place
    settler = Settler(lake, logs, quiet_s=100)
    imports = imports_over(logs, settle=lambda: settler.settle(logs._clock()))
    spans = trace_of(5)
    files = [tmp_path / f"{number}.json" for number in range(3)]
    for file, some in zip(files, (spans[1:2], spans[2:], spans), strict=True):
        file.write_bytes(as_json(*some))
    imports.run("otlp", files[:1])
    site = Site(lake, logs, logs._clock, Receiver(logs, SEALER, clock=logs._clock), settler)  # type: ignore[arg-type]
    assert (site.request(f"{5:032x}")["latency_ms"], site.request(f"{5:032x}")["n_tool_errors"]) == (100.0, None)
    imports.run("otlp", files[1:])
    assert len(site.spans(f"{5:032x}")) == 3
    row = site.request(f"{5:032x}")
    assert (row["latency_ms"], row["n_tool_calls"], row["n_tool_errors"], row["revision"], row["is_final"]) == (900.0, 1, 0, 2, True)
    imports.run("otlp", files)
    assert site.request(f"{5:032x}") == row


def test_what_is_no_ai_or_names_no_app_is_refused_and_counted(place: tuple[Lake, Logs], tmp_path: Path):
    path = tmp_path / "other.jsonl"
    path.write_bytes(
        b"\n".join([as_json(chat(1, trace=f"{7:032x}")), as_json(span(1, trace=f"{8:032x}")), b"{broken", as_json(span(2, trace="x"))])
    )
    report = imports_over(place[1]).run("otlp", [path])
    assert {reason: found.count for reason, found in report.files[0].refused.items()} == {
        "missing_app": 1,
        "no_ai": 1,
        "not_json": 1,
        "bad_trace_id": 1,
    }
    assert report.is_all_refused


def test_the_example_without_ai_is_refused(place: tuple[Lake, Logs]):
    report = imports_over(place[1]).run("otlp", [real("otlp", "otlp_trace_example.json")], app="shop")
    assert (report.stored, report.refused, list(report.files[0].refused)) == (0, 1, ["no_ai"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"{}",
        b'{"resourceLogs": []}',
        b"[1]",
        b"\x00\x01 no protobuf",
        b"\x1f\x8b broken",
        gzip.compress(b"{}", mtime=0)[:-4],
        b"{\n",
    ],
)
def test_a_file_that_holds_no_traces_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "odd"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        Otlp().open(path, ImportOptions(app="shop"))
    assert str(path) in str(caught.value)
