"""Rows of the log as what the judge observes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.observability.release_rows import ReleaseRows
from workbench.release.judge_model import Column, Ints, Observation

_SLACK = 1e-9


def observation(rows: ReleaseRows, shares: Sequence[float]) -> Observation:
    """The rows, each at the step of the plan that its share belongs to.

    Args:
        rows: of one release.
        shares: of the plan's steps, ascending. A share that was set by hand belongs to the last step that it reaches.
    """
    return Observation(
        batch_id=rows.batch_id,
        seq=rows.place,
        arm=rows.arm,
        share=rows.share,
        step=steps_of(rows.share, shares),
        unit=rows.unit,
        values={name: Column(values=values, is_present=present) for name, (values, present) in rows.values.items()},
    )


def steps_of(share: np.ndarray[tuple[int], np.dtype[np.float64]], shares: Sequence[float]) -> Ints:
    """The step of each share, from 0.

    >>> steps_of(np.array([0.01, 0.05, 0.25, 0.3, 1.0]), (0.05, 0.25, 0.5)).tolist()
    [0, 0, 1, 1, 2]
    """
    reached = np.searchsorted(np.array(shares), np.nan_to_num(share) + _SLACK, side="right") - 1
    return np.asarray(np.maximum(reached, 0), dtype=np.int64)
