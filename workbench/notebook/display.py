"""How IPython shows the nouns: the same words as the terminal, as text, HTML and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.controls.handoff import Shown
from workbench.observability.impact_model import Effect, Impact, KpiImpact
from workbench.readiness.model import Review
from workbench.versions.model import Bundle, BundleDiff
from workbench.views.bundles import bundle_html, bundle_text, diff_html, diff_text
from workbench.views.handoffs import shown_html, shown_text
from workbench.views.impact import effect_bundle, impact_bundle, kpi_bundle
from workbench.views.page import Page, page_html, page_text
from workbench.views.review import review_bundle

MimeBundle = dict[str, Any]

FORMS: Mapping[type, Callable[[Any], MimeBundle]] = {
    Review: review_bundle,
    BundleDiff: lambda diff: {"text/plain": diff_text(diff), "text/html": diff_html(diff)},
    Bundle: lambda bundle: {"text/plain": bundle_text(bundle), "text/html": bundle_html(bundle)},
    Shown: lambda item: {"text/plain": shown_text(item), "text/html": shown_html(item)},
    Impact: impact_bundle,
    KpiImpact: kpi_bundle,
    Effect: effect_bundle,
    Page: lambda page: {"text/plain": page_text(page), "text/html": page_html(page)},
}


def register() -> None:
    """Teach the running IPython to show the nouns; without IPython nothing happens."""
    from IPython.core.getipython import get_ipython  # noqa: PLC0415  # a heavy import, only paid in a notebook

    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        return
    formatter = shell.display_formatter.mimebundle_formatter
    for noun, form in FORMS.items():
        formatter.for_type(noun, _accepting_filters(form))
    formatter.for_type_by_name("workbench.views.theme", "Drawing", _accepting_filters(_drawing_bundle))


def _drawing_bundle(drawing: Any) -> MimeBundle:
    """A figure; the plotting library is only there when somebody drew one."""
    from workbench.views.theme import mime_bundle  # noqa: PLC0415

    return mime_bundle(drawing)


def _accepting_filters(form: Callable[[Any], MimeBundle]) -> Callable[..., MimeBundle]:
    """The form as IPython calls it: with the wanted and unwanted mime types, which it sorts out itself."""

    def formatted(noun: Any, include: Any = None, exclude: Any = None) -> MimeBundle:  # noqa: ARG001
        return form(noun)

    return formatted
