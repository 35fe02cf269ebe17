"""One release for a reader, live or past: where it stands, its evidence on the way, and its decisions, made again."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.views.live import live, redraw
from workbench.views.page import Page
from workbench.views.release import history_page, release_page, status_page
from workbench.views.release_figures import evidence_figure, exposure_figure, interval_figure
from workbench.views.release_watch import decision_page, decisions_page
from workbench.views.replay import replay_page

if TYPE_CHECKING:
    from workbench.release.model import DecisionRecord, Release
    from workbench.release.replaying import Replay
    from workbench.release.tracing import Point
    from workbench.views.theme import Drawing
    from workbench.workspace import Workspace


class ReleaseWatch:
    """The releases of one app, and one of them closely.

    Args:
        ws: the workspace.
        app: the application.
        release_id: which; by default the one under way, else the newest about which the controller decided something.

    Raises:
        UnknownSubject: there is no such app or release.
        NotPermitted: you may not look at it.
    """

    def __init__(self, ws: Workspace, app: str, release_id: str | None = None) -> None:
        ws.require_view(app)
        self._ws = ws
        self._app = app
        self.release: Release | None = ws.releases.get(release_id) if release_id else self._chosen()

    def _chosen(self) -> Release | None:
        releases = self._ws.releases.history(self._app)[::-1]
        under_way = [release for release in releases if release.is_open]
        watched = (release for release in releases if self._ws.releases.decisions(release.release_id))
        return next(iter(under_way), None) or next(watched, releases[0] if releases else None)

    @cached_property
    def records(self) -> tuple[DecisionRecord, ...]:
        """The controller's decisions, oldest first."""
        return self._ws.releases.decisions(self.release.release_id) if self.release else ()

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """The judgements on its way."""
        return self._ws.releases.trace(self.release.release_id) if self.release else ()

    @cached_property
    def again(self) -> Replay | None:
        """Its decisions, made again from the log."""
        return self._ws.releases.replay(self.release.release_id) if self.release else None

    @property
    def metrics(self) -> tuple[str, ...]:
        """What its judge follows, by name."""
        return tuple(metric.name for metric in self.points[-1].judgement.metrics) if self.points else ()

    def history(self) -> Page:
        """Every release of the app."""
        return history_page(self._app, self._ws.releases.history(self._app))

    def status(self) -> Page:
        """What serves the app now, and how the controller sees the release under way."""
        return status_page(self._ws.releases.status(self._app))

    def standing(self) -> Page:
        """Where this release stands, and why the last thing about it was decided."""
        return release_page(self.release) if self.release else _NONE

    def evidence(self) -> Drawing:
        """The evidence of harm and of safety against their limits, on the way."""
        return evidence_figure(self.points, self.records)

    def exposure(self) -> Drawing:
        """Users that each arm served, on the way."""
        return exposure_figure(self.points, self.records)

    def interval(self, metric: str) -> Drawing:
        """One metric's estimate and interval on the way."""
        return interval_figure(self.points, metric)

    def decisions(self) -> Page:
        """Every decision of the controller, the newest first."""
        return decisions_page(self.release.release_id, self.records) if self.release else _NONE

    def last_decision(self) -> Page:
        """The newest decision with all that it rests on."""
        return decision_page(self.records[-1]) if self.records else Page(lead=("The controller decided nothing about it.",))

    def replay(self) -> Page:
        """Its decisions made again from the log, and the same judge on halves of the stable arm."""
        return replay_page(self.again) if self.again else _NONE

    def explore(self) -> IntervalChooser:
        """A figure of one metric's interval that follows a choice."""
        return IntervalChooser(self)


_NONE = Page(lead=("Nothing of this app is released by the workbench yet.",))


class IntervalChooser:
    """A choice of metric above its interval."""

    def __init__(self, watch: ReleaseWatch) -> None:
        self._watch = watch
        self.metric = widgets.Dropdown(description="Metric", options=watch.metrics)
        self.drawing = watch.interval(self.metric.value or "")
        self.figure = live(self.drawing)
        self.metric.observe(lambda _change: self.redraw(), names="value")
        self.box = widgets.VBox([self.metric, self.figure])

    def __repr__(self) -> str:
        return repr(self.drawing)

    def _repr_mimebundle_(self, **about: Any) -> Any:
        """How a notebook shows it; a reader without widgets sees the words of the figure."""
        bundle = self.box._repr_mimebundle_(**about)
        return {**bundle, "text/plain": repr(self)} if isinstance(bundle, dict) else bundle

    def redraw(self) -> None:
        """Show the metric that is chosen."""
        self.drawing = self._watch.interval(self.metric.value)
        redraw(self.figure, self.drawing)
