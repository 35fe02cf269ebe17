"""Which bundle serves a unit. Pure: the same salt and unit give the same bucket in every process and on every machine."""

from __future__ import annotations

import hmac
from dataclasses import replace

from workbench.controls.model import Assignment, Reason, Route

BUCKETS = 10_000


def bucket(salt: str, unit: str) -> int:
    """The unit's place among 10,000: the first 8 bytes of HMAC-SHA256(salt, unit), big-endian, modulo 10,000."""
    digest = hmac.digest(salt.encode("utf-8", "surrogatepass"), unit.encode("utf-8", "surrogatepass"), "sha256")
    return int.from_bytes(digest[:8], "big") % BUCKETS


def is_candidates(route: Route, unit: str) -> bool:
    """Whether the unit is in the candidate's share. Raising the share only ever adds units."""
    return bucket(route.salt, unit) < round(route.share * BUCKETS)


def is_mirrored(route: Route, unit: str | None) -> bool:
    """Whether the unit's requests are copied for the shadow; the units that a canary takes first are the first."""
    return route.shadow is not None and bool(unit) and bucket(route.salt, unit or "") < round(route.shadow_share * BUCKETS)


def mirror(route: Route) -> Assignment:
    """The shadow, for a copy of a request."""
    return Assignment(
        app=route.app,
        bundle_id=route.shadow,
        arm="shadow",
        share=route.share,
        route_version=route.route_version,
        release_id=route.release_id,
        reason=Reason.SHADOW,
    )


def assign(route: Route, unit: str | None, *, withheld: Reason | None = None, began: Assignment | None = None) -> Assignment:
    """The bundle that serves this unit under this route.

    Args:
        route: as last read.
        unit: whom the call is for; None or empty when nobody is named.
        withheld: why the bundle beside the stable one may not serve anybody now; None when it may.
        began: what the first call of the talk got, where the route has talks end where they began.
    """
    if began is not None and withheld is None and unit:
        kept = _continued(route, began)
        if kept is not None:
            return kept
    if route.candidate is None:
        return _stable(route, Reason.NO_CANDIDATE)
    if withheld is not None:
        return _stable(route, withheld, share=0.0)
    if not unit:
        return _stable(route, Reason.NO_UNIT)
    if not is_candidates(route, unit):
        return _stable(route, Reason.BUCKET)
    return Assignment(
        app=route.app,
        bundle_id=route.candidate,
        arm="candidate",
        share=route.share,
        route_version=route.route_version,
        release_id=route.release_id,
        reason=Reason.BUCKET,
    )


def _continued(route: Route, began: Assignment) -> Assignment | None:
    """What a talk that began so gets; None where that is over and it is assigned like one that begins now.

    The share and version stay those by which it was assigned, in both arms: of the talks that began under one version the candidate has
    that version's share for as long as they last, while the present share says nothing about them.
    """
    if began.bundle_id is None:
        return None
    if route.candidate is None:
        is_open = began.bundle_id == route.retiring
    elif began.bundle_id == route.stable and began.release_id != route.release_id:  # since before the release, which had no share in it
        return _stable(route, Reason.SESSION, share=0.0)
    else:
        is_open = began.release_id == route.release_id and began.bundle_id in (route.stable, route.candidate)
    if not is_open:
        return None
    is_by_route = began.reason is Reason.BUCKET and began.route_version == route.route_version
    return began if is_by_route or began.reason is Reason.SESSION else replace(began, reason=Reason.SESSION)


def _stable(route: Route, reason: Reason, *, share: float | None = None) -> Assignment:
    has_stable = route.stable is not None
    return Assignment(
        app=route.app,
        bundle_id=route.stable,
        arm="stable" if has_stable else "none",
        share=route.share if share is None else share,
        route_version=route.route_version,
        release_id=route.release_id,
        reason=reason if has_stable else Reason.NO_STABLE,
    )
