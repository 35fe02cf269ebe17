"""Importing is idempotent, goes on where it broke off, counts what it refuses, and stores nothing unredacted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.observability.lakes import Clock, count, open_lake, open_logs
from tests.observability.real_data import real
from workbench.errors import NotPermitted, StoreError, UsageError
from workbench.observability import import_run
from workbench.observability.importers.repeats import Repeat, Repeats
from workbench.observability.imports import Imports
from workbench.observability.redaction import REDACTION_VERSION, Redactor
from workbench.ownership.model import Actor, Assurance
from workbench.versions.manifest import assemble
from workbench.versions.model import RegisteredBundle

PRIMARY = Actor(person="primary", via="cli", assurance=Assurance.LOCAL)
KEY = b"0123456789abcdef"


class Bundles:
    """A registry that keeps bundles in memory."""

    def __init__(self) -> None:
        self.registered: dict[str, RegisteredBundle] = {}

    def register_external(self, spec, files, *, actor=None):
        read = assemble(spec, lambda path, _place: {path: files[path]})
        bundle = read.bundle
        made = RegisteredBundle(bundle=bundle, registered_at=Clock()(), registered_by=actor.person)
        return self.registered.setdefault(bundle.bundle_id, made)


class Allow:
    """Allows importing into the apps given, or into every app."""

    def __init__(self, *apps: str) -> None:
        self.apps = apps
        self.asked: list[tuple[str, str | None]] = []

    def require(self, author, act, app):
        self.asked.append((act, app))
        if self.apps and app not in self.apps:
            raise NotPermitted(f"{act} by {author.person}", seen=f"no role in {app}")


@pytest.fixture
def lake(tmp_path):
    made = open_lake(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def imports_of(tmp_path, lake):
    """Makes `Imports` over the test's lake; the reports recorded are in `.recorded`."""
    logs = open_logs(tmp_path / "home", lake=lake)

    def make(authority=None, logs=logs, redaction_key=KEY):
        recorded = []
        made = Imports(
            logs,
            Bundles(),
            redactor=Redactor(redaction_key),
            unit_key=KEY,
            authority=authority or Allow(),
            author=PRIMARY,
            clock=Clock(),
            record_import=lambda author, report: recorded.append((author, report)),
        )
        made.recorded = recorded
        return made

    yield make
    logs.close()


@pytest.fixture
def imports(imports_of):
    return imports_of()


def record(number: int, **values):
    base = {"request_id": f"r{number}", "timestamp": "2026-01-01T00:00:00Z", "latency_ms": 100 + number, "app": "shop"}
    base |= {"request": {"model": "m", "user": f"u{number}", "messages": [{"role": "user", "content": "hello"}]}}
    return (
        base
        | {"response": {"model": "m-1", "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]}}
        | values
    )


def write(folder: Path, *records, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in records))
    return path


def rows(lake, columns="*", table="requests"):
    return lake.read(lambda connection: connection.execute(f"SELECT {columns} FROM lake.{table} ORDER BY ALL").fetchall())


def test_a_second_import_of_a_file_changes_nothing(tmp_path, lake, imports):
    path = write(tmp_path, *(record(number) for number in range(5)))
    first = imports.run("openai-jsonl", [path])
    assert (first.read, first.stored, first.duplicates, first.refused) == (5, 5, 0, 0)
    before = lake.snapshot()
    second = imports.run("openai-jsonl", [path])
    assert (second.read, second.stored, second.earlier) == (0, 0, 5)
    assert lake.snapshot() == before
    assert count(lake) == 5


def test_a_file_that_grew_stores_only_what_is_new(tmp_path, lake, imports):
    path = write(tmp_path, record(1), record(2))
    imports.run("openai-jsonl", [path])
    report = imports.run("openai-jsonl", [write(tmp_path, record(1), record(2), record(3))])
    assert (report.read, report.stored, report.duplicates) == (3, 1, 2)
    assert count(lake) == 3


def test_scores_and_spans_of_a_duplicate_are_not_stored_again(tmp_path, lake, imports):
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    choices = {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [call]}}]}
    scored = record(1, scores={"tone": 1}, response=choices)
    imports.run("openai-jsonl", [write(tmp_path, scored)])
    imports.run("openai-jsonl", [write(tmp_path, scored, record(2))])
    assert (count(lake, "scores"), count(lake, "spans")) == (1, 1)


def test_a_repeated_line_is_a_duplicate_and_a_conflicting_one_is_refused(tmp_path, lake, imports):
    report = imports.run("openai-jsonl", [write(tmp_path, record(1), record(1), record(1, latency_ms=7), record(2))])
    assert (report.read, report.stored, report.duplicates) == (4, 2, 1)
    (refusals,) = report.files[0].refused.values()
    assert set(report.files[0].refused) == {"conflicting_id"}
    assert refusals.example.startswith("log.jsonl:3: ")
    assert rows(lake, "latency_ms") == [(101.0,), (102.0,)]


def test_refusals_are_counted_by_reason_with_one_example_each(tmp_path, imports):
    path = write(
        tmp_path, record(1), "no json", record(2, latency_ms=-1), record(3, latency_ms=-2), record(4, timestamp="2026-01-01T00:00:00")
    )
    report = imports.run("openai-jsonl", [path]).files[0]
    assert {reason: refusals.count for reason, refusals in report.refused.items()} == {"not_json": 1, "negative_latency": 2, "no_zone": 1}
    assert report.refused["negative_latency"].example.startswith("log.jsonl:3: latency_ms: -1 ms; needed: 0 or more")
    assert report.read == report.stored + report.duplicates + report.n_refused


def test_a_record_nested_too_deeply_is_refused_and_the_rest_stored(tmp_path, imports):
    deep: object = "x"
    for _ in range(300):
        deep = [deep]
    report = imports.run("openai-jsonl", [write(tmp_path, record(1, request={"model": "m", "messages": deep}), record(2))])
    assert (report.stored, set(report.files[0].refused)) == (1, {"too_deep"})


def test_one_unusable_file_stops_the_import_before_anything_is_stored(tmp_path, lake, imports):
    good, bad = write(tmp_path, record(1)), write(tmp_path, "a,b", "1,2", name="bad.jsonl")
    with pytest.raises(UsageError, match="looks like csv"):
        imports.run("openai-jsonl", [good, bad])
    assert lake.snapshot() is None
    assert imports.recorded == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"format": "xml"}, "one of csv, openai-jsonl, tau2"),
        ({"files": []}, "no files"),
        ({"zone": "Mars"}, "no time zone"),
        ({"mapping": Path("m.yaml")}, "given for openai-jsonl"),
    ],
)
def test_wrong_use_is_explained(tmp_path, imports, arguments, says):
    with pytest.raises(UsageError, match=says):
        imports.run(**({"format": "openai-jsonl", "files": [write(tmp_path, record(1))]} | arguments))


def test_rows_are_redacted_and_proven_before_they_are_stored(tmp_path, lake, imports):
    private = ["joe@example.com", "4111111111111111", "DE89370400440532013000", "10.20.30.40", "sk-abcdefghijklmnop1234567890"]
    call = {"id": "c", "function": {"name": "mail", "arguments": json.dumps({"to": private[0]})}}
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": private[3], "tool_calls": [call]}}
    request = {"model": "m", "user": private[0], "messages": [{"role": "user", "content": " ".join(private)}]}
    line = record(
        1,
        request=request,
        response={"model": "m", "choices": [choice]},
        session_id=private[0],
        feedback={"value": 1, "comment": private[0]},
    )
    imports.run("openai-jsonl", [write(tmp_path, line)])
    stored = [json.dumps(pq.read_table(path).to_pylist(), default=str) for path in (tmp_path / "home").rglob("*.parquet")]
    stored += [str(rows(lake, f"{table}::VARCHAR", table)) for table in ("requests", "spans", "scores")]
    stored += [path.read_bytes().decode("latin-1") for path in (tmp_path / "home").rglob("*") if path.is_file()]
    for text in stored:
        assert not [value for value in private if value in text]
    ((version, unit, given, proof, session),) = rows(lake, "redaction_version, unit_hash, input, input_hmac, session_id")
    assert (version, len(unit), len(proof)) == (REDACTION_VERSION, 32, 64)
    assert session.startswith("<EMAIL:")
    ((arguments,),) = rows(lake, "tool_arguments", "spans")
    assert json.loads(arguments)["to"] in given, "the same address of the same unit has the same placeholder"


def test_a_body_proof_and_a_unit_hash_depend_on_the_key_and_the_content(tmp_path, lake, imports):
    lines = [record(1), record(2), record(3, request={"model": "m", "user": "u1", "messages": []})]
    imports.run("openai-jsonl", [write(tmp_path, *lines)])
    one, two, three = rows(lake, "request_id, unit_hash, input_hmac")
    assert one[1] == three[1] != two[1]
    assert one[2] == two[2] != three[2]


def test_the_author_needs_the_right_for_every_app(tmp_path, lake, imports_of):
    authority = Allow("shop")
    imports = imports_of(authority)
    path = write(tmp_path, record(1), record(2, app="bank"))
    with pytest.raises(NotPermitted):
        imports.run("openai-jsonl", [path])
    assert lake.snapshot() is None
    assert ("log.import", "shop") in authority.asked


def test_an_import_is_recorded_once_when_it_stored_something(tmp_path, imports):
    path = write(tmp_path, record(1))
    imports.run("openai-jsonl", [path])
    imports.run("openai-jsonl", [path])
    ((author, report),) = imports.recorded
    assert author is PRIMARY
    assert report.summary()["files"][0]["stored"] == 1
    assert report.apps == ("shop",)
    assert json.dumps(report.summary())


def test_progress_ends_at_the_whole_file(tmp_path, imports):
    path = write(tmp_path, *(record(number) for number in range(2500)))
    seen = []
    imports.run("openai-jsonl", [path], progress=lambda *step: seen.append(step))
    size = path.stat().st_size
    assert [step[0] for step in seen] == [str(path)] * len(seen)
    assert seen == sorted(seen)
    assert seen[-1] == (str(path), size, size)
    assert 0 < seen[0][1] < size


def test_chunks_store_the_same_rows_as_one_transaction(tmp_path, lake, imports, monkeypatch):
    monkeypatch.setattr(import_run, "CHUNK_ROWS", 7)
    lines = [record(number) for number in range(40)]
    lines[20], lines[30] = record(3), record(4, latency_ms=1)
    report = imports.run("openai-jsonl", [write(tmp_path, *lines)])
    assert (report.read, report.stored, report.duplicates) == (40, 38, 1)
    assert set(report.files[0].refused) == {"conflicting_id"}, "also across chunks"
    assert count(lake) == 38
    assert rows(lake, "count(DISTINCT seq), min(seq), max(seq)") == [(38, 1, 40)]


class Breaking:
    """The log, until it breaks at one append."""

    def __init__(self, logs, *, at: int) -> None:
        self._logs = logs
        self._at = at

    def __getattr__(self, name):
        return getattr(self._logs, name)

    def append(self, batch, **place):
        self._at -= 1
        if self._at < 0:
            raise StoreError("log lake", seen="no space left on device")
        return self._logs.append(batch, **place)


@pytest.mark.parametrize("at", range(6))
def test_an_import_that_broke_off_goes_on_behind_its_last_chunk(tmp_path, lake, imports_of, monkeypatch, at):
    monkeypatch.setattr(import_run, "CHUNK_ROWS", 10)
    logs = open_logs(tmp_path / "home", lake=lake)
    path = write(tmp_path, *(record(number) for number in range(45)), "broken")
    broken = imports_of(logs=Breaking(logs, at=at))
    with pytest.raises(StoreError):
        broken.run("openai-jsonl", [path])
    stored = count(lake) if lake.snapshot() is not None else 0
    assert stored == min(at * 10, 45)
    assert [report.stored for _, report in broken.recorded] == ([stored] if stored else [])
    report = imports_of().run("openai-jsonl", [path])
    assert report.stored == 45 - stored
    assert report.read + report.earlier == 46
    assert count(lake) == 45
    logs.close()


@pytest.mark.slow
def test_a_killed_import_leaves_whole_chunks_and_the_next_one_completes_it(tmp_path, lake, imports):
    path = write(tmp_path, *(record(number) for number in range(6000)))
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.observability.lakes import Clock, open_lake, open_logs
        from tests.observability.test_imports import Allow, Bundles, KEY, PRIMARY
        from workbench.observability import import_run
        from workbench.observability.imports import Imports
        from workbench.observability.redaction import Redactor
        import_run.CHUNK_ROWS = 500
        lake = open_lake(Path({str(tmp_path / "home")!r}))
        imports = Imports(open_logs(Path({str(tmp_path / "home")!r}), lake=lake), Bundles(), redactor=Redactor(KEY), unit_key=KEY,
                          authority=Allow(), author=PRIMARY, clock=Clock())
        def show(_file, done, _total):
            print(done, flush=True)
        imports.run("openai-jsonl", [Path({str(path)!r})], progress=show)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    stored = count(lake) if lake.snapshot() is not None else 0
    assert stored % 500 == 0
    report = imports.run("openai-jsonl", [path])
    assert report.stored == 6000 - stored
    assert count(lake) == 6000
    assert rows(lake, "count(DISTINCT request_id)") == [(6000,)]


def test_a_repeat_is_told_from_a_conflict_after_packing_too():
    repeats = Repeats()
    for number in range(300):
        assert repeats.judge(f"r{number}", number) is Repeat.NEW
        if number % 17 == 0:
            repeats.compact()
    for number in range(300):
        assert repeats.judge(f"r{number}", number) is Repeat.SAME
        assert repeats.judge(f"r{number}", number + 1) is Repeat.CONFLICT


def test_a_csv_file_is_stored_by_its_mapping(tmp_path, lake, imports):
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("app: shop\nzone: UTC\ncolumns: {ts_start: at, latency_ms: ms, unit: customer}\n")
    path = tmp_path / "log.csv"
    path.write_text("at,ms,customer\n2026-01-01 10:00:00,5,c1\n2026-01-01 10:00:00,5,c1\n2026-01-01 10:00:01,-5,c1\n")
    report = imports.run("csv", [path], mapping=mapping)
    assert (report.stored, report.refused) == (2, 1)
    mapping.write_text(mapping.read_text() + "constants: {workflow: w}\n")
    again = imports.run("csv", [path], mapping=mapping)
    assert (again.stored, again.duplicates) == (0, 2), "another mapping is another source, but the rows are known"


def test_published_runs_are_stored_with_the_known_answers(lake, imports):
    files = [path for domain in ("retail", "telecom") for path in sorted(real("tau2", domain).glob("*.json"))]
    report = imports.run("tau2", files)
    assert [(one.read, one.stored) for one in report.files] == [(40, 40)] * 4
    assert all("read as UTC" in one.notes[0] for one in report.files)
    metrics = rows(
        lake,
        "app, bundle, count(*), round(quantile_cont(latency_ms, 0.5) / 1000, 1), round(quantile_cont(latency_ms, 0.95) / 1000, 1), "
        "sum(n_tool_errors), count(cost_usd)",
        "requests GROUP BY ALL",
    )
    seen = {(app, n, p50, p95, int(errors), priced) for app, _bundle, n, p50, p95, errors, priced in metrics}
    assert seen == {
        ("retail", 40, 24.8, 35.0, 12, 40),
        ("retail", 40, 35.1, 62.7, 23, 0),
        ("telecom", 40, 53.0, 76.6, 0, 40),
        ("telecom", 40, 56.4, 175.4, 10, 0),
    }
    success = rows(lake, "app, bundle, avg(value)", "scores JOIN lake.requests USING (app, request_id) WHERE name = 'success' GROUP BY ALL")
    assert sorted((app, share) for app, _bundle, share in success) == [
        ("retail", 0.85),
        ("retail", 0.85),
        ("telecom", 0.45),
        ("telecom", 0.75),
    ]
    pairs = rows(lake, "app, count(DISTINCT unit_hash), count(*)", "requests GROUP BY ALL")
    assert pairs == [("retail", 40, 80), ("telecom", 40, 80)]
    before = lake.snapshot()
    assert imports.run("tau2", files).stored == 0
    assert lake.snapshot() == before
