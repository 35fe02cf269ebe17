"""Forking beside open stores.

SQLite and DuckDB keep locks and caches in the memory of their process. A child that inherits them at work takes locks for its own that
nobody holds, and its commits can vanish with a file that its parent removes. So a fork waits until no store is at work, each
store may let go of what must not be inherited, and the child starts it anew.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from workbench.errors import StoreError

T = TypeVar("T")
_Acts: TypeAlias = "weakref.WeakKeyDictionary[Any, Callable[[Any], None]]"

_LONGEST_WAIT_S = 10.0
_BEFORE: _Acts = weakref.WeakKeyDictionary()
_IN_CHILD: _Acts = weakref.WeakKeyDictionary()


class _Work(threading.local):
    """How many uses of stores the present thread is inside of."""

    n = 0


class _Gate:
    """Counts the uses of stores in this process; whoever forks holds `idle` meanwhile."""

    def __init__(self, n: int = 0, *, is_torn: bool = False) -> None:
        self.idle = threading.Condition()
        self.n = n
        self.is_torn = is_torn


_own = _Work()
_gate = _Gate()


@contextmanager
def at_work() -> Iterator[None]:
    """A use of a store. Threads that fork wait for its end.

    Raises:
        StoreError: this process was forked in the middle of one.
    """
    gate = _gate
    if gate.is_torn:
        raise StoreError(
            f"process {os.getpid()}",
            seen="it was forked while its parent was inside a transaction",
            needed="a process that starts by itself",
            next_step="start it with the multiprocessing method spawn or forkserver",
        )
    with gate.idle:
        gate.n += 1
    _own.n += 1
    try:
        yield
    finally:
        _own.n -= 1
        with gate.idle:
            gate.n -= 1
            gate.idle.notify_all()


def before_each_fork(owner: T, act: Callable[[T], None]) -> None:
    """Have `act(owner)` called before every fork that finds no store at work, as long as the owner lives."""
    _BEFORE[owner] = act


def in_each_child(owner: T, act: Callable[[T], None]) -> None:
    """Have `act(owner)` called in every forked child, as long as the owner lives."""
    _IN_CHILD[owner] = act


def abandon(handle: object) -> None:
    """Keep a handle of the parent alive in this child until the process ends.

    Closing it would talk to threads that do not exist here, or give up what is still the parent's.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


def _before() -> None:
    _gate.idle.acquire()
    _gate.idle.wait_for(lambda: _gate.n <= _own.n, _LONGEST_WAIT_S)
    if not _gate.n:
        _call(_BEFORE)


def _after_in_parent() -> None:
    _gate.idle.release()


def _after_in_child() -> None:
    global _gate  # noqa: PLW0603 - the parent's may be locked by a thread that does not exist here
    _gate = _Gate(_own.n, is_torn=_gate.n > 0)
    _call(_IN_CHILD)


def _call(acts: _Acts) -> None:
    for owner, act in list(acts.items()):
        act(owner)


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
