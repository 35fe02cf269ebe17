"""Figures of a release whose numbers are at their edges."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from tests.release.judging import AT, FAILURES, judged, rows, with_values
from workbench.release.tracing import Point
from workbench.views.release_figures import evidence_figure, exposure_figure, interval_figure


def points(*, stable: int, candidate: int) -> tuple[Point, ...]:
    """Two looks at 4,000 users, so many of whom failed in each arm."""
    batch = rows(4000, 9)
    failed = np.zeros(4000)
    for arm, n in ((0, stable), (1, candidate)):
        failed[np.flatnonzero(batch.arm == arm)[:n]] = 1
    judgement = judged(with_values(batch, failure_rate=failed), FAILURES)
    return tuple(Point(at=AT + timedelta(minutes=minute), judgement=judgement) for minute in range(2))


@pytest.mark.parametrize(("stable", "candidate", "estimate"), [(0, 3, math.inf), (3, 0, 0.0), (0, 0, None)])
def test_an_arm_without_events_has_a_figure_and_words(stable: int, candidate: int, estimate: float | None):
    seen = points(stable=stable, candidate=candidate)
    assert seen[-1].judgement.metrics[0].estimate == estimate
    drawing = interval_figure(seen, "failure_rate")
    assert drawing.finding
    assert ("∞" in drawing.finding) == (estimate is not None)
    assert "inf" not in drawing.finding
    assert evidence_figure(seen).figure.data
    assert exposure_figure(seen).figure.data
