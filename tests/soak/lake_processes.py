"""The writing and the reading process of the kill test: `python -m tests.soak.lake_processes writer|reader …`."""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from workbench.observability.lake import Lake
from workbench.observability.logs import FlushLoop, Logs
from workbench.observability.tables import WRITABLE

GRACE_S = 2.0


def now() -> datetime:
    return datetime.now(UTC)


def open_lake(home: Path, catalog: str) -> Lake:
    return Lake.open(catalog=catalog, data=str(home / "lake" / "data"), lock=home / "lake" / "write.lock")


def open_logs(home: Path, lake: Lake) -> Logs:
    return Logs(lake, spool_folder=home / "spools", clock=now, grace_s=GRACE_S)


def record_of(name: str, i: int, n: int) -> dict[str, list[dict[str, object]]]:
    """The rows of the writer's record `i`: n requests, as many spans, one score."""
    at = now()
    keys = [f"{name}/{i}/{k}" for k in range(n)]
    return {
        "requests": [
            {"request_id": key, "app": f"app{len(key) % 2}", "ts_start": at, "status": "ok", "latency_ms": 10.0 * i} for key in keys
        ],
        "spans": [{"span_id": key, "request_id": key, "app": "app0", "ts_start": at, "kind": "model"} for key in keys],
        "scores": [
            {"score_id": keys[0], "app": f"app{len(keys[0]) % 2}", "request_id": keys[0], "name": "success", "value": 1.0, "ts": at}
        ],
    }


def write(home: Path, catalog: str, name: str) -> None:
    """Record until killed. The journal has a line before each record and one after its acknowledgement."""
    rng = random.Random(name)
    lake = open_lake(home, catalog)
    logs = open_logs(home, lake)
    seen = None
    with (home / f"{name}.journal").open("ab", buffering=0) as journal, FlushLoop(logs, clock=now, interval_s=0.5) as loop:
        for i in range(10**9):
            n = rng.randint(1, 20)
            journal.write(b"try %d %d\n" % (i, n))
            logs.record(record_of(name, i, n))
            journal.write(b"ack %d\n" % i)
            if i == 0:
                (home / f"{name}.spool").write_text(logs._spool.spool_id)
            status = loop.status
            if (status.last_fault, status.spool_faults) != seen:
                seen = (status.last_fault, status.spool_faults)
                if status.last_fault or status.spool_faults:
                    journal.write(f"fault {seen!r}\n".encode())
            time.sleep(0.02)


def read(home: Path, catalog: str, name: str) -> None:
    """Check the newest batches, each time inside one transaction, until the file `stop` appears."""
    counts = " + ".join(
        f"(SELECT count(*) FROM lake.{table} t WHERE t.spool_id = f.spool_id AND t.batch_id = f.batch_id)" for table in WRITABLE
    )
    unknown = (
        "SELECT count(*) FROM (SELECT app, date_trunc('hour', ts_start) AS hour FROM lake.requests t WHERE t.batch_id = f.batch_id) AS h "
        "WHERE (app, hour) NOT IN (SELECT app, hour FROM lake.unsummed_hours UNION SELECT app, hour FROM lake.requests_hourly)"
    )
    torn_sql = (
        "SELECT count(*), coalesce(list(batch_id) FILTER (WHERE stored <> marked OR unknown > 0), []) FROM ("
        f"SELECT batch_id, to_seq - from_seq + 1 AS marked, {counts} AS stored, ({unknown}) AS unknown "
        "FROM (SELECT * FROM lake.flushed ORDER BY batch_id DESC LIMIT 15) f)"
    )
    lake = open_lake(home, catalog)
    reads = 0
    with (home / f"{name}.journal").open("ab", buffering=0) as journal:
        while not (home / "stop").exists():
            try:
                n, torn = lake.read(lambda connection: connection.execute(torn_sql).fetchone())
            except Exception as fault:
                journal.write(f"error {fault!r}\n".encode())
                continue
            reads += 1
            journal.write(f"torn {torn}\n".encode() if torn else b"read %d\n" % n)


if __name__ == "__main__":
    {"writer": write, "reader": read}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3], sys.argv[4])
