"""How every figure looks: one registered template, and the few marks that all figures are made of.

The title is the finding, the line under it says unit and observations. The baseline is grey, the candidate has the one accent; a
limit is a dashed line with its name on it, an interval a band. What is not known is not drawn, and said instead. Nothing is
fetched, nothing can be sent: charts have no button that uploads them.

Only modules that draw import this one: the plotting library takes half a second.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any, Literal

import plotly.graph_objects as go
import plotly.io as pio
from plotly.offline import get_plotlyjs

NAME = "workbench"
BASELINE, CANDIDATE, BAD, OPEN, INK, FAINT = "#6b6b6b", "#0072b2", "#b34a00", "#b98500", "#1b1b1b", "#d9d9d9"
"""Baseline and whatever is usual; candidate and whatever is asked about; worse; not known yet; text and limits; grid."""
SERIES = (CANDIDATE, "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", BASELINE)
"""For several things of one kind, in this order; told apart also without colours by `DASHES` and `SHAPES`."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
BAND_OPACITY = 0.18
WIDTH, HEIGHT = 700, 380
"""Pixels of a figure: the width of an A4 page between its margins."""
CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "displaylogo": False,
        "showSendToCloud": False,
        "plotlyServerURL": "",
        "topojsonURL": "",
        "displayModeBar": False,
        "responsive": False,
    }
)
"""How a figure behaves wherever it is shown."""
_TITLE_COLUMNS, _SUBTITLE_COLUMNS, _BESIDE_COLUMNS = 68, 98, 18
_TITLE_LINE, _SUBTITLE_LINE, _HEAD, _LETTER = 21, 16, 26, 7
"""Pixels."""

Axis = Literal["x", "y"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure with its finding in words, for readers who do not see it."""

    figure: go.Figure
    finding: str
    subtitle: str

    def __repr__(self) -> str:
        return f"{self.finding}\n{self.subtitle}".strip()


def new_figure(finding: str, subtitle: str, *, height: int = HEIGHT, width: int = WIDTH) -> go.Figure:
    """An empty figure under its head.

    Args:
        finding: the title, one sentence that says what the figure shows; plain text.
        subtitle: unit and number of observations; plain text.
        height: pixels of the whole.
        width: pixels.
    """
    title, below = _lines(finding, _TITLE_COLUMNS), _lines(subtitle, _SUBTITLE_COLUMNS)
    head = _HEAD + _TITLE_LINE * len(title) + _SUBTITLE_LINE * len(below)
    figure = go.Figure()
    figure.update_layout(
        template=NAME,
        width=width,
        height=height + head - 80,
        margin_t=head,
        title={"text": "<br>".join(title), "subtitle": {"text": "<br>".join(below)}},
    )
    return figure


def drawn(figure: go.Figure, finding: str, subtitle: str) -> Drawing:
    """The finished figure as a value that a notebook, a page or a test can show."""
    return Drawing(figure=figure, finding=finding, subtitle=subtitle)


def missing(finding: str, needed: str, *, subtitle: str = "", height: int = 200) -> Drawing:
    """The figure of something that cannot be drawn: it says what is missing, and what it takes.

    Args:
        finding: what is not known.
        needed: what would have to be there.
        subtitle: unit, where one is known.
        height: pixels.
    """
    figure = new_figure(finding, subtitle, height=height)
    text = "<br>".join(_lines(needed, _TITLE_COLUMNS))
    figure.add_annotation(text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14, "color": BASELINE})
    figure.update_xaxes(visible=False, range=[0, 1])
    figure.update_yaxes(visible=False, range=[0, 1])
    return drawn(figure, finding, " ".join(part for part in (subtitle, needed) if part))


def add_limit(figure: go.Figure, value: float, label: str, *, axis: Axis = "y", color: str = INK, row: int = 1, end: bool = True) -> None:
    """Draw a limit, target or baseline as a dashed line with its name on it.

    Args:
        figure: where.
        value: place on the axis.
        label: its name; plain text, folded where it stands beside the line.
        axis: the axis that the limit is on.
        color: of line and name.
        row: of subplots, from 1.
        end: whether the name of a horizontal line stands beside its far end, where no data are; else on its beginning.
    """
    is_subplot = row > 1 or figure._grid_ref is not None  # noqa: SLF001 - the library's own test for subplots
    place: dict[str, Any] = {"row": row, "col": 1} if is_subplot else {}
    font, line = {"size": 12, "color": color}, {"dash": "dash", "width": 1.5, "color": color}
    if axis == "x":
        figure.add_vline(x=value, line=line, annotation={"text": plain(label), "font": font}, annotation_position="top", **place)
    elif not end:
        figure.add_hline(y=value, line=line, annotation={"text": plain(label), "font": font}, annotation_position="top left", **place)
    else:
        beside = _lines(label, _BESIDE_COLUMNS)
        text = {"text": "<br>".join(beside), "font": font, "align": "left", "xanchor": "left", "yanchor": "middle", "xshift": 6}
        figure.add_hline(y=value, line=line, annotation=text, annotation_position="right", **place)
        room = 14 + _LETTER * max(map(len, beside), default=0)
        figure.update_layout(margin_r=max(figure.layout.margin.r or 0, room))


def add_band(
    figure: go.Figure, x: Sequence[Any], low: Sequence[float | None], high: Sequence[float | None], *, color: str, **more: Any
) -> None:
    """Shade an interval along a series; where an end is missing the band is interrupted, never guessed."""
    for part in _runs(low, high):
        xs = [x[i] for i in part]
        figure.add_scatter(
            x=xs + xs[::-1],
            y=[high[i] for i in part] + [low[i] for i in reversed(part)],
            fill="toself",
            fillcolor=faded(color),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            **more,
        )


def error_bars(values: Sequence[float | None], low: Sequence[float | None], high: Sequence[float | None], *, color: str) -> dict[str, Any]:
    """Interval ends as the library wants them: distances from the value, nothing where an end is missing."""
    above = [_distance(end, value) for value, end in zip(values, high, strict=True)]
    below = [_distance(value, end) for value, end in zip(values, low, strict=True)]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": color, "thickness": 1.5, "width": 5}


def faded(color: str, opacity: float = BAND_OPACITY) -> str:
    """The colour as a shade that lies under other marks.

    >>> faded("#0072b2")
    'rgba(0,114,178,0.18)'
    """
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def plain(text: str) -> str:
    """Text that somebody declared or logged, as the library shows it letter by letter: it reads tags and links in what it is given."""
    return escape(text, quote=False)


def mime_bundle(drawing: Drawing) -> dict[str, Any]:
    """The figure for Jupyter: the chart, and its words for whoever does not see it."""
    content = drawing.figure.to_plotly_json()
    chart = {"data": content["data"], "layout": content["layout"], "config": dict(CONFIG)}
    return {"application/vnd.plotly.v1+json": _as_json(chart), "text/plain": repr(drawing)}


def fragment(drawing: Drawing, *, number: int) -> str:
    """The figure as a piece of a page that holds `script()` once.

    Args:
        drawing: the figure.
        number: its place on the page; the same page has the same bytes again.
    """
    chart = pio.to_html(
        drawing.figure,
        full_html=False,
        include_plotlyjs=False,
        config=dict(CONFIG),
        div_id=f"wb-figure-{number}",
        default_width=f"{WIDTH}px",
    )
    return f'<figure class="wb-figure" role="img" aria-label="{escape(repr(drawing))}">{chart}</figure>'


def script() -> str:
    """What a page with figures needs in its head: the library itself, so that nothing is fetched."""
    return f'<script>window.PlotlyConfig = {{MathJaxConfig: "local"}};</script>\n<script>{get_plotlyjs()}</script>'


def _as_json(chart: Mapping[str, Any]) -> Any:
    import json  # noqa: PLC0415 - only where a notebook shows a figure

    return json.loads(pio.json.to_json_plotly(chart))


def _lines(text: str, columns: int) -> list[str]:
    return [plain(line) for line in textwrap.wrap(text, columns)]


def _distance(high: float | None, low: float | None) -> float | None:
    return None if high is None or low is None else max(0.0, high - low)


def _runs(low: Sequence[float | None], high: Sequence[float | None]) -> Iterator[list[int]]:
    """Stretches of places at which both ends are known."""
    known = [a is not None and b is not None for a, b in zip(low, high, strict=True)]
    for is_known, places in itertools.groupby(range(len(known)), key=known.__getitem__):
        if is_known:
            yield list(places)


def _template() -> go.layout.Template:
    axis = {
        "gridcolor": FAINT,
        "zeroline": False,
        "linecolor": INK,
        "ticks": "outside",
        "tickcolor": INK,
        "title": {"font": {"size": 13}},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif", "size": 13, "color": INK},
            "title": {
                "x": 0.012,
                "xref": "container",
                "xanchor": "left",
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "pad": {"t": 12},
                "font": {"size": 16, "weight": 600},
                "subtitle": {"font": {"size": 12.5, "color": "#555555", "weight": 400}},
            },
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "colorway": list(SERIES),
            "margin": {"l": 64, "r": 28, "t": 80, "b": 48},
            "hovermode": "x unified",
            "showlegend": False,
            "legend": {"orientation": "h", "x": 0, "y": -0.18, "xanchor": "left", "yanchor": "top"},
            "xaxis": {**axis, "showgrid": False},
            "yaxis": {**axis, "showline": False, "ticks": ""},
            "bargap": 0.35,
        }
    )


pio.templates[NAME] = _template()
