"""How long a reader waits: each notebook from top to bottom on the demo, and the live figure of operations over a million requests."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pyarrow as pa

from tests.benchmarks import Figure, Report
from tests.benchmarks.ingest import made_requests
from workbench import notebook
from workbench.demo.place import fresh_workspace
from workbench.demo.resources import notebooks_folder
from workbench.demo.story import run_story
from workbench.notebook.running import run as run_notebook
from workbench.workspace import Workspace

ROWS = 1_000_000
UNTIL = datetime(2026, 3, 8, tzinfo=UTC)
"""The end of the made requests, which are those of a week."""
APP = "app1"
CHOICES = (
    *(("metric", name) for name in ("latency_p95", "failure_rate", "volume", "fallback_rate", "success_rate")),
    *(("grain", step) for step in ("1d", "1w", "1h")),
    *(("workflow", name) for name in ("returns", "orders", "all workflows")),
    *(("metric", name) for name in ("cost_usd", "ttft_p95", "success_rate")),
)


def run() -> Report:
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as place:
        figures = [*live(Path(place) / "million"), *headless(Path(place) / "demo")]
    return Report(title="Notebooks", figures=figures)


def live(home: Path) -> Iterator[Figure]:
    """From a choice to the redrawn figure, in the kernel, over hours that were summed; a browser draws it in some 150 ms more."""
    with Workspace.open(home, clock=lambda: UNTIL) as ws:
        ws.logs.append({"requests": of_one_app(made_requests(ROWS))}, source_id="bench", from_seq=1, to_seq=ROWS)
        ws.upkeep.sum_hours()
        started = time.perf_counter()
        panel = notebook.operations(ws, APP, window="7d").explore()
        yield Figure(what=f"first figure, {ROWS:,} requests", value=(time.perf_counter() - started) * 1000, unit="ms")
        waits = []
        for name, value in CHOICES:
            started = time.perf_counter()
            getattr(panel, name).value = value
            waits.append((time.perf_counter() - started) * 1000)
    each = ", ".join(f"{value} {wait:.0f}" for (_, value), wait in zip(CHOICES, waits, strict=True))
    yield Figure(what="redraw after a choice, median", value=median(waits), unit="ms", at_most=300, note=each)
    yield Figure(what="redraw after a choice, slowest", value=max(waits), unit="ms", at_most=300)


def of_one_app(rows: pa.Table) -> pa.Table:
    """The rows as if all of them had come to one app."""
    place = rows.column_names.index("app")
    return rows.set_column(place, "app", pa.array([APP] * rows.num_rows, rows.schema.field("app").type))


def headless(home: Path) -> Iterator[Figure]:
    """Each notebook with the demo's parameters."""
    with fresh_workspace(home) as ws:
        run_story(ws)
    for path in sorted(notebooks_folder().glob("*.ipynb")):
        started = time.perf_counter()
        run_notebook(path, {}, workspace_home=home)
        yield Figure(what=path.name, value=time.perf_counter() - started, unit="s", at_most=60)
