"""A rollback drill, for a terminal."""

from __future__ import annotations

from workbench.readiness.rehearsal import BAR_S, Rehearsal
from workbench.views.numbers import DASH
from workbench.views.page import Chip, Column, Page, Section, page_text
from workbench.views.tables import WIDTH

GOOD = Chip(word="IN TIME", shape="✓", tone="good")
BAD = Chip(word="NOT IN TIME", shape="✕", tone="bad")
GONE = Chip(word="NOTHING TO RESTORE", shape="✕", tone="bad")


def drill_text(found: Rehearsal, *, width: int = WIDTH) -> str:
    """What a drill found, gateway by gateway."""
    return page_text(drill_page(found), width=width)


def drill_page(found: Rehearsal) -> Page:
    """The same as a page."""
    rows = [(name, f"{seconds:.2f} s") for name, seconds in found.seconds.items()]
    rows += [(name, f"{DASH} did not follow") for name in found.missing]
    rows += [(name, f"{DASH} not heard of before") for name in found.silent]
    sentence = found.sentence
    return Page(
        title=f"Rollback drill of {found.app}",
        banner=GONE if found.fault else GOOD if found.is_good else BAD,
        lead=(f"{sentence[:1].upper()}{sentence[1:]}.", f"Nobody was served otherwise; the bar is {BAR_S:g} s for every gateway."),
        sections=(
            Section(
                title="Gateways",
                columns=(Column(title="gateway"), Column(title="followed after", is_number=True)),
                rows=tuple(rows),
            ),
        ),
        footer=(f"At {found.at:%Y-%m-%d %H:%M} UTC, route version {found.route_version}; evidence {found.evidence_id}.",),
    )
