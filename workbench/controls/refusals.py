"""What is said to a caller whose call is not served: one function for each wording."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.controls.model import Route
from workbench.errors import RequestRefused
from workbench.spec.faults import suggestion


def bad_request(seen: str, *, needed: str = "") -> RequestRefused:
    """The call itself is wrong."""
    return RequestRefused("request", code="bad_request", http_status=400, seen=seen, needed=needed)


def unknown_app(app: str, known: frozenset[str]) -> RequestRefused:
    """Nobody registered the app."""
    near = suggestion(app, sorted(known))
    return RequestRefused(f'app "{app[:63]}"', code="unknown_app", http_status=404, seen=f"there is none{near}")


def never_released(app: str) -> RequestRefused:
    """The app is registered and has no route."""
    return RequestRefused(
        f"app {app}",
        code="nothing_to_serve",
        http_status=503,
        seen="it was never released, so no bundle serves it",
        next_step=f"run `workbench release start {app}`",
    )


def switched_off(route: Route) -> RequestRefused:
    """There is no stable bundle, the candidate is not for this call, and the route says `off` or the app declares no fallback text."""
    return RequestRefused(
        f"app {route.app}",
        code="nothing_to_serve",
        http_status=503,
        seen="no bundle serves this call, and there is no fallback text for it",
    )


def cannot_be_loaded(app: str, bundle_id: str) -> RequestRefused:
    """The bundle that has to serve cannot be run here."""
    return RequestRefused(
        f"app {app}",
        code="nothing_to_serve",
        http_status=503,
        seen=f"bundle {bundle_id} cannot be run here",
        next_step="the alarms of the controls say why",
        retry_after_s=5.0,
    )


def served_elsewhere(app: str, mode: str) -> RequestRefused:
    """The app declares a way of serving that is not this one."""
    return RequestRefused(
        f"app {app}",
        code="not_served_here",
        http_status=501,
        seen=f"it declares `serving: {mode}`, so its own code runs it",
        needed="`serving: hosted` or `serving: proxied` in app.yaml",
    )


def deadline_passed(deadline_s: float) -> RequestRefused:
    """There was no time left to start."""
    return RequestRefused(
        "request",
        code="deadline_passed",
        http_status=504,
        seen=f"{deadline_s * 1000:.0f} ms were left when it came" if deadline_s > 0 else "its deadline was past when it came",
        needed="time to answer",
        next_step="give more time, or look for what delayed the request",
    )


def too_late(deadline_s: float) -> RequestRefused:
    """The answer was there, and what has to look at it took longer than the caller waits."""
    return RequestRefused(
        "request",
        code="deadline_passed",
        http_status=504,
        seen=f"the answer could not be checked within {deadline_s * 1000:.0f} ms",
        needed="time for the guards of this app",
    )


def overloaded(in_flight: int) -> RequestRefused:
    """As many calls as allowed are being answered."""
    return RequestRefused(
        "controls",
        code="overloaded",
        http_status=429,
        seen=f"{in_flight} calls are being answered",
        next_step="try again in a second",
        retry_after_s=1.0,
    )


def not_ready(why: str) -> RequestRefused:
    """The process starts or ends."""
    return RequestRefused(
        "controls", code="not_ready", http_status=503, seen=why, next_step="send the request to another gateway", retry_after_s=1.0
    )


def audit_unavailable(why: str) -> RequestRefused:
    """The record of the call cannot be stored, so nothing may be answered."""
    return RequestRefused(
        "audit",
        code="audit_unavailable",
        http_status=503,
        seen=f"the record of this call could not be stored ({why})",
        needed="a record of every answer",
        next_step="nothing was answered; try again shortly",
        retry_after_s=1.0,
    )


def cannot_be_held() -> RequestRefused:
    """A person has to decide on the answer, and the queue cannot be reached."""
    return RequestRefused(
        "handoff",
        code="handoff_unavailable",
        http_status=503,
        seen="a person has to decide on this answer, and the queue does not take it",
        needed="the ledger",
        next_step="nothing was answered; try again shortly",
        retry_after_s=1.0,
    )


def blocked(rules: Sequence[str]) -> RequestRefused:
    """A guard stopped what was asked, and the form of the answer has no place for a refusal."""
    return RequestRefused(
        "request", code="blocked", http_status=400, seen=f"the app's policy stops it ({', '.join(rules) or 'input'})", needed="other texts"
    )


def no_vectors(fault: str, *, retry_after_s: float | None) -> RequestRefused:
    """No embedding model answered; `fault` is the short name of why."""
    return RequestRefused(
        "embeddings", code=fault, http_status=502, seen=f"the model gave no vectors ({fault})", retry_after_s=retry_after_s
    )


def embeds_nothing(app: str, bundle_id: str) -> RequestRefused:
    """The bundle names no embedding model."""
    return RequestRefused(
        f"app {app}",
        code="no_embeddings",
        http_status=501,
        seen=f"bundle {bundle_id} names no embedding model",
        needed="retrieval.embedding in bundle.yaml",
    )


def failed(fault: str) -> RequestRefused:
    """A fault of the serving side that no fallback covers; `fault` is its short name."""
    return RequestRefused("request", code="internal_error", http_status=500, seen=f"serving it failed ({fault})")
