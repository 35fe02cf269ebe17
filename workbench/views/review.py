"""A readiness review for people: the same words in the terminal, in a file and in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workbench.readiness.model import GateResult, Review, ReviewVerdict, Verdict
from workbench.readiness.records import to_json
from workbench.readiness.summary import VERDICT_WORDS
from workbench.readiness.verdicts import rank
from workbench.spec.gates import Family
from workbench.views.numbers import DASH, count_cell, interval, number
from workbench.views.page import Chip, Column, Page, Section, document, page_html, page_text
from workbench.views.tables import WIDTH

MIME = "application/vnd.workbench.review+json"
SHORT = 12
"""Hex digits of a digest that are shown."""
_HOW_SURE = (
    "95 % intervals: Wilson's for shares, order statistics for percentiles, Student's t for means, both sides' intervals for comparisons. "
    "All answers to one unit count as alike, so an interval is safe, and wider than it need be where they are not."
)

CHIPS: Mapping[Verdict, Chip] = {
    Verdict.FAIL: Chip(word="FAIL", shape="✕", tone="bad"),
    Verdict.ERROR: Chip(word="ERROR", shape="!", tone="bad"),
    Verdict.STALE: Chip(word="STALE", shape="◷", tone="open"),
    Verdict.MISSING: Chip(word="MISSING", shape="○", tone="open"),
    Verdict.INSUFFICIENT: Chip(word="INSUFFICIENT", shape="◔", tone="open"),
    Verdict.WAIVED: Chip(word="WAIVED", shape="◇", tone="quiet"),
    Verdict.PASS: Chip(word="PASS", shape="●", tone="good"),
    Verdict.NOT_APPLICABLE: Chip(word="NOT APPLICABLE", shape="–", tone="quiet"),
}
BANNERS: Mapping[ReviewVerdict, Chip] = {
    ReviewVerdict.GO: Chip(word=VERDICT_WORDS[ReviewVerdict.GO], shape="●", tone="good"),
    ReviewVerdict.NO_GO: Chip(word=VERDICT_WORDS[ReviewVerdict.NO_GO], shape="✕", tone="bad"),
    ReviewVerdict.NOT_ENOUGH_EVIDENCE: Chip(word=VERDICT_WORDS[ReviewVerdict.NOT_ENOUGH_EVIDENCE], shape="○", tone="open"),
}


def review_text(review: Review, *, width: int = WIDTH) -> str:
    """The whole review for a terminal."""
    return page_text(page_of(review), width=width)


def review_html(review: Review) -> str:
    """The whole review as an HTML fragment, for a notebook cell."""
    return page_html(page_of(review))


def review_page(review: Review) -> str:
    """The whole review as one HTML file that fetches nothing."""
    return document(page_of(review))


def review_bundle(review: Review) -> dict[str, Any]:
    """The review in every form that a notebook stores: text, HTML, and JSON for programs."""
    return {"text/plain": review_text(review), "text/html": review_html(review), MIME: to_json(review)}


def page_of(review: Review) -> Page:
    """The review as a page: verdict first, then what it rests on, then what would change it, then where it comes from."""
    return Page(
        title=title_of(review),
        banner=BANNERS[review.verdict],
        lead=(review.sentence, *((review.comparison,) if review.comparison else ())),
        sections=(
            measured_section(review),
            declared_section(review),
            change_section(review),
            findings_section(review),
            *pinning_sections(review),
        ),
        footer=footer_of(review),
    )


def part_of(review: Review, name: str) -> Page:
    """One part of the page, by its name in `PARTS`.

    Raises:
        KeyError: there is no such part.
    """
    return PARTS[name](review)


def title_of(review: Review) -> str:
    """Which bundle is judged, against which."""
    against = f", against {review.baseline_id}" if review.baseline_id else ", without a baseline"
    return f"{review.app} {review.bundle_name} ({review.bundle_id}){against}"


def verdict_page(review: Review) -> Page:
    """Banner and deciding sentence alone."""
    return Page(title=title_of(review), banner=BANNERS[review.verdict], lead=(review.sentence,))


def comparison_page(review: Review) -> Page:
    """How the bundle compares with its baseline."""
    return Page(lead=(review.comparison or "There is no baseline to compare with.",))


def measured_section(review: Review) -> Section:
    """The gates on measurements, worst first: verdict, observed with interval, limit, n."""
    gates = [gate for gate in review.gates if not is_built_in(gate)]
    columns = ("verdict", "measured gate", "observed", "95 % interval", "limit", "n")
    return Section(
        title="Measured gates",
        lines=() if gates else ("No measured gate is declared.",),
        columns=tuple(Column(title=title, is_number=title in ("observed", "95 % interval", "limit", "n")) for title in columns),
        rows=tuple(_measured_row(gate) for gate in _worst_first(gates)),
        note=_HOW_SURE if any(gate.low is not None or gate.high is not None for gate in gates) else "",
    )


def declared_section(review: Review) -> Section:
    """The built-in gates on declarations, worst first, with what is declared or missing."""
    gates = [gate for gate in review.gates if is_built_in(gate)]
    return Section(
        title="Declared gates",
        columns=tuple(Column(title=title) for title in ("verdict", "declared gate", "family", "what is declared", "owner")),
        rows=tuple((CHIPS[gate.verdict], gate.title, str(gate.family), gate.sentence, gate.owner or DASH) for gate in _worst_first(gates)),
    )


def change_section(review: Review) -> Section:
    """What would have to happen for another verdict."""
    by_id = {gate.gate_id: gate for gate in review.gates}
    lines = [_change(by_id[gate_id]) for gate_id in review.deciding]
    if review.verdict is ReviewVerdict.GO:
        closest = _closest(review.gates)
        lines = ["Any blocking gate that loses its proof: worse or older measurements, or a declaration that is withdrawn."]
        lines += [f"Closest to its limit is “{closest.title}”: {closest.sentence}"] if closest else []
    elif not lines:
        lines = ["A blocking gate that applies to this bundle: declare gates.yaml."]
    return Section(title="What would change the verdict", lines=tuple(lines))


def findings_section(review: Review) -> Section:
    """The anti-patterns by name, each with the way out."""
    lines = tuple(f"{found.title}. {found.sentence} Next: {found.next_step}." for found in review.findings)
    return Section(title="Anti-patterns", lines=lines or ("None of the guide's four anti-patterns was found.",))


def pinning_sections(review: Review) -> Iterable[Section]:
    """What may change without a new version, and what the workbench does not enforce; nothing when there is neither."""
    if review.unpinned:
        yield Section(title="Not pinned", lines=review.unpinned)
    if review.not_enforced:
        yield Section(title="Recorded, not enforced", lines=review.not_enforced)


def footer_of(review: Review) -> tuple[str, ...]:
    """Where the review comes from, for checking it later."""
    specs = ", ".join(f"{kind} {_short(digest)}" for kind, digest in review.spec_digests) or "none declared"
    snapshot = "no log" if review.snapshot is None else f"log snapshot {review.snapshot}"
    return (
        f"Review {_short(review.review_id)}, {review.reviewed_at:%Y-%m-%d %H:%M} UTC, by {review.reviewed_by}; {snapshot}.",
        f"Declarations: {specs}.",
        *((f"Audit head {review.audit_head}",) if review.audit_head else ()),
    )


PARTS: Mapping[str, Callable[[Review], Page]] = {
    "verdict": verdict_page,
    "comparison": comparison_page,
    "measured": lambda review: Page(sections=(measured_section(review),)),
    "declared": lambda review: Page(sections=(declared_section(review),)),
    "change": lambda review: Page(sections=(change_section(review),)),
    "anti-patterns": lambda review: Page(sections=(findings_section(review),)),
    "provenance": lambda review: Page(sections=tuple(pinning_sections(review)), footer=footer_of(review)),
}
"""The parts that a notebook shows one by one."""


def is_built_in(gate: GateResult) -> bool:
    """Whether the gate is one of the guide's own, and not one of gates.yaml or a KPI."""
    family, dot, _ = gate.gate_id.partition(".")
    return bool(dot) and family in set(Family)


def _measured_row(gate: GateResult) -> tuple[str | Chip, ...]:
    title = gate.title if gate.is_blocking else f"{gate.title} (shown only)"
    return (
        CHIPS[gate.verdict],
        title,
        number(gate.observed, gate.unit),
        interval(gate.low, gate.high, gate.unit),
        number(gate.limit, gate.unit),
        count_cell(gate.n),
    )


def _worst_first(gates: Iterable[GateResult]) -> list[GateResult]:
    return sorted(gates, key=lambda gate: (not gate.is_blocking, rank(gate.verdict)))


def _change(gate: GateResult) -> str:
    if gate.verdict is Verdict.FAIL and gate.observed is not None and gate.limit is not None:
        return f"{gate.title}: {number(gate.observed, gate.unit)} must come to {number(gate.limit, gate.unit)} or better; {gate.next_step}."
    sizes = f" ({count_cell(gate.n)} observations so far, about {gate.n_needed:,} needed)" if gate.n_needed is not None else ""
    return f"{gate.title}{sizes}: {gate.next_step or gate.sentence.rstrip('.')}."


def _closest(gates: Iterable[GateResult]) -> GateResult | None:
    """The passing blocking gate whose proof has the least room, as a share of the distance between number and limit."""
    passed = [gate for gate in gates if gate.is_blocking and gate.verdict is Verdict.PASS and _room(gate) is not None]
    return min(passed, key=lambda gate: _room(gate) or 0.0, default=None)


def _room(gate: GateResult) -> float | None:
    if gate.observed is None or gate.limit is None or gate.observed == gate.limit:
        return None
    end = gate.low if gate.observed > gate.limit else gate.high
    return None if end is None else abs(end - gate.limit) / abs(gate.observed - gate.limit)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT]
