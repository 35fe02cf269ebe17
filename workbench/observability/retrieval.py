"""A recorded run of a retrieval system against judgments: every measure by topic, and its mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.errors import UsageError
from workbench.stats.ranking import CUT_MEASURES, MEASURES, evaluate, is_measure, mean, ranking

_MORE = ("success_1", "success_5", "success_10", "ndcg_cut_5", "ndcg_cut_10", "judged_10")
DEFAULT_MEASURES: tuple[str, ...] = (
    "map",
    "Rprec",
    "bpref",
    "recip_rank",
    "ndcg",
    "P_5",
    "P_10",
    "recall_5",
    "recall_10",
    "recall_100",
    *_MORE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What the judgments say of a run."""

    measures: tuple[str, ...]
    topics: Mapping[str, Mapping[str, float]]
    """Topic to measure to value, in the order of the topics' names."""
    means: Mapping[str, float]
    """Measure to its mean over those topics."""
    unanswered: tuple[str, ...]
    """Judged topics of which the run has no list. They count as 0 where the report is complete, else not at all."""
    unjudged: tuple[str, ...]
    """Topics of the run that nobody judged; they are in no number."""
    is_complete: bool


def evaluated(
    run: Mapping[str, Mapping[str, float]],
    grades: Mapping[str, Mapping[str, int]],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    is_complete: bool = False,
) -> RunReport:
    """The report on a run.

    Args:
        run: topic to document to score.
        grades: topic to judged document to grade.
        measures: as `stats.ranking` names them.
        is_complete: whether a judged topic without a list counts as 0, as trec_eval's `-c` does; else it is left out.

    Raises:
        UsageError: a measure is unknown, or no topic of the run was judged.
    """
    for name in measures:
        if not is_measure(name):
            known = f"{', '.join(MEASURES)}, or {', '.join(f'{cut}_k' for cut in CUT_MEASURES)} such as success_5"
            raise UsageError(f"measure {name}", seen="there is none of this name", needed=known)
    answered = sorted(run.keys() & grades.keys())
    unanswered = tuple(sorted(grades.keys() - run.keys()))
    if not answered:
        seen = f"none of its {len(run):,} topics is among the {len(grades):,} that were judged"
        raise UsageError("run", seen=seen, needed="topics that both name alike", next_step="compare the first column of both files")
    counted = sorted(grades) if is_complete else answered
    topics = {topic: evaluate(ranking(run.get(topic, {})), grades[topic], measures) for topic in counted}
    return RunReport(
        measures=tuple(measures),
        topics=topics,
        means={name: mean(list(topics.values()), name) for name in measures},
        unanswered=unanswered,
        unjudged=tuple(sorted(run.keys() - grades.keys())),
        is_complete=is_complete,
    )
