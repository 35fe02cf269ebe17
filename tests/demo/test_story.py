"""The whole story in a real workspace: three reviews, three verdicts, and a loud end when one differs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from workbench.demo.place import fresh_workspace
from workbench.demo.story import EXPECTED, TRAFFIC, faults_of, run_story
from workbench.errors import NotPermitted
from workbench.readiness.model import ReviewVerdict
from workbench.workspace import Workspace

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SMALL = tuple(replace(share, n=min(share.n, 1400)) for share in TRAFFIC)


def test_the_customers_of_the_story_are_distinct():
    taken = [set(range(share.first_customer, share.first_customer + share.n)) for share in TRAFFIC]
    assert sum(map(len, taken)) == len(set().union(*taken)) == 18_040


@pytest.mark.slow
def test_the_story_comes_out_as_told(tmp_path):
    steps = []
    with fresh_workspace(tmp_path):
        pass
    with Workspace.open(tmp_path, clock=lambda: NOW) as ws:
        result = run_story(ws, traffic=SMALL, progress=lambda *step: steps.append(step))
        assert ws.metrics.value("volume", app="support", where={}).n == result.n_requests
    assert result.is_as_told, result.faults
    assert {review.bundle_name: review.verdict for review in result.reviews} == EXPECTED
    bad = next(review for review in result.reviews if review.bundle_name == "v3")
    assert {"violation", "latency"} <= set(bad.deciding)
    assert all(done <= total for _, done, total in steps)
    assert steps[-1] == ("readiness reviews", 3, 3)
    wrong = [replace(bad, verdict=ReviewVerdict.GO)]
    assert faults_of(wrong)[0].startswith("v3 is GO where NO_GO was expected")


def test_nobody_acts_in_the_name_of_the_demos_people_in_a_real_workspace(tmp_path):
    with Workspace.open(tmp_path, clock=lambda: NOW) as ws, pytest.raises(NotPermitted):
        run_story(ws, traffic=SMALL)
