"""The way of a release as the judge sees it: its rows once more, with a judgement at some places on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from workbench.observability.release_rows import ReleaseRows
from workbench.release.judge_model import Ints, Judgement
from workbench.release.judge_rows import steps_of
from workbench.release.judging import Memory
from workbench.release.model import Release
from workbench.release.ports import ReleaseLog

MOST_POINTS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What the judge says at one place."""

    at: datetime
    """When the log knew the rows up to there."""
    judgement: Judgement


def trace(release: Release, plan: Mapping[str, Any], log: ReleaseLog, *, most: int = MOST_POINTS) -> tuple[Point, ...]:
    """The judgements along the way, after whole batches, about equally many rows apart.

    Args:
        release: whose way it is.
        plan: what its judge was asked, as it was stored.
        log: where its rows are.
        most: points.

    Raises:
        StoreError: the log cannot be read.
    """
    memory = Memory.of(plan)
    rows = memory.reader(log, release).read()
    if not rows.n:
        return ()
    times = log.times(int(rows.batch_id[0]), int(rows.batch_id[-1]))
    shares = [step.share for step in release.plan.steps] if release.plan else [1.0]
    step, begin, points = 0, 0, []
    for end in _ends(rows, most):
        part = rows.part(begin, end)
        memory.feed(part, release.plan)
        step, begin = max(step, int(steps_of(part.share, shares).max())), end
        at = times.get(part.newest_batch)
        if at is not None:
            points.append(Point(at=at, judgement=memory.judged(release.plan, step=step, canary_s=0.0, at=at, data_at=at)))
    return tuple(points)


def _ends(rows: ReleaseRows, most: int) -> list[int]:
    """Places behind whole batches, at most so many, the last one behind all rows."""
    ends: Ints = np.flatnonzero(np.append(rows.batch_id[1:] != rows.batch_id[:-1], True)) + 1
    wanted = np.searchsorted(ends, np.linspace(0, rows.n, most + 1)[1:])
    return [int(end) for end in ends[np.unique(np.minimum(wanted, len(ends) - 1))]]
