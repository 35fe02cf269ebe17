"""A lake with the rows that a test names, and the metrics over it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from tests.observability.lakes import NOON, open_lake, open_logs
from workbench.observability.metrics import Metrics
from workbench.spec.app import AppSpec

_ids = itertools.count()


class Fixture:
    """Rows go in by `add`; `metrics` asks."""

    def __init__(self, home: Path, specs: Mapping[str, AppSpec] | None = None) -> None:
        self.lake = open_lake(home)
        self.logs = open_logs(home, lake=self.lake)
        self.metrics = Metrics(self.lake, app_spec=(specs or {}).get, clock=lambda: NOON + timedelta(days=1))

    def add(
        self,
        requests: Sequence[dict] = (),
        *,
        spans: Sequence[dict] = (),
        scores: Sequence[dict] = (),
        outcomes: Sequence[dict] = (),
    ) -> None:
        self.logs.record({"requests": list(requests), "spans": list(spans), "scores": list(scores), "outcomes": list(outcomes)})
        self.logs.flush()

    def one(self, metric: str, **how):
        """The value of a metric over everything."""
        frame = self.metrics.query([metric], **how)
        return frame[metric][0], frame[f"{metric}_n"][0]

    def close(self) -> None:
        self.logs.close()
        self.lake.close()


def request(**values) -> dict:
    return {"request_id": f"m{next(_ids)}", "revision": 0, "app": "shop", "bundle": "one", "ts_start": NOON, "status": "ok", **values}


def score(at: dict, name: str, value: float | None, *, minute: int = 0, **more) -> dict:
    ts = NOON + timedelta(minutes=minute)
    return {
        "score_id": f"k{next(_ids)}",
        "app": at["app"],
        "request_id": at["request_id"],
        "name": name,
        "value": value,
        "ts": ts,
        "source": "rule",
        **more,
    }


def outcome(kpi: str, *, minute: float = 0, **more) -> dict:
    return {"outcome_id": f"o{next(_ids)}", "app": "shop", "kpi": kpi, "ts": NOON + timedelta(minutes=minute), **more}


def spec(app: str = "shop", *, kpis: Sequence[dict] = (), **rules: dict) -> AppSpec:
    """An app with these success rules by workflow."""
    workflows = [{"name": name, "success": rule} for name, rule in rules.items()]
    return AppSpec.model_validate({"app": app, "title": app, "risk_tier": "low", "workflows": workflows, "kpis": list(kpis)})
