"""The commands as a person types them: words, exit codes, and nothing half-done."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from workbench.cli.main import app, main
from workbench.demo.place import fresh_workspace
from workbench.observability.gaps import Gap
from workbench.settings import Settings
from workbench.spec.base import is_steering
from workbench.spec.login import login_of_process
from workbench.versions.service import Versions
from workbench.workspace import Workspace

RUNNER = CliRunner()


def run(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object, code: int = 2) -> str:
    """What stands on stderr when the real entry point refuses."""
    monkeypatch.setattr("sys.argv", ["workbench", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    """The starter app as its user leaves it: filled in and registered."""
    run("init", tmp_path / "shop")
    for name in ("app.yaml", "people.yaml"):
        path = tmp_path / "shop" / name
        path.write_text(re.sub(r"^(\s+|)# (baseline|target|kill_switch|contact): ", r"\1\2: ", path.read_text(), flags=re.MULTILINE))
    run("bundle", "register", tmp_path / "shop" / "bundles" / "v1")
    return tmp_path / "shop"


def test_an_untouched_starter_is_no_go_until_it_is_filled_in(tmp_path: Path):
    run("init", tmp_path / "shop")
    run("bundle", "register", tmp_path / "shop" / "bundles" / "v1")
    review = json.loads(run("readiness", "shop", "--json", code=1))
    failed = {gate["gate_id"] for gate in review["gates"] if gate["verdict"] == "FAIL"}
    assert {"business.target", "risk.kill_switch", "risk.cover"} <= failed, failed


def test_a_starter_app_lacks_only_measurements(starter: Path):
    review = json.loads(run("readiness", "shop", "--json", code=3))
    assert review["verdict"] == "NOT_ENOUGH_EVIDENCE"
    assert {gate["verdict"] for gate in review["gates"] if gate["is_blocking"]} == {"PASS", "MISSING"}
    assert review["findings"] == []


def test_the_same_review_is_asked_twice_and_has_one_identity(starter: Path):
    first, second = (json.loads(run("readiness", "shop", "--json", code=3)) for _ in range(2))
    assert first["review_id"] == second["review_id"]


def test_a_declaration_taken_away_makes_the_review_no_go(starter: Path):
    plan = starter / "plan.yaml"
    plan.unlink()
    text = (starter / "app.yaml").read_text().replace("kill_switch:", "# kill_switch:")
    (starter / "app.yaml").write_text(text)
    run("app", "register", starter)
    assert "NO GO" in run("readiness", "shop", code=1)


def test_registering_again_changes_nothing(starter: Path):
    before = run("audit", "verify")
    run("bundle", "register", starter / "bundles" / "v1")
    assert run("app", "register", starter).strip() == "nothing changed"
    assert run("audit", "verify") == before


def test_every_list_is_also_json(starter: Path):
    bundles = json.loads(run("bundle", "list", "--json"))
    assert [bundle["bundle"]["name"] for bundle in bundles] == ["v1"]
    assert json.loads(run("app", "list", "--json"))[0]["app"] == "shop"
    assert json.loads(run("audit", "tail", "--json"))[-1]["act"] == "bundle.register"
    assert json.loads(run("owner", "gaps", "shop", "--json")) == []
    assert {row["metric"] for row in json.loads(run("metrics", "list", "--json"))} >= {"volume", "success_rate", "latency_p95"}


def test_an_altered_byte_is_named(starter: Path, tmp_path: Path):
    with sqlite3.connect(tmp_path / "workspace" / "ledger.sqlite") as connection:
        connection.execute("UPDATE audit SET subject = subject || 'x' WHERE seq = 3")
    assert "entry 3" in run("audit", "verify", code=1)


def test_a_cut_tail_is_named_and_a_kept_head_proves_it(starter: Path, tmp_path: Path):
    head = json.loads(run("audit", "verify", "--json"))["head"]
    kept = f"{head['seq']}:{head['digest']}"
    assert "whole" in run("audit", "verify", "--head", kept)
    with sqlite3.connect(tmp_path / "workspace" / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM audit WHERE seq = ?", (head["seq"],))
    assert f"entry {head['seq']}" in run("audit", "verify", code=1)
    assert f"entry {head['seq']}" in run("audit", "verify", "--head", kept, code=1)


def test_bundle_diff_shows_the_prompt_text(starter: Path):
    prompt = starter / "bundles" / "v1" / "prompts" / "system.md"
    old = json.loads(run("bundle", "list", "--json"))[0]["bundle"]["bundle_id"]
    prompt.write_text(prompt.read_text() + "\nNever promise a date.\n")
    run("bundle", "register", starter / "bundles" / "v1")
    new = json.loads(run("bundle", "list", "--json"))[1]["bundle"]["bundle_id"]
    shown = run("bundle", "diff", old, new)
    assert "+Never promise a date." in shown
    assert re.search(r"\bprompts\b", shown)
    assert re.search(r"(?m)^prompts +changed +0 +1 +\d+ +\d+$", run("bundle", "diff", old, new, "--stat"))
    assert [row["part"] for row in json.loads(run("bundle", "diff", old, new, "--stat", "--json"))] == ["prompts"]
    assert "+Never promise a date." not in run("bundle", "diff", old, new, "--part", "model")
    assert "+Never promise a date." in run("bundle", "diff", old, new, "--part", "model", "--part", "prompts")
    assert json.loads(run("bundle", "diff", old, new, "--part", "model", "--json"))["parts"] == []


def test_new_content_under_a_taken_name_is_stored_with_a_warning(starter: Path, monkeypatch, capsys):
    old = json.loads(run("bundle", "list", "--json"))[0]["bundle"]["bundle_id"]
    (starter / "bundles" / "v1" / "prompts" / "system.md").write_text("Be exact.\n")
    said = run("bundle", "register", starter / "bundles" / "v1")
    new = json.loads(run("bundle", "list", "--json"))[1]["bundle"]["bundle_id"]
    assert f"warning: `v1` meant {old} until now, and now also {new}; alone it is refused" in said
    assert "name it by its id" in fails(monkeypatch, capsys, "bundle", "show", "v1")
    assert "warning" not in run("bundle", "show", new)


def test_a_report_is_one_file_that_fetches_nothing(starter: Path, tmp_path: Path):
    page = tmp_path / "review.html"
    run("report", "readiness", "shop", "--html", page, code=3)
    html = page.read_text()
    assert "NOT ENOUGH EVIDENCE" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html)


def test_a_report_of_a_bundle_that_must_not_go_exits_1_and_is_written(tmp_path: Path):
    run("init", tmp_path / "shop")
    run("bundle", "register", tmp_path / "shop" / "bundles" / "v1")
    assert "NO GO" in run("report", "readiness", "shop", "--html", tmp_path / "review.html", code=1)
    assert "NO GO" in (tmp_path / "review.html").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("report", "readiness", "shpo", "--html", "review.html"), 'did you mean "shop"? needed: one of shop'),
        (("bundle", "diff", "v1", "v1", "--part", "promts"), 'did you mean "prompts"?'),
        (("metrics", "show", "volume", "--where", "bundle=v9"), "no registered bundle has this id, digest or name"),
        (("metrics", "show", "volume", "--where", "bundle="), "bundle"),
        (("bundle", "show", "shop@deadbeef"), "shop@deadbeef"),
        (("readiness", "shpo"), 'did you mean "shop"? needed: one of shop'),
        (("bundle", "list", "shpo"), 'did you mean "shop"? needed: one of shop'),
        (("owner", "show", "shpo"), 'did you mean "shop"? needed: one of shop'),
        (("owner", "oncall", "shpo"), 'did you mean "shop"? needed: one of shop'),
        (("owner", "gaps", "shpo"), 'did you mean "shop"? needed: one of shop'),
        (("metrics", "show", "volume", "--app", "shpo"), 'did you mean "shop"? needed: one of shop'),
        (("metrics", "show", "volume", "--where", "app=shpo"), 'did you mean "shop"? needed: one of shop'),
        (("metrics", "list", "--app", "shpo"), 'did you mean "shop"? needed: one of shop'),
        (("metrics", "show", "sucess_rate"), "success_rate"),
        (("metrics", "show", "volume", "--by", "wrkflow"), "workflow"),
        (("metrics", "show", "volume", "--where", "workflow"), "dimension=value"),
        (("metrics", "show", "volume", "--window", "soon"), "7d"),
        (("audit", "verify", "--head", "5"), "NUMBER:sha256"),
        (("--as", "primary", "readiness", "shop"), "demo workspace"),
        (("report", "readiness", "shop", "--html", "/nowhere/at/all.html"), "/nowhere/at/all.html"),
        (("demo",), "real workspace"),
    ],
)
def test_wrong_use_is_one_message_with_the_next_step(starter: Path, monkeypatch, capsys, words, says):
    assert says in fails(monkeypatch, capsys, *words)


def test_a_kpi_is_shown_without_naming_its_app(starter: Path):
    kpi = yaml.safe_load((starter / "app.yaml").read_text())["kpis"][0]["name"]
    now = datetime.now(UTC)
    request = {"request_id": "r1", "revision": 1, "is_final": True, "app": "shop", "bundle": "shop@1", "arm": "none", "status": "ok"}
    with Workspace.open() as ws:
        row = {**request, "ts_start": now, "ts_end": now, "latency_ms": 5.0, "unit_hash": "u", "source": "test"}
        ws.logs.record({"requests": [row]})
        ws.logs.flush()
    assert kpi.replace("_", " ") in run("metrics", "show", kpi)


def logged(ws: Workspace, *bundles: str) -> None:
    """One request of each bundle in the log."""
    now = datetime.now(UTC)
    row = {"revision": 1, "is_final": True, "app": "shop", "arm": "none", "status": "ok", "unit_hash": "u", "source": "test"}
    times = {"ts_start": now, "ts_end": now, "latency_ms": 5.0}
    ws.logs.record({"requests": [{**row, **times, "request_id": f"r{n}", "bundle": bundle} for n, bundle in enumerate(bundles)]})
    ws.logs.flush()


def test_metrics_take_a_bundle_by_its_name_and_show_the_name_beside_the_id(starter: Path):
    with Workspace.open() as ws:
        known = ws.versions.get("v1", app="shop")
        logged(ws, known.bundle_id, known.bundle_id, "ghost@1")
    whole = run("metrics", "show", "volume", "--by", "bundle")
    assert f"{known.bundle_id} (v1)" in whole
    assert "ghost@1 " in whole
    for reference in ("v1", "shop@v1", known.bundle_id, known.digest, known.digest[7:15]):
        shown = json.loads(run("metrics", "show", "volume", "--by", "bundle", "--where", f"bundle={reference}", "--json"))
        assert [(row["bundle"], row["volume"]) for row in shown] == [(known.bundle_id, 2)]
    for both in (("--where", "bundle=v1, ghost@1"), ("--where", "bundle=v1", "--where", "bundle=ghost@1")):
        assert [row["volume"] for row in json.loads(run("metrics", "show", "volume", *both, "--json"))] == [3]
    assert "ghost@1" in run("metrics", "show", "volume", "--by", "bundle", "--where", "bundle=ghost@1", "--app", "shop")


def test_a_refusal_in_the_demos_workspace_says_whose_it_is(tmp_path: Path, monkeypatch, capsys):
    run("init", tmp_path / "shop")
    home = tmp_path / "workspace"
    with fresh_workspace(home):
        pass
    message = fails(monkeypatch, capsys, "bundle", "register", tmp_path / "shop" / "bundles" / "v1")
    assert f"{home} is the demo's workspace" in message
    assert "export WORKBENCH_HOME=$PWD/my-workspace" in message
    assert len(message.splitlines()) == 1


def test_any_other_refusal_says_nothing_of_the_demo(stranger: Path, monkeypatch, capsys):
    assert "the demo's" not in fails(monkeypatch, capsys, "bundle", "list")
    with fresh_workspace(stranger.parent / "demo"):
        pass
    assert "the demo's" not in fails(monkeypatch, capsys, "bundle", "show", "shop@deadbeef")


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_the_demo_says_when_its_place_is_a_file(tmp_path: Path, monkeypatch, capsys, below: str):
    (tmp_path / "notes.txt").write_text("mine")
    message = fails(monkeypatch, capsys, "demo", "--home", tmp_path / "notes.txt" / below)
    assert "not a folder" in message.lower() or "Not a directory" in message
    assert "--home DIR" in message
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.fixture
def stranger(starter: Path) -> Path:
    """A workspace of which the login of this process is nobody."""
    people = starter / "people.yaml"
    people.write_text(people.read_text().replace(f"os: [{json.dumps(login_of_process())}]", "os: [somebody_else]"))
    with sqlite3.connect(starter.parent / "workspace" / "ledger.sqlite") as connection:
        (content,) = connection.execute("SELECT content FROM declarations WHERE kind = 'people'").fetchone()
        connection.execute(
            "UPDATE declarations SET content = ? WHERE kind = 'people'", (content.replace(login_of_process(), "somebody_else"),)
        )
    return starter


@pytest.mark.parametrize(
    "words",
    [
        ("bundle", "list"),
        ("bundle", "list", "shop"),
        ("bundle", "show", "v1"),
        ("bundle", "diff", "v1", "v1"),
        ("owner", "show", "shop"),
        ("owner", "oncall", "shop"),
        ("owner", "gaps", "shop"),
        ("metrics", "show", "volume"),
        ("metrics", "show", "volume", "--app", "shop"),
        ("metrics", "list", "--app", "shop"),
        ("readiness", "shop"),
    ],
)
def test_whom_people_yaml_does_not_know_looks_at_nothing_of_the_app(stranger: Path, monkeypatch, capsys, words):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody_else")
    assert "is not in people.yaml for shop" in fails(monkeypatch, capsys, *words)


@pytest.mark.parametrize("debug", ["", "1"])
def test_what_nobody_foresaw_is_one_line_and_never_the_exit_code_of_a_verdict(starter: Path, monkeypatch, capsys, debug):
    def broken(self, app=None):
        raise KeyError("a\x1b[2J\nb")

    monkeypatch.setattr(Versions, "list", broken)
    monkeypatch.setenv("WORKBENCH_DEBUG", debug)
    monkeypatch.setattr("sys.argv", ["workbench", "bundle", "list", "shop"])
    with pytest.raises(SystemExit) as stopped:
        main()
    message = capsys.readouterr().err
    assert stopped.value.code == 70
    assert "\x1b" not in message
    assert ("Traceback" in message) is bool(debug)
    last = message.splitlines()[-1]
    assert last.startswith("workbench: KeyError: ")
    assert last.endswith("run it again with WORKBENCH_DEBUG=1 for the traceback")
    assert debug or len(message.splitlines()) == 1


def test_an_interruption_is_one_line_and_exit_130(starter: Path, monkeypatch, capsys):
    def interrupted(self, app=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Versions, "list", interrupted)
    assert fails(monkeypatch, capsys, "bundle", "list", "shop", code=130) == "workbench: stopped\n"


def shell(line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What a shell sees of a real process; `wb` is the command."""
    command = f'wb() {{ {sys.executable} -m workbench "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", command], env={**os.environ, **more}, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_under_the_output_is_no_verdict(starter: Path):
    ended = shell("wb readiness shop >/dev/full")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (70, 1)
    assert "No space left on device" in ended.stderr
    assert shell("wb readiness shop >/dev/full 2>/dev/full").returncode == 70
    assert shell("wb readiness nope 2>/dev/full").returncode == 2


@pytest.mark.slow
def test_a_reader_who_leaves_is_no_verdict(starter: Path):
    ended = shell("wb metrics list | true; echo ${PIPESTATUS[0]}")
    assert ended.stderr == ""
    assert ended.stdout.strip() in {"0", "141"}


def test_an_error_never_steers_the_terminal(starter: Path, monkeypatch, capsys):
    message = fails(monkeypatch, capsys, "bundle", "show", "\x1b]0;owned\x07\u202egnp.exe")
    assert r"\x1b]0;owned\x07\u202egnp.exe" in message
    assert not any(map(is_steering, message))


def test_a_missing_workspace_is_named_with_what_makes_one(monkeypatch, capsys):
    assert "workbench demo" in fails(monkeypatch, capsys, "bundle", "list")


def test_a_broken_spec_names_file_and_line_and_stores_nothing(starter: Path, monkeypatch, capsys):
    before = run("audit", "verify")
    gates = starter / "gates.yaml"
    gates.write_text(gates.read_text().replace("at_least:", "at_leest:", 1))
    message = fails(monkeypatch, capsys, "app", "register", starter)
    assert re.search(r"gates\.yaml:\d+", message)
    assert "at_least" in message
    assert run("audit", "verify") == before


def test_app_check_names_every_fault_of_metrics_and_bundles_at_once(starter: Path, monkeypatch, capsys):
    assert "bundles: v1" in run("app", "check", starter)
    gates = starter / "gates.yaml"
    gates.write_text(re.sub(r"at_least: [0-9.]+", "at_least: 90", gates.read_text().replace("metric: latency_p95", "metric: latencyp95")))
    (starter / "bundles" / "v1" / "prompts" / "system.md").unlink()
    message = fails(monkeypatch, capsys, "app", "check", starter)
    for part in ("latency_p95", "from 0 to 1", "system.md"):
        assert part in message


def test_what_the_log_lacks_is_named_by_doctor_and_listed(starter: Path):
    now = datetime.now(UTC)
    assert "none: every request" in run("audit", "unfinished")
    with Workspace.open() as ws:
        start = {"app": "shop", "revision": 0, "is_final": False, "status": "unknown", "ts_start": now, "bundle": "shop@1"}
        ws.logs.record({"requests": [{**start, "request_id": f"req-{n}"} for n in range(5)]})
        ws.logs.record({"spans": [Gap(app="shop", n=7, since=now, until=now).row()]})
    rows = {row["check"]: row for row in json.loads(run("doctor", "--json"))}
    assert rows["unfinished requests"]["state"] == rows["audit gaps"]["state"] == "note"
    assert "5 requests died with their process (status unknown), newest first: req-4, req-3, req-2;" in rows["unfinished requests"]["seen"]
    assert "shop: 7 audit records" in rows["audit gaps"]["seen"]
    assert [row["request_id"] for row in json.loads(run("audit", "unfinished", "-n", "2", "--json"))] == ["req-3", "req-4"]
    assert "req-0" in run("audit", "unfinished")


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("UPKEEP", "often", "5m, or off"),
        ("UPKEEP", "0m", "5m, or off"),
        ("SPOOL", "sure", "`write` .* or `durable`"),
        ("SPOOL_QUOTA", "lots", "at least 1MiB, for example 512MiB"),
        ("SPOOL_QUOTA", "1", "at least 1MiB, for example 512MiB"),
        ("LOG_MEMORY", "banana", "at least 256MiB, for example 1200MiB"),
        ("LOG_MEMORY", "1200", "at least 256MiB, for example 1200MiB"),
        ("LOG_MEMORY", "1KiB", "at least 256MiB, for example 1200MiB"),
        ("SCORE", "perhaps", "true or false"),
        ("CARRY", "2", "true or false"),
        ("ROUTE_KEEP_S", "long", "seconds, for example 30"),
        ("TRACE_QUIET_S", "-1", "seconds from 0 on"),
        ("MOST_IN_FLIGHT", "1.5", "a whole number"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_what_is_needed(monkeypatch, capsys, name: str, value: str, needed: str):
    monkeypatch.setenv(f"WORKBENCH_{name}", value)
    message = fails(monkeypatch, capsys, "doctor")
    assert re.search(f"WORKBENCH_{name}: {value!r}; needed: .*{needed}.*; correct WORKBENCH_{name} or unset it", message), message


def test_what_each_example_says_is_taken(monkeypatch):
    for name, value in {"LOG_MEMORY": "256MiB", "SPOOL_QUOTA": "1MiB", "SPOOL": "durable", "UPKEEP": "off", "TRACE_QUIET_S": "0"}.items():
        monkeypatch.setenv(f"WORKBENCH_{name}", value)
    settings = Settings()
    assert (settings.log_memory, settings.spool_quota, settings.spool, settings.upkeep_every) == (256 << 20, 1 << 20, "durable", None)


def test_a_secret_in_the_wrong_variable_is_not_repeated(monkeypatch, capsys):
    for secret in ("0123456789abcdef" * 4, "postgresql://app:hunter2@db/x", "a:hunter2@db"):
        monkeypatch.setenv("WORKBENCH_SPOOL", secret)
        message = fails(monkeypatch, capsys, "doctor")
        assert f"WORKBENCH_SPOOL: a text of {len(secret)} characters; needed: `write`" in message
        assert not re.search("hunter2|0123456789", message)
