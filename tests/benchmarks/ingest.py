"""How fast rows come into the log lake, beside plain DuckDB on the same rows in the same run.

The rows are requests of three apps over seven days in the order of their time, as a log has them, with all usual columns filled
and some 400 bytes of JSON each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks import Figure, Report
from workbench.observability.lake import Lake
from workbench.observability.logs import FlushLoop, Logs
from workbench.observability.rows import conformed

ROWS = 1_000_000
AT_ONCE = 250_000
JSONL_ROWS = 100_000
SPOOL_ROWS = 100_000
VISIBILITY_ROWS = 25
TRACE_MESSAGES, TRACE_SPANS = 20, 512


def now() -> datetime:
    return datetime.now(UTC)


def open_logs(home: Path) -> tuple[Lake, Logs]:
    lake = Lake.open(catalog=f"sqlite:{home / 'catalog.sqlite'}", data=str(home / "data"), lock=home / "write.lock")
    return lake, Logs(lake, spool_folder=home / "spools", clock=now)


def made_requests(n: int) -> pa.Table:
    """`n` request rows as Arrow, the same each time."""
    sql = f"""
        SELECT 'req-' || lpad(i::VARCHAR, 12, '0') AS request_id, 0::INTEGER AS revision, true AS is_final,
            'app' || (h % 3) AS app, ['returns', 'orders', 'advice', 'unassigned'][1 + h % 4] AS workflow,
            TIMESTAMPTZ '2026-03-01 00:00:00+00' + to_microseconds((604800000000 / {n} * i)::BIGINT + h % 5000000) AS ts_start,
            50 + (h % 4000) / 1.7 AS latency_ms, 20 + (h % 900) / 3.1 AS ttft_ms,
            'app' || (h % 3) || '@' || substr(md5(c), 1, 12) AS bundle, c AS arm,
            md5((h % 100000)::VARCHAR) AS unit_hash, md5(i::VARCHAR) AS trace_id, 'chat' AS operation, 'local' AS provider,
            'model of ' || c AS model_requested, 'model of ' || c AS model_served,
            CASE WHEN h % 50 = 0 THEN 'error' WHEN h % 97 = 0 THEN 'timeout' ELSE 'ok' END AS status, h % 70 = 0 AS is_fallback,
            1::BIGINT AS attempts, (h % 4)::BIGINT AS n_tool_calls, 0::BIGINT AS n_tool_errors,
            (200 + h % 2000)::BIGINT AS input_tokens, (h % 700)::BIGINT AS output_tokens, (h % 3000) / 1e6 AS cost_usd,
            '[{{"role": "user", "content": "' || repeat(md5(i::VARCHAR) || ' ', 6) || '"}}]' AS input,
            '{{"role": "assistant", "content": "' || repeat(md5(h::VARCHAR) || ' ', 5) || '"}}' AS output, 'benchmark' AS source
        FROM (SELECT i, (hash(i) // 4)::BIGINT AS h, if(hash(i) % 10 = 0, 'candidate', 'stable') AS c FROM range({n}) t(i))"""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return conformed("requests", connection.sql(sql).to_arrow_table())


def timed(act: Callable[[], object]) -> float:
    begins = time.perf_counter()
    act()
    return time.perf_counter() - begins


def append_all(logs: Logs, source_id: str, batches: Iterator[pa.Table]) -> None:
    at = 1
    for arrow in batches:
        logs.append({"requests": arrow}, source_id=source_id, from_seq=at, to_seq=at + arrow.num_rows - 1)
        at += arrow.num_rows


def sliced(arrow: pa.Table) -> Iterator[pa.Table]:
    return (arrow.slice(at, AT_ONCE) for at in range(0, arrow.num_rows, AT_ONCE))


def from_parquet(path: Path) -> Iterator[pa.Table]:
    return (pa.Table.from_batches([batch]) for batch in pq.ParquetFile(path).iter_batches(AT_ONCE))


def bulk(home: Path) -> list[Figure]:
    arrow = made_requests(ROWS)
    parquet = home / "requests.parquet"
    pq.write_table(arrow, parquet, compression="zstd")
    lake, logs = open_logs(home / "bulk")
    logs.append({}, source_id="warm", from_seq=1, to_seq=1)
    seconds = {
        "arrow": timed(lambda: append_all(logs, "arrow", sliced(arrow))),
        "parquet": timed(lambda: append_all(logs, "parquet", from_parquet(parquet))),
    }
    lake.close()
    plain = duckdb.connect(str(home / "plain.duckdb"))
    plain.register("arrow", arrow)
    plain.execute("CREATE TABLE requests AS SELECT * FROM arrow LIMIT 0")
    seconds["plain insert"] = timed(lambda: plain.execute("INSERT INTO requests SELECT * FROM arrow"))
    seconds["plain copy"] = timed(lambda: plain.execute(f"COPY arrow TO '{home / 'plain.parquet'}' (COMPRESSION zstd)"))
    plain.close()
    rate = {what: ROWS / s for what, s in seconds.items()}
    return [
        Figure(
            what="Arrow to the lake",
            value=rate["arrow"],
            unit="rows/s",
            at_least=100_000,
            note=f"{ROWS:,} rows, partitioned, sorted, rolled up",
        ),
        Figure(what="Parquet to the lake", value=rate["parquet"], unit="rows/s", at_least=100_000),
        Figure(
            what="plain DuckDB INSERT of the same", value=rate["plain insert"], unit="rows/s", note="one .duckdb file, no sort, no mark"
        ),
        Figure(what="plain DuckDB COPY to Parquet", value=rate["plain copy"], unit="rows/s", note="one file, no sort, no mark"),
        Figure(what="lake / plain INSERT", value=rate["arrow"] / rate["plain insert"], unit="ratio"),
    ]


def spooled(home: Path) -> list[Figure]:
    lake, logs = open_logs(home / "spooled")
    rows = made_requests(SPOOL_ROWS).to_pylist()
    recording = timed(lambda: [logs.record({"requests": rows[at : at + 100]}) for at in range(0, len(rows), 100)])
    flushing = timed(logs.flush)
    singles = sorted(timed(lambda row=row: logs.record({"requests": [row]})) for row in rows[:2000])
    logs.close()
    lake.close()
    return [
        Figure(what="record to the spool, 100 at once", value=SPOOL_ROWS / recording, unit="rows/s", note="each call waits for its commit"),
        Figure(what="record of one row, median", value=singles[len(singles) // 2] * 1000, unit="ms"),
        Figure(what="flush from the spool to the lake", value=SPOOL_ROWS / flushing, unit="rows/s"),
        Figure(what="spool and flush together", value=SPOOL_ROWS / (recording + flushing), unit="rows/s"),
    ]


_WATCH = """
import sys, time
from pathlib import Path
from tests.benchmarks.ingest import VISIBILITY_ROWS, open_logs
lake, logs = open_logs(Path(sys.argv[1]))
seen = set()
print("ready", flush=True)
while len(seen) < VISIBILITY_ROWS:
    rows = lake.read(lambda c: c.execute("SELECT request_id FROM lake.requests WHERE source = 'visibility'").fetchall())
    at = time.monotonic()
    for (request_id,) in rows:
        if request_id not in seen:
            seen.add(request_id)
            print(request_id, at, flush=True)
    time.sleep(0.02)
"""


def visibility(home: Path) -> list[Figure]:
    """From the call of `record` to the row in another process' query, under the flush loop of a long-lived writer."""
    lake, logs = open_logs(home / "visibility")
    logs.append({}, source_id="warm", from_seq=1, to_seq=1)
    recorded: dict[str, float] = {}
    with subprocess.Popen([sys.executable, "-c", _WATCH, str(home / "visibility")], stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        with FlushLoop(logs, clock=now):
            for i in range(VISIBILITY_ROWS):
                recorded[f"v{i}"] = time.monotonic()
                logs.record({"requests": [{"request_id": f"v{i}", "app": "shop", "ts_start": now(), "source": "visibility"}]})
                time.sleep(0.37)
            lags = sorted(float(at) - recorded[name] for name, at in (line.split() for line in watcher.stdout))
    logs.close()
    lake.close()
    return [
        Figure(what="record to visible elsewhere, median", value=lags[len(lags) // 2], unit="s", note="flush loop of 1 s"),
        Figure(what="record to visible elsewhere, longest", value=lags[-1], unit="s", at_most=2),
    ]


def chat_line(i: int) -> Mapping[str, Any]:
    """One line of a chat log, with the personal data that redaction looks for in every fifth."""
    contact = f" Please write to customer{i}@example.com or call +49 30 901820 {i % 100:02d}." if i % 5 == 0 else ""
    question = (
        f"My order {100000 + i} has not arrived, it should have been here on Tuesday. Where is it, and can I still change the address?"
    )
    answer = "Your parcel left our warehouse yesterday and will arrive within two days. The address can be changed until the van is loaded."
    return {
        "timestamp": f"2026-03-{1 + i % 7:02d}T{i % 24:02d}:{i % 60:02d}:00Z",
        "latency_ms": 300 + i % 2000,
        "user": f"customer{i % 20000}",
        "request": {
            "model": "model-1",
            "messages": [{"role": "system", "content": "You help customers of a shop."}, {"role": "user", "content": question + contact}],
        },
        "response": {
            "id": f"chatcmpl-{i}",
            "model": "model-1",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
            "usage": {"prompt_tokens": 60 + i % 40, "completion_tokens": 30, "total_tokens": 90 + i % 40},
        },
    }


class Anybody:
    """An author, an authority that allows everything and a registry that is not asked: this measures the import alone."""

    person = "primary"
    via = "benchmark"
    assurance = "local"

    def require(self, *_: object) -> None:
        return

    def list(self, *_: object) -> tuple[()]:
        return ()

    def register_external(self, *_: object, **__: object) -> None:
        raise AssertionError("the log names no bundle")


def imported(home: Path) -> list[Figure]:
    path = home / "chat.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps(chat_line(i)) + "\n" for i in range(JSONL_ROWS))
    note = f"{JSONL_ROWS:,} lines of {path.stat().st_size // JSONL_ROWS} bytes, a fifth with personal data"
    return [
        Figure(
            what="JSONL with redaction to the lake",
            value=import_rate(home / "workers", path, None),
            unit="rows/s",
            at_least=20_000,
            note=note,
        ),
        Figure(what="the same in one process", value=import_rate(home / "alone", path, 0), unit="rows/s", note="--workers 0"),
    ]


def import_rate(home: Path, path: Path, workers: int | None) -> float:
    """Rows a second of one import into an empty lake."""
    from workbench.observability.imports import Imports
    from workbench.observability.redaction import Redactor

    lake, logs = open_logs(home)
    logs.append({}, source_id="warm", from_seq=1, to_seq=1)
    anybody = Anybody()
    imports = Imports(logs, anybody, redactor=Redactor(b"k" * 32), unit_key=b"u" * 32, authority=anybody, author=anybody, clock=now)
    seconds = timed(lambda: imports.run("openai-jsonl", [path], app="shop", workers=workers))
    stored = lake.read(
        lambda connection: connection.execute("SELECT count(*), count_if(input LIKE '%<EMAIL:%') FROM lake.requests").fetchone()
    )
    lake.close()
    assert stored == (JSONL_ROWS, JSONL_ROWS // 5), stored
    return JSONL_ROWS / seconds


def traced(home: Path) -> list[Figure]:
    """Spans with 20 attributes, 512 in a message, from protobuf: read alone, and taken into the log as a gateway does."""
    from workbench.observability.otlp import decode
    from workbench.observability.otlp.receiving import Receiver
    from workbench.observability.redaction import Redactor
    from workbench.observability.sealing import Sealer

    bodies = [trace_message(number) for number in range(TRACE_MESSAGES)]
    n = TRACE_MESSAGES * TRACE_SPANS
    reading = timed(lambda: [decode.from_protobuf(body, latest_us=1 << 60) for body in bodies])
    lake, logs = open_logs(home / "traced")
    receiver = Receiver(logs, Sealer(Redactor(b"k" * 32), b"u" * 32), clock=now)
    taking = timed(lambda: [receiver.receive(body, is_json=False, app="shop", is_served_here=False) for body in bodies])
    logs.close()
    stored = lake.read(lambda connection: connection.execute("SELECT count(*) FROM lake.spans").fetchone())
    lake.close()
    assert stored == (n,), stored
    note = f"{n:,} spans of 20 attributes, {TRACE_SPANS} in a message"
    return [
        Figure(what="OTLP spans read from protobuf", value=n / reading, unit="spans/s", note=note),
        Figure(what="the same sealed, put together and committed", value=n / taking, unit="spans/s", note="one thread"),
    ]


def trace_message(number: int) -> bytes:
    """An `ExportTraceServiceRequest` of traces with an agent and three model calls each."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    start = int(now().timestamp()) * 1_000_000_000
    for i in range(TRACE_SPANS):
        trace, place = divmod(i, 4)
        made = spans.add(
            trace_id=(1 + number * TRACE_SPANS + trace).to_bytes(16, "big"),
            span_id=(place + 1).to_bytes(8, "big"),
            parent_span_id=b"" if place == 0 else (1).to_bytes(8, "big"),
            name="invoke_agent" if place == 0 else "chat model-1",
            kind=1,
            start_time_unix_nano=start + place * 1_000_000,
            end_time_unix_nano=start + 900_000_000,
        )
        told = {"gen_ai.operation.name": made.name.split()[0], "gen_ai.request.model": "model-1", "user.id": f"customer{trace}"}
        told["gen_ai.input.messages"] = json.dumps(
            [{"role": "user", "parts": [{"type": "text", "content": f"Where is my order {i}? " * 4}]}]
        )
        told |= {f"app.detail.{k}": f"value {k} of {i}" for k in range(14)}
        for key, text in told.items():
            made.attributes.add(key=key).value.string_value = text
        for key in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
            made.attributes.add(key=key).value.int_value = 100 + i
    return request.SerializeToString()


def run() -> Report:
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        home = Path(folder)
        figures = [*bulk(home), *imported(home), *spooled(home), *visibility(home), *traced(home)]
    return Report(title="Ingest into the log lake", figures=figures)
