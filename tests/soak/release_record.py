"""What a run of releases left behind, checked from outside: by looks at the rows while it went on, and by the record afterwards."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import psycopg

from workbench.ledger.audit import AuditEntry
from workbench.ledger.releases import StoredRelease
from workbench.ledger.watches import StoredDecision
from workbench.ownership.permissions import CONTROLLER

_LOOK = """
SELECT r.version, r.stable, r.candidate, r.share, r.release_id, e.release_id, e.state, e.step, e.version, l.token, w.token, w.version
FROM routes r LEFT JOIN releases e ON e.app = r.app AND e.ended_at IS NULL
LEFT JOIN leases l ON l.name = 'release controller' LEFT JOIN watches w ON w.release_id = e.release_id"""
"""One statement, so that it sees one moment."""


class Look(NamedTuple):
    """The route with the open release, the lease and the watch, at one moment."""

    route_version: int
    stable: str | None
    candidate: str | None
    share: float
    route_release: str | None
    release: str | None
    state: str | None
    step: int | None
    version: int | None
    token: int | None
    watch_token: int | None
    watch_version: int | None


class Observer:
    """Looks all the time, by a connection of its own, and keeps what is new.

    Args:
        url: of the ledger.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.looks: list[Look] = []
        self.n = 0
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        is_file = self._url.startswith("sqlite")
        path = self._url.removeprefix("sqlite:///")
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True) if is_file else psycopg.connect(self._url, autocommit=True)
        while not self._ended.wait(0.01):
            try:
                rows = connection.execute(_LOOK).fetchall()
            except (sqlite3.Error, psycopg.Error) as fault:
                self.faults.append(f"nobody could look: {fault!r}")
                continue
            self.n += 1
            if len(rows) != 1:
                self.faults.append(f"{len(rows)} open releases of one app")
            look = Look(*rows[0])
            if not self.looks or look != self.looks[-1]:
                self.looks.append(look)
        connection.close()


def in_looks(looks: Sequence[Look], shares: Sequence[float]) -> Iterator[str]:
    """What is wrong in what was seen, one sentence each.

    Args:
        looks: one after the other.
        shares: of the plan's steps.
    """
    shapes: dict[int, set[tuple[object, ...]]] = defaultdict(set)
    states: dict[tuple[object, ...], set[tuple[object, ...]]] = defaultdict(set)
    for look in looks:
        shapes[look.route_version].add(look[1:5])
        if look.release is not None:
            states[look.release, look.version].add((look.state, look.step))
        is_serving = look.state in ("CANARY", "HELD")
        wanted = (shares[look.step or 0], look.release) if is_serving else (0, None)
        if (look.share, look.route_release) != wanted or (look.candidate is None) == is_serving:
            yield f"the route is not what its release says: {look}"
    yield from (f"route version {version} had more than one shape: {seen}" for version, seen in shapes.items() if len(seen) > 1)
    yield from (f"{at} was in more than one state: {seen}" for at, seen in states.items() if len(seen) > 1)
    for before, after in pairwise(looks):
        if after.route_version < before.route_version or (after.token or 0) < (before.token or 0):
            yield f"a version or a token went back: {before} to {after}"
        if before.release == after.release and before.release is not None:
            watched = ((one.version or 0, one.watch_token or 0, one.watch_version or 0) for one in (before, after))
            first, then = watched
            if any(later < earlier for earlier, later in zip(first, then, strict=True)):
                yield f"{after.release} went back: {before} to {after}"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the ledger holds of an app's releases."""

    entries: Sequence[AuditEntry]
    """All of them, in order."""
    releases: Sequence[StoredRelease]
    decisions: Mapping[str, Sequence[StoredDecision]]
    """By release."""
    shares: Sequence[float]
    """Of the plan's steps."""

    @property
    def routes(self) -> dict[int, tuple[str | None, str | None, float]]:
        """Route version to who was stable, who the candidate and its share, by the audit."""
        found = {}
        for entry in self._of_releases():
            detail = entry.detail
            if detail["route_version"] is not None:
                candidate = detail["bundle"] if detail["share"] else None
                found.setdefault(detail["route_version"], (detail["stable"], candidate, detail["share"]))
        return found

    def _of_releases(self) -> list[AuditEntry]:
        known = {release.release_id for release in self.releases}
        return [entry for entry in self.entries if entry.subject in known and "version" in entry.detail]

    def faults(self) -> Iterator[str]:
        """What is wrong, one sentence each."""
        by_release: dict[str, list[AuditEntry]] = defaultdict(list)
        for entry in self._of_releases():
            by_release[entry.subject].append(entry)
        for release in self.releases:
            yield from self._in_chain(release, by_release[release.release_id])
            yield from self._in_decisions(release.release_id, by_release[release.release_id])
        yield from self._in_routes()
        everything = sorted((each for found in self.decisions.values() for each in found), key=lambda each: each.decided_at)
        yield from (
            f"{after.decision_id} was decided under an older token than {before.decision_id}"
            for before, after in pairwise(everything)
            if after.token < before.token
        )

    def _in_chain(self, release: StoredRelease, entries: Sequence[AuditEntry]) -> Iterator[str]:
        """Every change of a release stands in the audit, and each begins where the one before it ended."""
        state, step, version = None, None, 0
        promoted: Counter[object] = Counter()
        for entry in entries:
            detail = entry.detail
            if (detail["from"], detail["version"]) != (state, version + 1):
                yield f"entry {entry.seq} of {release.release_id} does not follow {state} at version {version}: {detail}"
            if entry.act == "release.promote":
                promoted[detail["to"], detail["step"]] += 1
                if detail["to"] == "CANARY" and detail["step"] != (0 if step is None else step + 1):
                    yield f"entry {entry.seq} leaves out a step of {release.release_id}"
            state, step, version = detail["to"], detail["step"], detail["version"]
        if (release.state, release.step, release.version) != (state, step, version):
            yield f"{release.release_id} is {release.state} at version {release.version}, and the audit ends with {state} at {version}"
        yield from (f"{release.release_id} was promoted {n} times to {where}" for where, n in promoted.items() if n > 1)

    def _in_decisions(self, release_id: str, entries: Sequence[AuditEntry]) -> Iterator[str]:
        """What the controller did, it had decided before, on what was there then."""
        known = {each.decision_id: each for each in self.decisions.get(release_id, ())}
        if [each.number for each in known.values()] != list(range(1, len(known) + 1)):
            yield f"decisions of {release_id} are not numbered one by one"
        for entry in entries:
            if entry.actor != CONTROLLER:
                continue
            words = str(entry.detail.get("decision") or entry.detail.get("reason"))
            named = re.search(rf"{re.escape(release_id)}/\d+", words)
            decided = known.get(named.group()) if named else None
            wanted = {"release.promote": "PROMOTE", "rollback": "ROLLBACK", "release.hold": "HOLD"}[entry.act]
            if decided is None:
                yield f"entry {entry.seq}: the controller did what nobody decided: {entry.detail}"
            elif (decided.decision, decided.release_version) != (wanted, entry.detail["version"] - 1) or decided.decided_at > entry.time:
                yield f"entry {entry.seq}: {decided.decision_id} was decided on something else or later: {entry.detail}"

    def _in_routes(self) -> Iterator[str]:
        routes = self.routes
        if sorted(routes) != list(range(1, max(routes) + 1)):
            yield f"route versions without an audit entry: {sorted(set(range(1, max(routes) + 1)) - set(routes))}"
        yield from (
            f"route version {at}: {share} is no share of the plan" for at, (*_, share) in routes.items() if share not in {0, *self.shares}
        )

    def in_log(self, rows: Iterable[tuple[int, str, str, float]]) -> Iterator[str]:
        """What the requests say that the audit does not.

        Args:
            rows: route version, arm, bundle and share of requests.
        """
        for version, arm, bundle, share in rows:
            stable, candidate, wanted = self.routes.get(version, (None, None, -1.0))
            withheld = {0.0} if arm == "stable" else set()  # where a gateway has the candidate not ready yet
            if bundle != (candidate if arm == "candidate" else stable) or share not in {wanted, *withheld}:
                yield f"a request of {arm} had {bundle} at a share of {share} under route version {version}: {self.routes.get(version)}"


def lasting(begun: float) -> str:
    return f"{time.monotonic() - begun:7.1f} s"
