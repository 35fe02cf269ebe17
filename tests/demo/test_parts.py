"""Bundles differ in quality because their parts differ: one part exchanged moves what it should, and little else."""

from __future__ import annotations

import yaml


def test_the_candidate_fails_less_than_three_fifths_as_often(v1_seen, v2_seen):
    assert 1 - v2_seen.mean("resolved") <= 0.6 * (1 - v1_seen.mean("resolved"))


def test_the_candidate_is_not_slower(v1_seen, v2_seen):
    assert v2_seen.latency_ms(0.95) <= 1.05 * v1_seen.latency_ms(0.95)


def test_no_bundle_is_perfect(v1_seen, v2_seen, v3_seen):
    assert all(0.4 < seen.mean("resolved") < 0.97 for seen in (v1_seen, v2_seen, v3_seen))


def test_the_bad_candidate_breaks_rules_and_is_slow_and_finds_little(v2_seen, v3_seen):
    assert v3_seen.share("violation_rules") > 0.015 > v2_seen.share("violation_rules")
    assert v3_seen.latency_ms(0.95) > 4500 > v2_seen.latency_ms(0.95)
    assert v3_seen.mean("retrieval_hit") < 0.5
    assert v2_seen.mean("retrieval_hit") > 0.85


def test_the_policy_alone_moves_violations_but_not_success(changed, bundle_folder, serving, v2_seen):
    spec = yaml.safe_load((bundle_folder("v3") / "bundle.yaml").read_text())
    policy = (bundle_folder("v3") / "policy.md").read_bytes()
    seen = serving(changed({"policy": {"thresholds": spec["policy"]["thresholds"]}}, {"policy.md": policy}))
    assert seen.share("violation_rules") > v2_seen.share("violation_rules") + 0.015
    assert "refund_limit" in seen.rules()
    assert abs(seen.mean("resolved") - v2_seen.mean("resolved")) < 0.01
    assert seen.mean("retrieval_hit") == v2_seen.mean("retrieval_hit")


def test_the_index_alone_moves_the_hit_rate_and_with_it_success(changed, bundle_folder, serving, v2_seen):
    seen = serving(changed(files={"index.json": (bundle_folder("v3") / "index.json").read_bytes()}))
    assert seen.mean("retrieval_hit") < v2_seen.mean("retrieval_hit") - 0.3
    assert seen.mean("resolved") < v2_seen.mean("resolved") - 0.03
    assert abs(seen.share("violation_rules") - v2_seen.share("violation_rules")) < 0.005


def test_the_order_tool_alone_moves_latency_only(changed, bundle_folder, serving, v2_seen):
    tools = yaml.safe_load((bundle_folder("v3") / "bundle.yaml").read_text())["orchestration"]["tools"]
    seen = serving(changed({"orchestration": {"tools": tools}}))
    assert seen.latency_ms(0.95) > 2 * v2_seen.latency_ms(0.95)
    assert abs(seen.mean("resolved") - v2_seen.mean("resolved")) < 0.02
    assert seen.share("violation_rules") == v2_seen.share("violation_rules")


def test_a_rule_only_in_the_thresholds_is_enforced_by_the_guard(changed, bundle_folder, serving):
    seen = serving(changed(files={"policy.md": (bundle_folder("v3") / "policy.md").read_bytes()}))
    blocked = {rule for row in seen.rows["requests"] for rule in row["blocked_rules"]}
    assert "refund_limit" in blocked
    assert seen.share("violation_rules") < 0.01
    handed = [row["status"] for row in seen.rows["requests"] if "refund_limit" in row["blocked_rules"]]
    assert "handed_off" in handed
    assert set(handed) <= {"handed_off", "ok"}


def test_retries_alone_move_technical_failures(changed, serving, v2_seen):
    seen = serving(changed({"controls": {"retries": 0}}))
    assert seen.share("is_fallback") > v2_seen.share("is_fallback")


def test_a_short_answer_limit_truncates(changed, serving):
    seen = serving(changed({"model": {"params": {"temperature": 0.1, "max_tokens": 12, "seed": 7}}}), n=60)
    assert {row["status"] for row in seen.rows["requests"]} & {"truncated"}
    assert seen.mean("resolved") < 0.5
