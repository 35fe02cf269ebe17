"""The audit speaks of every import that stored something: of its beginning before the first row, of its end after the last."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path

import pytest

from tests.forks import run
from tests.observability.importing import PRIMARY, imports_over, record, write
from tests.observability.lakes import Clock, count, open_lake, open_logs
from workbench.errors import StoreError
from workbench.ledger.audit import tail, verify
from workbench.ledger.store import Ledger
from workbench.observability.import_record import ImportRecord

HERE = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path):
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def ledger(home):
    opened = Ledger.open(f"sqlite:///{home / 'ledger.sqlite'}", clock=Clock())
    yield opened
    opened.close()


@pytest.fixture
def lake(home):
    opened = open_lake(home)
    yield opened
    opened.close()


@pytest.fixture
def imports(home, lake, ledger):
    logs = open_logs(home, lake=lake)
    yield imports_over(logs, record=ImportRecord(ledger))
    logs.close()


def audited(ledger: Ledger) -> list[tuple[str, str, list[int | None]]]:
    """Act, subject and what was stored of each file, oldest first."""
    with ledger.read() as connection:
        assert verify(connection).is_whole
        return [(entry.act, entry.subject, [file.get("stored") for file in entry.detail["files"]]) for entry in tail(connection, 100)]


def test_an_import_is_told_before_its_first_row_and_after_its_last(tmp_path, imports, ledger):
    one, two = write(tmp_path, record(1), record(2)), write(tmp_path, record(3), "no json", name="two.jsonl")
    imports.run("openai-jsonl", [one, two])
    expected = [("log.import.begin", "openai-jsonl: 2 files", [None, None]), ("log.import", "openai-jsonl: 2 files", [2, 1])]
    assert audited(ledger) == expected
    imports.run("openai-jsonl", [one, two])
    assert audited(ledger) == expected, "an import that stores nothing is told only when an earlier one was not"


def test_an_import_of_which_nothing_can_be_stored_is_not_told(tmp_path, imports, ledger):
    imports.run("openai-jsonl", [write(tmp_path, record(1, latency_ms=-1))])
    assert audited(ledger) == []


def test_no_row_is_stored_when_the_beginning_cannot_be_told(tmp_path, imports, ledger, lake, monkeypatch):
    def broken(*_):
        raise StoreError("ledger", seen="it is read-only")

    monkeypatch.setattr(imports._record, "begin", broken)
    with pytest.raises(StoreError, match="read-only"):
        imports.run("openai-jsonl", [write(tmp_path, record(1))])
    assert lake.snapshot() is None or count(lake) == 0
    assert audited(ledger) == []


LEFT = {"before the first row": 45, "after the first chunk": 35, "before the end": 0}
"""When an import of 45 requests is killed, to how many of them are not stored then."""
IMPORTING = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from tests.observability.importing import imports_over
    from tests.observability.lakes import Clock, open_lake, open_logs
    from workbench.ledger.store import Ledger
    from workbench.observability import import_chunk
    from workbench.observability.import_record import ImportRecord
    import_chunk.CHUNK_ROWS = 10
    home = Path({home!r})
    record = ImportRecord(Ledger.open(f"sqlite:///{{home / 'ledger.sqlite'}}", clock=Clock()))
    lake = open_lake(home)
    logs = open_logs(home, lake=lake)
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    if {moment!r} == "before the end":
        record.end = die
    append = logs.append
    def dying(batch, *, source_id, **place):
        if {moment!r} == "before the first row":
            die()
        stored = append(batch, source_id=source_id, **place)
        if {moment!r} == "after the first chunk":
            die()
        return stored
    logs.append = dying
    imports_over(logs, record=record).run("openai-jsonl", [Path({path!r})])
"""


@pytest.mark.parametrize("moment", LEFT)
def test_an_import_that_was_killed_is_told_and_the_next_one_completes_the_record(tmp_path, lake, ledger, imports, moment):
    home, left = tmp_path / "home", LEFT[moment]
    path = write(tmp_path, *(record(number) for number in range(45)))
    script = textwrap.dedent(IMPORTING.format(here=str(HERE), home=str(home), path=str(path), moment=moment))
    killed = run([sys.executable, "-c", script])
    assert killed.returncode == -signal.SIGKILL
    begun = ("log.import.begin", "openai-jsonl: log.jsonl", [None])
    assert audited(ledger) == [begun]
    assert (count(lake) if lake.snapshot() is not None else 0) == 45 - left
    imports.run("openai-jsonl", [path])
    again = [begun] if left else []
    ended = ("log.import", "openai-jsonl: log.jsonl", [left])
    assert audited(ledger) == [begun, *again, ended]
    with ledger.read() as connection:
        (file,) = tail(connection, 1)[0].detail["files"]
    assert file["stored"] + file["earlier"] == 45
    imports.run("openai-jsonl", [path])
    assert audited(ledger) == [begun, *again, ended]
    assert count(lake) == 45


def test_a_record_is_open_from_its_beginning_to_its_end(tmp_path, ledger, imports):
    audit = ImportRecord(ledger)
    report = imports.run("openai-jsonl", [write(tmp_path, record(1))])
    digest = report.files[0].digest
    assert not audit.is_open([digest])
    audit.begin(PRIMARY, "openai-jsonl", [(Path("/logs/log.jsonl"), digest), (Path("other.jsonl"), "00")])
    assert audit.is_open([digest])
    assert audit.is_open(["00"])
    assert not audit.is_open(["11"])
    audit.end(PRIMARY, report)
    assert not audit.is_open([digest])
    assert audit.is_open(["00"])
