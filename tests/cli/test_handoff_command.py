"""`workbench handoff` as a person types it: the queue, the item with its talk, one decision bound to what was printed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.cli.test_commands import RUNNER, fails, run
from tests.controls.desk import MAIL, PROPOSED, new
from tests.controls.tiny import write_bundle
from workbench.cli.main import app
from workbench.controls.handoff import Mode
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

KEY = "0f" * 32


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an app whose operator is whoever runs this."""
    (tmp_path / "vault.key").write_text(KEY + "\n")
    monkeypatch.setenv("WORKBENCH_VAULT_KEY_FILE", str(tmp_path / "vault.key"))
    folder = tmp_path / "app"
    folder.mkdir()
    declare(folder, risk_tier="low")
    run("bundle", "register", folder / "bundles" / "v1")
    return folder


def declare(folder: Path, **changes: str) -> None:
    about: Mapping[str, object] = {"app": "support", "title": "Support", "serving": "hosted", **changes}
    write_bundle(folder, "v1", app=about)
    people = {"owner": {"os": [login_of_process()], "roles": {"*": ["admin", "operator"]}}}
    (folder / "people.yaml").write_text(yaml.safe_dump({"people": people}))


def open_item(handoff_id: str = "h1", **changes) -> None:
    with Workspace.open() as ws:
        ws.handoffs.open(new(handoff_id, app="support", created_at=datetime.now(UTC), **changes))


def digest_in(text: str) -> str:
    found = re.search(r"handoff approve \S+ --shown ([0-9a-f]{64})", text)
    assert found, text
    return found[1]


def result(handoff_id: str = "h1"):
    with Workspace.open() as ws:
        return ws.handoffs.result(handoff_id, "support")


def test_an_item_is_listed_shown_claimed_and_approved_by_the_printed_command(home: Path):
    open_item()
    listed = run("handoff", "list")
    assert "1 item waits for a person." in listed
    assert re.search(r"(?m)^ *h1 +support +○ OPEN +answer, withheld +never_auto +refund +.*, in \d+ min", listed), listed
    assert MAIL not in listed
    page = run("handoff", "show", "h1")
    assert MAIL in page
    assert PROPOSED in page
    assert "is CLAIMED by owner until" in run("handoff", "claim", "h1")
    assert "is OPEN; due at" in run("handoff", "release", "h1")
    command = re.search(r"(?m)^ *workbench (handoff approve .*)$", page)[1]
    assert "is APPROVED by owner at" in run(*command.split())
    assert "is APPROVED by owner at" in run(*command.split()), "twice is once"
    assert result().answer == PROPOSED
    assert run("handoff", "list").strip() == "nothing waits for a person"
    assert "→ DELIVERED" in run("handoff", "list", "support", "--all")


def test_an_answer_in_own_words_comes_from_the_line_a_file_or_the_standard_input(home: Path, tmp_path: Path):
    (tmp_path / "answer.txt").write_text("We call you.\n")
    for name, words, given in (
        ("h1", ("--text", "We call you.\n"), ""),
        ("h2", ("--file", tmp_path / "answer.txt"), ""),
        ("h3", ("--file", "-"), "We call you.\n"),
    ):
        open_item(name)
        digest = digest_in(run("handoff", "show", name))
        done = RUNNER.invoke(app, ["handoff", "edit", name, "--shown", digest, *map(str, words)], input=given)
        assert done.exit_code == 0, done.output
        assert "is ANSWERED by owner" in done.output
        assert result(name).answer == "We call you.\n"


def test_a_rejection_needs_a_reason_and_reaches_the_client_without_it(home: Path):
    open_item()
    digest = digest_in(run("handoff", "show", "h1"))
    run("handoff", "reject", "h1", "--shown", digest, code=2)
    assert "is REJECTED by owner" in run("handoff", "reject", "h1", "--shown", digest, "--reason", "not our customer")
    assert (result().decision, result().answer) == ("rejected", None)


def test_everything_printed_is_also_json(home: Path):
    open_item()
    assert [item["handoff_id"] for item in json.loads(run("handoff", "list", "--json"))] == ["h1"]
    item = json.loads(run("handoff", "show", "h1", "--json"))
    assert item["draft"]["proposed"] == PROPOSED
    assert json.loads(run("handoff", "claim", "h1", "--json"))["claimed_by"] == "owner"
    digest = item["handoff"]["shown_digest"]
    assert json.loads(run("handoff", "approve", "h1", "--shown", digest, "--json"))["decision"] == "approved"


def test_refusals_end_with_2_and_say_nothing_of_the_talk(home: Path, monkeypatch, capsys):
    open_item()
    for words, expected in (
        (("show", "h9"), "there is none of this id"),
        (("approve", "h1", "--shown", "0" * 64), "look at it again, then decide"),
        (("edit", "h1", "--shown", "0" * 64), "one of --text and --file"),
        (("edit", "h1", "--shown", "0" * 64, "--text", "a", "--file", "b"), "given twice"),
        (("edit", "h1", "--shown", "0" * 64, "--file", "/no/such"), "No such file"),
        (("list", "shop"), "nobody registered it"),
    ):
        message = fails(monkeypatch, capsys, "handoff", *words)
        assert expected in message, message
        assert MAIL not in message


def test_at_high_risk_a_login_reads_but_does_not_decide(home: Path, monkeypatch, capsys):
    declare(home, risk_tier="high")
    run("app", "register", home)
    open_item()
    digest = digest_in(run("handoff", "show", "h1"))
    assert "takes a verified identity" in fails(monkeypatch, capsys, "handoff", "approve", "h1", "--shown", digest)
    assert result().decision is None


def test_without_a_key_nothing_can_be_held_and_a_bad_one_is_named_and_not_quoted(home: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.delenv("WORKBENCH_VAULT_KEY_FILE")
    with Workspace.open() as ws:
        assert not ws.handoffs.can_hold("support")
    open_item(mode=Mode.FLAG)
    assert "Its text is not kept" in run("handoff", "show", "h1")
    monkeypatch.setenv("WORKBENCH_VAULT_KEY", "geheim" * 10)
    message = fails(monkeypatch, capsys, "handoff", "list")
    assert "WORKBENCH_VAULT_KEY: 60 characters that are no key; needed: 64 hexadecimal digits" in message
    assert "geheim" not in message
    with Workspace.open() as ws:
        assert "geheim" not in repr(ws.settings)


def test_the_key_file_may_not_lie_in_the_workspace(home: Path, tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "workspace" / "vault.key").write_text(KEY)
    monkeypatch.setenv("WORKBENCH_VAULT_KEY_FILE", str(tmp_path / "workspace" / "vault.key"))
    assert "lies in the workspace" in fails(monkeypatch, capsys, "handoff", "list")
