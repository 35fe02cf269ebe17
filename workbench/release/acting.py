"""Whoever acts on releases: who they are, whether they may, the one transaction of the act, and who is told of it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from workbench.errors import NotPermitted, ReleaseRefused, StoreError, UnknownSubject, UsageError
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.registry import content_of
from workbench.ledger.releases import StoredRelease, known_release, locks_of
from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ownership.people import names_of
from workbench.ownership.service import Ownership
from workbench.release.freezes import objection_to_release
from workbench.release.model import Release
from workbench.release.ports import Before, CandidateUnits, ReleaseListener, ReleaseLog, Reviewer
from workbench.release.records import locks_from, plan_of, release_of
from workbench.release.states import Act
from workbench.release.turn import Doer, Done, Turn, expect, insist, objection_to_state
from workbench.versions.service import Versions

log = logging.getLogger(__name__)
REFUSED = "release.refused"
MOST_WORDS = 1000
"""Characters of a reason."""


class Acting:
    """What every verb stands on: who acts, whether they may, the transaction, and who is told of what came of it.

    Args:
        ledger: where releases, routes and the audit are.
        versions: the registry of bundles.
        ownership: who may, and how an app names whoever acts.
        reviewer: gives the maker of readiness reviews; only `start` asks for it, so that nothing else needs the log to be there.
        units: counts the units that a candidate has served.
        log: reads releases from the log; only a replay asks for it.
        author: who acts by default.
        clock: the time, aware.
        clean: takes personal data out of a reason before it is stored.
        token: random hex digits of so many bytes, for the salt of each release.
        before: what the log holds of the time before a release; without it nobody is told what its plan leaves open.
        fence: asked inside each act's transaction; raises where whoever acts may not write any more.
        monotonic: seconds, for what a drill measures.
        pause: waits so many seconds, between two looks of a drill.
    """

    def __init__(
        self,
        ledger: Ledger,
        versions: Versions,
        ownership: Ownership,
        *,
        reviewer: Callable[[], Reviewer],
        units: CandidateUnits,
        log: ReleaseLog,
        author: Author,
        clock: Callable[[], datetime],
        clean: Callable[[str], str] = str,
        token: Callable[[int], str] = secrets.token_hex,
        before: Before | None = None,
        fence: Callable[[WriteTransaction], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger = ledger
        self._versions = versions
        self._ownership = ownership
        self._reviewer = reviewer
        self._units = units
        self._log = log
        self._author = author
        self._clock = clock
        self._clean = clean
        self._token = token
        self._before = before
        self._fence = fence
        self._monotonic = monotonic
        self._pause = pause
        self._listeners: list[ReleaseListener] = []
        self._names: dict[str, str] = {}

    def listen(self, listener: ReleaseListener) -> None:
        """Tell it of every change from now on."""
        self._listeners.append(listener)

    @contextmanager
    def _acting(
        self, act: Act, release_id: str, actor: Author | None, expected_version: int | None
    ) -> Iterator[tuple[Turn, StoredRelease]]:
        """The turn and the release, when the actor may do the act, and it is at the expected version and in a state for it."""
        looked = self._stored(release_id)
        with self._permitted(act, looked.app, actor, subject=looked.release_id) as doer, self._ledger.write() as transaction:
            seen = known_release(transaction.connection, looked.release_id)
            expect(seen, expected_version)
            insist(seen, objection_to_state(act, seen))
            yield self._turn(transaction, doer), seen

    def _turn(self, act: WriteTransaction, doer: Doer) -> Turn:
        if self._fence is not None:
            self._fence(act)
        return Turn(act=act, doer=doer, now=self._clock(), token=self._token)

    def _words(self, reason: str) -> str:
        """The reason, when it says something, as it is stored.

        Raises:
            UsageError: it is empty or too long.
        """
        words = " ".join(reason.split())
        if not 0 < len(words) <= MOST_WORDS:
            seen = "it is empty" if not words else f"it has {len(words):,} characters"
            raise UsageError("reason", seen=seen, needed=f"why, in up to {MOST_WORDS:,} characters")
        return self._clean(words)

    @contextmanager
    def _permitted(self, act: str, app: str, actor: Author | None, *, subject: str | None = None) -> Iterator[Doer]:
        """Whoever acts, when they may. What the rules refuse in the block to somebody whom the app knows leaves an entry, and goes on.

        Permission is asked before the block's transaction, whose lock others wait for. What an approval stands on, people.yaml
        included, is checked once more inside it.
        """
        author, people = self._ownership.actor(actor or self._author), self._ownership.people(app)
        person = self._ownership.person_in(app, author)
        try:
            self._ownership.require(author, act, app)
            yield Doer(author=author, person=person, known_as=names_of(person, people), app=app)
        except (NotPermitted, ReleaseRefused) as error:
            if people is not None and person in people.people:
                reason = error.reason if isinstance(error, ReleaseRefused) else "not_permitted"
                detail: dict[str, JSON] = {"act": str(act), "reason": reason, "seen": error.seen}
                with suppress(StoreError), self._ledger.write() as transaction:  # a refusal stands, whether or not it can be written down
                    transaction.audit(author, REFUSED, app=app, subject=subject or app, detail=detail)
            raise

    def _insist_on_release(self, turn: Turn, subject: str) -> None:
        """Return when neither a lock nor a freeze keeps the actor from releasing now."""
        connection = turn.act.connection
        plan = plan_of(turn.app, content_of(connection, turn.app, "plan"))
        insist(subject, objection_to_release(turn.person, locks_from(locks_of(connection, turn.app)), plan, now=turn.now))

    def _open_before(self, release: Release) -> tuple[str, ...]:
        """What its plan leaves open, by what the log holds now; it reads all that the stable bundle did.

        Raises:
            StoreError: the log cannot be read.
            UsageError: its rows cannot be used.
        """
        if release.plan is None or self._before is None:
            return ()
        from workbench.release.outlook import beforehand  # noqa: PLC0415 - the judge's libraries are waited for by who asks the judge

        return beforehand(release.plan, self._before(release.app, release.previous_stable, release.plan)).lines

    def _stored(self, release_id: str) -> StoredRelease:
        with self._ledger.read() as connection:
            return known_release(connection, release_id)

    def _release(self, row: StoredRelease) -> Release:
        return release_of(row, self._names_of(row.bundle_id, row.previous_stable))

    def _names_of(self, *bundle_ids: str | None) -> dict[str, str]:
        """Bundle id to name; a bundle's content is its id, so a name that was read once stays true."""
        for bundle_id in bundle_ids:
            if bundle_id is not None and bundle_id not in self._names:
                with suppress(UnknownSubject):
                    self._names[bundle_id] = self._versions.get(bundle_id).name
        return {bundle_id: self._names[bundle_id] for bundle_id in bundle_ids if bundle_id in self._names}

    def _told(self, done: Done) -> Release:
        """The release, after every listener was told of the change."""
        release = self._release(done.row)
        for listener in self._listeners:
            try:
                listener.on_transition(release, done.entry)
            except Exception:  # the change is committed: what a listener cannot do must not look as if it had failed
                log.exception("a listener failed after %s of release %s", done.entry.act, release.release_id)
        return release
