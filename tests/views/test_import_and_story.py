"""What an import did, and how the demo ends, as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tests.readiness.goodapp import good, retail
from tests.views.test_bundle_pages import NEW, OLD
from tests.views.test_review_page import SLOWER, review_of
from workbench.observability.imports import FileReport, ImportReport, Refusals
from workbench.views.imports import import_text
from workbench.views.story import story_text

REPORT = ImportReport(
    format="csv",
    apps=("support",),
    files=(
        FileReport(
            file="/logs/may.csv",
            digest="00",
            read=12,
            stored=8,
            duplicates=2,
            earlier=0,
            refused={"negative_latency": Refusals(count=2, example="may.csv:4: latency_ms is negative", lines=(4, 9))},
            bundles=("support@000000000000",),
            notes=("times carry no zone and were read as UTC",),
        ),
    ),
)


def test_an_import_says_what_became_of_every_record():
    assert import_text(REPORT).splitlines() == [
        "  file      read   stored   there already   refused   bundles",
        "  ────────────────────────────────────────────────────────────────────────",
        "  may.csv     12        8               2         2   support@000000000000",
        "",
        "Refused",
        "  - 2 × negative_latency; the first: may.csv:4: latency_ms is negative",
        "",
        "Notes",
        "  - times carry no zone and were read as UTC",
        "",
        "8 requests stored, 2 there already, 2 records refused.",
        "Next: correct may.csv:4, 9, and import those records in a file of their own; what is stored stays",
        "Next: `workbench readiness support`",
    ]


@dataclass(frozen=True)
class Told:
    app: str = "support"
    bundles: tuple = (OLD, NEW)
    baseline: object = OLD
    reviews: tuple = (SLOWER, review_of(good(), retail()))
    n_talks: int = 10
    n_requests: int = 20
    releases: tuple = ()
    transcript: tuple = ("@primary: /release start support v2", "  only @primary sees:")
    audit: tuple = ()
    moves: tuple = ()
    by_arm: pl.DataFrame = field(default_factory=pl.DataFrame)
    n_rows: int = 1_000
    seconds: float = 1.4
    faults: tuple = ()


def test_the_story_ends_with_verdicts_deciding_gates_and_commands():
    text = story_text(Told(), metrics=(), home=None)
    assert "✕ NO GO   v2 against v1" in text
    assert "decided by “p95 latency close to the baseline” (FAIL)" in text
    assert "@primary: /release start support v2\n" in text
    assert "\n  workbench readiness support v2 --baseline v1\n" in text
    assert "export WORKBENCH_HOME" not in text
    assert "Not as told" not in text


def test_the_story_names_the_workspace_and_what_went_wrong():
    text = story_text(Told(faults=("v2 is NO_GO where GO was expected",)), metrics=(), home=Path("/my place"))
    assert "export WORKBENCH_HOME='/my place'" in text
    assert "- v2 is NO_GO where GO was expected" in text
