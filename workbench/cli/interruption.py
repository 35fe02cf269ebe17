"""Ctrl-C: whether it was what ended a command, and that none is lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_AFTER_S = 0.05


def is_stopped(error: BaseException) -> bool:
    """Whether it began with Ctrl-C: DuckDB answers one with an error of its own, and clearing up may end in another."""
    began: BaseException | None = error
    while began is not None and not isinstance(began, KeyboardInterrupt):
        began = began.__cause__ or began.__context__
    return began is not None


@contextmanager
def never_lost() -> Iterator[None]:
    """A Ctrl-C that falls into the clearing up of some object, where Python would report and forget it, is given again."""
    before = sys.unraisablehook

    def hook(fault: UnraisableHookArgs) -> None:
        if not issubclass(fault.exc_type, KeyboardInterrupt):
            before(fault)
        elif not sys.is_finalizing():
            threading.Timer(_AGAIN_AFTER_S, _press_again).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _press_again() -> None:
    """A real signal to the main thread, so that also a wait of the system's is ended by it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
