"""Running a notebook without a browser: parameters in, an executed notebook out, which is the record of the run."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from workbench.errors import StoreError, UsageError, WorkbenchError

Scalar = str | int | float | bool | None

TAG = "parameters"
"""The cell with the defaults carries this tag; the cell with the given values, put after it, carries `injected-parameters`."""
_ASSIGNED = re.compile(r"^([a-z_][a-z0-9_]*)\s*(?::[^=]+)?=", re.MULTILINE)


def run(notebook: Path, parameters: Mapping[str, Scalar], *, workspace_home: Path, timeout_s: int = 300) -> NotebookNode:
    """The notebook, executed top to bottom in a fresh kernel on the workspace in `workspace_home`.

    Widget state is not kept: it holds the widgets' code, megabytes per figure, and none of the record.

    Args:
        notebook: the file; it is not changed.
        parameters: values for names that the `parameters` cell assigns.
        workspace_home: the workspace that the notebook opens.
        timeout_s: longest time for one cell, in seconds.

    Raises:
        UsageError: the file is no notebook, or a parameter is unknown or not a plain value.
        WorkbenchError: a cell failed; the message holds the cell's number and its error.
        StoreError: the kernel could not start, or died.
    """
    page = _read(notebook)
    _inject(page, parameters, subject=f"notebook {notebook.name}")
    with TemporaryDirectory(prefix="workbench-kernel-") as sockets:
        _execute(page, notebook, sockets=Path(sockets), home=workspace_home.absolute(), timeout_s=timeout_s)
    return page


def literal(value: Scalar) -> str:
    """A parameter as Python source that is exactly this value and nothing else.

    Raises:
        UsageError: the value is not a plain text, number, truth value or None.
    """
    is_plain = value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))
    if not is_plain:
        raise UsageError(
            f"parameter value {value!r}", seen=f"a {type(value).__name__}", needed="a text, a finite number, true, false or nothing"
        )
    return repr(value)


def _read(notebook: Path) -> NotebookNode:
    subject, needed = f"notebook {notebook}", "a notebook file, version 4"
    try:
        text = notebook.read_text(encoding="utf-8")
        if not isinstance(json.loads(text), dict):
            raise UsageError(subject, seen="it is no notebook", needed=needed)
        page: NotebookNode = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise UsageError(subject, seen=error.strerror or str(error), needed=needed) from error
    except (ValueError, nbformat.ValidationError) as error:
        raise UsageError(subject, seen=f"it cannot be read: {error}", needed=needed) from error
    return page


def _execute(page: NotebookNode, notebook: Path, *, sockets: Path, home: Path, timeout_s: int) -> None:
    """Run all cells in a kernel that is reached by sockets of this machine's file system, not by its network."""
    by_file = Config({"AsyncKernelManager": {"transport": "ipc", "ip": str(sockets / "kernel")}})
    place = {"metadata": {"path": str(notebook.parent)}}
    client = NotebookClient(page, config=by_file, kernel_name="python3", timeout=timeout_s, store_widget_state=False, resources=place)
    subject = f"notebook {notebook.name}"
    try:
        client.execute(env={**os.environ, "WORKBENCH_HOME": str(home), "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    except CellExecutionError as error:
        raise WorkbenchError(subject, seen=f"{error.ename}: {error.evalue}", next_step="open it and run the cell") from error
    except CellTimeoutError as error:
        raise WorkbenchError(subject, seen=f"a cell took longer than {timeout_s} s", needed="a longer timeout_s or less data") from error
    except (DeadKernelError, RuntimeError) as error:
        raise StoreError(subject, seen=f"its kernel died: {error}", next_step="check the memory of this machine") from error


def _inject(page: NotebookNode, parameters: Mapping[str, Scalar], *, subject: str) -> None:
    """Put the given values in a cell after the defaults."""
    if not parameters:
        return
    places = [place for place, cell in enumerate(page.cells) if TAG in cell.metadata.get("tags", ())]
    if len(places) != 1:
        raise UsageError(subject, seen=f"{len(places)} cells are tagged {TAG!r}", needed="exactly one, that assigns the defaults")
    known = _ASSIGNED.findall(page.cells[places[0]].source)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise UsageError(subject, seen=f"it has no parameter {', '.join(unknown)}", needed=f"one of {', '.join(known)}")
    source = "\n".join(f"{name} = {literal(value)}" for name, value in parameters.items())
    given: dict[str, Any] = {
        "cell_type": "code",
        "id": f"injected-{TAG}",
        "metadata": {"tags": [f"injected-{TAG}"]},
        "execution_count": None,
        "outputs": [],
    }
    page.cells.insert(places[0] + 1, nbformat.from_dict({**given, "source": source}))  # type: ignore[no-untyped-call]
