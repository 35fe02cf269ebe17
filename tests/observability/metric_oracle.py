"""Metrics by plain Python loops over lists of rows, and random logs to try them on. Shares no code with the catalogue."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import numpy as np

from workbench.spec.app import AppSpec

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)  # a Monday
QUANTILES = {
    **{f"latency_p{q}": ("latency_ms", q) for q in (50, 90, 95, 99)},
    **{f"ttft_p{q}": ("ttft_ms", q) for q in (50, 90, 95, 99)},
    **{f"{name}_p{q}": (name, q) for name in ("input_tokens", "output_tokens") for q in (50, 95, 99)},
}
SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd")


def spec_of(app: str) -> AppSpec:
    """An app with every kind of success rule and KPI; its events carry its name."""
    rules = {
        "buy": {"rule": "outcome", "outcome": f"order-{app}", "within": "1h"},
        "ask": {"rule": "score", "score": "resolved", "at_least": 0.7},
        "browse": {"rule": "status"},
    }
    event = f"order-{app}"
    return AppSpec.model_validate(
        {
            "app": app,
            "title": app,
            "risk_tier": "low",
            "workflows": [{"name": name, "success": rule} for name, rule in rules.items()],
            "kpis": [
                {"name": "conversion", "outcome": event},
                {"name": "prompt", "outcome": event, "within": "1h"},
                {"name": "basket", "outcome": event, "aggregate": "mean", "unit": "EUR"},
                {"name": "revenue", "outcome": event, "aggregate": "sum", "unit": "EUR"},
            ],
        }
    )


def random_log(seed: int, app: str, *, n: int | None = None) -> dict[str, list[dict]]:
    """A small log with revisions, missing values, repeated units, several scores and stray events."""
    rng = random.Random(seed)
    n = rng.randrange(1, 90) if n is None else n
    requests, scores, outcomes = [], [], []
    for i in range(n):
        requests += _revisions(rng, app, i)
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            scores.append(_score(rng, app, i, len(scores)))
        if rng.random() < 0.4:
            outcomes.append(_outcome(rng, app, i, n, len(outcomes)))
    outcomes += [dict(o, value=rng.uniform(1, 90)) for o in rng.sample(outcomes, len(outcomes) // 5)]  # corrections
    return {"requests": requests, "scores": scores, "outcomes": outcomes}


def _revisions(rng: random.Random, app: str, i: int) -> list[dict]:
    calls = rng.choice((None, 0, 1, 4))
    fixed = {
        "request_id": f"{app}-r{i}",
        "app": app,
        "ts_start": START + timedelta(minutes=7 * i, seconds=rng.randrange(60)),
        "workflow": rng.choice(("buy", "buy", "ask", "browse", "other", None)),
        "bundle": rng.choice(("one", "two", None)),
        "arm": rng.choice(("stable", "candidate", "stable", "candidate", "shadow")),
        "session_id": rng.choice((None, f"{app}-s{i // 4}")),
        "unit_hash": rng.choice((None, f"u{rng.randrange(30)}")),
    }
    return [
        fixed
        | {
            "revision": revision,
            "status": rng.choice(
                (None, "ok", "ok", "ok", "error", "timeout", "truncated", "blocked", "handed_off", "unknown", "cancelled")
            ),
            "is_fallback": rng.choice((None, False, False, True)),
            "latency_ms": rng.choice((None, rng.lognormvariate(5, 1))),
            "ttft_ms": rng.choice((None, rng.lognormvariate(3, 1))),
            "n_tool_calls": calls,
            "n_tool_errors": None if calls is None else rng.randrange(calls + 1),
            "n_retrievals": rng.choice((None, 0, 2)),
            "input_tokens": rng.choice((None, 0, rng.randrange(3000))),
            "output_tokens": rng.choice((None, rng.randrange(500))),
            "cache_read_tokens": rng.choice((None, 0, rng.randrange(100))),
            "cache_write_tokens": rng.choice((None, rng.randrange(100))),
            "reasoning_tokens": rng.choice((None, rng.randrange(100))),
            "attempts": rng.choice((None, 0, 1, 1, 3)),
            "cost_usd": rng.choice((None, round(rng.random(), 6))),
            "violation_rules": rng.choice((None, [], [], ["pii"])),
            "blocked_rules": rng.choice((None, [], ["policy"])),
            "handoff_id": rng.choice((None, None, None, "h1")),
        }
        for revision in range(rng.choice((1, 1, 1, 2, 3)))
    ]


def _score(rng: random.Random, app: str, i: int, number: int) -> dict:
    return {
        "score_id": f"{app}-k{number}",
        "app": app,
        "request_id": f"{app}-r{i}",
        "name": rng.choice(("quality", "quality", "resolved", "success", "retrieval_hit")),
        "value": rng.choice((None, 0.0, 1.0, rng.random(), rng.random())),
        "scorer_id": rng.choice(("judge-a", "judge-b", None)),
        "sample_probability": rng.choice((None, 1.0, 0.5, 0.1)),
        "source": "judge",
        "ts": START + timedelta(minutes=rng.randrange(600)),
    }


def _outcome(rng: random.Random, app: str, i: int, n: int, number: int) -> dict:
    return {
        "outcome_id": f"{app}-o{number}",
        "app": app,
        "kpi": rng.choice((f"order-{app}", f"order-{app}", "something-else")),
        "value": rng.choice((None, rng.uniform(1, 90))),
        "currency": rng.choice((None, "EUR", "USD")),
        "request_id": rng.choice((None, f"{app}-r{rng.randrange(n + 2)}")),
        "session_id": rng.choice((None, f"{app}-s{i // 4}")),
        "ts": START + timedelta(minutes=7 * i + rng.randrange(-10, 100)),
    }


class Oracle:
    """The log as lists, judged by loops."""

    def __init__(self, log: dict[str, list[dict]], app: str, *, until: datetime | None = None) -> None:
        latest: dict[str, dict] = {}
        for row in log["requests"]:
            if row["request_id"] not in latest or row["revision"] >= latest[row["request_id"]]["revision"]:
                latest[row["request_id"]] = row
        self.requests = [row for row in latest.values() if row["arm"] != "shadow"]  # what it answered reached nobody
        self.choose(self.requests)
        self.scores = log["scores"]
        self.outcomes = list({o["outcome_id"]: o for o in log["outcomes"]}.values())
        self.event = f"order-{app}"
        seen = [r["ts_start"] for r in latest.values()] + [o["ts"] for o in log["outcomes"] if o["kpi"] == self.event]
        self.as_of = min(max(seen), until) if until else max(seen)

    def newest(self, request_id: str, name: str, scorer: str | None = "*") -> dict | None:
        found = [s for s in self.scores if s["request_id"] == request_id and s["name"] == name and scorer in ("*", s["scorer_id"])]
        best = None
        for score in found:  # later rows win a tie
            if best is None or score["ts"] >= best["ts"]:
                best = score
        return best

    def success(self, r: dict) -> bool | None:
        failed = r["status"] in ("error", "timeout", "truncated") or r["is_fallback"] is True
        if r["workflow"] in ("buy", "ask", "browse") and failed:
            return False
        if r["workflow"] == "buy":
            ends = r["ts_start"] + timedelta(hours=1)
            return any(self._followed(r, o, ends) for o in self.outcomes) if ends <= self.as_of else None
        if r["workflow"] == "ask":
            score = self.newest(r["request_id"], "resolved")
            return None if score is None or score["value"] is None else score["value"] >= 0.7
        if r["workflow"] == "browse":
            return None if r["status"] in (None, "unknown") else r["status"] == "ok"
        score = self.newest(r["request_id"], "success")
        if score is not None and score["value"] is not None:
            return score["value"] >= 0.5
        return False if failed else None

    def success_weight(self, r: dict) -> float:
        """How many requests the success of this one stands for: 1 / probability of the score that decided it, else 1."""
        failed = r["status"] in ("error", "timeout", "truncated") or r["is_fallback"] is True
        if r["workflow"] in ("buy", "browse") or (r["workflow"] == "ask" and failed):
            return 1.0
        return _weight(self.newest(r["request_id"], "resolved" if r["workflow"] == "ask" else "success"))

    def _followed(self, r: dict, o: dict, ends: datetime) -> bool:
        mine = o["request_id"] == r["request_id"] or (
            o["request_id"] is None and o["session_id"] is not None and o["session_id"] == r["session_id"]
        )
        return mine and o["kpi"] == self.event and r["ts_start"] <= o["ts"] <= ends

    def request_metrics(self, rows: list[dict]) -> dict[str, tuple[float | None, int]]:
        """Metric to (value, n) over these requests."""
        success = [self.success(r) for r in rows]
        decided = [(s, self.success_weight(r)) for r, s in zip(rows, success, strict=True) if s is not None]
        found: dict[str, tuple[float | None, int]] = {"volume": (len(rows), len(rows))}
        found["success_rate"] = _weighted(decided)
        found["failure_rate"] = _weighted([(not s, w) for s, w in decided])
        found["undecided_rate"] = _share(success.count(None), len(rows))
        for name, (column, q) in QUANTILES.items():
            found[name] = _percentile([r[column] for r in rows], q)
        with_status = [r["status"] for r in rows if r["status"] not in (None, "unknown")]
        found["error_rate"] = _share(sum(status in ("error", "timeout", "truncated") for status in with_status), len(with_status))
        tools = [r for r in rows if r["n_tool_calls"] is not None]
        found["tool_error_rate"] = _share(sum(r["n_tool_errors"] for r in tools), sum(r["n_tool_calls"] for r in tools))
        known = [r["is_fallback"] for r in rows if r["is_fallback"] is not None]
        found["fallback_rate"] = _share(sum(known), len(known))
        found["handoff_rate"] = _share(sum(r["handoff_id"] is not None or r["status"] == "handed_off" for r in rows), len(rows))
        attempts = [r["attempts"] for r in rows if r["attempts"] is not None]
        found["retry_rate"] = _share(sum(n > 1 for n in attempts), len(attempts))
        found["attempts_mean"] = _share(sum(attempts), len(attempts))
        blocked = {r["request_id"]: r["status"] == "blocked" or bool(r["blocked_rules"]) for r in rows}
        held = {r["request_id"]: r["status"] == "blocked" or (r["status"] == "handed_off" and bool(r["blocked_rules"])) for r in rows}
        open_to_user = [r for r in rows if r["violation_rules"] is not None and (r["violation_rules"] or not held[r["request_id"]])]
        found["violation_rate"] = _share(sum(bool(r["violation_rules"]) for r in open_to_user), len(open_to_user))
        guarded = [r for r in rows if r["blocked_rules"] is not None or blocked[r["request_id"]]]
        found["block_rate"] = _share(sum(blocked[r["request_id"]] for r in guarded), len(guarded))
        found["quality_mean"] = self._quality(rows)
        hits = [self.newest(r["request_id"], "retrieval_hit") for r in rows if r["n_retrievals"]]
        found["retrieval_hit_rate"] = _weighted([(h["value"] >= 0.5, _weight(h)) for h in hits if h is not None and h["value"] is not None])
        for name in SUMS:
            values = [r[name] for r in rows if r[name] is not None]
            found[name] = (math.fsum(values) if values else None, len(values))
        costs = [r["cost_usd"] for r in rows if r["cost_usd"] is not None]
        found["cost_per_request"] = _share(math.fsum(costs), len(costs))
        units = [r["unit_hash"] for r in rows if r["unit_hash"] is not None]
        sessions = [r["session_id"] for r in rows if r["session_id"] is not None]
        found["users"] = (len(set(units)) if units else None, len(units))
        found["sessions"] = (len(set(sessions)) if sessions else None, len(sessions))
        found["requests_per_session"] = (self._per_session(rows), len(sessions))
        priced = [
            (r["cost_usd"], (s is True) * self.success_weight(r)) for r, s in zip(rows, success, strict=True) if r["cost_usd"] is not None
        ]
        wins = math.fsum(w for _, w in priced)
        found["cost_per_success"] = (math.fsum(c for c, _ in priced) / wins if wins else None, len(priced))
        return found

    def _per_session(self, rows: list[dict]) -> float | None:
        """Requests by sessions; in each bundle a session begins at its first request there among those that were asked for."""
        within = [r for r in rows if r["session_id"] is not None]
        begun = sum(self.first[r["session_id"], r["bundle"]] == r["request_id"] for r in within)
        return len(within) / begun if begun else None

    def choose(self, rows: list[dict]) -> list[dict]:
        """The rows, as those that were asked for: a session begins with the first of them."""
        self.first = {}
        for r in sorted(rows, key=lambda r: (r["ts_start"], r["request_id"])):
            self.first.setdefault((r["session_id"], r["bundle"]), r["request_id"])
        return rows

    def _quality(self, rows: list[dict]) -> tuple[float | None, int]:
        weighted = []
        for r in rows:
            scorers = {s["scorer_id"] for s in self.scores if s["request_id"] == r["request_id"] and s["name"] == "quality"}
            for scorer in scorers:
                score = self.newest(r["request_id"], "quality", scorer)
                if score["value"] is not None:
                    weighted.append((score["value"], _weight(score)))
        return _weighted(weighted)

    def kpi_rows(self) -> dict[str, list[tuple[dict, float]]]:
        """KPI to (request that carries it, value)."""
        sessions: dict[str, list[dict]] = defaultdict(list)
        delivered = [r for r in self.requests if r["arm"] != "shadow"]
        for r in sorted(delivered, key=lambda r: (r["ts_start"], r["request_id"])):
            sessions["s" + r["session_id"] if r["session_id"] else "r" + r["request_id"]].append(r)
        by_id = {r["request_id"]: r for r in delivered}
        placed = []
        for o in (o for o in self.outcomes if o["kpi"] == self.event):
            if o["request_id"] is not None:
                at = by_id.get(o["request_id"])
            else:
                before = [r for r in sessions.get(f"s{o['session_id']}", []) if r["ts_start"] <= o["ts"]]
                at = before[-1] if before else None
            if at is not None:
                placed.append((at, o))
        came: dict[str, list[datetime]] = defaultdict(list)
        for r, o in placed:
            came["s" + r["session_id"] if r["session_id"] else "r" + r["request_id"]].append(o["ts"])
        ends = {key: members[0]["ts_start"] + timedelta(hours=1) for key, members in sessions.items()}
        over = {key: members for key, members in sessions.items() if ends[key] <= self.as_of}
        values = [(r, o["value"]) for r, o in placed if o["value"] is not None and o["currency"] in (None, "EUR")]
        return {
            "conversion": [(members[0], float(key in came)) for key, members in sessions.items()],
            "prompt": [(members[0], float(any(ts <= ends[key] for ts in came.get(key, ())))) for key, members in over.items()],
            "basket": values,
            "revenue": values,
        }

    def kpis(self, keep) -> dict[str, tuple[float | None, int]]:
        """KPI to (value, n) over the carriers that `keep` keeps."""
        found = {}
        for name, rows in self.kpi_rows().items():
            values = [value for r, value in rows if keep(r)]
            total = math.fsum(values)
            found[name] = (None if not values else total if name == "revenue" else total / len(values), len(values))
        return found


def _weight(score: dict | None) -> float:
    return 1 / (score["sample_probability"] or 1.0) if score and score["value"] is not None else 1.0


def _weighted(values: list[tuple[float, float]]) -> tuple[float | None, int]:
    total = math.fsum(w for _, w in values)
    return (math.fsum(v * w for v, w in values) / total if values else None, len(values))


def _share(count: int, n: int) -> tuple[float | None, int]:
    return (count / n if n else None, n)


def _percentile(values: list[float | None], q: int) -> tuple[float | None, int]:
    known = [v for v in values if v is not None]
    return (float(np.percentile(known, q)) if known else None, len(known))
