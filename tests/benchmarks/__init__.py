"""The project's figures, measured: `python -m tests.benchmarks [WHAT]`.

Each module here is one benchmark with a function `run() -> Report`; its name is WHAT.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path("bench-results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure."""

    what: str
    value: float | None
    """None when it was not measured; `note` says why."""
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def bar(self) -> str:
        if self.at_least is not None:
            return f">= {shown(self.at_least)}"
        return "" if self.at_most is None else f"<= {shown(self.at_most)}"

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.at_least is None and self.at_most is None:
            return ""
        is_met = (self.at_least is None or self.value >= self.at_least) and (self.at_most is None or self.value <= self.at_most)
        return "met" if is_met else "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one benchmark found."""

    title: str
    figures: Sequence[Figure]


def shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(report: Report) -> str:
    """The report as plain text in columns."""
    rows = [("", "measured", "unit", "bar", "", "")]
    rows += [(f.what, "-" if f.value is None else shown(f.value), f.unit, f.bar, f.verdict, f.note) for f in report.figures]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(w) if i == 1 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    return "\n".join([report.title, *(line.rstrip() for line in lines)])


def save(what: str, report: Report) -> Path:
    """Write the report, with the machine it was measured on, to `bench-results/<what>.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{what}.json"
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform(), "load": os.getloadavg()[0]}
    content = {"what": what, "machine": machine, **asdict(report)}
    for figure, described in zip(report.figures, content["figures"], strict=True):
        described["verdict"] = figure.verdict
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
