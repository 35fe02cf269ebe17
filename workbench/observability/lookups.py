"""What the judgments say of each lookup that the log holds, request by request.

A lookup is a span of the kind `retrieval`. It is judged where its query is one of which the app has judgments, with at least one
relevant document; capitals and white space do not tell queries apart. The rules are those of `stats/ranking.py`, but for the order: a
lookup's documents stand by the rank that was logged, because that is what the assistant was given; without ranks by score, equal
scores by document id, the greatest first; without both in the order of the log. A document that is named twice counts where it stands
first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from workbench.observability.steps import SPANS, newest_spans
from workbench.observability.unbound import sorted_sum, unbound
from workbench.stats.ranking import RELEVANT

JUDGMENTS = unbound("judgments", ("app", "topic", "query", "doc_id", "grade", "ts", "batch_id", "seq"))
CUT = re.compile(r"(hit|recall|precision|ndcg|judged)@([1-9][0-9]{0,2})")
"""Measures of the first k documents of a lookup, k up to 999."""
WHOLE = ("recall", "mrr", "map", "ndcg")
"""Measures of all that a lookup returned."""
COUNTS = ("n", "n_known", "n_empty", "n_judged", "n_documents", "n_repeated", "n_scored", "top_score", "n_gaps", "score_gap")
"""What is known of a request's lookups without any measure; `n_judged` of them can be measured."""
_OF_DOCUMENTS = frozenset(COUNTS[4:])
_KEY = ["app", "request_id", "lookup"]


def lookup_facts(measures: Sequence[str]) -> ir.Table:
    """One row per request with lookups: for each of `measures` the sum over its judged lookups as `lookup:MEASURE`, and each of `COUNTS`.

    Measures are `COUNTS`, `WHOLE`, `hit@k recall@k precision@k ndcg@k`, and `judged@k`, the number of judged documents among the first
    k, beside `listed@k`, how many there are.
    """
    lookups, wanted = _lookups(), sorted(set(measures) - set(COUNTS))
    known = lookups
    if wanted or "n_judged" in measures:
        known = _beside(known, _measured(lookups, wanted), _KEY)
    if set(measures) & _OF_DOCUMENTS:
        known = _beside(known, _of_documents(_documents(lookups)), _KEY)
    names = sorted({*measures, *(_listed(name) for name in wanted if name.startswith("judged@"))})
    return known.group_by("app", "request_id").aggregate(**{f"lookup:{name}": _sum_of(known, name) for name in names})


def _listed(measure: str) -> str:
    """The column beside `judged@k` that says how many documents there are among the first k."""
    return measure.replace("judged", "listed")


def _sum_of(lookups: ir.Table, name: str) -> ir.Value:
    column = lookups[name]
    return sorted_sum(column) if column.type().is_floating() else column.sum()


def _beside(table: ir.Table, found: ir.Table, keys: Sequence[str]) -> ir.Table:
    others = [name for name in found.columns if name not in keys]
    renamed = found.rename({f"found_{key}": key for key in keys})
    joined = table.left_join(renamed, [table[key] == renamed[f"found_{key}"] for key in keys])
    return joined.select(*table.columns, *others)


def _plain(text: ir.Value) -> ir.Value:
    """What tells queries apart."""
    return text.lower().re_replace(r"[ \t\r\n]+", " ").strip()


def _lookups() -> ir.Table:
    """Each lookup of a request in its newest version."""
    spans = newest_spans(SPANS.filter(SPANS.kind == "retrieval"))
    newest = spans.mutate(lookup=spans.step, wording=_plain(spans.retrieval_query), n_listed=spans.retrieved.length())
    one = ibis.literal(1, type="int64")
    counts = {
        "n": one,
        "n_known": newest.n_listed.notnull().cast("int64"),
        "n_empty": (newest.n_listed == 0).fill_null(False).cast("int64"),  # noqa: FBT003 - the value, not a flag
    }
    return newest.select(*_KEY, "wording", "retrieved", "n_listed", **counts)


def _documents(lookups: ir.Table) -> ir.Table:
    """Each document of each lookup once, with its `position` from 1."""
    some = lookups.filter(lookups.n_listed > 0)
    listed = some.select(*_KEY, "wording", "retrieved", place=ibis.range(0, some.n_listed).unnest())
    listed = listed.select(*_KEY, "wording", "place", hit=listed.retrieved[listed.place])
    named = listed.select(*_KEY, "wording", "place", doc_id=listed.hit["doc_id"], score=listed.hit["score"], rank=listed.hit["rank"])
    named = named.filter(named.doc_id.notnull())
    once = named.group_by(*_KEY, "wording", "doc_id").aggregate(
        rank=named["rank"].min(), score=named.score.max(), place=named.place.min(), times=named.count()
    )
    unscored = ibis.ifelse(once.score.isnull(), once.place, ibis.null(once.place.type()))
    order = [
        once["rank"].asc(nulls_first=False),
        once.score.desc(nulls_first=False),
        unscored.asc(nulls_first=False),
        once.doc_id.desc(nulls_first=False),
    ]
    return once.mutate(position=ibis.row_number().over(ibis.window(group_by=_KEY, order_by=order)) + 1)


def _of_documents(documents: ir.Table) -> ir.Table:
    """What the lists say without judgments: documents, repeats, the score of the first and its distance from that of the second."""
    first, second = documents.position == 1, documents.position == 2  # noqa: PLR2004
    scores = documents.group_by(*_KEY).aggregate(
        n_documents=documents.times.sum(),
        n_repeated=(documents.times - 1).sum(),
        top_score=documents.score.max(where=first),
        next_score=documents.score.max(where=second),
    )
    scores = scores.mutate(score_gap=scores.top_score - scores.next_score)
    known = {"n_scored": scores.top_score.notnull().cast("int64"), "n_gaps": scores.score_gap.notnull().cast("int64")}
    return scores.mutate(**known).drop("next_score")


def _judged() -> ir.Table:
    """The grade of each document by (app, wording), as it was judged last, with its place among the topic's by grade."""
    window = ibis.window(group_by=["app", "topic", "doc_id"], order_by=[ibis.desc("ts"), ibis.desc("batch_id"), ibis.desc("seq")])
    ranked = JUDGMENTS.mutate(nth=ibis.row_number().over(window), wording=_plain(JUDGMENTS.query.fill_null(JUDGMENTS.topic)))
    grades = ranked.filter(ranked.nth == 0).group_by("app", "wording", "doc_id").aggregate(grade=lambda t: t.grade.max())
    best = ibis.window(group_by=["app", "wording"], order_by=[ibis.desc("grade"), ibis.asc("doc_id")])
    return grades.mutate(at_best=ibis.row_number().over(best) + 1)


def _gain(grade: ir.Value, position: ir.Value, k: int | None) -> ir.Value:
    counts = grade >= RELEVANT if k is None else (grade >= RELEVANT) & (position <= k)
    return ibis.ifelse(counts, grade / (position + 1).cast("float64").log2(), 0.0)


def _parts(measure: str) -> tuple[str, int | None]:
    name, _, k = measure.partition("@")
    return name, int(k) if k else None


def _topics(judged: ir.Table, measures: Sequence[str]) -> ir.Table:
    """One row per (app, wording) with a relevant document: how many are relevant, and the gain of the best list for each nDCG."""
    best = {f"best:{m}": sorted_sum(_gain(judged.grade, judged.at_best, _parts(m)[1])) for m in measures if m.startswith("ndcg")}
    topics = judged.group_by("app", "wording").aggregate(n_relevant=(judged.grade >= RELEVANT).sum(), **best)
    return topics.filter(topics.n_relevant > 0)


def _measured(lookups: ir.Table, measures: Sequence[str]) -> ir.Table:
    """One row per judged lookup, with `n_judged` = 1 and its measures; all that is not found is 0."""
    judged = _judged()
    topics = _topics(judged, measures).rename(of_app="app", of_wording="wording")
    found = lookups.select(*_KEY, "wording").inner_join(topics, [lookups.app == topics.of_app, lookups.wording == topics.of_wording])
    found = found.drop("of_app", "of_wording").mutate(n_judged=ibis.literal(1, type="int64"))
    graded = _beside(_documents(lookups), judged, ["app", "wording", "doc_id"])
    window = ibis.window(group_by=_KEY, order_by="position", preceding=None, following=0)
    is_relevant = (graded.grade >= RELEVANT).fill_null(False)  # noqa: FBT003
    graded = graded.mutate(is_relevant=is_relevant)
    graded = graded.mutate(nth_relevant=graded.is_relevant.cast("int64").sum().over(window))
    sums = {name: value for measure in measures for name, value in _sums(graded, measure).items()}
    if sums:
        found = _beside(found, graded.group_by(*_KEY).aggregate(**sums), _KEY)
    return found.select(*_KEY, "n_judged", **{name: value for measure in measures for name, value in _values(found, measure).items()})


def _sums(graded: ir.Table, measure: str) -> dict[str, ir.Value]:
    """What a measure needs of the list of one lookup."""
    name, k = _parts(measure)
    relevant = graded.is_relevant if k is None else graded.is_relevant & (graded.position <= k)
    match name:
        case "hit" | "recall" | "precision":
            return {f"sum:{measure}": relevant.sum()}
        case "mrr":
            return {f"sum:{measure}": graded.position.min(where=relevant)}
        case "map":
            precision = ibis.ifelse(relevant, graded.nth_relevant.cast("float64") / graded.position, 0.0)
            return {f"sum:{measure}": sorted_sum(precision)}
        case "ndcg":
            return {f"sum:{measure}": sorted_sum(_gain(graded.grade, graded.position, k).fill_null(0.0))}
        case _:
            among = graded.position <= k
            return {f"sum:{measure}": (graded.grade.notnull() & among).sum(), f"listed:{measure}": among.sum()}


def _values(found: ir.Table, measure: str) -> dict[str, ir.Value]:
    """The measure of a judged lookup, never null."""
    name, k = _parts(measure)
    part = found[f"sum:{measure}"].fill_null(0)
    if name == "judged":
        return {measure: part, _listed(measure): found[f"listed:{measure}"].fill_null(0)}
    match name:
        case "hit":
            value = (part > 0).cast("int64")
        case "precision":
            value = part.cast("float64") / (k or 1)
        case "mrr":
            value = (1.0 / part.nullif(0).cast("float64")).fill_null(0.0)
        case "ndcg":
            value = part / found[f"best:{measure}"]
        case _:
            value = part.cast("float64") / found.n_relevant
    return {measure: value}
