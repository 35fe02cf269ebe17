"""Importing is idempotent, goes on where it broke off, counts what it refuses, and stores nothing unredacted."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.forks import Forked
from tests.observability.importing import PRIMARY, Allow, Bundles, bundle_named, imports_over, record, rows, write
from tests.observability.lakes import Clock, count, open_lake, open_logs
from tests.observability.real_data import real
from workbench.errors import NotPermitted, StoreError, UnknownSubject, UsageError
from workbench.observability import import_chunk
from workbench.observability.importers.repeats import Repeat, Repeats
from workbench.observability.metrics import Metrics
from workbench.observability.redaction import REDACTION_VERSION


@pytest.fixture
def lake(tmp_path):
    made = open_lake(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def imports_of(tmp_path, lake):
    """Makes `Imports` over the test's lake; what the audit was told is in `.recorded`."""
    logs = open_logs(tmp_path / "home", lake=lake)
    yield partial(imports_over, logs)
    logs.close()


@pytest.fixture
def imports(imports_of):
    return imports_of()


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
    assert report.refused["negative_latency"].example.startswith("log.jsonl:3: latency_ms: -1 ms is negative; needed: 0 or more")
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
    assert (imports.recorded.begun, imports.recorded.ended) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"format": "xml"}, "one of csv, inspect"),
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
    imports = imports_of(authority=authority)
    path = write(tmp_path, record(1), record(2, app="bank"))
    with pytest.raises(NotPermitted):
        imports.run("openai-jsonl", [path])
    assert lake.snapshot() is None
    assert ("log.import", "shop") in authority.asked


def test_an_import_is_recorded_once_when_it_stored_something(tmp_path, imports):
    path = write(tmp_path, record(1))
    imports.run("openai-jsonl", [path])
    imports.run("openai-jsonl", [path])
    ((author, report),) = imports.recorded.ended
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
    monkeypatch.setattr(import_chunk, "CHUNK_ROWS", 7)
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
    monkeypatch.setattr(import_chunk, "CHUNK_ROWS", 10)
    logs = open_logs(tmp_path / "home", lake=lake)
    path = write(tmp_path, *(record(number) for number in range(45)), "broken")
    broken = imports_over(Breaking(logs, at=at))
    with pytest.raises(StoreError):
        broken.run("openai-jsonl", [path])
    stored = count(lake) if lake.snapshot() is not None else 0
    assert stored == min(at * 10, 45)
    assert len(broken.recorded.begun) == 1
    assert [report.stored for _, report in broken.recorded.ended] == [stored]
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
        from tests.observability.lakes import open_lake, open_logs
        from tests.observability.importing import imports_over
        from workbench.observability import import_chunk
        import_chunk.CHUNK_ROWS = 500
        lake = open_lake(Path({str(tmp_path / "home")!r}))
        imports = imports_over(open_logs(Path({str(tmp_path / "home")!r}), lake=lake))
        def show(_file, done, _total):
            print(done, flush=True)
        imports.run("openai-jsonl", [Path({str(path)!r})], progress=show)
        """
    )
    process = Forked([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
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


IMPORT_TOO = """
import sys
from pathlib import Path
from tests.observability.importing import imports_over
from tests.observability.lakes import open_lake, open_logs
from workbench.observability import import_chunk

import_chunk.CHUNK_ROWS = 50
home, path = map(Path, sys.argv[1:])
lake = open_lake(home)
logs = open_logs(home, lake=lake)
sys.stdin.readline()
report = imports_over(logs).run("openai-jsonl", [path], workers=0)
print(report.stored, report.completed, report.duplicates)
logs.close()
lake.close()
"""


def importing_too(tmp_path: Path, path: Path) -> subprocess.Popen[str]:
    """Another process that imports the file when a line is written to it."""
    command = [sys.executable, "-c", IMPORT_TOO, str(tmp_path / "home"), str(path)]
    return Forked(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


class Overtaken:
    """A log in which another process imports a file right after this one looked what is there."""

    def __init__(self, logs, other) -> None:
        self._logs = logs
        self._other = other
        self.said = ""

    def known_requests(self, keys):
        known = self._logs.known_requests(keys)
        if not self.said:
            self.said = self._other.communicate("go\n")[0]
        return known

    def __getattr__(self, name):
        return getattr(self._logs, name)


def test_a_request_that_another_process_stores_meanwhile_is_not_stored_twice(tmp_path, lake):
    here = write(tmp_path, *(record(number) for number in range(30)), name="here.jsonl")
    there = write(tmp_path, *(record(number) for number in range(20, 40)), name="there.jsonl")
    logs = Overtaken(open_logs(tmp_path / "home", lake=lake), importing_too(tmp_path, there))
    report = imports_over(logs).run("openai-jsonl", [here])
    assert logs.said.split() == ["20", "0", "0"]
    assert (report.stored, report.duplicates) == (20, 10)
    assert rows(lake, "count(*), count(DISTINCT request_id)") == [(40, 40)]
    assert rows(lake, "sum(n)", table="unsummed_hours") == [(40,)]
    logs.close()


def test_a_repeat_is_told_from_a_conflict_after_packing_too():
    repeats = Repeats()
    for number in range(0, 300, 3):
        assert repeats.judge([f"r{number + more}" for more in range(3)], [number, number + 1, number + 2]) == {}
        if number % 17 == 0:
            repeats.compact()
    assert repeats.had(["r0", "r299", "r300"]) == [True, True, False]
    for number in range(300):
        assert repeats.judge([f"r{number}"] * 2, [number, number + 1]) == {0: Repeat.SAME, 1: Repeat.CONFLICT}


def test_a_repeat_within_one_stretch_is_found(tmp_path):
    assert Repeats().judge(["a", "b", "a", "a"], [1, 2, 1, 3]) == {2: Repeat.SAME, 3: Repeat.CONFLICT}


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


@pytest.fixture
def versions():
    return Bundles()


def test_a_record_may_name_its_bundle_by_id_digest_or_name(tmp_path, lake, imports_of, versions):
    bundle_id = bundle_named("v1", versions)
    references = [bundle_id, bundle_id.partition("@")[2], "v1", "shop@v1"]
    path = write(tmp_path, *(record(number, bundle=reference) for number, reference in enumerate(references)))
    report = imports_of(versions=versions).run("openai-jsonl", [path])
    assert report.stored == 4
    assert rows(lake, "DISTINCT bundle") == [(bundle_id,)]


def test_the_bundle_option_is_of_the_records_that_name_none(tmp_path, lake, imports_of, versions):
    stable, candidate = bundle_named("v1", versions), bundle_named("v2", versions)
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    choices = {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [call]}}]}
    path = write(tmp_path, record(1, response=choices), record(2, bundle="v2"))
    report = imports_of(versions=versions).run("openai-jsonl", [path], bundle="v1")
    assert rows(lake, "request_id, bundle") == [("r1", stable), ("r2", candidate)]
    assert rows(lake, "bundle", "spans") == [(stable,)]
    assert report.files[0].notes == ()


@pytest.mark.parametrize("reference", ["v3", "shop@0123456789ab", "bank-v1"])
def test_a_bundle_that_nobody_registered_is_refused_with_the_registered_ones(tmp_path, lake, imports_of, versions, reference):
    known = bundle_named("v1", versions)
    bundle_named("bank-v1", versions, app="bank")
    report = imports_of(versions=versions).run("openai-jsonl", [write(tmp_path, record(1, bundle=reference), record(2, bundle="v1"))])
    assert (report.stored, set(report.files[0].refused)) == (1, {"unknown_bundle"})
    example = report.files[0].refused["unknown_bundle"].example
    assert example.startswith("log.jsonl:1: bundle: names no registered bundle of app shop; ")
    assert f"{known} (v1)" in example
    assert "workbench bundle register" in example


def test_an_ambiguous_bundle_name_is_refused(tmp_path, imports_of, versions):
    bundle_named("v1", versions)
    bundle_named("v1", versions, prompt=b"be brief")
    report = imports_of(versions=versions).run("openai-jsonl", [write(tmp_path, record(1, bundle="v1"))])
    assert set(report.files[0].refused) == {"ambiguous_bundle"}
    assert report.is_all_refused


def test_a_file_with_unknown_bundles_is_read_again_once_a_bundle_was_registered(tmp_path, lake, imports_of, versions, monkeypatch):
    monkeypatch.setattr(import_chunk, "CHUNK_ROWS", 2)
    bundle_named("v1", versions)
    imports = imports_of(versions=versions)
    path = write(tmp_path, *(record(number, bundle="v2" if number == 3 else "v1") for number in range(9)))
    assert imports.run("openai-jsonl", [path]).stored == 8
    before = lake.snapshot()
    again = imports.run("openai-jsonl", [path])
    assert (again.read, again.stored, again.n_there, again.refused) == (0, 0, 8, 1)
    assert lake.snapshot() == before
    bundle_named("v2", versions)
    third = imports.run("openai-jsonl", [path])
    assert (third.read, third.stored, third.duplicates, third.refused) == (9, 1, 8, 0)
    before = lake.snapshot()
    assert imports.run("openai-jsonl", [path]).n_there == 9
    assert lake.snapshot() == before


def test_an_unknown_bundle_option_is_an_error_before_anything_is_stored(tmp_path, lake, imports_of, versions):
    bundle_named("v1", versions)
    with pytest.raises(UnknownSubject, match="--bundle v9: no registered bundle"):
        imports_of(versions=versions).run("openai-jsonl", [write(tmp_path, record(1))], bundle="v9")
    assert lake.snapshot() is None


def test_requests_without_a_bundle_are_stored_and_noted(tmp_path, imports_of, versions):
    bundle_named("v1", versions)
    imports = imports_of(versions=versions)
    path = write(tmp_path, record(1), record(2), record(3, bundle="v1"))
    report = imports.run("openai-jsonl", [path])
    assert report.stored == 3
    assert report.files[0].notes == ("2 requests name no bundle: a review of a bundle does not see them; import with --bundle",)


def stored_bundles(lake):
    """Request id, revision, bundle and latency of everything that is stored."""
    return rows(lake, "request_id, revision, bundle, latency_ms")


def test_a_stored_request_without_a_bundle_gets_the_one_of_a_later_import_once(tmp_path, lake, imports_of, versions):
    stable, candidate = bundle_named("v1", versions), bundle_named("v2", versions)
    imports = imports_of(versions=versions)
    path = write(tmp_path, record(1), record(2, scores={"tone": 1}), record(3, bundle="v2"))
    imports.run("openai-jsonl", [path])
    later = imports.run("openai-jsonl", [path], bundle="v1")
    assert (later.read, later.stored, later.completed, later.duplicates, later.n_there) == (3, 0, 2, 1, 3)
    assert later.files[0].notes == (
        "2 requests that were there without a bundle get this one, as a new revision each",
        "requests that were there with a bundle keep it: an import changes no stored request",
    )
    expected = [
        ("r1", 0, None, 101.0),
        ("r1", 1, stable, 101.0),
        ("r2", 0, None, 102.0),
        ("r2", 1, stable, 102.0),
        ("r3", 0, candidate, 103.0),
    ]
    assert stored_bundles(lake) == expected
    assert count(lake, "scores") == 1
    before = lake.snapshot()
    third = imports.run("openai-jsonl", [path], bundle="v1")
    assert (third.stored, third.completed, third.n_there) == (0, 0, 3)
    assert lake.snapshot() == before
    longer = imports.run("openai-jsonl", [write(tmp_path, record(1), record(2), record(4), name="longer.jsonl")], bundle="v1")
    assert (longer.stored, longer.completed, longer.duplicates) == (1, 0, 2)
    assert [report.completed for _, report in imports.recorded.ended] == [0, 2, 0]


def test_a_completed_request_is_counted_once_and_under_its_bundle(tmp_path, lake, imports_of, versions):
    stable = bundle_named("v1", versions)
    imports = imports_of(versions=versions)
    path = write(tmp_path, *(record(number, request={"model": "m", "user": f"u{number}"}) for number in range(4)))
    imports.run("openai-jsonl", [path])
    imports.run("openai-jsonl", [path], bundle="v1")
    metrics = Metrics(lake, app_spec=lambda _app: None, clock=Clock())
    answer = metrics.query(["volume"], app="shop", by=["bundle"], window="365d")
    assert answer.select("bundle", "volume").rows() == [(stable, 4)]


@pytest.mark.parametrize("change", [{"timestamp": "2026-01-01T00:00:01Z"}, {"request": {"model": "m", "messages": []}}])
def test_another_request_under_the_same_id_gives_no_bundle(tmp_path, lake, imports_of, versions, change):
    bundle_named("v1", versions)
    imports = imports_of(versions=versions)
    imports.run("openai-jsonl", [write(tmp_path, record(1))])
    later = imports.run("openai-jsonl", [write(tmp_path, record(1, **change), name="other.jsonl")], bundle="v1")
    assert (later.stored, later.completed, later.duplicates) == (0, 0, 1)
    assert stored_bundles(lake) == [("r1", 0, None, 101.0)]


def test_the_bundle_of_another_app_is_given_to_its_own_requests_only(tmp_path, lake, imports_of, versions):
    bundle_named("v1", versions)
    imports = imports_of(versions=versions)
    imports.run("openai-jsonl", [write(tmp_path, record(1), record(2, app="bank"))])
    report = imports.run("openai-jsonl", [write(tmp_path, record(1, bundle="v1"), record(2), name="other.jsonl")])
    assert (report.stored, report.completed) == (1, 1), "r2 of the shop is another request than r2 of the bank"


def test_a_refused_record_is_still_counted_when_the_stored_file_comes_again(tmp_path, imports):
    path = write(tmp_path, record(1), record(2, latency_ms=-1), "no json")
    imports.run("openai-jsonl", [path])
    again = imports.run("openai-jsonl", [path])
    assert (again.stored, again.n_there, again.refused) == (0, 1, 2)
    assert again.files[0].notes == ("this file is stored already; nothing was read; 2 of its records were refused then",)
    assert not again.is_all_refused


def test_a_run_that_stored_nothing_says_so_each_time(tmp_path, imports):
    path = write(tmp_path, record(1, app="My Shop"), record(2, latency_ms=-1))
    assert imports.run("openai-jsonl", [path]).is_all_refused
    assert imports.run("openai-jsonl", [path]).is_all_refused
    assert not imports.run("openai-jsonl", [write(tmp_path, record(3))]).is_all_refused


def test_only_apps_with_stored_requests_are_reported(tmp_path, imports_of, versions):
    bundle_named("v1", versions)
    path = write(tmp_path, record(1), record(2, app="My Shop"), record(3, app="bank"), record(4, app="late", latency_ms=1e9))
    report = imports_of(versions=versions).run("openai-jsonl", [path], app="unused")
    assert (report.apps, report.apps_without_bundle) == (("bank", "shop"), ("bank",))
    assert set(report.files[0].refused) == {"bad_app", "absurd_latency"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"app": "../etc"}, "bad_app"),
        ({"app": "Shop"}, "bad_app"),
        ({"timestamp": "2099-01-01T00:00:00Z"}, "future_time"),
        ({"latency_ms": 24 * 3600 * 1000 + 1}, "absurd_latency"),
        ({"end_time": "2026-01-03T00:00:00Z", "latency_ms": None}, "absurd_latency"),
        ({"workflow": "x" * 201}, "too_long"),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path, imports, change, reason):
    report = imports.run("openai-jsonl", [write(tmp_path, record(1) | change, record(2))])
    assert (report.stored, set(report.files[0].refused)) == (1, {reason})


def test_an_impossible_app_option_is_an_error(tmp_path, imports):
    with pytest.raises(UsageError, match="--app 'My Shop'"):
        imports.run("openai-jsonl", [write(tmp_path, record(1))], app="My Shop")


@pytest.mark.parametrize(("name", "says"), [("pipe", "write it to a file first"), ("empty.jsonl", "holds no records")])
def test_a_pipe_or_an_empty_file_is_an_error_before_anything_is_stored(tmp_path, lake, imports, name, says):
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("\n")
    with pytest.raises(UsageError, match=says):
        imports.run("openai-jsonl", [write(tmp_path, record(1)), path])
    assert lake.snapshot() is None


def test_a_run_leaves_the_garbage_collector_as_it_was(tmp_path, imports, imports_of):
    seen = []
    path = write(tmp_path, *(record(number) for number in range(1500)))
    imports.run("openai-jsonl", [path], progress=lambda *_: seen.append(gc.isenabled()))
    assert seen[0] is False
    assert gc.isenabled()
    with pytest.raises(NotPermitted):
        imports_of(authority=Allow("bank")).run("openai-jsonl", [write(tmp_path, record(1, app="shop"), name="other.jsonl")])
    assert gc.isenabled()


def state_of(folder: Path, lake) -> tuple[int | None, list[Path]]:
    """The lake's snapshot and every file."""
    return lake.snapshot(), sorted(folder.rglob("*"))


def test_a_dry_run_counts_what_an_import_does_and_stores_nothing(tmp_path, lake, imports_of, versions):
    bundle_named("v1", versions)
    imports = imports_of(versions=versions)
    imports.run("openai-jsonl", [write(tmp_path, record(1), record(2), name="before.jsonl")])
    lines = [
        record(1),
        record(2, bundle="v1"),
        record(3),
        record(3),
        record(4, latency_ms=-1),
        record(5, bundle="v9"),
        record(6, app="bank"),
    ]
    files = [write(tmp_path, *lines), write(tmp_path, record(3, latency_ms=3), record(7), record(2, bundle="v1"), name="more.jsonl")]
    before, told = state_of(tmp_path, lake), len(imports.recorded.begun)
    dry = imports.run("openai-jsonl", files, is_dry_run=True)
    assert state_of(tmp_path, lake) == before
    assert (len(imports.recorded.begun), len(imports.recorded.ended)) == (told, told)
    assert imports.run("openai-jsonl", files, is_dry_run=True) == dry
    real_run = imports.run("openai-jsonl", files)
    assert replace(dry, is_dry_run=False) == real_run
    assert [(file.stored, file.completed, file.duplicates, file.n_refused) for file in dry.files] == [(2, 1, 2, 2), (1, 0, 2, 0)]
    assert imports.run("openai-jsonl", files, is_dry_run=True).earlier == real_run.read


def test_a_dry_run_names_the_bundle_that_a_file_describes_and_registers_none(lake, imports_of, versions):
    imports = imports_of(versions=versions)
    files = sorted(real("tau2", "retail").glob("*.json"))
    dry = imports.run("tau2", files, is_dry_run=True)
    assert (versions.registered, lake.snapshot()) == ({}, None)
    assert replace(dry, is_dry_run=False, apps_without_bundle=()) == imports.run("tau2", files)
    assert dry.apps_without_bundle == ("retail",)


def test_a_dry_run_needs_the_right_to_import_and_to_register(tmp_path, imports_of, lake):
    with pytest.raises(NotPermitted):
        imports_of(authority=Allow("shop")).run("openai-jsonl", [write(tmp_path, record(1, app="bank"))], is_dry_run=True)
    assert lake.snapshot() is None


def test_a_chunk_under_way_is_counted_when_the_run_breaks_off(tmp_path, lake, imports_of, monkeypatch):
    """The right is asked for when the app comes up, and the chunks before it are stored and told."""
    monkeypatch.setattr(import_chunk, "CHUNK_ROWS", 10)
    imports = imports_of(authority=Allow("shop"))
    path = write(tmp_path, *(record(number) for number in range(25)), record(25, app="bank"))
    with pytest.raises(NotPermitted):
        imports.run("openai-jsonl", [path])
    assert count(lake) == 20
    assert [report.stored for _, report in imports.recorded.ended] == [20]
