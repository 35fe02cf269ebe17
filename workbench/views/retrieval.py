"""Retrieval against judgments, as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from workbench.observability.judgments import JudgmentReport
from workbench.observability.retrieval import RunReport
from workbench.views.numbers import counted
from workbench.views.page import Column, Page, Section, page_text
from workbench.views.tables import WIDTH

_NAMED = 5
"""Topics that a sentence names; it counts the others."""


def run_text(report: RunReport, *, is_by_topic: bool = False, width: int = WIDTH) -> str:
    """The means of a run, or every topic with the means below, each to four decimals as trec_eval prints them; and what they leave out."""
    if is_by_topic:
        columns = (Column(title="topic"), *(Column(title=name, is_number=True) for name in report.measures))
        rows = [(topic, *(f"{values[name]:.4f}" for name in report.measures)) for topic, values in report.topics.items()]
        rows.append(("all", *(f"{report.means[name]:.4f}" for name in report.measures)))
    else:
        columns = (Column(title="measure"), Column(title="all", is_number=True))
        rows = [(name, f"{value:.4f}") for name, value in report.means.items()]
    page = Page(
        lead=(f"Means over {counted(len(report.topics), 'judged topic')}.",),
        sections=(Section(title="", columns=columns, rows=tuple(rows)),),
        footer=tuple(_left_out(report)),
    )
    return page_text(page, width=width)


def _left_out(report: RunReport) -> Iterator[str]:
    if report.unanswered:
        how = "counted as 0" if report.is_complete else "in no number: --complete counts them as 0"
        yield f"{counted(len(report.unanswered), 'judged topic')} without a list in the run ({_names(report.unanswered)}), {how}."
    if report.unjudged:
        yield f"{counted(len(report.unjudged), 'topic')} of the run that nobody judged ({_names(report.unjudged)}), in no number."


def judgments_text(report: JudgmentReport, *, width: int = WIDTH) -> str:
    """What became of a file of judgments, what to know, and what to do next."""
    stored = "would be stored" if report.is_dry_run else "stored"
    whole = f"{counted(report.judgments, 'judgment')} on {counted(report.topics, 'topic')}"
    lines = [f"{whole}: {report.stored:,} {stored}, {report.unchanged:,} there already."]
    if report.without_relevant:
        n = counted(len(report.without_relevant), "topic")
        lines.append(f"{n} without a relevant document ({_names(report.without_relevant)}): their lookups are not measured.")
    if report.without_query:
        n = counted(report.without_query, "topic")
        lines.append(f"{n} without a query in words: only lookups for the topic's own name are theirs; --topics FILE says the words.")
    step = (
        "the same without --dry-run" if report.is_dry_run else f"`workbench metrics show retrieval_hit@5 --app {shlex.quote(report.app)}`"
    )
    return page_text(Page(lead=tuple(lines), footer=(f"Next: {step}",)), width=width)


def _names(topics: tuple[str, ...]) -> str:
    more = f" and {len(topics) - _NAMED:,} more" if len(topics) > _NAMED else ""
    return ", ".join(topics[:_NAMED]) + more
