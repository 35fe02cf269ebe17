"""A lake that grows backwards, by months-old traffic, and one that grows up, from the schema before, while others write it."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from datetime import timedelta

import pyarrow.parquet as pq

from tests.observability.lakes import NOON, count, open_lake, open_logs, request, stored_files
from workbench.observability.reshaping import CATALOGUE
from workbench.observability.tables import SCHEMA_VERSION, arrow_table
from workbench.observability.upkeep import Upkeep

DAYS = 12


def test_months_old_traffic_ends_in_one_sorted_file_for_each_app_and_day(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    rng = random.Random(3)
    ages = [age for age in range(DAYS) for _ in range(24)]
    rng.shuffle(ages)
    for part in range(6):
        rows = [
            request(ts_start=NOON - timedelta(days=100 + age, seconds=rng.randrange(3600)), unit_hash=f"u{rng.randrange(9)}")
            for age in ages[part::6]
        ]
        logs.append({"requests": arrow_table("requests", rows)}, source_id=f"import:{part}", from_seq=1, to_seq=len(rows))
    live = "SELECT count(*) FROM {0}.ducklake_data_file f JOIN {0}.ducklake_table t USING (table_id) WHERE t.table_name = 'requests'"
    sql = f"{live.format(CATALOGUE)} AND f.end_snapshot IS NULL AND t.end_snapshot IS NULL"
    assert lake.read(lambda c: c.execute(sql).fetchone()[0]) > 3 * DAYS
    upkeep = Upkeep(lake, cited=frozenset, grace=timedelta(0), retention=timedelta(0))
    upkeep.run()
    upkeep.run()
    files = {name: content for name, content in stored_files(tmp_path).items() if "/requests/" in name}
    assert len(files) == DAYS == lake.read(lambda c: c.execute(sql).fetchone()[0])
    for content in files.values():
        stored = pq.read_table(io.BytesIO(content), columns=["unit_hash", "ts_start"]).to_pydict()
        rows = [*zip(stored["unit_hash"], stored["ts_start"], strict=True)]
        assert rows == sorted(rows)
        assert len(rows) == 24
    assert count(lake) == 24 * DAYS
    logs.close()
    lake.close()


OLD = f"""
import sys
from pathlib import Path
from workbench.observability import flusher, lake, schema, tables
gone = {{"redaction_version", "handoff_id"}}
requests = tables.REQUESTS
old = tables.LogTable(name="requests", columns=tuple(c for c in requests.columns if c.name not in gone), partition_by=requests.partition_by,
                      sort_by=requests.sort_by, time=requests.time)
schema.TABLES = {{**tables.TABLES, "requests": old}}
del schema.TABLES["expiries"]
schema.SCHEMA_VERSION = lake.SCHEMA_VERSION = {SCHEMA_VERSION - 1}
from tests.observability.lakes import open_lake
home = Path(sys.argv[1])
old_lake = open_lake(home)
n = 0
def write():
    global n
    sql = f"INSERT INTO lake.requests (request_id, app, batch_id) VALUES ('old {{n}}', 'shop', {{n}})"
    old_lake.write(lambda c: c.execute(sql), what="insert")
    n += 1
write()
print("made", flush=True)
for line in sys.stdin:
    for _ in range(5):
        write()
    print(n, flush=True)
"""

NEW = """
import sys
from pathlib import Path
from tests.observability.lakes import open_logs, request
logs = open_logs(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(5):
    logs.record({"requests": [request(request_id=f"{sys.argv[2]} {n}", redaction_version="2")]})
    logs.flush()
logs.close()
"""


def test_a_lake_of_the_schema_before_is_brought_up_while_old_and_new_processes_write_it(tmp_path):
    def started(program: str, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(tmp_path), *more]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with started(OLD) as old, started(NEW, "a") as first, started(NEW, "b") as second:
        assert [process.stdout.readline() for process in (old, first, second)] == ["made\n", "ready\n", "ready\n"]
        lake = open_lake(tmp_path)
        for process in (old, first, second):
            process.stdin.write("go\n")
            process.stdin.flush()
        assert old.stdout.readline() == "6\n"
        assert [process.wait(60) for process in (first, second)] == [0, 0]
        old.stdin.write("again\n")
        old.stdin.flush()
        assert old.stdout.readline() == "11\n", "who has the lake open goes on in the new schema"
        old.stdin.close()
        assert old.wait(60) == 0
    stored = "SELECT count(*), count(DISTINCT request_id), count(redaction_version) FROM lake.requests"
    assert lake.read(lambda c: c.execute(stored).fetchone()) == (21, 21, 10)
    versions = "SELECT schema_version FROM lake.lake_meta ORDER BY 1"
    assert lake.read(lambda c: c.execute(versions).fetchall()) == [(SCHEMA_VERSION - 1,), (SCHEMA_VERSION,)]
    assert {count(lake, table) for table in ("expiries", "erasures", "spans")} == {0}, "a table that was not there is there"
    lake.close()
