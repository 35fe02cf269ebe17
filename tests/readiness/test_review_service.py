"""Reviews over real stores: one lake, one ledger, a declared app and two bundles of it."""

from __future__ import annotations

import re
import sqlite3
import textwrap
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from workbench.errors import IntegrityError, NotPermitted, UnknownSubject, UsageError
from workbench.ledger.audit import Head, tail, verify
from workbench.ledger.tables import evidence, reviews
from workbench.observability.measuring import Sitting
from workbench.ownership.model import Actor, Assurance
from workbench.readiness.model import ReviewVerdict, Verdict
from workbench.readiness.service import not_enforced
from workbench.workspace import Workspace

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
OPERATOR = Actor(person="primary", via="cli", assurance=Assurance.LOCAL)

APP = {
    "app.yaml": """
        app: support
        title: Support assistant
        risk_tier: medium
        owner: primary
        workflows: [{name: ask, success: {rule: score, score: resolved, at_least: 1}}]
        kpis: [{name: closed, outcome: case_closed, baseline: 0.4, target: 0.6, target_date: 2026-09-30, owner: primary}]
        risks: [{name: wrong_refund, description: Money is promised., control: rule no_refund_promise}]
        escalation: [{to: primary, within: 15m}, {to: secondary, within: 1h}]
        fallback: {kind: human}
        kill_switch: set the share to 0
        """,
    "people.yaml": """
        people:
          primary: {contact: pager 1, os: [primary], roles: {support: [admin, operator]}}
          secondary: {contact: pager 2, roles: {support: [approver]}}
        """,
    "gates.yaml": """
        gates:
          - {id: success, metric: success_rate, at_least: 0.7, min_n: 100}
          - {id: latency, metric: latency_p95, against_baseline: {ratio: 1.25}, min_n: 100}
        """,
    "plan.yaml": """
        steps: [{share: 0.1, at_least: 1h}, {share: 1.0, at_least: 1d}]
        rollback: {target: last_good, criteria: [{metric: failure_rate, ratio: 1.25}]}
        """,
    "rota.yaml": """
        zone: Europe/Berlin
        layers: [{name: all, people: [primary, secondary], first_handoff: 2026-01-05T09:00:00}]
        """,
}
BUNDLE = """
    app: support
    name: {name}
    model: {{provider: house, name: tiny, version: "1"}}
    prompts: {{system: prompt.md}}
    """


def write_app(folder: Path, **without: None) -> Path:
    for name, text in APP.items():
        if name.removesuffix(".yaml") not in without:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text))
    for name in ("v1", "v2"):
        bundle = folder / "bundles" / name
        bundle.mkdir(parents=True)
        (bundle / "bundle.yaml").write_text(textwrap.dedent(BUNDLE.format(name=name)))
        (bundle / "prompt.md").write_text(f"Be kind. This is {name}.\n")
    return folder


def rows(bundle_id: str, *, n: int, good: int, slow: float = 1.0, ago: timedelta = timedelta(hours=2)) -> dict:
    requests, scores = [], []
    for i in range(n):
        start = NOW - ago - timedelta(seconds=i)
        latency = (500.0 + i % 100) * slow
        request = f"{bundle_id}-{i}"
        requests.append(
            {
                "request_id": request,
                "revision": 1,
                "is_final": True,
                "app": "support",
                "workflow": "ask",
                "ts_start": start,
                "ts_end": start + timedelta(milliseconds=latency),
                "latency_ms": latency,
                "bundle": bundle_id,
                "arm": "none",
                "status": "ok",
                "unit_hash": f"unit-{request}",
                "source": "test",
            }
        )
        scores.append(
            {
                "score_id": f"s-{request}",
                "app": requests[-1]["app"],
                "request_id": request,
                "name": "resolved",
                "value": float(i < good),
                "source": "rule",
                "ts": start + timedelta(minutes=1),
            }
        )
    return {"requests": requests, "scores": scores}


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ws(tmp_path, clock):
    with Workspace.open(tmp_path / "home", clock=clock, actor=OPERATOR) as opened:
        yield opened


@pytest.fixture
def bundles(ws, tmp_path):
    folder = write_app(tmp_path / "app")
    return [ws.versions.register(folder / "bundles" / name).bundle for name in ("v1", "v2")]


def log(ws, bundle, **what) -> None:
    ws.logs.record(rows(bundle.bundle_id, **what))
    ws.logs.flush()


def verdicts(review) -> dict[str, Verdict]:
    return {gate.gate_id: gate.verdict for gate in review.gates}


def test_a_good_candidate_goes(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360)
    review = ws.readiness.review("support", "v2")
    assert {gate_id for gate_id, verdict in verdicts(review).items() if verdict is not Verdict.PASS} == {"kpi.closed", "rollback.drill"}
    assert (review.verdict, review.deciding, review.baseline_id) == (ReviewVerdict.GO, (), bundles[0].bundle_id)
    assert review.sentence == "GO: all 17 blocking gates that apply pass, 2 of them on measurements."
    assert review.comparison.startswith("No difference shown: success 90.0 % against 90.0 %")
    assert review.findings == ()


@pytest.mark.parametrize(("lost", "expected"), [(0, Verdict.PASS), (3, Verdict.INSUFFICIENT)], ids=["whole", "most lost"])
def test_a_sampled_judge_is_evidence_unless_most_of_its_scores_are_lost(ws, bundles, lost, expected):
    logged = rows(bundles[1].bundle_id, n=2000, good=1900)
    judged = [score for i, score in enumerate(logged["scores"]) if i % 4 == 0 and i % 16 // 4 >= lost]
    ws.logs.record({"requests": logged["requests"], "scores": [{**score, "sample_probability": 0.25} for score in judged]})
    ws.logs.flush()
    review = ws.readiness.review("support", "v2")
    assert verdicts(review)["success"] is expected
    assert review.gates[0].reason == ("mostly_unmeasured" if lost else "clears_limit")


def test_a_slower_candidate_is_stopped_by_latency(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360, slow=3.0)
    review = ws.readiness.review("support", bundles[1])
    assert (review.verdict, review.deciding) == (ReviewVerdict.NO_GO, ("latency",))
    assert review.comparison.startswith("Slower without being better")


def test_no_log_at_all_is_not_enough_evidence(ws, bundles):
    review = ws.readiness.review("support", "v2", baseline="v1")
    assert (review.verdict, review.deciding, review.snapshot) == (ReviewVerdict.NOT_ENOUGH_EVIDENCE, ("success", "latency"), None)


def test_a_bundle_without_traffic_is_not_enough_evidence(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    review = ws.readiness.review("support", "v2")
    assert (review.verdict, verdicts(review)["success"]) == (ReviewVerdict.NOT_ENOUGH_EVIDENCE, Verdict.MISSING)


def test_old_traffic_is_not_enough_evidence(ws, bundles, clock):
    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360)
    clock.now = NOW + timedelta(days=20)
    review = ws.readiness.review("support", "v2")
    assert (review.verdict, review.deciding) == (ReviewVerdict.NOT_ENOUGH_EVIDENCE, ("success", "latency"))
    assert verdicts(review)["success"] is Verdict.STALE


def test_the_first_bundle_is_judged_against_absolute_limits(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    review = ws.readiness.review("support", "v1")
    assert (review.verdict, review.baseline_id, review.comparison) == (ReviewVerdict.GO, None, "")
    assert verdicts(review)["latency"] is Verdict.NOT_APPLICABLE


def test_an_app_that_declares_nothing_is_judged_by_default_bars_and_never_goes(ws, tmp_path):
    folder = tmp_path / "bare"
    write_app(folder)
    for name in APP:
        (folder / name).unlink()
    bundle = ws.versions.register(folder / "bundles" / "v1").bundle
    log(ws, bundle, n=400, good=400)
    review = ws.readiness.review("support")
    assert review.verdict is ReviewVerdict.NO_GO
    assert "default bar" in next(gate.sentence for gate in review.gates if gate.gate_id == "violations")
    assert review.spec_digests == ()


def test_the_same_inputs_give_the_same_review(ws, bundles, clock):
    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360)
    first = ws.readiness.review("support", "v2")
    clock.now += timedelta(hours=1)
    second = ws.readiness.review("support", "v2")
    assert first.review_id == second.review_id
    assert ws.readiness.reviews("support") == (first, second)
    assert ws.readiness.get(first.review_id[:20]) == second


def test_the_same_review_at_the_same_moment_is_stored_once(ws, bundles):
    first = ws.readiness.review("support", "v2", baseline="v1")
    assert ws.readiness.review("support", "v2", baseline="v1") == first
    assert ws.readiness.reviews("support") == (first,)


def test_a_new_declaration_gives_another_review(ws, bundles, tmp_path):
    first = ws.readiness.review("support", "v2", baseline="v1")
    gates = tmp_path / "app" / "gates.yaml"
    gates.write_text(gates.read_text().replace("0.7", "0.75"))
    ws.versions.declare(tmp_path / "app")
    assert ws.readiness.review("support", "v2", baseline="v1").review_id != first.review_id


def test_a_review_is_stored_with_its_evidence_and_one_audit_entry(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360)
    review = ws.readiness.review("support", "v2")
    cited = {evidence_id for gate in review.gates for evidence_id in gate.evidence_ids}
    with ws.ledger.read() as connection:
        kept = set(connection.execute(select(evidence.c.evidence_id)).scalars())
        n_reviews = connection.execute(select(func.count()).select_from(reviews)).scalar_one()
        newest = tail(connection, 1)[0]
    assert cited <= kept
    assert n_reviews == 1
    assert (newest.act, newest.subject, newest.detail["review_id"]) == ("review", review.bundle_id, review.review_id)
    assert ws.readiness.evidence(min(cited))["app"] == "support"


def test_the_evidence_of_a_review_can_be_verified_again(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    evidence_of = ws.metrics.measure("success_rate", app="support", bundle=bundles[0].bundle_id)
    assert ws.metrics.verify(evidence_of) == "SAME"


def test_erased_traffic_of_a_reviewed_bundle_does_not_make_the_next_one_the_first(ws, bundles, monkeypatch):
    log(ws, bundles[0], n=400, good=360)
    ws.readiness.review("support", "v1")
    monkeypatch.setattr(ws.metrics, "bundles_with_rows", lambda _: ())
    review = ws.readiness.review("support", "v2")
    assert review.baseline_id == bundles[0].bundle_id


def test_a_baseline_whose_rows_were_taken_away_is_not_forgotten(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360, slow=3.0)
    assert ws.readiness.review("support", "v2").verdict is ReviewVerdict.NO_GO
    moved = [{**row, "revision": 2, "bundle": None} for row in rows(bundles[0].bundle_id, n=400, good=360)["requests"]]
    ws.logs.record({"requests": moved})
    ws.logs.flush()
    review = ws.readiness.review("support", "v2")
    assert (review.verdict, review.baseline_id) == (ReviewVerdict.NOT_ENOUGH_EVIDENCE, bundles[0].bundle_id)
    assert verdicts(review)["latency"] is Verdict.MISSING


def test_a_baseline_of_an_earlier_review_is_not_forgotten_without_its_evidence(ws, bundles):
    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360, slow=3.0)
    ws.readiness.review("support", "v2")
    with ws.ledger.write() as act:
        act.connection.execute(evidence.delete())
    moved = [{**row, "revision": 2, "bundle": None} for row in rows(bundles[0].bundle_id, n=400, good=360)["requests"]]
    ws.logs.record({"requests": moved})
    ws.logs.flush()
    assert ws.readiness.review("support", "v2").baseline_id == bundles[0].bundle_id


def test_a_baseline_that_never_had_traffic_leaves_the_bundle_the_first(ws, bundles):
    log(ws, bundles[1], n=400, good=360)
    assert verdicts(ws.readiness.review("support", "v2", baseline="v1"))["latency"] is Verdict.MISSING
    review = ws.readiness.review("support", "v2")
    assert (review.verdict, review.baseline_id, verdicts(review)["latency"]) == (ReviewVerdict.GO, None, Verdict.NOT_APPLICABLE)


def test_rows_under_a_name_that_nobody_registered_are_no_baseline_and_no_first_bundle_either(ws, bundles):
    log(ws, bundles[1], n=400, good=360)
    ws.logs.record(rows("ghost@1", n=400, good=100))
    ws.logs.flush()
    review = ws.readiness.review("support", "v2")
    assert (review.verdict, review.baseline_id) == (ReviewVerdict.NOT_ENOUGH_EVIDENCE, None)
    assert verdicts(review)["latency"] is Verdict.MISSING


def test_a_registered_baseline_is_found_beside_rows_of_nobody(ws, bundles):
    for bundle in bundles:
        log(ws, bundle, n=400, good=360)
    ws.logs.record(rows("ghost@1", n=400, good=100))
    ws.logs.flush()
    assert ws.readiness.review("support", "v2").baseline_id == bundles[0].bundle_id


@pytest.mark.parametrize(
    "gate",
    [
        "{id: l, metric: input_tokens, at_least: 1, min_n: 1}",
        "{id: l, metric: cost_per_success, at_most: 100, min_n: 1}",
        "{id: l, metric: undecided_rate, at_most: 0.5, min_n: 1}",
        "{id: l, metric: violation_rate, at_least: 0.001, min_n: 1}",
        "{id: l, metric: success_rate, at_most: 0.99, min_n: 1}",
        "{id: l, metric: success_rate, at_least: 0.5, min_n: 1, is_blocking: false}",
        "{id: l, metric: success_rate, at_least: 0.5, min_n: 1, family: business}",
    ],
)
def test_bars_that_prove_no_quality_never_go(ws, bundles, tmp_path, gate):
    log(ws, bundles[0], n=400, good=360)
    (tmp_path / "app" / "gates.yaml").write_text(f"gates:\n  - {gate}\n")
    ws.versions.declare(tmp_path / "app")
    review = ws.readiness.review("support", "v1")
    assert review.verdict is not ReviewVerdict.GO
    assert (verdicts(review)["quality.evidence"], verdicts(review)["quality.thresholds"]) == (Verdict.MISSING, Verdict.FAIL)


def altered(ws, table, change) -> None:
    """Change a stored row behind the workbench's back; `change` takes and gives its text."""
    with closing(sqlite3.connect(ws.home / "ledger.sqlite")) as connection, connection:
        column = {"evidence": "statistics", "reviews": "content"}[table]
        for rowid, text in connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (change(text), rowid))


def test_evidence_that_was_altered_is_refused(ws, bundles):
    log(ws, bundles[1], n=400, good=200)
    review = ws.readiness.review("support", "v2")
    cited = review.gates[0].evidence_ids[0]
    assert ws.readiness.evidence(cited)["statistics"]["estimate"] == 0.5
    altered(ws, "evidence", lambda text: text.replace('"estimate": 0.5', '"estimate": 0.99'))
    with pytest.raises(IntegrityError, match="its content has the digest"):
        ws.readiness.evidence(cited)


@pytest.mark.parametrize(
    ("old", "new"),
    [("success rate is 50.0", "success rate is 99.0"), ('"reviewed_by": "primary"', '"reviewed_by": "other"'), ('"n": 400', '"n": 4000')],
)
def test_a_review_of_which_one_word_was_altered_is_refused(ws, bundles, old, new):
    log(ws, bundles[1], n=400, good=200)
    review = ws.readiness.review("support", "v2")
    altered(ws, "reviews", lambda text: text.replace(old, new))
    for ask in (lambda: ws.readiness.get(review.review_id), lambda: ws.readiness.reviews("support")):
        with pytest.raises(IntegrityError, match="audit entry"):
            ask()


@pytest.mark.parametrize("seq", ["null", "1", "99"])
def test_a_review_that_names_another_audit_entry_is_refused(ws, bundles, seq):
    review = ws.readiness.review("support", "v2", baseline="v1")
    altered(ws, "reviews", lambda text: re.sub(r'"audit_seq": \d+', f'"audit_seq": {seq}', text))
    with pytest.raises(IntegrityError, match="no audit entry"):
        ws.readiness.get(review.review_id)


def test_a_review_carries_the_head_of_the_audit_at_its_own_entry(ws, bundles):
    review = ws.readiness.review("support", "v2", baseline="v1")
    assert ws.readiness.get(review.review_id).audit_head == review.audit_head
    head = Head.parse(review.audit_head)
    ws.readiness.review("support", "v1")
    with ws.ledger.read() as connection:
        assert verify(connection, expected=head).is_whole
        entry = next(entry for entry in tail(connection, 10) if entry.seq == head.seq)
    assert (entry.act, entry.digest) == ("review", head.digest)


@pytest.mark.parametrize("kind", ["review", "bundle", "declaration"])
def test_an_act_whose_entry_was_cut_off_with_the_head_is_missed(ws, bundles, tmp_path, kind):
    if kind == "bundle":
        (tmp_path / "app" / "bundles" / "v2" / "prompt.md").write_text("Be brief.\n")
        bundles.append(ws.versions.register(tmp_path / "app" / "bundles" / "v2").bundle)
    if kind == "declaration":
        (tmp_path / "app" / "rota.yaml").unlink()
        ws.versions.declare(tmp_path / "app")
    if kind == "review":
        ws.readiness.review("support", "v2", baseline="v1")
    with ws.ledger.read() as connection:
        before, last = tail(connection, 2)
        assert verify(connection).is_whole
    with closing(sqlite3.connect(ws.home / "ledger.sqlite")) as connection, connection:
        connection.execute("DELETE FROM audit WHERE seq = ?", (last.seq,))
        connection.execute("UPDATE audit_head SET seq = ?, digest = ?", (before.seq, before.digest))
    with ws.ledger.read() as connection:
        report = verify(connection)
    assert (report.broken_at, report.n) == (last.seq, before.seq)
    assert f"entry {last.seq} is missing: {kind} " in report.reason
    ws.readiness.review("support", "v1") if kind == "bundle" else ws.versions.declare(tmp_path / "app")
    with ws.ledger.read() as connection:
        again = verify(connection)
    assert again.broken_at == last.seq


def test_rows_that_cannot_be_are_an_error_and_not_a_crash(ws, bundles, monkeypatch):
    def refuse(*_, **__):
        raise UsageError("metric success_rate", seen="1 row says that a part is larger than its whole")

    log(ws, bundles[0], n=400, good=360)
    log(ws, bundles[1], n=400, good=360)
    monkeypatch.setattr(Sitting, "measure", refuse)
    monkeypatch.setattr(Sitting, "compare", refuse)
    review = ws.readiness.review("support", "v2")
    assert (review.verdict, review.comparison) == (ReviewVerdict.NOT_ENOUGH_EVIDENCE, "")
    assert {verdicts(review)[name] for name in ("success", "latency")} == {Verdict.ERROR}


def test_a_gate_on_a_metric_that_does_not_exist_is_an_error(ws, bundles, tmp_path):
    log(ws, bundles[0], n=400, good=360)
    gates = tmp_path / "app" / "gates.yaml"
    gates.write_text(gates.read_text().replace("success_rate", "sucess_rate"))
    ws.versions.declare(tmp_path / "app")
    review = ws.readiness.review("support", "v1")
    assert (review.verdict, verdicts(review)["success"]) == (ReviewVerdict.NOT_ENOUGH_EVIDENCE, Verdict.ERROR)
    assert "success_rate" in next(gate.sentence for gate in review.gates if gate.gate_id == "success")


def test_a_person_without_a_role_may_not_review(ws, bundles):
    stranger = Actor(person="nobody", via="cli", assurance=Assurance.LOCAL)
    with pytest.raises(NotPermitted):
        ws.readiness.review("support", "v2", actor=stranger)
    assert ws.readiness.reviews("support") == ()


def test_a_bundle_is_not_its_own_baseline(ws, bundles):
    with pytest.raises(UsageError, match="the bundle under review itself"):
        ws.readiness.review("support", "v2", baseline="v2")


def test_a_bundle_of_another_app_is_refused(ws, bundles):
    with pytest.raises(UsageError, match="it belongs to another"):
        ws.readiness.review("support", replace(bundles[1], app="another"))


def test_an_unknown_app_bundle_or_review_says_what_to_do(ws, bundles):
    with pytest.raises(UnknownSubject):
        ws.readiness.review("support", "v9")
    with pytest.raises(UnknownSubject, match="workbench readiness"):
        ws.readiness.get("abcdef")
    with pytest.raises(UnknownSubject):
        ws.readiness.evidence("sha256:00")


def test_a_review_that_cannot_be_audited_is_not_stored(ws, bundles, monkeypatch):
    monkeypatch.setattr("workbench.ledger.store.append", lambda *_, **__: (_ for _ in ()).throw(UsageError("audit", seen="no")))
    with pytest.raises(UsageError):
        ws.readiness.review("support", "v2", baseline="v1")
    assert ws.readiness.reviews("support") == ()


@pytest.mark.parametrize(
    ("serving", "parts"),
    [("hosted", []), ("proxied", ["orchestration"]), ("external", ["environment", "model", "orchestration", "policy", "prompts"])],
)
def test_what_is_not_enforced_follows_from_the_way_of_serving(ws, bundles, serving, parts):
    spec = ws.app_spec("support").model_copy(update={"serving": serving})
    assert set(parts) & set(bundles[0].parts) == {sentence.partition(":")[0] for sentence in not_enforced(spec, bundles[0])}
