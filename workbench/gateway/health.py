"""Whether the gateway may be sent traffic, and why not. Pure."""

from __future__ import annotations

from datetime import datetime

from workbench.controls.model import ControlsStatus
from workbench.gateway.keyring import STALE_S
from workbench.observability.logs import FlushStatus

FLUSH_GRACE_S = 30.0
"""How long the log may not reach the lake; meanwhile it waits in the spool, and nothing is lost."""


def hindrances(controls: ControlsStatus, flush: FlushStatus, *, keys_age_s: float, started_at: datetime, now: datetime) -> tuple[str, ...]:
    """One sentence for each reason against sending traffic here; empty when there is none.

    Args:
        controls: how the controls are.
        flush: how the log's way to the lake is.
        keys_age_s: seconds since the keys were last read.
        started_at: since when the gateway serves.
        now: the time.
    """
    found = list(controls.reasons)
    if not controls.is_ready and not found:
        found.append("the controls are not ready")
    found += _of_flush(flush, started_at=started_at, now=now)
    if keys_age_s >= STALE_S:
        found.append(f"the API keys were last read {keys_age_s:.0f} s ago: new ones do not open anything yet, revoked ones still do")
    return tuple(found)


def _of_flush(flush: FlushStatus, *, started_at: datetime, now: datetime) -> list[str]:
    if not flush.is_running:
        return ["the log is not brought to the lake: its thread does not run"]
    waiting_s = (now - (flush.last_success or started_at)).total_seconds()
    if waiting_s < FLUSH_GRACE_S:
        return []
    why = f" ({flush.last_fault})" if flush.failures_in_a_row else ""
    return [f"the log has not reached the lake for {waiting_s:.0f} s; it waits in the spool{why}"]
