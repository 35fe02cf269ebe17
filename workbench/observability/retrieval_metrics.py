"""The metrics of retrieval: how well lookups find what was judged relevant, and what can be said of them without judgments.

Each counts lookups, not requests. How many of all lookups were judged stands beside each number as its measured share; what the list of a
judged lookup holds that nobody judged counts as not relevant, and `retrieval_judged@10` says how much that is.
"""

from __future__ import annotations

import re

from workbench.observability.lookups import CUT
from workbench.observability.metric import Column, Kind, Metric
from workbench.observability.model import Direction

_PREFIX = "retrieval_"
_OVER = "over judged lookups, those whose query has judgments with a relevant document; what nobody judged counts as not relevant"
_FAMILY = re.compile(rf"{_PREFIX}({CUT.pattern})")


def _column(name: str) -> Column:
    return lambda t: t[f"lookup:{name}"]


def _count(name: str) -> Column:
    return lambda t: t[f"lookup:{name}"].fill_null(0).cast("int64")


def _metric(
    name: str,
    kind: Kind,
    description: str,
    formula: str,
    *,
    y: str,
    x: str,
    of: str = "n",
    unit: str = "share",
    direction: Direction = Direction.HIGHER,
    within: tuple[float, float] | None = None,
) -> Metric:
    """Sums over the lookups of each request: `y` by `x`, whose count is n; `of` are those that should count."""
    whole = kind is Kind.RATE
    return Metric(
        name=name,
        unit=unit,
        direction=direction,
        description=description,
        formula=formula,
        kind=kind,
        y=_count(y) if whole else _filled(y),
        x=_count(x) if whole else _float(x),
        k=_count(x),
        eligible=_count(of),
        measured=_count(x),
        within=within,
        needs=frozenset(f"lookup:{part}" for part in (y, x, of) if not part.startswith("listed@")),
    )


def _filled(name: str) -> Column:
    return lambda t: _column(name)(t).fill_null(0.0)


def _float(name: str) -> Column:
    return lambda t: _count(name)(t).cast("float64")


def _judged(name: str, measure: str, kind: Kind, description: str, formula: str, *, unit: str = "share") -> Metric:
    within = (0.0, 1.0) if kind is Kind.MEAN else None
    return _metric(
        f"{_PREFIX}{name}",
        kind,
        description,
        f"{formula}, {_OVER}; n counts judged lookups",
        y=measure,
        x="n_judged",
        unit=unit,
        within=within,
    )


def at(name: str, k: int) -> Metric:
    """The metric `retrieval_NAME@k`."""
    measure, first = f"{name}@{k}", "first document" if k == 1 else f"first {k} documents"
    match name:
        case "hit":
            formula = f"lookups with a relevant document among their {first} / lookups"
            return _judged(measure, measure, Kind.RATE, f"Share of judged lookups whose {first} held something relevant.", formula)
        case "recall":
            formula = f"mean of (relevant documents among the {first} / relevant documents that were judged)"
            return _judged(measure, measure, Kind.MEAN, f"Share of what is relevant that the {first} held.", formula)
        case "precision":
            formula = f"mean of (relevant documents among the {first} / {k})"
            return _judged(measure, measure, Kind.MEAN, f"Share of the {first} that is relevant.", formula)
        case "ndcg":
            formula = f"mean of (Σ grade / log2(rank + 1) over the {first} / the same of the best list), gain linear"
            description = f"How near the {first} are to the best order, by grade."
            return _judged(measure, measure, Kind.MEAN, description, formula, unit="score")
        case _:
            description = f"Share of the {first} of judged lookups that somebody judged; the others count as not relevant."
            formula = f"judged documents among the {first} of judged lookups / documents there; n counts documents"
            return _metric(
                f"{_PREFIX}{measure}",
                Kind.RATE,
                description,
                formula,
                y=measure,
                x=f"listed@{k}",
                of=f"listed@{k}",
                direction=Direction.NEITHER,
            )


def family(name: str) -> Metric | None:
    """The metric of a name such as `retrieval_hit@7`; None for another name."""
    match = _FAMILY.fullmatch(name)
    return at(match[2], int(match[3])) if match else None


RETRIEVAL = (
    *(at("hit", k) for k in (1, 5, 10)),
    *(at("recall", k) for k in (5, 10)),
    at("precision", 5),
    at("ndcg", 10),
    _judged(
        "recall",
        "recall",
        Kind.MEAN,
        "Share of what is relevant that a lookup returned.",
        "mean of (relevant documents / relevant judged ones)",
    ),
    _judged(
        "mrr",
        "mrr",
        Kind.MEAN,
        "How early the first relevant document stands: 1 at the top, 0.5 in the second place.",
        "mean of 1 / rank of the first relevant document, 0 without one",
        unit="score",
    ),
    _judged(
        "map",
        "map",
        Kind.MEAN,
        "Mean average precision: how early all that is relevant stands.",
        "mean of (Σ precision where each relevant document stands / relevant judged ones)",
        unit="score",
    ),
    _judged(
        "ndcg",
        "ndcg",
        Kind.MEAN,
        "How near the whole list is to the best order, by grade.",
        "mean of (Σ grade / log2(rank + 1) / the same of the best list), gain linear",
        unit="score",
    ),
    at("judged", 10),
    _metric(
        f"{_PREFIX}judged_rate",
        Kind.RATE,
        "Share of lookups whose query was judged: what the metrics against judgments rest on.",
        "lookups whose query has judgments with a relevant document / lookups",
        y="n_judged",
        x="n",
    ),
    _metric(
        f"{_PREFIX}empty_rate",
        Kind.RATE,
        "Share of lookups that found nothing at all.",
        "lookups with an empty list / lookups that report their list",
        y="n_empty",
        x="n_known",
        direction=Direction.LOWER,
    ),
    _metric(
        f"{_PREFIX}repeat_rate",
        Kind.RATE,
        "Share of returned documents that the same lookup returned before.",
        "documents that stand further up in their list / documents; n counts documents",
        y="n_repeated",
        x="n_documents",
        of="n_documents",
        direction=Direction.LOWER,
    ),
    _metric(
        f"{_PREFIX}top_score",
        Kind.MEAN,
        "Mean score of the first document, in the unit of the index; it says that something changed, not what is better.",
        "mean score of the first document, over lookups whose first document has one",
        y="top_score",
        x="n_scored",
        unit="score",
        direction=Direction.NEITHER,
    ),
    _metric(
        f"{_PREFIX}score_gap",
        Kind.MEAN,
        "Mean distance between the scores of the first and the second document: near 0, the order hardly means anything.",
        "mean of (score of the first - score of the second document), over lookups with two scores",
        y="score_gap",
        x="n_gaps",
        unit="score",
        direction=Direction.NEITHER,
    ),
)
"""In the order in which people read them."""
