"""Which processes follow an app's route, by what they told the ledger. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workbench.controls.routing import KEEP_S
from workbench.ledger.acknowledgements import Acknowledgement

FRESH = timedelta(seconds=KEEP_S)
"""A process that was not heard of for longer has ended, or serves no candidate any more because it cannot read its route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """The processes that serve an app, as they were last heard of."""

    route_version: int
    current: tuple[str, ...]
    """They serve by this version of the route."""
    behind: tuple[str, ...]
    """They serve by an older one."""
    silent: tuple[str, ...]
    """They have not been heard of for a while: stopped, killed, or without the ledger."""

    @property
    def live(self) -> tuple[str, ...]:
        return (*self.current, *self.behind)


def followers_of(told: Sequence[Acknowledgement], *, route_version: int, now: datetime) -> Followers:
    """Who follows the route.

    Args:
        told: of one app.
        route_version: of its route now.
        now: the present; one whose clock is ahead counts as heard of.
    """
    live = [each for each in told if now - each.heard_at <= FRESH]
    return Followers(
        route_version=route_version,
        current=tuple(each.gateway for each in live if each.route_version >= route_version),
        behind=tuple(each.gateway for each in live if each.route_version < route_version),
        silent=tuple(each.gateway for each in told if each not in live),
    )
