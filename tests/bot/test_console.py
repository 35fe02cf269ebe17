"""The console plays the very bot, in the demo's workspace only, and shows what everybody sees."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.console import keyboard
from bot.movable_clock import MovableClock
from tests import forks
from tests.bot.office import acts, audit, declare, office
from tests.release.house import APP
from workbench.errors import NotPermitted
from workbench.ledger.settings import get_or_create
from workbench.workspace import DEMO, PURPOSE

SCRIPT = """\
# A release by three people
as @requester
/release start shop v2 --reason “better answers”
click approve
as @approver
click approve
as @both
click promote to 5 %
clock +31m
/release hold shop --reason it's odd
click resume
as @stranger
/rollback shop --reason I want to
as @requester
/rollback shop --reason wrong refunds
"""


@pytest.fixture
def demo(tmp_path) -> Callable[[], object]:
    home = tmp_path / "demo"
    with office(home, clock=MovableClock()) as ws:
        get_or_create(ws.ledger, PURPOSE, lambda: DEMO)
    return lambda: office(home, clock=MovableClock())


def _played(ws, script: str) -> str:
    lines: list[str] = []
    with keyboard(ws, write=lines.append) as opened:
        opened.play(script.splitlines())
    return "\n".join(lines)


def test_a_script_plays_a_whole_release_refusals_included(demo):
    with demo() as ws:
        transcript = _played(ws, SCRIPT)
        assert acts(ws) == [
            ("release.start", "requester"),
            ("release.ready", "requester"),
            ("release.approve", "approver"),
            ("release.promote", "both"),
            ("release.hold", "both"),
            ("release.resume", "both"),
            ("rollback", "requester"),
        ]
        assert {(entry.via, entry.assurance) for entry in audit(ws)} == {("console", "console")}
    for seen in (
        "# A release by three people",
        "@approver: click approve",
        "#releases, edited: ◑ APPROVED",
        "[Promote to 5 %]",
        "#releases, in the thread and in the channel:",
        "only @requester sees:",
        "needs the role approver",
        "only @stranger sees:",
        'Slack id "U000STRANGER": it belongs to nobody',
        "it is 31m later",
    ):
        assert seen in transcript


def test_every_line_repeated_changes_nothing(demo):
    twice = "\n".join(f"{line}\nretry last\nretry last" if line.startswith(("/", "click")) else line for line in SCRIPT.splitlines())
    with demo() as ws:
        _played(ws, twice)
        assert len([act for act, _ in acts(ws)]) == 7


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("frobnicate", "the console does not know it"),
        ("as @nobody", "nobody of this name has a Slack id"),
        ("as @aprover", 'did you mean "approver"'),
        ("click Launch", "sees none of this label"),
        ("retry last", "nothing was sent yet"),
        ("retry first", "after a command or a click"),
        ("clock soon", "is not a duration"),
        ("/relase status shop", 'did you mean "/release"'),
        ("help", "click LABEL"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_console_goes_on(demo, line, says):
    with demo() as ws:
        transcript = _played(ws, f"as @requester\n{line}\n/owner oncall shop")
        assert says in transcript
        assert "tier 1 is night" in transcript


def test_a_clock_that_does_not_move_says_so(demo, tmp_path):
    from workbench.workspace import utc_now

    with office(tmp_path / "demo", clock=utc_now) as ws:
        assert "does not move on command" in _played(ws, "clock +2h")


def test_a_real_workspace_has_no_console(tmp_path):
    with office(tmp_path / "real") as ws, pytest.raises(NotPermitted, match="not a demo workspace"), keyboard(ws, write=print):
        pass


def test_completion_knows_commands_people_and_buttons(demo):
    with demo() as ws, keyboard(ws, write=lambda _: None) as opened:
        opened.play(["as @requester", "/release start shop v2 --reason x"])
        assert opened.console.completions("/release re") == ["/release reject", "/release reviewed", "/release resume"]
        assert "as @approver" in opened.console.completions("as")
        assert opened.console.completions("cl") == ["click Approve", "click", "clock"]


def test_a_person_without_a_slack_id_cannot_be_played(demo):
    with demo() as ws:
        assert "nobody of this name has a Slack id" in _played(ws, "as @viewer")


def test_people_who_are_declared_meanwhile_can_be_played(demo):
    with demo() as ws:
        people = ws.ownership.people(APP).model_dump(mode="json", exclude_none=True)
        people["people"]["newcomer"] = {"slack": ["U77"], "roles": {APP: ["viewer"]}}
        declare(ws, people=people)
        assert "shop: owned by chief" in _played(ws, "as @newcomer\n/owner show shop")


def test_a_mention_reaches_the_bot_as_slack_writes_it(demo):
    with demo() as ws:
        transcript = _played(ws, "as @requester\n/owner override shop @approver --until 4h --reason night is ill")
        assert "approver stands in at tier 1" in transcript


def test_the_script_file_is_played_by_the_command(demo, tmp_path, monkeypatch):
    script = tmp_path / "script.txt"
    script.write_text("as @requester\n/owner oncall shop\n", encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "demo"))
    done = forks.run([sys.executable, "-m", "bot", "console", "--script", script], cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tier 1 is night" in done.stdout


def test_a_later_console_shows_an_open_release_anew_and_its_buttons_work(demo):
    with demo() as ws:
        _played(ws, "as @requester\n/release start shop v2 --reason better")
    with demo() as ws:
        transcript = _played(ws, "as @approver\n/release status shop\nclick approve\nas @both\nclick promote to 5 %")
        assert [act for act, _ in acts(ws)][-2:] == ["release.approve", "release.promote"]
        assert "◕ CANARY" in transcript
