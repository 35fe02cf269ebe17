"""The release watch on a canary that was taken back: its page, its figures, its report, and the same words everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.release.canary import Live
from tests.release.conftest import clock, live  # noqa: F401 - fixtures
from tests.release.house import APP
from tests.release.test_replay import carried
from workbench import notebook
from workbench.cli.main import app as command
from workbench.notebook.running import run
from workbench.views.page import page_text
from workbench.views.release_figures import evidence_figure, exposure_figure, interval_figure

WATCH = Path(__file__).parents[2] / "notebooks" / "03_release_watch.ipynb"


@pytest.fixture
def taken_back(live: Live, monkeypatch) -> Live:  # noqa: F811
    monkeypatch.setenv("WORKBENCH_PERSON", "requester")
    carried(live, failing={"stable": 0.1, "candidate": 0.5})
    return live


@pytest.mark.slow
def test_the_release_watch_shows_how_a_release_went(taken_back: Live):
    page = run(WATCH, {"app": APP}, workspace_home=taken_back.ws.home)
    texts = {cell.id: [output.data["text/plain"] for output in cell.get("outputs", [])] for cell in page.cells if cell.get("outputs")}
    release = taken_back.releases.history(APP)[-1]
    judged = taken_back.releases.decision(release.release_id).inputs["judgement"]
    assert texts["evidence"][0].startswith("The evidence of harm passed its limit of 20, most of it from failure_rate")
    assert texts["exposure"][0].startswith(f"The candidate served {judged['units_candidate']} users")
    assert texts["metrics"][0].startswith("failure_rate is harmful")
    assert texts["why"][0].startswith("↩ ROLLBACK")
    assert texts["replay"][0].startswith("= SAME")
    assert release.release_id in texts["history"][0]
    figures = [output for cell in page.cells for output in cell.get("outputs", []) if "application/vnd.plotly.v1+json" in output.data]
    assert len(figures) == 2


@pytest.mark.slow
def test_the_way_of_a_release_ends_where_its_last_decision_stood(taken_back: Live):
    release = taken_back.releases.history(APP)[-1]
    points = taken_back.releases.trace(release.release_id)
    last = taken_back.releases.decision(release.release_id).inputs["judgement"]
    judged = points[-1].judgement.as_json()
    assert {name: judged[name] for name in ("e_harm", "rows", "units_candidate", "high_water")} == {
        name: last[name] for name in ("e_harm", "rows", "units_candidate", "high_water")
    }
    assert [point.at for point in points] == sorted(point.at for point in points)
    watch = notebook.releases(taken_back.ws, APP)
    panel = watch.explore()
    assert panel.metric.options == ("failure_rate",)
    assert repr(panel) == repr(watch.interval("failure_rate"))


def test_what_was_never_judged_has_figures_that_say_so():
    for figure in (evidence_figure(()), exposure_figure(()), interval_figure((), "failure_rate")):
        assert figure.finding == "Nothing of this release was judged"
        assert not figure.figure.data


@pytest.mark.slow
def test_a_release_without_a_canary_has_a_page_too(live: Live, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WORKBENCH_PERSON", "requester")
    watch = notebook.releases(live.ws, APP, "shop.1")
    assert "The controller decided nothing about it" in page_text(watch.replay())
    assert "decided nothing" in page_text(watch.last_decision())
    assert watch.metrics == ()
    assert repr(watch.explore()).startswith("Nothing of this release was judged")


@pytest.mark.slow
def test_the_report_of_a_release_is_one_file_that_fetches_nothing(taken_back: Live, tmp_path: Path):
    release = taken_back.releases.history(APP)[-1].release_id
    html = tmp_path / "release.html"
    told = CliRunner(env={"WORKBENCH_HOME": str(taken_back.ws.home)}).invoke(command, ["report", "release", release, "--html", str(html)])
    assert told.exit_code == 0, told.output
    assert "The same judge on two halves of the stable arm" in " ".join(told.output.split())
    text = html.read_text()
    for words in (
        "The evidence of harm passed its limit",
        "failure_rate is harmful",
        f"Decisions about {release}",
        "made again from the log",
    ):
        assert words in text
    assert 'src="http' not in text
