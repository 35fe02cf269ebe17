"""The whole story, told by the wheel through the real gateway and the real chat; and a loud end when it comes out otherwise."""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.wheels import python
from workbench.demo.story import EXPECTED, FIRST_LIVE_CUSTOMER, LATER_REHEARSALS, REHEARSAL, SECOND_REHEARSAL, faults_of, run_story
from workbench.errors import NotPermitted
from workbench.ledger.audit import entries_of, verify
from workbench.readiness.model import ReviewVerdict
from workbench.release.model import Release, State
from workbench.workspace import Workspace


def test_the_customers_of_the_story_are_distinct():
    shares = (*REHEARSAL, SECOND_REHEARSAL, *LATER_REHEARSALS)
    taken = [set(range(share.first_customer, share.first_customer + share.n)) for share in shares]
    assert sum(map(len, taken)) == len(set().union(*taken)) == FIRST_LIVE_CUSTOMER


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_alone_tells_the_story_in_another_folder(wheel: Path, tmp_path: Path):
    site, home = tmp_path / "site", tmp_path / "elsewhere" / "home"
    zipfile.ZipFile(wheel).extractall(site)
    home.parent.mkdir()
    where = python("-c", "import workbench; print(workbench.__file__)", cwd=home.parent, PYTHONPATH=str(site))
    assert where.stdout.startswith(str(site))
    told = python("-m", "workbench", "demo", cwd=home.parent, PYTHONPATH=str(site), WORKBENCH_HOME=str(home))
    assert told.returncode == 0, told.stdout + told.stderr

    # the route, the releases and the log agree
    with Workspace.open(home) as ws:
        route = ws.releases.status("support")
        assert (route.candidate, route.share) == (None, 0.0)
        assert route.names[route.stable] == "v2"
        taken_back = next(release for release in ws.releases.history("support") if release.state is State.ROLLED_BACK)
        volumes = ws.metrics.query("volume", app="support", by=["arm", "bundle"])
        by_arm = {(row["arm"], row["bundle"]): row["volume"] for row in volumes.iter_rows(named=True)}
        assert by_arm["candidate", taken_back.bundle_id] > 0
        assert ("stable", taken_back.bundle_id) not in by_arm

        # every delivery of an approval came twice, and counted once
        with ws.ledger.read() as connection:
            assert verify(connection).is_whole
            approved = Counter(entry.subject for entry in entries_of(connection, "release.approve", app="support"))
        assert approved == {f"support.{number}": 1 for number in (4, 5, 6, 7)}

        # the controller took back the two that failed, each where it failed, and carried the good one through every step
        did = {release.release_id: _acts(ws, release) for release in ws.releases.history("support")}
        assert did["support.5"] == [("ROLLBACK", 0.1)]
        assert did["support.6"] == [("PROMOTE", 0.1), ("PROMOTE", 0.25), ("ROLLBACK", 0.5)]
        assert did["support.7"] == [("PROMOTE", 0.1), ("PROMOTE", 0.25), ("PROMOTE", 0.5)]


def _acts(ws: Workspace, release: Release) -> list[tuple[str, float]]:
    """What the controller did with a release, and at which share."""
    decisions = [each for each in ws.releases.decisions(release.release_id) if each.inputs["act"]]
    assert all(each.is_whole for each in decisions)
    return [(each.decision, release.plan.steps[each.step].share) for each in decisions]


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
        run_story(ws, rehearsal=(replace(REHEARSAL[0], n=1),), second_rehearsal=replace(SECOND_REHEARSAL, n=1400))
