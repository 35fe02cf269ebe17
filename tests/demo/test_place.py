"""The demo's place: replaced when it is the demo's, left alone when it is not, whatever happened in between."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import Forked
from workbench.demo import place as module
from workbench.demo.place import fresh_workspace
from workbench.errors import NotPermitted, UsageError
from workbench.workspace import Workspace


def made(place: Path) -> Path:
    with fresh_workspace(place) as ws:
        assert ws.is_demo
        assert ws.actor.person == "primary"
        (place / "lake").mkdir()
        (place / "lake" / "old").write_text("rows")
    return place


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_an_earlier_demo_is_replaced(tmp_path: Path):
    inode = made(tmp_path / "home").stat().st_ino
    with fresh_workspace(tmp_path / "home") as ws:
        assert ws.versions.apps() == ()
    assert not (tmp_path / "home" / "lake").exists()
    assert (tmp_path / "home").stat().st_ino == inode, "the folder may be a mount and stays"
    assert not list((tmp_path / "home").glob(".demo-*"))


@pytest.mark.parametrize("marked", [False, True])
def test_a_real_workspace_is_never_replaced_whatever_files_lie_in_it(tmp_path: Path, marked: bool):
    with Workspace.open(tmp_path) as ws:
        assert ws.versions.apps() == ()
    if marked:
        (tmp_path / "demo").touch()
        (tmp_path / ".demo-1").mkdir()
    before = files(tmp_path)
    with pytest.raises(UsageError, match="real workspace"), fresh_workspace(tmp_path):
        pass
    assert files(tmp_path) == before


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_ledger_that_cannot_be_read_is_not_replaced(tmp_path: Path, content: bytes):
    (tmp_path / "ledger.sqlite").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"), fresh_workspace(tmp_path):
        pass
    assert (tmp_path / "ledger.sqlite").read_bytes() == content


def test_a_file_or_a_folder_of_other_things_is_not_replaced(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    for place, says in ((tmp_path, "other files"), (tmp_path / "notes.txt", "not a folder")):
        with pytest.raises(UsageError, match=says), fresh_workspace(place):
            pass
    assert files(tmp_path) == {"notes.txt": b"mine"}


def test_the_demo_keeps_to_its_own_folder_whatever_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = tmp_path / "real"
    with Workspace.open(real) as ws:
        assert ws.versions.apps() == ()
    before = files(real)
    monkeypatch.setenv("WORKBENCH_LEDGER", f"sqlite:///{real}/ledger.sqlite")
    monkeypatch.setenv("WORKBENCH_CATALOG", f"sqlite:{real}/lake/catalog.sqlite")
    monkeypatch.setenv("WORKBENCH_DATA", f"{real}/lake/data")
    with fresh_workspace(tmp_path / "home") as ws:
        ws.lake.snapshot()
        assert Path(ws.ledger.place) == tmp_path / "home" / "ledger.sqlite"
        assert (ws.settings.catalog, ws.settings.data) == ("", "")
    assert files(real) == before


def test_a_demo_folder_gives_no_rights_in_a_ledger_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Workspace.open(tmp_path / "real") as ws:
        assert ws.versions.apps() == ()
    made(tmp_path / "home")
    monkeypatch.setenv("WORKBENCH_LEDGER", f"sqlite:///{tmp_path}/real/ledger.sqlite")
    monkeypatch.setenv("WORKBENCH_PERSON", "primary")
    with Workspace.open(tmp_path / "home") as ws:
        assert not ws.is_demo
        with pytest.raises(NotPermitted, match="is not a demo workspace"):
            _ = ws.actor.person


class Killed(BaseException):
    """Stands for the moment at which the process ends."""


def steps(monkeypatch: pytest.MonkeyPatch, *, until: int) -> None:
    """Ends the run before its n-th step that changes the folder."""
    left = [until]

    def counted(real):
        def step(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*args, **kwargs)

        return step

    monkeypatch.setattr(Path, "mkdir", counted(Path.mkdir))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    monkeypatch.setattr(module, "get_or_create", counted(module.get_or_create))


@pytest.mark.parametrize("until", range(12))
def test_a_run_that_ends_before_any_step_leaves_a_place_for_the_next(tmp_path: Path, until: int):
    made(tmp_path / "home")
    (tmp_path / "home" / "spool").mkdir()
    (tmp_path / "home" / "ledger.sqlite-wal").touch()
    with pytest.MonkeyPatch.context() as monkeypatch:
        steps(monkeypatch, until=until)
        try:
            with fresh_workspace(tmp_path / "home"):
                pass
        except Killed:
            pass
    made(tmp_path / "home")


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3])
def test_a_demo_that_is_killed_is_replaced_by_the_next(tmp_path: Path, after_s: float):
    script = (
        "import sys, time; from pathlib import Path; from workbench.demo.place import fresh_workspace; print('up', flush=True)\n"
        "while True:\n"
        "    with fresh_workspace(Path(sys.argv[1])) as ws: ws.versions.apps()\n"
    )
    process = Forked([sys.executable, "-c", script, str(tmp_path / "home")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        process.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.kill()
    process.wait()
    process.stdout.close()
    made(tmp_path / "home")
