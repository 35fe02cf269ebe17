"""`workbench retrieval`: what a search should find, and how well a recorded run finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from workbench.cli.shared import Json, print_json, terminal_width

group = typer.Typer(help="Judgments of what searches should find, and runs measured against them.", no_args_is_help=True)


@group.command("judge")
def judge(
    qrels: Annotated[Path, typer.Argument(metavar="QRELS", help="TREC judgments: topic 0 document grade, one a line.")],
    app: Annotated[str, typer.Option(help="The app whose searches they judge.")],
    topics: Annotated[
        Path | None,
        typer.Option(
            help="The topics' queries in words: topic, a tab, query; or JSON lines with _id and text. Live lookups are found by them."
        ),
    ] = None,
    source: Annotated[Literal["human", "judge", "rule", "user"], typer.Option(help="Who judged.")] = "human",
    by: Annotated[str | None, typer.Option(help="The name of whoever judged.")] = None,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Read, check and count; store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Store judgments, so that the `retrieval_…` metrics can say how well live lookups of these queries do.

    They add to what is there; a document that was judged before gets its new grade. The same file again stores nothing.
    """
    from workbench import Workspace
    from workbench.views.retrieval import judgments_text

    with Workspace.open() as ws:
        report = ws.judgments.store(qrels, app=app, topics=topics, source=source, judge=by, is_dry_run=is_dry_run)
    if as_json:
        print_json(report)
    else:
        typer.echo(judgments_text(report, width=terminal_width()))


@group.command("evaluate")
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A TREC run: topic Q0 document rank score name, one a line.")],
    qrels: Annotated[Path | None, typer.Option(help="Judgments of a file.")] = None,
    app: Annotated[str | None, typer.Option(help="Instead of a file: the judgments stored for this app.")] = None,
    measures: Annotated[
        list[str] | None, typer.Option("--measure", "-m", help="As trec_eval names them, for example ndcg_cut_10; repeat for several.")
    ] = None,
    is_by_topic: Annotated[bool, typer.Option("--by-topic", "-q", help="Also each topic for itself.")] = False,
    is_complete: Annotated[
        bool, typer.Option("--complete", "-c", help="A judged topic that the run has no list for counts as 0, instead of not at all.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure RUN against judgments by the rules of NIST's trec_eval, and print what it prints. Nothing is stored."""
    from workbench.observability.retrieval import DEFAULT_MEASURES
    from workbench.views.retrieval import run_text

    asked = tuple(dict.fromkeys(measures or DEFAULT_MEASURES))
    if app is None and qrels is not None:
        from workbench.observability.importers.trec import read_qrels, read_run
        from workbench.observability.retrieval import evaluated

        report = evaluated(read_run(run), read_qrels(qrels), measures=asked, is_complete=is_complete)
    else:
        from workbench import Workspace

        with Workspace.open(create=False) as ws:
            ws.require_view(*([app] if app else ()))
            report = ws.judgments.evaluate(run, qrels=qrels, app=app, measures=asked, is_complete=is_complete)
    if as_json:
        print_json(report)
    else:
        typer.echo(run_text(report, is_by_topic=is_by_topic, width=terminal_width()))


@group.command("judgments")
def judgments(as_json: Json = False) -> None:
    """Which apps have judgments, and how many."""
    from workbench import Workspace
    from workbench.views.tables import rows_text

    with Workspace.open(create=False) as ws:
        found = [each for each in ws.judgments.apps() if ws.ownership.may(ws.actor, "view", each.app).allowed]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "app": each.app,
            "topics": each.topics,
            "judgments": each.judgments,
            "relevant": each.relevant,
            "newest (UTC)": f"{each.newest:%Y-%m-%d %H:%M}",
        }
        for each in found
    ]
    empty = "nobody judged what searches should find; `workbench retrieval judge QRELS --app APP` stores judgments"
    typer.echo(rows_text(rows, empty=empty, width=terminal_width()))
