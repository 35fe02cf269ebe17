"""The small company in a whole workspace: its canary's users leave rows in a real lake, which the real controller reads."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from tests.release.house import APP, SPECS, Clock, House
from workbench.cli.main import app as command
from workbench.observability.release_rows import ReleaseLog
from workbench.release.controller import Controller
from workbench.workspace import Workspace

STEPS = [{"share": 0.2, "at_least": "30s", "min_units": 20}, {"share": 0.5, "at_least": "30s"}]
PLAN = {"steps": STEPS, "rollback": {"criteria": [{"metric": "failure_rate", "ratio": 1.2}]}}


class Live(House):
    """The company in a whole workspace, with a log; its controller's clocks are moved by hand."""

    def __init__(self, ws: Workspace, folder: Path, clock: Clock, seconds: list[float]) -> None:
        self.ws, self.seconds = ws, seconds
        super().__init__(ws.ledger, folder, clock, specs={**SPECS, "plan": PLAN}, log=ReleaseLog(lambda: ws.lake))
        self.n = 0

    @property
    def controller(self) -> Controller:
        return self.ws.controller

    def traffic(self, n: int, *, failing: dict[str, float], seed: int = 3) -> None:
        """N users come; those of an arm fail with this probability. Their rows are in the lake, five seconds have passed."""
        route, draws = self.route, np.random.default_rng(seed + self.n)
        rows: list[dict[str, Any]] = []
        for _ in range(n):
            self.n += 1
            arm = "candidate" if draws.random() < route.share else "stable"
            rows += self.rows(f"unit-{self.n}", arm, is_failed=draws.random() < failing[arm])
        self.ws.logs.record({"requests": rows})
        self.ws.logs.flush()
        self.pass_time(5)

    def rows(self, unit: str, arm: str, *, is_failed: bool = False) -> list[dict[str, Any]]:
        """A request of a user, as it began and as it ended."""
        route = self.route
        known = {
            "request_id": f"req-{unit}",
            "app": APP,
            "ts_start": self.clock.now,
            "bundle": route.candidate if arm == "candidate" else route.stable,
            "arm": arm,
            "traffic_share": route.share,
            "route_version": route.version,
            "release_id": route.release_id,
            "unit_hash": hashlib.sha256(unit.encode()).hexdigest()[:32],
        }
        ended = {"revision": 1, "is_final": True, "status": "error" if is_failed else "ok", "latency_ms": 120.0, "ts_end": self.clock.now}
        return [{**known, "revision": 0, "is_final": False, "status": "unknown"}, {**known, **ended}]

    def pass_time(self, seconds: float) -> None:
        self.clock.forward(seconds=seconds)
        self.seconds[0] += seconds


def shown(live: Live, *words: str, code: int = 0) -> str:
    """What `workbench release` says with these words, when it ends with this code."""
    result = CliRunner(env={"WORKBENCH_HOME": str(live.ws.home)}).invoke(command, ["--as", "requester", "release", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output
