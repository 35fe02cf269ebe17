"""Operations of one app for a reader: every figure of a stretch of time, and one that follows a choice."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.errors import UnknownSubject, UsageError
from workbench.observability.dimensions import GRAINS, parse_window
from workbench.observability.model import Window
from workbench.observability.slo import State
from workbench.spec.faults import suggestion
from workbench.views.live import live, redraw
from workbench.views.operations_figures import burn_figure, series_figure, success_figure, traffic_figure, violations_figure
from workbench.views.page import Page
from workbench.views.slo import standing_page

if TYPE_CHECKING:
    from workbench.observability.slo import Standing
    from workbench.views.theme import Drawing
    from workbench.workspace import Workspace

METRICS = (
    *("success_rate", "failure_rate", "volume", "latency_p50", "latency_p95", "latency_p99", "ttft_p95", "violation_rate"),
    *(
        "block_rate",
        "retrieval_hit_rate",
        "quality_mean",
        "fallback_rate",
        "handoff_rate",
        "tool_error_rate",
        "cost_usd",
        "cost_per_success",
    ),
)
"""What the live figure offers."""
EVERYTHING = "all workflows"
_LARGE = 100_000
"""Requests from which the live figure spares itself the units under an interval, so that nobody waits for it."""
_SUMMED = timedelta(hours=1)
"""Shortest step that is summed beforehand; a shorter one of very many requests keeps whoever asks waiting for seconds."""
_HOURLY_UNTIL = timedelta(days=14)
_MINUTE = timedelta(minutes=1)


class Operations:
    """The figures of one app over one stretch of time, which ends now, or with the newest request where that is earlier.

    Args:
        ws: the workspace.
        app: the application.
        window: how long a stretch, for example `28d`.
        grain: width of a step; by default hours up to two weeks of traffic, else days.
    """

    def __init__(self, ws: Workspace, app: str, *, window: str = "28d", grain: str | None = None) -> None:
        ws.require_view(app)
        self._ws = ws
        self._app = app
        now, newest = ws.clock(), ws.objectives.newest(app)
        self.until: datetime = min(now, newest + _MINUTE) if newest else now
        self.window: Window = parse_window(window, now=self.until)
        self.grain = grain or self._grain()

    @cached_property
    def standing(self) -> Standing:
        """How the objectives stand at the end of the stretch.

        Raises:
            UnknownSubject: the app declares none.
        """
        return self._ws.objectives.check(self._app, at=self.until)

    def objectives(self) -> Page:
        """The objectives with their budgets and alert lines, and the alarms; what is missing where none is declared."""
        try:
            return standing_page(self.standing)
        except UnknownSubject as error:
            return Page(lead=(f"{error}.",))

    def burn(self, name: str | None = None) -> Drawing | Page:
        """How one objective's budget went; by default that of the one which stands worst.

        Raises:
            UsageError: no objective has that name.
        """
        try:
            standing = self.standing
        except UnknownSubject as error:
            return Page(lead=(f"{error}.",))
        by_name = {each.objective.name: each for each in standing.judgements}
        if name is not None and name not in by_name:
            raise UsageError(f"objective {name!r}", seen=f"{self._app} declares none of that name{suggestion(name, by_name)}")
        order = list(State)
        chosen = by_name[name] if name else min(standing.judgements, key=lambda each: (order.index(each.state), each.budget_left or 0.0))
        return burn_figure(chosen, self._ws.objectives.history(self._app, at=self.until)[chosen.objective.name])

    def traffic(self) -> Drawing:
        """Volume and latency percentiles over time."""
        metrics = ["volume", "latency_p50", "latency_p95", "latency_p99"]
        return traffic_figure(self._asked(metrics, grain=self.grain), grain=self.grain)

    def success(self) -> Drawing:
        """How often each workflow ends well."""
        spec = self._ws.slo_spec(self._app)
        objectives = spec.objectives if spec else ()
        targets = {each.workflow: each.target for each in objectives if each.indicator == "success" and each.workflow is not None}
        return success_figure(self._asked(["success_rate", "undecided_rate"], by="workflow"), targets=targets)

    def violations(self) -> Drawing:
        """Which rules were broken towards a user or a tool."""
        row = next(self._asked(["violation_rate", "volume"]).iter_rows(named=True), None)
        checked, requests = (int(row["violation_rate_n"]), int(row["volume"])) if row else (0, 0)
        broken = self._ws.objectives.violations(self._app, self.window)
        return violations_figure(broken, checked=checked, unchecked=requests - checked)

    def retrieval(self) -> Drawing:
        """How often searches find what the answer needs, over time."""
        return self.series("retrieval_hit_rate")

    def series(self, metric: str, *, workflow: str | None = None, grain: str | None = None, is_quick: bool = False) -> Drawing:
        """One metric over time with its interval.

        Args:
            metric: of the catalogue, or a KPI.
            workflow: only this one.
            grain: width of a step, where it is not that of the page.
            is_quick: whether to spare the units under the interval: shares then have that of independent requests, others none.

        Raises:
            UnknownSubject: there is no such metric or grain.
        """
        step = grain or self.grain
        frame = self._asked([metric], grain=step, where={"workflow": workflow} if workflow else None, detail=not is_quick)
        units = {each.name: each.unit for each in self._ws.metrics.known(self._app)}
        return series_figure(frame, metric, unit=units.get(metric, ""), grain=step, of=workflow or "")

    def explore(self) -> Explorer:
        """A figure that follows a choice of metric, workflow and step."""
        return Explorer(self, self.workflows())

    def workflows(self) -> tuple[str, ...]:
        """The workflows of which the stretch holds requests, by name."""
        return tuple(name for name in self._asked(["volume"], by="workflow", detail=False)["workflow"].to_list() if name is not None)

    @cached_property
    def is_large(self) -> bool:
        """Whether the stretch holds so many requests that an interval by units takes noticeable time."""
        frame = self._asked(["volume"], detail=False)
        return not frame.is_empty() and frame["volume"][0] > _LARGE

    def _asked(self, metrics: list[str], *, detail: bool = True, **how: Any) -> Any:
        return self._ws.metrics.query(metrics, window=self.window, app=self._app, detail=detail, **how)

    def _grain(self) -> str:
        days = self._ws.metrics.query("volume", window=self.window, app=self._app, grain="1d")["ts"].to_list()
        return "1h" if not days or days[-1] - days[0] <= _HOURLY_UNTIL else "1d"


class Explorer:
    """Three choices above a figure that follows them."""

    def __init__(self, seen: Operations, workflows: tuple[str, ...]) -> None:
        self._seen = seen
        self.metric = widgets.Dropdown(description="Metric", options=METRICS, value=METRICS[0])
        self.workflow = widgets.Dropdown(description="Workflow", options=(EVERYTHING, *workflows), value=EVERYTHING)
        steps = tuple(grain for grain, width in GRAINS.items() if width >= _SUMMED or not seen.is_large)
        self.grain = widgets.Dropdown(description="Step", options=steps, value=seen.grain if seen.grain in steps else steps[0])
        self.drawing = self._drawing()
        self.figure = live(self.drawing)
        for choice in (self.metric, self.workflow, self.grain):
            choice.observe(lambda _change: self.redraw(), names="value")
        self.box = widgets.VBox([widgets.HBox([self.metric, self.workflow, self.grain]), self.figure])

    def __repr__(self) -> str:
        return repr(self.drawing)

    def _repr_mimebundle_(self, **about: Any) -> Any:
        """How a notebook shows it; a reader without widgets sees the words of the figure."""
        bundle = self.box._repr_mimebundle_(**about)
        return {**bundle, "text/plain": repr(self)} if isinstance(bundle, dict) else bundle

    def redraw(self) -> None:
        """Ask the log for what is chosen, and show it."""
        self.drawing = self._drawing()
        redraw(self.figure, self.drawing)

    def _drawing(self) -> Drawing:
        workflow = None if self.workflow.value == EVERYTHING else self.workflow.value
        return self._seen.series(self.metric.value, workflow=workflow, grain=self.grain.value, is_quick=self._seen.is_large)
