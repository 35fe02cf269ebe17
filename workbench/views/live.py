"""Figures that change while one looks at them.

A widget is made from a finished figure: what is set later, a page that opens later never sees.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from workbench.views.theme import CONFIG, Drawing

_KEPT = ("title", "yaxis", "height", "margin", "annotations")
"""What of a layout belongs to the figure; the rest is the same for all."""


def live(drawing: Drawing) -> go.FigureWidget:
    """The figure as a widget, without the button that would upload it."""
    widget = go.FigureWidget(drawing.figure)
    widget._config = {**widget._config, **CONFIG}  # noqa: SLF001 - the library offers no other way to configure a widget
    return widget


def redraw(widget: go.FigureWidget, drawing: Drawing) -> None:
    """Show another figure of the same marks in the widget; marks that it does not have are emptied."""
    traces = list(drawing.figure.data)
    with widget.batch_update():
        for place, shown in enumerate(widget.data):
            trace = traces[place] if place < len(traces) else None
            shown.x, shown.y = (trace.x, trace.y) if trace is not None else ((), ())
        layout: dict[str, Any] = drawing.figure.layout.to_plotly_json()
        widget.update_layout({name: layout.get(name) for name in _KEPT if name in layout or name == "annotations"}, overwrite=True)
