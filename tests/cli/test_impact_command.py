"""`workbench impact` and its report as a person types them."""

from __future__ import annotations

import getpass
import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.observability.test_impact import KPIS, Town
from tests.readiness.test_review_service import OPERATOR, write_app
from workbench.cli.main import app
from workbench.workspace import Workspace

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with one app, two bundles and a release that divided its users between them."""
    place = tmp_path_factory.mktemp("impact")
    folder = write_app(place / "app")
    declared = yaml.safe_load((folder / "app.yaml").read_text())
    (folder / "app.yaml").write_text(yaml.safe_dump({**declared, "kpis": [{**kpi, "target_date": "2030-01-01"} for kpi in KPIS]}))
    people = folder / "people.yaml"
    people.write_text(people.read_text().replace("os: [primary]", f"os: [primary, {getpass.getuser()}]"))
    town = Town("support")
    with Workspace.open(place / "home", actor=OPERATOR) as ws:
        ids = {old: ws.versions.register(folder / "bundles" / name).bundle.bundle_id for name, old in (("v1", "old"), ("v2", "new"))}
        ws.logs.record({"requests": [{**row, "bundle": ids[row["bundle"]]} for row in town.requests], "outcomes": town.outcomes})
        ws.logs.flush()
    return place / "home"


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(home))


def run(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


def test_kpis_by_period_in_words_and_as_json():
    text = run("impact", "support", "--kpi", "solved", "--by", "day")
    assert "Business impact of support, by day" in text
    assert "◔ open" in text
    found = json.loads(run("impact", "support", "--kpi", "solved", "--by", "day", "--json"))
    (kpi,) = found["kpis"]
    assert kpi["kpi"]["name"] == "solved"
    assert {period["state"] for period in kpi["periods"]} == {"COMPLETE", "OPEN"}
    assert all(period["target"] == "UNKNOWN" for period in kpi["periods"] if period["state"] == "OPEN")


def test_an_effect_by_names_and_its_loss_the_other_way_round():
    better = run("impact", "support", "--kpi", "solved", "--compare", "v2", "v1")
    assert "BETTER" in better
    assert "(v2) against" in better
    assert "absolute effect" in better
    assert "relative effect" in better
    assert "WORSE" in run("impact", "support", "--kpi", "solved", "--compare", "v1", "v2", code=1)
    assert run("impact", "support", "--kpi", "solved", "--release").splitlines()[1] == better.splitlines()[1]


def test_a_broken_split_is_a_no_without_a_number():
    found = json.loads(run("impact", "support", "--kpi", "solved", "--release", "--where", "status=handed_off", "--json", code=1))
    assert found[0]["finding"]["reason"] == "SPLIT_MISMATCH"
    assert found[0]["measured"] == []
    assert found[0]["candidate"]["value"] is None


def test_nothing_to_compare_is_not_enough_evidence():
    assert "NO_TRAFFIC" in run("impact", "support", "--compare", "v2", "v1", "--unrouted", "--json", code=3)


@pytest.mark.parametrize(
    ("options", "asked", "code"),
    [
        (["--kpi", "solved"], [], 0),
        (["--kpi", "solved", "--window", "1h"], [], 3),
        (["--kpi", "solved", "--compare", "v1", "v2"], [], 1),
        (["--compare", "v2", "v1", "--unrouted"], [], 3),
    ],
)
def test_the_report_ends_as_impact_does_and_says_first_what_decides(tmp_path: Path, options, asked, code):
    """Nothing to compare is no reason against KPIs that have their targets, and a loss is one although they have."""
    alone = run("impact", "support", *options, code=code)
    said = run("report", "impact", "support", *options, "--html", tmp_path / "impact.html", code=code)
    assert said.splitlines()[0] == alone.splitlines()[0], "the banner that decides, with what it is of"
    decides, beside = said.split("Beside it, with no part in the exit code:")
    assert ("against" in decides.splitlines()[0]) == ("--compare" in options) != ("against" in beside.strip().splitlines()[0])


def test_the_report_is_a_file_with_every_figure_that_fetches_nothing(tmp_path: Path):
    page = tmp_path / "impact.html"
    said = run("report", "impact", "support", "--by", "day", "--html", page)
    assert f"wrote {page}" in said.replace("\n", "")
    text = page.read_text()
    assert text.count('class="wb-figure"') == 3 * len(KPIS) + len(KPIS)
    assert not re.search(r"<(?:script|img|iframe)[^>]+src=|<link\b", text)
    assert 'showSendToCloud": false' in text


@pytest.mark.parametrize("words", [["--kpi", "slved"], ["--by", "year"], ["--where", "colour=red"], ["--compare", "v2", "v9"]])
def test_what_cannot_be_meant_is_wrong_use(words):
    from workbench.errors import UsageError

    result = RUNNER.invoke(app, ["impact", "support", *words])
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == 2
