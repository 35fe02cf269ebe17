"""`workbench slo`: words and exit codes over a real workspace."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from tests.readiness.test_review_service import OPERATOR, write_app
from workbench.cli.main import app, main
from workbench.workspace import Workspace

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SLO = """\
min_events: 20
alerts:
  - {burn_rate: 1.5, long: 12h, short: 1h, severity: page}
objectives:
  - name: answers
    indicator: availability
    target: 0.9
"""


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An app whose newest hour failed after a good morning."""
    place = tmp_path_factory.mktemp("slo")
    folder = write_app(place / "app")
    import getpass

    people = folder / "people.yaml"
    people.write_text(people.read_text().replace("os: [primary]", f"os: [primary, {getpass.getuser()}]"))
    (folder / "slo.yaml").write_text(SLO)
    with Workspace.open(place / "home", actor=OPERATOR, clock=lambda: NOW) as ws:
        ws.versions.declare(folder)
        ws.logs.record(
            {
                "requests": [
                    {
                        "request_id": f"r{n}",
                        "app": "support",
                        "ts_start": NOW - timedelta(minutes=10 * n + 1),
                        "status": "ok" if n > 6 else "error",
                    }
                    for n in range(40)
                ]
            }
        )
        ws.logs.flush()
    return place / "home"


@pytest.fixture(autouse=True)
def _here(monkeypatch, home):
    monkeypatch.setenv("WORKBENCH_HOME", str(home))


def test_all_well_is_exit_0(home):
    assert re.match(
        r"● OK   support: objectives in service\n1 objective kept\.", run("slo", "check", "support", "--at", "2026-03-02T10:50+00:00")
    )


def test_a_burning_budget_is_exit_1_and_says_how_fast(home):
    said = run("slo", "check", "support", "--at", "2026-03-02T12:00+00:00", code=1)
    assert said.startswith("✕ BURNING FAST   support: objectives in service\nanswers: The budget burns 1.75 times too fast over 12h")
    assert "and 10 times in the last 1h; the line is 1.5 times." in " ".join(said.split())


def test_show_tells_each_line_and_is_no_verdict(home):
    said = run("slo", "show", "support", "--at", "2026-03-02T12:00+00:00")
    assert "answers: alert lines" in said
    assert re.search(r"BURNING FAST\s+1\.5×\s+12h & 1h\s+1\.75×\s+40\s+10\.00×\s+6\s+page", said)


def test_no_requests_are_exit_3_not_a_kept_objective(home):
    said = run("slo", "check", "support", "--at", "2026-05-02T12:00+00:00", code=3)
    assert "○ NO DATA" in said
    assert "no traffic is not a kept objective" in said


def test_json_says_the_same_with_the_exit_code(home):
    said = json.loads(run("slo", "check", "support", "--at", "2026-03-02T12:00+00:00", "--json", code=1))
    (objective,) = said["objectives"]
    assert (said["exit_code"], objective["state"], objective["reason"]) == (1, "BURNING_FAST", "burning")
    assert objective["events"] == {"good": 33, "bad": 7, "undecided": 0}
    assert {alarm["state"] for alarm in said["alarms"]} <= {"INSUFFICIENT", "QUIET"}


def test_list_shows_what_is_promised(home):
    said = run("slo", "list", "support")
    assert re.search(r"answers\s+no error and no timeout\s+90 %\s+28d\s+–\s+20\s+1\.5× over 12h & 1h", said)
    assert json.loads(run("slo", "list", "support", "--json"))[0]["min_events"] == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "suport"], 'app "suport": nobody registered it; did you mean "support"?'),
        (["check", "support", "--at", "yesterday"], "--at yesterday: no moment; needed: a day and time with its offset"),
        (["show", "support", "--at", "2026-03-02T12:00"], "--at 2026-03-02T12:00: it has no time zone"),
    ],
)
def test_a_slip_is_named(monkeypatch, capsys, words, message):
    monkeypatch.setattr("sys.argv", ["workbench", "slo", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
