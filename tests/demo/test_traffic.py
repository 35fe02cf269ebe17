"""Rows of traffic: the same every time, complete, and free of personal data."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from workbench.demo.customers import Matter, customer, customers
from workbench.demo.shop import Shop
from workbench.demo.traffic import run_to_end
from workbench.observability.tables import arrow_table

NOW_ISO = "2026-11-20T12:00:00+00:00"
_DIGEST = """
import hashlib, sys
from datetime import datetime
from workbench.demo.customers import customers
from workbench.controls.hosting import HostedBundle
from workbench.demo.resources import demo_folder
from workbench.demo.rows import RowWriter
from workbench.demo.shop import Shop
from workbench.demo.traffic import run_traffic
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer
from workbench.versions.reading import read_bundle
key, shop = b"k" * 32, Shop(seed=3)
read = read_bundle(demo_folder() / "bundles" / "v2")
writer = RowWriter(seed=3, sealer=Sealer(Redactor(key), key))
people = customers(shop, first=0, n=150)
now = datetime.fromisoformat(sys.argv[1])
parts = run_traffic(HostedBundle(read.bundle, read.files), people, shop=shop, now=now, writer=writer, batch=int(sys.argv[2]))
rows = sorted(f"{name} {row}" for part in parts for name, entries in part.items() for row in entries)
print(len(rows), hashlib.sha256(chr(10).join(rows).encode()).hexdigest())
"""


def test_two_runs_in_two_processes_with_other_hash_seeds_and_batches_give_the_same_rows():
    def digest(hash_seed: str, batch: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", _DIGEST, NOW_ISO, batch], env=environment, capture_output=True, text=True, check=True
        ).stdout

    first = digest("1", "500")
    assert int(first.split()[0]) > 1000
    assert first == digest("2", "7")


def test_there_are_at_least_twenty_thousand_distinct_customers():
    shop = Shop(seed=7)
    units = {person.unit for person in customers(shop, first=0, n=shop.customers)}
    assert len(units) == shop.customers >= 20_000


def test_a_customer_depends_on_its_number_only():
    shop = Shop(seed=7)
    alone = customer(shop, 4321)
    assert alone == list(customers(Shop(seed=7), first=4300, n=40))[21]
    assert alone != customer(Shop(seed=8), 4321)


def test_every_kind_of_matter_comes(shop):
    assert {person.matter for person in customers(shop, first=0, n=3000)} == set(Matter)


def test_rows_fit_the_log_tables(v2_seen):
    for name, rows in v2_seen.rows.items():
        assert arrow_table(name, rows).num_rows == len(rows) > 0


def test_no_personal_data_is_in_any_row(v2_seen, shop):
    raw = [person.message for person in customers(shop, first=0, n=600)]
    assert any("@" in text for text in raw)
    stored = "\n".join(json.dumps(row, default=str) for rows in v2_seen.rows.values() for row in rows)
    assert not re.search(r"[\w.]+@(mail\.)?example\.(com|org)", stored)
    assert not re.search(r"\+49 151 \d{7}", stored)
    assert "customer-0" not in stored
    assert "<EMAIL:" in stored
    assert "<PHONE:" in stored


def test_ids_are_unique_and_rows_belong_together(v2_seen):
    requests = {row["request_id"]: row for row in v2_seen.rows["requests"]}
    assert len(requests) == len(v2_seen.rows["requests"])
    spans = v2_seen.rows["spans"]
    assert len({span["span_id"] for span in spans}) == len(spans)
    assert {span["request_id"] for span in spans} == set(requests)
    assert len({score["score_id"] for score in v2_seen.rows["scores"]}) == len(v2_seen.rows["scores"])
    assert {score["request_id"] for score in v2_seen.rows["scores"]} <= set(requests)


def test_a_request_takes_as_long_as_its_steps(v2_seen):
    by_request: dict[str, float] = {}
    for span in v2_seen.rows["spans"]:
        if span["kind"] != "agent":
            by_request[span["request_id"]] = by_request.get(span["request_id"], 0) + span["duration_ms"]
    for row in v2_seen.rows["requests"]:
        backoff_ms = 1000 * (row["attempts"] - 1 + row["n_tool_errors"])
        assert by_request[row["request_id"]] <= row["latency_ms"] + 0.1
        assert row["latency_ms"] <= by_request[row["request_id"]] + backoff_ms + 0.1


def test_counts_and_costs_of_a_request_are_the_sums_of_its_spans(v2_seen):
    for row in v2_seen.rows["requests"][:200]:
        spans = [span for span in v2_seen.rows["spans"] if span["request_id"] == row["request_id"]]
        models = [span for span in spans if span["kind"] == "model" and span["input_tokens"] is not None]
        assert row["input_tokens"] == sum(span["input_tokens"] for span in models)
        assert row["n_tool_calls"] == sum(span["kind"] == "tool" for span in spans)
        if models:
            assert row["cost_usd"] == pytest.approx(sum(span["cost_usd"] for span in models), abs=1e-8)
            assert row["cost_usd"] > 0


def test_traffic_and_outcomes_lie_before_the_anchor_and_outcomes_after_their_request(v2_seen):
    latest = max(row["ts_end"] for row in v2_seen.rows["requests"])
    earliest = min(row["ts_start"] for row in v2_seen.rows["requests"])
    assert latest - earliest < timedelta(days=8.1)
    starts = {row["request_id"]: row["ts_start"] for row in v2_seen.rows["requests"]}
    outcomes = v2_seen.rows["outcomes"]
    assert all(starts[row["request_id"]] < row["ts"] for row in outcomes if row["request_id"])


def test_earlier_orders_name_nobody_but_the_customer_and_lie_before_the_talk(v2_seen):
    first: dict[str, datetime] = {}
    for row in v2_seen.rows["requests"]:
        first[row["unit_hash"]] = min(row["ts_start"], first.get(row["unit_hash"], row["ts_start"]))
    earlier = [row for row in v2_seen.rows["outcomes"] if row["request_id"] is None]
    assert len(earlier) > 300
    for row in earlier:
        assert (row["kpi"], row["session_id"]) == ("order", None)
        assert timedelta(days=1) <= first[row["unit_hash"]] - row["ts"] <= timedelta(days=28)


def test_a_customer_orders_more_often_after_a_matter_that_was_settled(v1_seen, v2_seen):
    def share(seen) -> float:
        orders = sum(row["kpi"] == "order" and row["request_id"] is not None for row in seen.rows["outcomes"])
        return orders / len({row["unit_hash"] for row in seen.rows["requests"]})

    assert 0.1 < share(v1_seen) < share(v2_seen) < 0.5


def test_an_abandoned_question_back_is_undecided_not_failed(v1_seen):
    scored = {row["request_id"] for row in v1_seen.rows["scores"] if row["name"] == "resolved"}
    open_ones = [row for row in v1_seen.rows["requests"] if row["request_id"] not in scored]
    assert open_ones
    assert all("order number" in row["output"] for row in open_ones)


def test_a_real_wait_under_the_virtual_clock_is_refused():
    with pytest.raises(RuntimeError, match="outside the virtual clock"):
        run_to_end(asyncio.sleep(0))


def test_traffic_runs_inside_a_running_event_loop(serving, bundle_folder):
    async def notebook() -> int:
        return len(serving(bundle_folder("v1"), n=5).rows["requests"])

    assert asyncio.run(notebook()) >= 5
