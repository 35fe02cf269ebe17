"""The demo's own workspace: rebuilt on every run, and never laid over a real one."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.demo.clock import VirtualClock
from workbench.demo.timeline import StoryClock, story_start
from workbench.errors import StoreError, UsageError
from workbench.ledger.settings import get, get_or_create
from workbench.ledger.store import Ledger
from workbench.settings import Settings
from workbench.workspace import DEMO, LEDGER_FILE, PURPOSE, Workspace, utc_now

_DRAFT = ".demo-"
"""Begins the name of the folder in which a marked ledger is made before it counts."""
_BESIDE = (f"{LEDGER_FILE}-wal", f"{LEDGER_FILE}-shm")
"""What SQLite leaves beside a ledger that was taken away."""
_ELSEWHERE = "run `workbench demo --home DIR` with another place"


@contextmanager
def fresh_workspace(place: Path) -> Iterator[Workspace]:
    """An empty workspace at `place`, whose ledger says that it is the demo's; an earlier demo workspace there is replaced.

    Its clock begins half a day ago and can be moved on; waiting inside a turn of the assistant takes no time of the machine.
    All its stores are in the folder, whatever stores the environment names. A run that is killed at any moment leaves a place that the
    next one replaces: the old ledger goes last, and the new one comes first and marked.

    Raises:
        UsageError: `place` holds anything that is not a demo workspace, or cannot be written.
    """
    _check_replaceable(place)
    try:
        _clear(place)
        _put_marked_ledger(place)
    except OSError as error:
        raise UsageError(
            f"workspace {place}", seen=error.strerror or str(error), needed="a folder that this user can write", next_step=_ELSEWHERE
        ) from error
    clock = StoryClock(story_start(utc_now()), now=utc_now)
    with Workspace(
        Settings(home=place, ledger="", catalog="", data=""), clock=clock, turn_clock=VirtualClock, monotonic=lambda: clock().timestamp()
    ) as ws:
        yield ws


def _check_replaceable(place: Path) -> None:
    ledger = place / LEDGER_FILE
    try:
        names = {entry.name for entry in place.iterdir()} if place.exists() else set()
        if all(name.startswith(_DRAFT) or name in _BESIDE for name in names) or (ledger.is_file() and _is_marked(ledger)):
            return
        seen = "it holds a real workspace or other files, which the demo would replace"
    except NotADirectoryError:
        seen = "it is not a folder"
    except OSError as error:
        seen = error.strerror or str(error)
    except StoreError as error:
        seen = f"it holds a ledger that cannot be read ({error.seen}), so it may be a real workspace"
    raise UsageError(f"workspace {place}", seen=seen, next_step=_ELSEWHERE)


def _is_marked(path: Path) -> bool:
    ledger = Ledger.open(f"sqlite:///{path.absolute()}", clock=utc_now)
    try:
        return get(ledger, PURPOSE) == DEMO
    finally:
        ledger.close()


def _clear(place: Path) -> None:
    """Empty the folder; while the ledger is there the rest is known to be the demo's, so it goes after all of it."""
    place.mkdir(parents=True, exist_ok=True)
    last = (LEDGER_FILE, *_BESIDE)
    for entry in sorted(place.iterdir(), key=lambda entry: last.index(entry.name) if entry.name in last else -1):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


def _put_marked_ledger(place: Path) -> None:
    """Make the ledger aside and move it into place when it says whose it is, so that no unmarked one is ever there."""
    draft = place / f"{_DRAFT}{secrets.token_hex(4)}"
    draft.mkdir()
    ledger = Ledger.open(f"sqlite:///{(draft / LEDGER_FILE).absolute()}", clock=utc_now)
    try:
        get_or_create(ledger, PURPOSE, lambda: DEMO)
    finally:
        ledger.close()
    (draft / LEDGER_FILE).rename(place / LEDGER_FILE)
    shutil.rmtree(draft)
