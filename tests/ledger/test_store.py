from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, String, Table, event, select

from tests.ledger.writers import open_ledger, raw, write_act
from workbench.errors import ConflictError, NewerWorkspace, StoreBusy, StoreError, UnknownSubject, UsageError
from workbench.ledger import engines, faults
from workbench.ledger.audit import verify
from workbench.ledger.schema import REVISIONS
from workbench.ledger.settings import get_or_create
from workbench.ledger.store import Ledger
from workbench.ledger.tables import metadata, settings

doors = Table("doors", MetaData(), Column("name", String(20), primary_key=True), Column("state", String(20)), Column("version", Integer))


@pytest.fixture
def with_doors(ledger):
    with ledger.write() as act:
        doors.metadata.create_all(act.connection)
    return ledger


def _door(ledger, name="front"):
    with ledger.read() as connection:
        return tuple(connection.execute(select(doors.c.state, doors.c.version).where(doors.c.name == name)).one())


def _n_settings(ledger) -> int:
    with ledger.read() as connection:
        return len(connection.execute(select(settings)).all())


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_ledger_opens_again_with_what_it_holds(url, clock):
    first = Ledger.open(url, clock=clock)
    write_act(first, "a")
    first.close()
    again = Ledger.open(url, clock=clock)
    assert _n_settings(again) == 1
    again.close()


def test_the_migrated_shape_is_the_one_in_tables(ledger):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with ledger.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_the_known_revisions_are_those_that_are_shipped():
    from alembic.script import ScriptDirectory

    from workbench.ledger import migrations

    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert tuple(reversed([each.revision for each in script.walk_revisions()])) == REVISIONS
    assert script.get_current_head() == REVISIONS[-1]


def test_a_ledger_of_a_newer_version_is_left_alone(ledger, url, clock):
    raw(url, "UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(NewerWorkspace, match=r"its revision is 0999; needed: .*upgrade with"):
        Ledger.open(url, clock=clock)
    assert raw(url, "SELECT version_num FROM alembic_version") == [("0999",)]


def test_a_database_of_something_else_is_refused(url, clock):
    raw(url, "CREATE TABLE invoices (id INTEGER)")
    with pytest.raises(StoreError, match="tables of something else"):
        Ledger.open(url, clock=clock)


def test_an_open_of_a_current_ledger_does_not_load_alembic(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    open_ledger(url).close()
    script = f"import sys\nfrom tests.ledger.writers import open_ledger\nopen_ledger({url!r})\nsys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_file_in_a_folder_that_does_not_exist_is_a_clear_error(tmp_path, clock):
    with pytest.raises(StoreError, match=r"no/such/ledger\.sqlite: it cannot be opened .*the folder must exist"):
        Ledger.open(f"sqlite:///{tmp_path}/no/such/ledger.sqlite", clock=clock)


@pytest.mark.parametrize("content", [b"not a database at all, just some words that go on\n" * 40, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_a_clear_error_and_stays_as_it_is(tmp_path, clock, content):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"ledger\.sqlite: the file is (not a SQLite database|damaged)"):
        Ledger.open(f"sqlite:///{path}", clock=clock)
    assert path.read_bytes() == content


@pytest.mark.parametrize("address", ["mysql://host/db", "sqlite://", "sqlite:///:memory:", "ledger.sqlite", ""])
def test_an_address_of_another_kind_is_refused_with_the_allowed_forms(address, clock):
    with pytest.raises(StoreError, match="postgresql://user@host/database"):
        Ledger.open(address, clock=clock)


def test_a_server_out_of_reach_is_an_error_without_the_password(clock):
    with pytest.raises(StoreError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/db: .*efused") as caught:
        Ledger.open("postgresql://me:geheim@127.0.0.1:1/db", clock=clock)
    assert "geheim" not in str(caught.value)


def test_a_missing_driver_names_the_extra_to_install(monkeypatch, clock):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StoreError, match=r"pip install 'readiness-workbench\[shared\]'"):
        Ledger.open("postgresql://host/db", clock=clock)


# --- disks that do not help --------------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike those of pytest when root runs it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write there for the block, not even root: it becomes an unprivileged user meanwhile."""
    for path in (folder, *folder.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_an_up_to_date_ledger_on_a_read_only_disk_can_be_read_and_says_why_it_cannot_be_written(folder):
    url = f"sqlite:///{folder}/ledger.sqlite"
    first = open_ledger(url)
    write_act(first, "a")
    first.close()
    with read_only(folder):
        ledger = open_ledger(url)
        assert _n_settings(ledger) == 1
        with pytest.raises(StoreError, match=r"ledger\.sqlite: it cannot be written: .*read-only.*reading still works"):
            write_act(ledger, "b")
        assert _n_settings(ledger) == 1
    write_act(ledger, "c")
    assert _n_settings(ledger) == 2
    ledger.close()


def test_a_new_ledger_on_a_read_only_disk_is_a_clear_error(folder):
    with read_only(folder), pytest.raises(StoreError, match=r"ledger\.sqlite: it cannot be opened"):
        open_ledger(f"sqlite:///{folder}/ledger.sqlite")


def test_unmerged_writes_on_a_read_only_disk_are_not_passed_over(folder):
    writer = open_ledger(f"sqlite:///{folder}/ledger.sqlite")
    write_act(writer, "a")
    copy = folder / "copy"
    copy.mkdir()
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        (copy / name).write_bytes((folder / name).read_bytes())
    writer.close()
    with (
        read_only(copy),
        pytest.raises(StoreError, match=r"ledger\.sqlite-wal beside it holds writes that are not merged; copy the folder"),
    ):
        open_ledger(f"sqlite:///{copy}/ledger.sqlite")


def test_a_full_disk_stores_nothing_of_the_act_and_the_next_act_works(tmp_path, primary):
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    write_act(ledger, "before")
    pages = 30
    event.listen(ledger._engine, "checkout", lambda connection, *_: connection.execute(f"PRAGMA max_page_count={pages}").fetchall())
    with (
        pytest.raises(StoreError, match=r"ledger\.sqlite: the disk is full; nothing of this act was stored .*free space"),
        ledger.write() as act,
    ):
        act.audit(primary, "declare", app=None, subject="big", detail={"text": "x" * 500_000})
    pages = 3000
    write_act(ledger, "after")
    with ledger.read() as connection:
        assert (verify(connection).n, verify(connection).is_whole) == (2, True)
    ledger.close()


def append(ledger: Ledger, n: int) -> None:
    for i in range(n):
        write_act(ledger, f"{i}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_really_full_disk_is_told_as_one(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        ledger = open_ledger(f"sqlite:///{disk}/ledger.sqlite")
        write_act(ledger, "before")
        (disk / "filler").write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 8192))
        with pytest.raises(StoreError, match=r"the disk is full|the disk refused"):
            append(ledger, 200)
        with ledger.read() as connection:
            report = verify(connection)
        assert report.is_whole
        assert _n_settings(ledger) == report.n
        (disk / "filler").unlink()
        write_act(ledger, "after")
        ledger.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_lock_held_too_long_is_told_as_busy(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "BUSY_S", 0.05)
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    first, second = open_ledger(url), open_ledger(url)
    with first.write(), pytest.raises(StoreBusy, match="another process held its lock"):
        write_act(second, "b")
    write_act(second, "b")
    first.close()
    second.close()


# --- transactions ------------------------------------------------------------------------------------------------------


def test_a_reader_sees_one_moment_while_others_write(ledger):
    write_act(ledger, "a")
    with ledger.read() as connection:
        before = connection.execute(select(settings)).all()
        write_act(ledger, "b")
        assert connection.execute(select(settings)).all() == before
    assert _n_settings(ledger) == 2


def test_a_reading_transaction_cannot_write(ledger):
    with pytest.raises(StoreError), ledger.read() as connection:
        connection.execute(settings.insert().values(name="a", value="1"))
    assert _n_settings(ledger) == 0
    write_act(ledger, "b")


def test_a_row_that_exists_already_is_a_conflict(ledger):
    write_act(ledger, "a")
    with pytest.raises(ConflictError, match="exists already"):
        write_act(ledger, "a")


def test_our_own_mistakes_are_not_dressed_up(ledger):
    from sqlalchemy.exc import DBAPIError

    with pytest.raises(DBAPIError), ledger.write() as act:
        act.connection.execute(settings.insert().values(name="a", value=None))
    assert faults._NOTHING_STORED


def test_a_transition_changes_the_row_and_its_version(with_doors):
    with with_doors.write() as act:
        act.connection.execute(doors.insert().values(name="front", state="open", version=1))
        act.transition(doors, key={"name": "front"}, expected_version=1, values={"state": "shut"})
    assert _door(with_doors) == ("shut", 2)


def test_a_transition_from_an_old_version_is_a_conflict_and_changes_nothing(with_doors):
    with with_doors.write() as act:
        act.connection.execute(doors.insert().values(name="front", state="open", version=3))
    with pytest.raises(ConflictError, match=r"doors name=front: it is at version 3; needed: version 2"), with_doors.write() as act:
        act.transition(doors, key={"name": "front"}, expected_version=2, values={"state": "shut"})
    assert _door(with_doors) == ("open", 3)


def test_a_transition_of_nothing_is_an_unknown_subject(with_doors):
    with pytest.raises(UnknownSubject, match="doors name=back"), with_doors.write() as act:
        act.transition(doors, key={"name": "back"}, expected_version=1, values={"state": "shut"})


_names = count()


@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempts=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["open", "shut", "locked"])), max_size=12))
def test_any_order_of_transitions_ends_where_compare_and_set_ends(with_doors, attempts):
    name = f"d{next(_names)}"
    state, version = "new", 0
    with with_doors.write() as act:
        act.connection.execute(doors.insert().values(name=name, state=state, version=version))
    for expected, wanted in attempts:
        if expected == version:
            with with_doors.write() as act:
                act.transition(doors, key={"name": name}, expected_version=expected, values={"state": wanted})
            state, version = wanted, version + 1
        else:
            with pytest.raises(ConflictError), with_doors.write() as act:
                act.transition(doors, key={"name": name}, expected_version=expected, values={"state": wanted})
        assert _door(with_doors, name) == (state, version)


def test_of_many_who_decided_on_the_same_version_exactly_one_wins(with_doors):
    with with_doors.write() as act:
        act.connection.execute(doors.insert().values(name="front", state="open", version=1))
    won: list[int] = []
    lost: list[int] = []
    start = threading.Barrier(6)

    def decide(i: int) -> None:
        start.wait()
        try:
            with with_doors.write() as act:
                act.transition(doors, key={"name": "front"}, expected_version=1, values={"state": f"by {i}"})
            won.append(i)
        except ConflictError:
            lost.append(i)

    threads = [threading.Thread(target=decide, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert _door(with_doors) == (f"by {won[0]}", 2)


# --- settings and times ------------------------------------------------------------------------------------------------


def test_a_setting_is_made_once_and_kept(ledger):
    made = count()
    assert [get_or_create(ledger, "unit_key", lambda: f"k{next(made)}") for _ in range(3)] == ["k0", "k0", "k0"]


def test_processes_that_make_a_setting_at_once_get_the_same_one(ledger):
    start, got = threading.Barrier(4), []

    def make(i: int) -> str:
        start.wait()  # all have seen that it is missing before one stores it
        return f"k{i}"

    threads = [threading.Thread(target=lambda i=i: got.append(get_or_create(ledger, "salt", lambda: make(i)))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert len(set(got)) == 1


def test_a_time_without_a_zone_is_refused(url):
    ledger = Ledger.open(url, clock=lambda: datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="no time zone"):
        write_act(ledger, "a")
    assert _n_settings(ledger) == 0
    ledger.close()
