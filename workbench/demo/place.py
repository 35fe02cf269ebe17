"""The demo's own workspace: rebuilt on every run, and never laid over a real one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import UsageError
from workbench.workspace import Workspace

MARK = "demo"
"""The file that says: this workspace may be thrown away."""


@contextmanager
def fresh_workspace(place: Path) -> Iterator[Workspace]:
    """An empty workspace at `place`, marked as the demo's; an earlier demo workspace there is replaced.

    Raises:
        UsageError: `place` holds anything that is not a demo workspace.
    """
    if place.exists() and any(place.iterdir()) and not (place / MARK).exists():
        raise UsageError(
            f"workspace {place}",
            seen="it holds a real workspace, which the demo would replace",
            next_step="run `workbench demo --home DIR` with another place",
        )
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir(parents=True)
        (place / MARK).write_text("This workspace belongs to the demo. `workbench demo` replaces it.\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"workspace {place}", seen=error.strerror or str(error), needed="a folder that this user can write") from error
    with Workspace.open(place) as ws:
        yield ws
