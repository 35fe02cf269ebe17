"""The fault matrix: what a client sees and what the log says of every way in which a model fails."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks import Figure, Report
from tests.gateway.faults import GRACE_MS, cells, run_matrix, table


def run() -> Report:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        outcomes = run_matrix(Path(folder), cells())
    print("\n".join(table(outcomes)) + "\n")
    counted = (
        ("half an answer shown as a whole one", [outcome.is_half_shown_as_whole for outcome in outcomes]),
        ("somebody asked whom the table leaves alone", [outcome.is_asked_too_often for outcome in outcomes]),
        ("answered by the stable bundle", [outcome.is_served_by_stable for outcome in outcomes]),
        ("START without its END", [outcome.is_unended for outcome in outcomes]),
    )
    latest_ms = max(max(outcome.took_ms, outcome.end["latency_ms"]) - outcome.cell.deadline_ms for outcome in outcomes)
    return Report(
        title="The fault matrix",
        figures=[
            Figure(what="cells", value=len(outcomes), unit="cells"),
            *(Figure(what=what, value=sum(found), unit="cells", at_most=0) for what, found in counted),
            Figure(
                what="longest beyond a deadline",
                value=max(outcome.late_ms for outcome in outcomes),
                unit="ms",
                at_most=GRACE_MS,
                note=f"{latest_ms:.0f} ms with what a request that asks for nothing took meanwhile",
            ),
        ],
    )
