"""`workbench lab` before JupyterLab takes over: who may, where the notebooks lie, and what is said when it cannot be."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from workbench.cli import lab
from workbench.errors import UsageError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The command lines that would have replaced this process, in an empty place and as an ordinary user."""
    lines: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, words: lines.append(words))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    return lines


def test_an_empty_place_gets_the_notebooks_once(started, tmp_path: Path):
    lab.lab()
    page = tmp_path / "notebooks" / "01_readiness_review.ipynb"
    page.write_text("my own words")
    lab.lab()
    assert page.read_text() == "my own words"
    assert {entry.name for entry in tmp_path.iterdir()} <= {"notebooks", "workspace"}, "nothing half-made is left"
    assert all(f"--ServerApp.root_dir={tmp_path / 'notebooks'}" in line and "--allow-root" not in line for line in started)
    assert len(started) == 2


def test_root_is_refused_unless_they_say_so(started, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match=r"you are root.*needed: another user.*workbench lab --allow-root"):
        lab.lab()
    assert started == []
    lab.lab(allow_root=True)
    assert "--allow-root" in started[0]


@pytest.mark.parametrize("fault", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_named_and_holds_nothing_half_made(started, tmp_path: Path, monkeypatch, fault: int):
    def failing(_source: Path, target: Path) -> Path:
        target.mkdir()
        (target / "half.ipynb").touch()
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(shutil, "copytree", failing)
    with pytest.raises(UsageError, match=rf"notebooks folder deep/er: {os.strerror(fault)}.*workbench lab --folder DIR"):
        lab.lab(folder=Path("deep/er"))
    assert list((tmp_path / "deep").iterdir()) == []
    assert started == []


def test_a_file_in_the_place_of_the_folder_is_refused(started, tmp_path: Path):
    (tmp_path / "notebooks").write_text("mine")
    with pytest.raises(UsageError, match="notebooks folder notebooks: Not a directory"):
        lab.lab()
    assert started == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_notebooks_that_cannot_be_saved_are_refused(started, tmp_path: Path):
    (tmp_path / "notebooks").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        lab.lab()
