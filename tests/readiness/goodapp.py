"""A good app, a good record, a good review: the tests change one thing of them at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from workbench.observability.model import Evidence, RowSet
from workbench.readiness.declared import Declarations
from workbench.spec.app import AppSpec
from workbench.spec.gates import GateSpec, GatesSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.plan import PlanSpec
from workbench.spec.rota import RotaSpec

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
Z = 1.959963984540054


def wilson(share: float, n: int) -> tuple[float, float]:
    """The Wilson interval of a share, independently of the product."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return 0.0 if share == 0 else middle - half, 1.0 if share == 1 else middle + half


def side(estimate: float | None, n: int, *, unit: str = "share", direction: str = "higher_is_better", low=None, high=None) -> dict:
    if unit == "share" and estimate is not None and n and low is None:
        low, high = wilson(estimate, n)
    return {
        "estimate": estimate,
        "n": n,
        "count": round(estimate * n) if unit == "share" and estimate is not None else None,
        "low": low,
        "high": high,
        "level": 0.95,
        "method": "wilson" if unit == "share" else "order statistics",
        "unit": unit,
        "direction": direction,
    }


RANKS = (1, 2, 5, 10, 20, 30, 50, 100)
"""Those that gates of `min_n` 1, 30 and 100 read."""


def seen(side: dict, at: datetime | Sequence[datetime]) -> dict:
    """The side with the age of its newest units: all at one time, or each at its own, newest first."""
    units = side["n"] if isinstance(at, datetime) else len(at)
    times = {str(rank): at if isinstance(at, datetime) else at[min(rank, units) - 1] for rank in RANKS if units}
    return {**side, "newest": {"units": units, "times": {rank: time.isoformat() for rank, time in times.items()}}}


def record(statistics: dict, *, kind: str = "metric", last: datetime | None = NOW - timedelta(hours=1), n: int = 1000) -> Evidence:
    if kind == "metric" and last and isinstance(statistics.get("n"), int) and "newest" not in statistics:
        statistics = seen(statistics, last)
    return Evidence(
        evidence_id="sha256:" + "ab" * 32,
        kind=kind,
        app="support",
        subject="support@111111111111",
        baseline="support@000000000000" if kind == "comparison" else None,
        query={},
        statistics=statistics,
        row_set=RowSet(n=n, digest="sha256:" + "cd" * 32, first=NOW - timedelta(days=2), last=last),
        snapshot=3,
        collected_at=NOW,
    )


def share_record(estimate: float | None, n: int, **more) -> Evidence:
    return record(side(estimate, n), **more)


def comparison(candidate: dict, baseline: dict, difference: dict | None = None, ratio: dict | None = None) -> Evidence:
    none = {"estimate": None, "low": None, "high": None, "level": 0.95, "method": ""}
    return record(
        {
            "candidate": seen(candidate, NOW - timedelta(hours=1)),
            "baseline": seen(baseline, NOW - timedelta(hours=1)),
            "difference": {**none, "n_pairs": None, "wins": None, "losses": None, "p": None, "p_method": None, **(difference or {})},
            "ratio": {**none, **(ratio or {})},
        },
        kind="comparison",
    )


def retail() -> tuple[Evidence, Evidence]:
    """Success and latency of a candidate that is slower without being better."""
    return (
        comparison(
            side(0.85, 40),
            side(0.85, 40),
            {"estimate": 0.0, "low": -0.17, "high": 0.17, "n_pairs": 40, "wins": 6, "losses": 6, "p": 1.0, "p_method": "exact McNemar"},
        ),
        comparison(
            side(62_660.0, 40, unit="ms", direction="lower_is_better", low=45_000.0),
            side(34_990.0, 40, unit="ms", direction="lower_is_better", low=30_000.0),
            ratio={"estimate": 1.79, "low": 1.2, "high": 2.6},
        ),
    )


def telecom() -> tuple[Evidence, Evidence]:
    """Success and latency of a candidate that is better, but much slower."""
    return (
        comparison(
            side(0.75, 40),
            side(0.45, 40),
            {
                "estimate": 0.3,
                "low": 0.15,
                "high": 0.45,
                "n_pairs": 40,
                "wins": 12,
                "losses": 0,
                "p": 0.00048828125,
                "p_method": "exact McNemar",
            },
        ),
        comparison(
            side(175_400.0, 40, unit="ms", direction="lower_is_better", low=90_000.0),
            side(76_600.0, 40, unit="ms", direction="lower_is_better", low=70_000.0),
            ratio={"estimate": 2.29, "low": 0.9, "high": None},
        ),
    )


def gate(**changes) -> GateSpec:
    given = {"id": "success", "metric": "success_rate", "at_least": 0.8, "min_n": 100, **changes}
    return GateSpec(**{name: value for name, value in given.items() if value is not None})


def good() -> Declarations:
    """An app that declares everything, as the guide asks."""
    return Declarations(
        app="support",
        spec=AppSpec.model_validate(
            {
                "app": "support",
                "title": "Support assistant",
                "risk_tier": "medium",
                "owner": "primary",
                "kpis": [
                    {
                        "name": "solved_without_a_call",
                        "outcome": "case_closed",
                        "baseline": 0.4,
                        "target": 0.6,
                        "target_date": date(2026, 9, 30),
                        "owner": "primary",
                    }
                ],
                "risks": [
                    {"name": "wrong_refund", "description": "Money is promised that is not due.", "control": "rule no_refund_promise"}
                ],
                "escalation": [{"to": "primary", "within": "15m"}, {"to": "secondary", "within": "1h"}],
                "fallback": {"kind": "human"},
                "kill_switch": "set the share to 0 at the load balancer",
            }
        ),
        people=PeopleSpec.model_validate(
            {
                "people": {
                    "primary": {"contact": "pager 1", "roles": {"support": ["operator"]}},
                    "secondary": {"slack": ["U02"]},
                    "approver": {"contact": "pager 3", "roles": {"*": ["approver"]}},
                }
            }
        ),
        gates=GatesSpec(gates=(gate(),)),
        plan=PlanSpec.model_validate(
            {
                "steps": [{"share": 0.05, "at_least": "1h"}, {"share": 1.0, "at_least": "1d"}],
                "rollback": {"target": "last_good", "criteria": [{"metric": "failure_rate", "ratio": 1.25}]},
            }
        ),
        rota=RotaSpec.model_validate({"zone": "Europe/Berlin"}),
        gaps=(),
        earlier=("support@000000000000",),
    )
