"""Figures of a release whose numbers are at their edges."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from tests.release.judging import AT, FAILURES, judged, rows, with_values
from workbench.release.judge_kinds import Kind, Role
from workbench.release.judge_model import JudgePlan, MetricPlan
from workbench.release.tracing import Point
from workbench.views.release_figures import evidence_figure, exposure_figure, interval_figure
from workbench.views.release_watch import evidence_sections


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


@pytest.mark.parametrize(
    ("kind", "about", "finding"),
    [
        (Kind.REACHED, "stable/candidate ratio of the units that reached it", "neither shown to be safe nor harmful: 2 ("),
        (Kind.MISSED, "candidate/stable ratio of the units that missed it", "neither shown to be safe nor harmful: 1 ("),
        (Kind.MOSTLY_REACHED, "candidate/stable ratio of the units that missed it", "neither shown to be safe nor harmful: 1 ("),
        (Kind.AMOUNT, "how much the candidate loses against stable, EUR of a talk", "neither shown to be safe nor harmful: 0.5 (-∞ to ∞)"),
    ],
)
def test_a_business_result_says_what_its_number_is_of(kind: Kind, about: str, finding: str):
    """Of forty users of each arm at an even split, 20 of stable and 10 of the candidate reach it, or half of what they bring is missing."""
    batch = rows(80, 9, shares=(0.5,), arm=np.tile([0, 1], 40).astype(np.int8))
    reached = np.where(batch.arm == 1, np.arange(80) % 8 == 1, np.arange(80) % 4 == 0)
    values = {Kind.REACHED: reached, Kind.AMOUNT: 1 - 0.5 * batch.arm}.get(kind, np.arange(80) % 4 < 2)
    unit = "EUR of a talk" if kind is Kind.AMOUNT else ""
    metric = MetricPlan(name="kpi", kind=kind, role=Role.KPI, is_lower_better=False, within_us=1, unit=unit)
    judgement = judged(with_values(batch, kpi=values), JudgePlan(metrics=(*FAILURES.metrics, metric)))
    drawing = interval_figure([Point(at=AT + timedelta(minutes=minute), judgement=judgement) for minute in range(2)], "kpi")
    assert about in drawing.subtitle
    assert finding in drawing.finding
    (section,) = evidence_sections(judgement.as_json())
    shown = next(row for row in section.rows if row[0].startswith("kpi ("))
    assert ("EUR of a talk" in shown[0], shown[3].startswith("-∞")) == (kind is Kind.AMOUNT,) * 2
    assert shown[-2:] == ("40", "40")
