"""The whole story in a real workspace, through the real gateway and the real chat; and a loud end when it comes out otherwise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import polars as pl
import pytest

from tests.demo.stories import EARLY, SHORT
from workbench.demo.place import fresh_workspace
from workbench.demo.story import EXPECTED, FIRST_LIVE_CUSTOMER, REHEARSAL, SECOND_REHEARSAL, faults_of, run_story
from workbench.errors import NotPermitted
from workbench.ledger.audit import verify
from workbench.readiness.model import ReviewVerdict
from workbench.release.model import State
from workbench.workspace import Workspace


def test_the_customers_of_the_story_are_distinct():
    shares = (*REHEARSAL, SECOND_REHEARSAL)
    taken = [set(range(share.first_customer, share.first_customer + share.n)) for share in shares]
    assert sum(map(len, taken)) == len(set().union(*taken)) == FIRST_LIVE_CUSTOMER


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_story_comes_out_as_told(tmp_path):
    with fresh_workspace(tmp_path / "demo") as ws:
        result = run_story(ws, rehearsal=SHORT, second_rehearsal=EARLY)
        assert result.is_as_told, result.faults

        # the route, the releases and the log agree
        route = ws.releases.status("support")
        assert (route.candidate, route.share) == (None, 0.0)
        assert route.names[route.stable] == "v2"
        taken_back = next(release for release in result.releases if release.state is State.ROLLED_BACK)
        by_arm = {(row["arm"], row["bundle"]): row["volume"] for row in result.by_arm.iter_rows(named=True)}
        assert by_arm["candidate", taken_back.bundle_id] > 0
        assert ("stable", taken_back.bundle_id) not in by_arm
        assert (
            sum(by_arm.values()) == result.n_requests - ws.metrics.query("volume", by="arm").filter(pl.col("arm") == "none")["volume"].sum()
        )
        assert sum(result.units_by_arm.values()) == result.n_talks - sum(share.n for share in (*SHORT, EARLY))

        # every delivery of an approval came twice, and counted once
        acts = Counter((entry.act, entry.subject) for entry in result.audit)
        approvals = {subject: n for (act, subject), n in acts.items() if act == "release.approve"}
        assert approvals == {"support.4": 1, "support.5": 1}
        with ws.ledger.read() as connection:
            assert verify(connection).is_whole
        text = "\n".join(result.transcript)
        assert "uncovered hours in the next 14 days" in text
        assert "[Approve]" in text


def test_a_release_that_came_out_otherwise_is_told(tmp_path):
    seen = [
        type("Seen", (), {"bundle_id": ending.bundle, "kind": ending.kind, "state": ending.state, "review_id": str(place)})()
        for place, ending in enumerate(EXPECTED)
    ]
    names = {ending.bundle: ending.bundle for ending in EXPECTED}
    verdicts = {str(place): ending.verdict for place, ending in enumerate(EXPECTED) if ending.verdict}
    assert faults_of(seen, names=names, verdicts=verdicts) == ()
    assert "was expected, and did not happen" in faults_of(seen[:-1], names=names, verdicts=verdicts)[0]
    wrong = {**verdicts, "1": ReviewVerdict.GO}
    assert faults_of(seen, names=names, verdicts=wrong)[0].startswith("release of v3 ABORTED on a review GO where")


def test_nobody_acts_in_the_name_of_the_demos_people_in_a_real_workspace(tmp_path):
    with Workspace.open(tmp_path) as ws, pytest.raises(NotPermitted):
        run_story(ws, rehearsal=(replace(SHORT[0], n=1),), second_rehearsal=EARLY)
