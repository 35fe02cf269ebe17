"""A release's decisions made again from the log, for people, with what the same judge says of the stable arm alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from workbench.release.judge_kinds import Decision
from workbench.release.judge_model import Judgement
from workbench.release.replaying import Found, Replay
from workbench.views.numbers import counted
from workbench.views.page import Chip, Column, Page, Section, page_text
from workbench.views.release_watch import DECISIONS
from workbench.views.tables import WIDTH

FOUND: Mapping[Found, Chip] = {
    Found.SAME: Chip(word="SAME", shape="=", tone="good"),
    Found.DIFFERENT: Chip(word="DIFFERENT", shape="≠", tone="bad"),
    Found.UNAVAILABLE: Chip(word="UNAVAILABLE", shape="?", tone="open"),
}
_COLUMNS = ("decision", "at (UTC)", "what", "again", "in words")


def replay_text(replay: Replay, *, width: int = WIDTH) -> str:
    """For a terminal."""
    return page_text(replay_page(replay), width=width)


def replay_page(replay: Replay) -> Page:
    """What became of each decision, and the stable arm against itself."""
    if not replay.decisions:
        return Page(title=f"Replay of {replay.release.release_id}", lead=("The controller decided nothing about it.",))
    seen = Counter(each.found for each in replay.decisions)
    rows = tuple(
        (
            each.decision.decision_id,
            f"{each.decision.decided_at:%Y-%m-%d %H:%M:%S}",
            DECISIONS[each.decision.decision],
            FOUND[each.found],
            each.sentence,
        )
        for each in replay.decisions
    )
    return Page(
        title=f"Replay of {replay.release.release_id}",
        banner=FOUND[replay.found],
        lead=(f"{counted(len(rows), 'decision')} made again from the log: {', '.join(f'{n} {found}' for found, n in seen.items())}.",),
        sections=(
            Section(title="", columns=tuple(Column(title=title) for title in _COLUMNS), rows=rows),
            Section(title="Stable against itself", lines=(halves_line(replay.halves),)),
        ),
    )


def halves_line(halves: Judgement | None) -> str:
    """What the same judge says of two halves of the stable arm."""
    if halves is None or not (halves.units_stable and halves.units_candidate):
        return "The stable arm served nobody whose half could be compared."
    units = f"{halves.units_stable:,} against {halves.units_candidate:,} units"
    split = f"of a broken split {halves.e_split:.3g} of {halves.e_split_limit:.3g}"
    evidence = f"evidence of harm {halves.e_harm:.3g} of {halves.e_harm_limit:.3g}, {split}"
    if halves.decision in (Decision.ROLLBACK, Decision.INVALID):
        return (
            f"A false alarm: the same judge on two halves of the stable arm ({units}) says {halves.decision}: {halves.sentence}. "
            "Either it is one of the few that its limit allows, or something else than the bundle divides the users."
        )
    return f"The same judge on two halves of the stable arm ({units}) finds nothing, as it should: {evidence}."
