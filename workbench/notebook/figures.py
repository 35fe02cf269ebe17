"""Figures by name, for notebooks: one noun in, one picture out."""

from __future__ import annotations

from workbench.errors import UsageError
from workbench.observability.impact_model import Effect, KpiImpact
from workbench.views.impact_figures import effect_drawing, kpi_drawing, usage_drawing, waterfall_drawing
from workbench.views.theme import Drawing

KPI_FIGURES = {"kpi": kpi_drawing, "usage": usage_drawing, "waterfall": waterfall_drawing}


def impact_figure(noun: KpiImpact | Effect, name: str) -> Drawing:
    """The figure of that name.

    Raises:
        UsageError: the noun has none of that name.
    """
    if isinstance(noun, Effect):
        return effect_drawing(noun)
    if name not in KPI_FIGURES:
        raise UsageError(f"figure {name!r}", seen="a KPI has no such figure", needed=f"one of {', '.join(KPI_FIGURES)}")
    return KPI_FIGURES[name](noun)
