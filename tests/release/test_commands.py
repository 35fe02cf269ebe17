"""A whole release as people type it, on a real review of recorded traffic: words, exit codes, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli.main import app, main
from workbench.demo.place import fresh_workspace
from workbench.workspace import Workspace

RUNNER = CliRunner()
N = 600
"""Units that each bundle has served before its release."""


def run(who: str, *words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["--as", who, *map(str, words)])
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def refused(who: str, *words: object, code: int = 2) -> str:
        """What stands on stderr when the real entry point refuses."""
        monkeypatch.setattr("sys.argv", ["workbench", "--as", who, *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        message = capsys.readouterr().err
        assert (stopped.value.code, len(message.splitlines())) == (code, 1), message
        return message

    return refused


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """The starter app, filled in and without freeze days, with a bundle; in a workspace in which people choose who they are."""
    with fresh_workspace(tmp_path / "workspace"):
        pass
    folder = tmp_path / "shop"
    run("owner", "init", folder)
    for name in ("app.yaml", "people.yaml"):
        path = folder / name
        path.write_text(re.sub(r"^(\s+|)# (baseline|target|kill_switch|contact): ", r"\1\2: ", path.read_text(), flags=re.MULTILINE))
    plan = (folder / "plan.yaml").read_text()
    (folder / "plan.yaml").write_text(plan[: plan.index("freeze:")])
    register(folder, "v1")
    return folder


def register(folder: Path, name: str) -> str:
    """Id of a bundle of that name with enough good traffic in the log."""
    spec = folder / "bundles" / "v1" / "bundle.yaml"
    spec.write_text(re.sub(r"^name: .*$", f"name: {name}", spec.read_text(), flags=re.MULTILINE))
    bundle_id = json.loads(run("owner", "bundle", "register", spec.parent, "--json"))["bundle"]["bundle_id"]
    served(bundle_id, None, arm="none", units=N)
    return bundle_id


def served(bundle_id: str, release_id: str | None, *, arm: str, units: int) -> None:
    """Good requests in the log, two of each unit."""
    now = datetime.now(UTC)
    row = {
        "revision": 1,
        "is_final": True,
        "app": "shop",
        "status": "ok",
        "source": "test",
        "workflow": "order_status",
        "latency_ms": 900.0,
    }
    names = [f"{bundle_id}-{release_id}-{arm}-{n}" for n in range(2 * units)]
    requests = [
        {
            **row,
            "bundle": bundle_id,
            "arm": arm,
            "release_id": release_id,
            "request_id": name,
            "unit_hash": f"{n % units}",
            "ts_start": t,
            "ts_end": t,
        }
        for n, name in enumerate(names)
        for t in (now - timedelta(seconds=n),)
    ]
    with Workspace.open() as ws:
        ws.logs.record({"requests": requests})
        ws.logs.flush()


def test_a_bundle_comes_into_service_and_is_taken_back(shop: Path, fails):
    v1 = json.loads(run("owner", "bundle", "list", "--json"))[0]["bundle"]["bundle_id"]
    assert f"shop.1, v1 ({v1}), is READY" in run("primary", "release", "start", "shop", "--reason", "the first one")
    status = run("approver", "release", "status", "shop")
    assert "It waits for the approval of approver." in status
    assert "primary asked for it: the first one" in status
    assert "release.approve for shop: needs the role approver; primary has operator" in fails("primary", "release", "approve", "shop.1")
    run("approver", "release", "approve", "shop.1")
    assert "at step 1 of 3, its candidate serves 5.0 % of the units" in run("primary", "release", "promote", "shop")
    message = fails("primary", "release", "promote", "shop", code=3)
    assert "at least 30m" in message
    assert "the candidate has served 0" in message
    served(v1, "shop.1", arm="candidate", units=70)
    served(v1, "shop.1", arm="stable", units=40)
    served(v1, "shop.0", arm="candidate", units=50)
    assert "takes 200 different units; the candidate has served 70" in fails("primary", "release", "promote", "shop", code=3)
    assert "is HELD" in run("secondary", "release", "hold", "shop", "--reason", "odd answers")
    assert "needed: APPROVED or CANARY" in fails("primary", "release", "promote", "shop", code=1)
    run("primary", "release", "resume", "shop")
    for _ in range(3):
        done = json.loads(run("primary", "release", "promote", "shop.1", "--early", "there is no time", "--json"))
    assert (done["state"], done["bundle_id"], done["plan"]["steps"][0]["share"]) == ("PROMOTED", v1, 0.05)

    v2 = register(shop, "v2")
    run("primary", "release", "start", "shop", v2, "--reason", "better")
    assert "one release of an app at a time" in fails("primary", "release", "start", "shop", v2, "--reason", "again")
    run("approver", "release", "approve", "shop")
    run("primary", "release", "promote", "shop")
    assert "nothing was done; a rollback would do this: shop.2" in run("primary", "rollback", "shop", "--reason", "bad", "--dry-run")
    assert "shop.2" in run("primary", "rollback", "shop", "--reason", "customers complain")
    assert "the latest change was taken back" in fails("secondary", "rollback", "shop", "--reason", "bad", code=1)
    status = json.loads(run("primary", "release", "status", "shop", "--json"))
    assert (status["stable"], status["candidate"], status["release"]["state"]) == (v1, None, "ROLLED_BACK")
    history = run("approver", "release", "history", "shop")
    assert history.index("shop.2") < history.index("shop.1")
    acts = [entry["act"] for entry in json.loads(run("owner", "audit", "tail", "-n", "100", "--json"))]
    assert [act for act in acts if act.startswith("r")].count("rollback") == 1
    assert "whole" in run("owner", "audit", "verify")


def test_a_bundle_without_evidence_stops_at_its_gates_with_the_reviews_exit_code(shop: Path):
    spec = shop / "bundles" / "v1" / "bundle.yaml"
    spec.write_text(re.sub(r"^name: .*$", "name: v9", spec.read_text(), flags=re.MULTILINE))
    run("owner", "bundle", "register", spec.parent)
    said = run("primary", "release", "start", "shop", "v9", "--reason", "quick", code=3)
    assert "shop.1" in said
    assert "is ABORTED: stopped at its gates: NOT ENOUGH EVIDENCE" in said
    gates = (shop / "gates.yaml").read_text().replace("at_most: 8000", "at_most: 80")
    (shop / "gates.yaml").write_text(gates)
    run("owner", "app", "register", shop)
    assert "stopped at its gates: NO GO" in run("primary", "release", "start", "shop", "v1", "--reason", "quick", code=1)


def test_a_gap_in_the_cover_stops_a_release(shop: Path):
    away = "absences: [{person: primary, first_day: 2020-01-01, last_day: 2199-01-01}]"
    (shop / "rota.yaml").write_text((shop / "rota.yaml").read_text().replace("absences: []", away))
    run("owner", "app", "register", shop)
    said = run("primary", "release", "start", "shop", "--reason", "x", code=1)
    assert "Nobody is on call" in said
    run("owner", "owner", "gaps", "shop", code=1)
    run("owner", "owner", "override", "shop", "approver", "--until", "28d", "--reason", "primary is away")
    run("owner", "owner", "override", "shop", "secondary", "--tier", "2", "--until", "28d", "--reason", "primary is away")
    assert "shop: no gap in the next 14 days" in run("owner", "owner", "gaps", "shop")
    assert "approver stands in at tier 1" in run("owner", "owner", "show", "shop")
    assert "tier 1 is approver until" in run("owner", "owner", "oncall", "shop")
    assert "is READY" in run("primary", "release", "start", "shop", "--reason", "x")


def test_a_release_goes_alone_and_another_person_reviews_it(shop: Path, fails):
    run("primary", "release", "start", "shop", "--reason", "refunds are wrong")
    assert "an approval by a second person has none" in fails("primary", "release", "approve", "shop.1", "--reason", "now")
    assert "reason: it is empty" in fails("primary", "release", "approve", "shop.1", "--break-glass")
    said = run("primary", "release", "approve", "shop.1", "--break-glass", "--reason", "it cannot wait")
    assert "shop.1 goes alone; tell at once: " in said
    assert "approver" in said
    review = json.loads(RUNNER.invoke(app, ["--as", "owner", "readiness", "shop", "--json"]).output)
    assert "released-alone" in {finding["lint_id"] for finding in review["findings"]}
    assert "Let go alone" in run("approver", "release", "status", "shop")
    assert "primary has" in fails("primary", "release", "reviewed", "shop.1", "--verdict", "justified", "--reason", "I did it")
    run("approver", "release", "reviewed", "shop.1", "--verdict", "justified", "--reason", "they were wrong")
    assert "justified, says approver" in " ".join(run("owner", "release", "history", "shop").split())
    assert "nobody let it go alone" in fails("approver", "release", "reviewed", "shop.1", "--verdict", "justified", "--reason", "x", code=1)


def test_a_drill_without_a_gateway_is_not_enough_evidence_and_no_yes(shop: Path, fails):
    assert "nothing of this app was ever released" in fails("primary", "release", "drill", "shop", code=1)
    run("approver", "release", "adopt", "shop", "v1", "--reason", "serves since March")
    assert "no gateway that serves it was heard of" in fails("primary", "release", "drill", "shop", code=3)
    review = json.loads(RUNNER.invoke(app, ["--as", "owner", "readiness", "shop", "--json"]).output)
    shown = {gate["gate_id"]: gate for gate in review["gates"]}["rollback.drill"]
    assert (shown["verdict"], shown["is_blocking"]) == ("MISSING", False)


def test_a_rollback_needs_no_log(shop: Path, tmp_path: Path, fails):
    run("approver", "release", "adopt", "shop", "v1", "--reason", "serves since March")
    lake = tmp_path / "workspace" / "lake"
    for path in [*lake.rglob("*.sqlite"), *lake.rglob("*.parquet")]:
        path.write_bytes(b"not a lake")
    assert "roll back to fallback or off" in fails("primary", "rollback", "shop", "--reason", "no answers", code=1)
    said = run("primary", "rollback", "shop", "--to", "fallback", "--reason", "no answers")
    assert "primary rolled shop back from v1" in said
    assert "the app's declared fallback" in run("primary", "release", "status", "shop")


def test_locks_and_freezes_are_said_in_words(shop: Path, fails):
    assert "primary holds the lock on releases of shop since" in run("primary", "release", "lock", "shop", "--reason", "load test")
    assert "primary holds the lock" in fails("secondary", "release", "start", "shop", "--reason", "x", code=1)
    assert "approver froze releases of shop" in run("approver", "release", "freeze", "shop", "--reason", "holidays")
    status = run("approver", "release", "status", "shop")
    assert "no release yet" in status
    assert "holidays" in status
    run("primary", "release", "unfreeze", "shop", "--reason", "holidays are over")
    run("secondary", "release", "unlock", "shop", "--steal", "--reason", "primary is ill")
    assert json.loads(run("primary", "release", "status", "shop", "--json"))["lock"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("release", "start", "shpo", "--reason", "x"), 'did you mean "shop"?'),
        (("rollback", "shpo", "--reason", "x"), 'did you mean "shop"?'),
        (("release", "status", "shpo"), 'did you mean "shop"?'),
        (("release", "start", "shop", "v7", "--reason", "x"), "bundle v7: no registered bundle of app shop"),
        (("release", "start", "shop", "--reason", " "), "reason: it is empty"),
        (("release", "approve", "shop.9"), "release shop.9: no release has this id"),
        (("owner", "override", "shop", "prmary", "--until", "8h", "--reason", "x"), 'did you mean "primary"?'),
        (("owner", "override", "shop", "primary", "--until", "noon", "--reason", "x"), 'time "noon": it cannot be read'),
        (
            ("owner", "override", "shop", "primary", "--until", "8h", "--tier", "3", "--reason", "x"),
            "the rota has no such tier; needed: one of 1, 2",
        ),
    ],
)
def test_wrong_use_is_one_message_with_the_next_step(shop: Path, fails, words, says):
    assert says in fails("owner", *words)
