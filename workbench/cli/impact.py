"""`workbench impact`: what does the app do for the business?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.metrics import parse_filters, resolved_bundle
from workbench.cli.shared import Json, print_json, terminal_width

if TYPE_CHECKING:
    from workbench import Workspace
    from workbench.observability.impact_model import Effect, Impact

EXIT_OF_ANSWER = {"YES": 0, "NO": 1, "NOT_ENOUGH_EVIDENCE": 3}
Kpi = Annotated[str | None, typer.Option(help="Only this KPI; by default all that app.yaml declares.")]
By = Annotated[str, typer.Option(help="Length of a period: day, week (from Monday) or month, in UTC.")]
Span = Annotated[str | None, typer.Option(help="How far back from now, for example 90d; by default everything.")]
Where = Annotated[list[str] | None, typer.Option(help="dimension=value of a session's first request; repeat for several.")]
Pair = Annotated[tuple[str, str] | None, typer.Option("--compare", metavar="A B", help="What bundle A changed against bundle B.")]
Unrouted = Annotated[bool, typer.Option("--unrouted", help="Compare only traffic that no release divided: rehearsals, imported logs.")]
Crossed = Annotated[str, typer.Option(help="Users who met both bundles: first_exposure keeps them on the first, exclude drops them.")]


def impact(
    app: Annotated[str, typer.Argument(help="The app.")],
    kpi: Kpi = None,
    by: By = "week",
    window: Span = None,
    where: Where = None,
    compare: Pair = None,
    release: Annotated[bool, typer.Option("--release", help="What the newest release's candidate changed against stable.")] = False,
    unrouted: Unrouted = False,
    crossed: Crossed = "first_exposure",
    as_json: Json = False,
) -> None:
    """APP's KPIs by period against target and baseline; or, with --compare or --release, what a bundle changed in them.

    A split that is not as declared is refused an effect. Exit 0 nothing speaks against it, 1 a no (worse than before, a target missed
    after its date, usage without outcome, a broken split, a loss), 3 not enough evidence.
    """
    from workbench import Workspace
    from workbench.observability.impact_model import answer
    from workbench.views.impact import effects_text, impact_text

    filters = parse_filters(where or [])
    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        names = bundle_names(ws)
        if "bundle" in filters:
            filters["bundle"] = ",".join(resolved_bundle(ws, name, app) for name in filters["bundle"].split(",") if name)
        if compare is None and not release:
            report = ws.impact.report(app, kpi=kpi, by=by, window=window, where=filters)
            found: Impact | tuple[Effect, ...] = report
            text, reasons = impact_text(report, width=terminal_width()), set(report.reasons)
        else:
            effects = effects_of(ws, app, kpi, compare, is_unrouted=unrouted, crossed=crossed, window=window, where=filters)
            found, text = effects, effects_text(effects, names=names, width=terminal_width())
            reasons = {effect.finding.reason for effect in effects}
    if as_json:
        print_json(found)
    else:
        typer.echo(text)
    raise typer.Exit(EXIT_OF_ANSWER[answer(reasons)])


def effects_of(
    ws: Workspace,
    app: str,
    kpi: str | None,
    pair: tuple[str, str] | None,
    *,
    is_unrouted: bool = False,
    crossed: str = "first_exposure",
    window: str | None = None,
    where: dict[str, str] | None = None,
) -> tuple[Effect, ...]:
    """The effects between two bundles by any of their names, else those of the newest release."""
    candidate, baseline = (ws.versions.get(name, app=app).bundle_id for name in pair) if pair else (None, None)
    return ws.impact.effects(
        app, kpi=kpi, candidate=candidate, baseline=baseline, is_unrouted=is_unrouted, crossed=crossed, window=window, where=where
    )


def bundle_names(ws: Workspace) -> dict[str, str]:
    """Id of each registered bundle to its name."""
    return {known.bundle.bundle_id: known.bundle.name for known in ws.versions.list()}
