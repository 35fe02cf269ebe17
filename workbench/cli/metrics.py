"""`workbench metrics`: ask the logs, and look up what each metric means."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json

group = typer.Typer(help="What happened, in numbers.", no_args_is_help=True)


@group.command("show")
def show(
    metrics: Annotated[list[str], typer.Argument(metavar="METRIC…", help="Names from `workbench metrics list`.")],
    by: Annotated[str, typer.Option(help="Dimensions, separated by commas: app,workflow,bundle,arm …")] = "",
    window: Annotated[str | None, typer.Option(help="How far back from now, for example 7d; by default everything.")] = None,
    grain: Annotated[str | None, typer.Option(help="Time step of a series: 1m, 5m, 15m, 1h, 1d or 1w.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="dimension=value; repeat for several.")] = None,
    app: Annotated[str | None, typer.Option(help="Only this app; where apps declare a KPI differently it is needed.")] = None,
    as_json: Json = False,
) -> None:
    """METRICs by dimensions, over a window, with the number of observations under each."""
    from workbench import Workspace
    from workbench.views.metrics import metrics_text

    filters = dict(_pair(text) for text in where or [])
    dims = tuple(dim.strip() for dim in by.split(",") if dim.strip())
    with Workspace.open(create=False) as ws:
        named = app or filters.get("app")
        apps = (named,) if named else ws.versions.apps()
        ws.require_view(*apps)
        frame = ws.metrics.query(metrics, by=dims, window=window, grain=grain, where=filters, app=app, detail=True)
        known = {metric.name: metric for each in (*apps, None) for metric in ws.metrics.known(each)}
    if as_json:
        print_json(frame.to_dicts())
    else:
        typer.echo(metrics_text(frame, metrics=[known[name] for name in metrics]))


@group.command("list")
def list_(app: Annotated[str | None, typer.Option(help="Also the KPIs of this app.")] = None, as_json: Json = False) -> None:
    """Every metric with unit, direction, meaning and formula."""
    from workbench import Workspace
    from workbench.views.metrics import catalogue_rows
    from workbench.views.tables import rows_text

    if app is None:
        from workbench.observability.catalogue import CATALOGUE

        rows = catalogue_rows(CATALOGUE.values())
    else:
        with Workspace.open(create=False) as ws:
            ws.require_view(app)
            rows = catalogue_rows(ws.metrics.known(app))
    if as_json:
        print_json(rows)
    else:
        typer.echo(rows_text(rows))


def _pair(text: str) -> tuple[str, str]:
    from workbench.errors import UsageError

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise UsageError(f"--where {text}", seen="no dimension=value", needed="for example --where workflow=refund")
    return name.strip(), value.strip()
