"""`workbench key` as a person types it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.gateway.place import APP, Place
from workbench.cli.main import app, main

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _in_the_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(place.ws.home))


def run(*words: str) -> str:
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.output


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What stands on stderr when the real entry point refuses."""
    monkeypatch.setattr("sys.argv", ["workbench", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_a_key_is_shown_once_and_never_again(place: Place):
    made = json.loads(run("key", "create", APP, "--person", "service", "--label", "shop server", "--json"))
    assert place.ws.keys.snapshot().holder(made["text"]).key_id == made["key"]["key_id"]
    secret = made["text"].rpartition("_")[2]
    later = run("key", "list") + run("key", "list", APP, "--json") + run("audit", "tail") + run("audit", "tail", "--json")
    assert made["key"]["key_id"] in later
    assert secret not in later


def test_the_new_key_stands_on_a_line_of_its_own_with_what_to_do():
    lines = run("key", "create", APP, "--person", "service").splitlines()
    assert any(line.strip().startswith("wb_") and " " not in line.strip() for line in lines)
    assert "shown this once" in " ".join(lines)


def test_a_revoked_key_is_listed_as_that(place: Place):
    key_id = place.key.split("_")[1]
    assert "is revoked" in run("key", "revoke", key_id, "--reason", "the server was sold")
    [listed] = json.loads(run("key", "list", "--json"))
    assert (listed["key_id"], listed["revoked_by"]) == (key_id, "primary")
    assert json.loads(run("audit", "tail", "-n", "1", "--json"))[0]["detail"] == {"person": "service", "reason": "the server was sold"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("key", "create", "shop", "--person", "service"), 'app "shop"'),
        (("key", "create", APP, "--person", "servce"), 'did you mean "service"'),
        (("key", "revoke", "0123456789ab"), "`workbench key list` shows them"),
        (("key", "revoke", "wb_0123456789ab_half"), "neither the id of a key nor a key"),
        (("key", "list", "shop"), 'app "shop"'),
    ],
)
def test_wrong_use_is_one_message_with_the_next_step(monkeypatch, capsys, words: tuple[str, ...], says: str):
    assert says in fails(monkeypatch, capsys, *words)
