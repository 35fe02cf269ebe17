"""`workbench metrics`: ask the logs, and look up what each metric means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

if TYPE_CHECKING:
    from workbench import Workspace

group = typer.Typer(help="What happened, in numbers.", no_args_is_help=True)


@group.command("show")
def show(
    metrics: Annotated[list[str], typer.Argument(metavar="METRIC…", help="Names from `workbench metrics list`.")],
    by: Annotated[str, typer.Option(help="Dimensions, separated by commas: app,workflow,bundle,arm …")] = "",
    window: Annotated[str | None, typer.Option(help="How far back from now, for example 7d; by default everything.")] = None,
    grain: Annotated[str | None, typer.Option(help="Time step of a series: 1m, 5m, 15m, 1h, 1d or 1w.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="dimension=value; repeat for several. A bundle goes by its id, digest or name.")
    ] = None,
    app: Annotated[str | None, typer.Option(help="Only this app; where apps declare a KPI differently it is needed.")] = None,
    is_exact: Annotated[bool, typer.Option("--exact", help="Read every request, also where sums of hours would answer sooner.")] = False,
    as_json: Json = False,
) -> None:
    """METRICs by dimensions, over a window, with the number of observations under each.

    A question over a million requests and more is answered from sums of hours and days, where those can answer it: all numbers are the
    same, but percentiles are up to 1.1 % off, and there are no intervals. The table says so; in JSON it is `path` and `error_bound`.
    """
    from workbench import Workspace
    from workbench.observability.dimensions import parse_window
    from workbench.views.metrics import metrics_text

    filters = parse_filters(where or [])
    dims = tuple(dim.strip() for dim in by.split(",") if dim.strip())
    with Workspace.open(create=False) as ws:
        named = app or filters.get("app")
        apps = (named,) if named else ws.versions.apps()
        ws.require_view(*apps)
        if "bundle" in filters:
            filters["bundle"] = ",".join(resolved_bundle(ws, reference, named) for reference in filters["bundle"].split(",") if reference)
        exact, span = True if is_exact else None, parse_window(window, now=ws.clock())
        frame = ws.metrics.query(metrics, by=dims, window=span, grain=grain, where=filters, app=app, detail=None, exact=exact)
        names = {known.bundle.bundle_id: known.bundle.name for known in ws.versions.list()}
        known = {name: ws.metrics.named(name, apps) for name in metrics}
        why = ws.metrics.why_empty(window=span, where=filters, app=app) if frame.is_empty() else ""
    found = frame.answered
    if as_json:
        how = {} if found is None else {"path": found.path, "error_bound": found.error_bound}
        print_json([row | how for row in frame.to_dicts()])
    else:
        described = [known[name] for name in metrics]
        width = terminal_width()
        typer.echo(metrics_text(frame, metrics=described, names=names, found=found, grain=grain, window=span, why_empty=why, width=width))


@group.command("list")
def list_(app: Annotated[str | None, typer.Option(help="Also the KPIs of this app.")] = None, as_json: Json = False) -> None:
    """Every metric with unit, direction, meaning and formula."""
    from workbench import Workspace
    from workbench.observability.catalogue import CATALOGUE, FAMILIES
    from workbench.views.metrics import catalogue_rows
    from workbench.views.tables import rows_text

    if app is None:
        known = tuple(CATALOGUE.values())
    else:
        with Workspace.open(create=False) as ws:
            ws.require_view(app)
            known = ws.metrics.known(app)
    rows = catalogue_rows([*known, *(family.shown for family in FAMILIES)])
    if as_json:
        print_json(rows)
    else:
        typer.echo(rows_text(rows, width=terminal_width()))


def resolved_bundle(ws: Workspace, reference: str, app: str | None) -> str:
    """The id of the registered bundle that is meant, as the log has it; else the reference itself, where the log knows it.

    Raises:
        UnknownSubject: no registered bundle is meant, and the log has none of that name.
        UsageError: several are meant.
    """
    from workbench.errors import UnknownSubject

    try:
        return ws.versions.get(reference, app=app).bundle_id
    except UnknownSubject:
        if ws.metrics.query("volume", by="bundle", where={"bundle": reference}, app=app).is_empty():
            raise
        return reference


def parse_filters(where: list[str]) -> dict[str, str]:
    """Each dimension with its values, separated by commas: any of them counts, also where the dimension was given twice."""
    filters: dict[str, str] = {}
    for text in where:
        name, value = _pair(text)
        filters[name] = ",".join(filter(None, (filters.get(name), value)))
    return filters


def _pair(text: str) -> tuple[str, str]:
    from workbench.errors import UsageError

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise UsageError(f"--where {text}", seen="no dimension=value", needed="for example --where workflow=refund")
    return name.strip(), ",".join(part.strip() for part in value.split(","))
