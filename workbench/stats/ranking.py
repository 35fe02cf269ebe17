"""How good a ranked list is against judgments: success, precision, recall, reciprocal rank, average precision, nDCG, bpref.

The rules are those of NIST's trec_eval 9, so that its numbers and these are the same:

- A list is ordered by score, the best first; equal scores by document id, the greatest first. Scores count in single precision.
- A document without a judgment is not relevant; `judged_k` says how many of the first k have one. bpref looks at judged ones only.
- A grade of 1 or more is relevant. The gain of a document is its grade (linear), discounted by log2(rank + 1).
- A list that ends before k is as if irrelevant documents followed.
- A topic without a relevant document scores 0 on everything.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

RELEVANT = 1
"""The least grade of a relevant document."""
MEASURES = ("map", "Rprec", "bpref", "recip_rank", "ndcg")
"""Measures of a whole list, as trec_eval names them."""
CUT_MEASURES = ("P", "recall", "success", "ndcg_cut", "judged")
"""Measures of the first k documents; they are asked for as `P_10`. `judged_10` is the share of those that have a judgment."""
_CUT = re.compile(rf"({'|'.join(CUT_MEASURES)})_([1-9][0-9]{{0,5}})")


def ranking(scores: Mapping[str, float]) -> tuple[str, ...]:
    """The documents, best first, by the rules above.

    >>> ranking({"a": 1.0, "b": 2.0, "c": 1.0})
    ('b', 'c', 'a')
    """
    return tuple(sorted(scores, key=lambda doc: (_single(scores[doc]), doc), reverse=True))


def _single(score: float) -> float:
    """The score as a number of single precision; one that is too large for that is infinite."""
    try:
        return float(struct.unpack("f", struct.pack("f", score))[0])
    except OverflowError:
        return math.copysign(math.inf, score)


def is_measure(name: str) -> bool:
    """Whether `evaluate` knows the measure."""
    return name in MEASURES or _CUT.fullmatch(name) is not None


def evaluate(ranked: Sequence[str], grades: Mapping[str, int], measures: Iterable[str]) -> dict[str, float]:
    """Measure to its value for one topic.

    Args:
        ranked: document ids, the best first, each once.
        grades: judged document to its grade.
        measures: names such as `map`, `recip_rank`, `ndcg_cut_10`, `success_5`.

    Raises:
        ValueError: a measure is unknown, or a document stands in the list twice.

    >>> evaluate(["a", "b", "c"], {"b": 1, "x": 2}, ["success_1", "recall_2", "recip_rank"])
    {'success_1': 0.0, 'recall_2': 0.5, 'recip_rank': 0.5}
    """
    if len(set(ranked)) < len(ranked):
        raise ValueError("a ranked list names each document once")
    seen = _Seen(found=tuple(grades.get(doc) for doc in ranked), judged=tuple(grades.values()))
    return {name: _value(name, seen) for name in measures}


def mean(topics: Sequence[Mapping[str, float]], measure: str) -> float:
    """The mean of a measure over topics, each of which counts alike.

    Raises:
        ValueError: without topics.
    """
    if not topics:
        raise ValueError("no topics, no mean")
    return math.fsum(topic[measure] for topic in topics) / len(topics)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A ranked list as its judgments see it."""

    found: tuple[int | None, ...]
    """Grade by rank; None where nobody judged."""
    judged: tuple[int, ...]
    """Every grade of the topic."""

    @property
    def relevant(self) -> tuple[bool, ...]:
        return tuple(grade is not None and grade >= RELEVANT for grade in self.found)

    @property
    def n_relevant(self) -> int:
        return sum(grade >= RELEVANT for grade in self.judged)


def _value(name: str, seen: _Seen) -> float:
    if name in _WHOLE:
        return _WHOLE[name](seen)
    match = _CUT.fullmatch(name)
    if match is None:
        raise ValueError(
            f"no measure is called {name}; there are {', '.join(MEASURES)} and {', '.join(f'{cut}_k' for cut in CUT_MEASURES)}"
        )
    return _AT[match[1]](seen, int(match[2]))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _precision(seen: _Seen, k: int) -> float:
    return sum(seen.relevant[:k]) / k


def _recall(seen: _Seen, k: int) -> float:
    return _share(sum(seen.relevant[:k]), seen.n_relevant)


def _success(seen: _Seen, k: int) -> float:
    return float(any(seen.relevant[:k]))


def _judged(seen: _Seen, k: int) -> float:
    first = seen.found[:k]
    return _share(sum(grade is not None for grade in first), len(first))


def _reciprocal_rank(seen: _Seen) -> float:
    return next((1 / rank for rank, relevant in enumerate(seen.relevant, 1) if relevant), 0.0)


def _r_precision(seen: _Seen) -> float:
    return _recall(seen, seen.n_relevant)


def _average_precision(seen: _Seen) -> float:
    """Mean over all relevant documents of the precision where each stands; source: Buckley and Voorhees (2000), SIGIR, 33-40."""
    ranks = [rank for rank, relevant in enumerate(seen.relevant, 1) if relevant]
    return _share(math.fsum(nth / rank for nth, rank in enumerate(ranks, 1)), seen.n_relevant)


def _ndcg(seen: _Seen, k: int | None = None) -> float:
    """Source: Järvelin and Kekäläinen (2002), ACM TOIS 20:422-446, with the discount log2(rank + 1)."""
    return _share(_gain(seen.found[:k]), _gain(sorted(seen.judged, reverse=True)[:k]))


def _gain(grades: Sequence[int | None]) -> float:
    return math.fsum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1) if grade is not None and grade >= RELEVANT)


def _bpref(seen: _Seen) -> float:
    """Source: Buckley and Voorhees (2004), SIGIR, 25-32, in trec_eval's later form: min(R, N) pairs, not R."""
    wrong = sum(0 <= grade < RELEVANT for grade in seen.judged)
    pairs, above, total = min(wrong, seen.n_relevant), 0, 0.0
    for grade in seen.found:
        if grade is None or grade < 0:
            continue
        if grade < RELEVANT:
            above += 1
        else:
            total += 1 - min(above, seen.n_relevant) / pairs if above else 1.0
    return _share(total, seen.n_relevant)


_WHOLE: Mapping[str, Callable[[_Seen], float]] = {
    "map": _average_precision,
    "Rprec": _r_precision,
    "bpref": _bpref,
    "recip_rank": _reciprocal_rank,
    "ndcg": _ndcg,
}
_AT: Mapping[str, Callable[[_Seen, int], float]] = {
    "P": _precision,
    "recall": _recall,
    "success": _success,
    "ndcg_cut": _ndcg,
    "judged": _judged,
}
