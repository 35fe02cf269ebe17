"""What each thing that can be asked for does: the verbs that the `workbench` command calls too, and words for what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from bot.asks import Ask, Outcome, Said
from bot.board import Board
from bot.grammar import slack_id
from workbench.errors import UnknownSubject, UsageError
from workbench.ledger.audit import AuditEntry, read_head, tail
from workbench.ledger.routes import stored_route
from workbench.ledger.types import utc_text
from workbench.ownership.model import Actor, Identity
from workbench.ownership.people import person_in
from workbench.ownership.wall_clock import moment_of
from workbench.release.model import Release
from workbench.release.targets import FALLBACK, LAST_GOOD, OFF
from workbench.views.cards import headline, literal_card, page_card, review_page
from workbench.views.numbers import counted
from workbench.views.owners import gaps_text, owners_text, shifts_text, stand_in_text
from workbench.views.release import history_page, lock_text
from workbench.workspace import Workspace

_DEFAULT_DAYS, _MOST_DAYS = 14, 366
_MOST_ENTRIES = 1000
"""How far back the audit is searched for an act that a killed bot may have done."""
_ENTRIES: Mapping[str, frozenset[str]] = {
    "release.start": frozenset({"release.ready", "release.stop"}),
    "release.approve": frozenset({"release.approve", "release.break_glass"}),
}
"""Audit entries that show an act as done, where they have not its own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One act about to be done."""

    actor: Actor
    ask: Ask
    at: datetime
    """When it was asked for."""

    def __getitem__(self, name: str) -> str:
        """What was given under this name; empty where nothing was."""
        return self.ask.arguments.get(name, "")

    @property
    def app(self) -> str:
        return self["app"]

    @property
    def reason(self) -> str:
        """As the audit holds it."""
        return " ".join(self["reason"].split())

    @property
    def release(self) -> str:
        """Id of the release, or the app whose open one is meant."""
        return self["release"]


class Acts:
    """Does what people ask for in the chat, in a workspace. Its methods block.

    Args:
        ws: the workspace.
        board: how releases look in the chat.
        actor_of: who has a Slack id.
    """

    def __init__(self, ws: Workspace, board: Board, *, actor_of: Callable[[str], Actor]) -> None:
        self._ws = ws
        self._board = board
        self._actor_of = actor_of
        self._verbs: Mapping[str, Callable[[Call], Outcome]] = {
            "release.start": self._start,
            "release.status": self._status,
            "release.gates": self._gates,
            "release.history": self._history,
            "release.approve": self._approve,
            "release.reject": self._reject,
            "release.reviewed": self._reviewed,
            "release.promote": self._promote,
            "release.hold": self._hold,
            "release.resume": self._resume,
            "release.abort": self._abort,
            "release.lock": self._lock,
            "release.unlock": self._unlock,
            "release.freeze": self._freeze,
            "release.unfreeze": self._unfreeze,
            "release.adopt": self._adopt,
            "rollback": self._rollback,
            "owner.show": self._show,
            "owner.oncall": self._oncall,
            "owner.gaps": self._gaps,
            "owner.override": self._override,
        }

    @property
    def known(self) -> frozenset[str]:
        """The names of all acts."""
        return frozenset(self._verbs)

    def pinned(self, ask: Ask) -> Ask:
        """The wish with the release or bundle, the version and the place in the audit that it is decided on.

        Raises:
            UnknownSubject: there is no such release.
        """
        with self._ws.ledger.read() as connection:
            head = read_head(connection)
            route = stored_route(connection, ask.arguments["app"]) if ask.act == "rollback" else None
        pinned = replace(ask, after_entry=head.seq if head else 0)
        if route is not None:
            return replace(pinned, decided_on=route.version)
        if ask.act == "release.start":
            return replace(
                pinned, arguments={**ask.arguments, "bundle": self._bundle_id(ask.arguments["app"], ask.arguments.get("bundle"))}
            )
        if "release" in ask.arguments and ask.decided_on is None:
            release = self._ws.releases.get(ask.arguments["release"])
            return replace(pinned, decided_on=release.version, arguments={**ask.arguments, "release": release.release_id})
        return pinned

    def do(self, ask: Ask, *, at: datetime) -> Outcome:
        """What came of it.

        Args:
            ask: what was asked for, pinned.
            at: when.

        Raises:
            WorkbenchError: it was refused.
        """
        return self._verbs[ask.act](Call(actor=self._actor_of(ask.user), ask=ask, at=at))

    def done_before(self, ask: Ask, *, at: datetime) -> Outcome | None:
        """What came of it in an attempt that was stopped after it had done it: its audit entry is there. None where none did."""
        call = Call(actor=self._actor_of(ask.user), ask=ask, at=at)
        names = _ENTRIES.get(ask.act, {ask.act})
        app = ask.arguments.get("app") or ask.arguments["release"].rpartition(".")[0]
        with self._ws.ledger.read() as connection:
            entries = tail(connection, _MOST_ENTRIES, app=app)
        later = (entry for entry in entries if entry.seq > (ask.after_entry or 0))
        theirs = (entry for entry in later if entry.act in names and entry.actor == call.actor.person)
        found = next((entry for entry in theirs if self._is_of(entry, call)), None)
        return self._from_entry(found) if found else None

    def _is_of(self, entry: AuditEntry, call: Call) -> bool:
        """Whether the entry is of this very wish, and not of a similar one that the same person had later."""
        detail, version = entry.detail, call.ask.decided_on or 0
        match call.ask.act:
            case "release.start":
                return bool(detail["bundle"] == call["bundle"])
            case "rollback":
                is_next = detail["route_version"] in (version + 1, version + 2)  # a canary that ends first takes one of its own
                return not call["dry-run"] and is_next and detail["reason"] == call.reason and self._is_restored(detail["stable"], call)
            case "release.reviewed":
                return bool(entry.subject == call.release and detail["reason"] == call.reason)
            case "release.lock" | "release.unlock":
                return bool(detail["reason"] == call.reason)
            case "owner.override":
                _, until = self._stretch(call)
                wanted = (self._person(call.app, call["person"]), _tier(call), utc_text(until.astimezone(UTC)), call.reason)
                return (detail["person"], detail["tier"], detail["until"], detail["reason"]) == wanted
        return entry.subject == call.release and bool(detail["version"] == version + 1)

    def _is_restored(self, stable: str | None, call: Call) -> bool:
        """Whether what serves after a rollback is what was asked for."""
        if call["bundle"] in ("", LAST_GOOD):
            return True
        return stable == (None if call["bundle"] in (FALLBACK, OFF) else self._bundle_id(call.app, call["bundle"]))

    def _from_entry(self, entry: AuditEntry) -> Outcome:
        if "to" in entry.detail:
            return self._moved(self._ws.releases.get(entry.subject))
        words = f"{entry.actor} did this: {entry.act} for {entry.app}"
        return Outcome(told=Said(text=words), announced=Said(text=words))

    # Acts on a release

    def _start(self, call: Call) -> Outcome:
        return self._moved(self._ws.releases.start(call.app, call["bundle"] or None, reason=call["reason"], actor=call.actor))

    def _adopt(self, call: Call) -> Outcome:
        return self._moved(self._ws.releases.adopt(call.app, call["bundle"], reason=call["reason"], actor=call.actor))

    def _approve(self, call: Call) -> Outcome:
        if call["break-glass"]:
            releases, version = self._ws.releases, call.ask.decided_on
            return self._moved(releases.break_glass(call.release, reason=call["reason"], expected_version=version, actor=call.actor))
        return self._moved(self._ws.releases.approve(call.release, expected_version=call.ask.decided_on, actor=call.actor))

    def _reject(self, call: Call) -> Outcome:
        releases, version = self._ws.releases, call.ask.decided_on
        return self._moved(releases.reject(call.release, reason=call["reason"], expected_version=version, actor=call.actor))

    def _reviewed(self, call: Call) -> Outcome:
        verdict = call["verdict"].lower().replace("-", "_")
        return self._moved(self._ws.releases.reviewed(call.release, verdict=verdict, reason=call["reason"], actor=call.actor))

    def _promote(self, call: Call) -> Outcome:
        releases, version = self._ws.releases, call.ask.decided_on
        return self._moved(releases.promote(call.release, early=call["early"], expected_version=version, actor=call.actor))

    def _hold(self, call: Call) -> Outcome:
        reason = call["reason"] or "by the button in Slack"
        return self._moved(self._ws.releases.hold(call.release, reason=reason, expected_version=call.ask.decided_on, actor=call.actor))

    def _resume(self, call: Call) -> Outcome:
        return self._moved(self._ws.releases.resume(call.release, expected_version=call.ask.decided_on, actor=call.actor))

    def _abort(self, call: Call) -> Outcome:
        releases, version = self._ws.releases, call.ask.decided_on
        return self._moved(releases.abort(call.release, reason=call["reason"], expected_version=version, actor=call.actor))

    def _rollback(self, call: Call) -> Outcome:
        is_dry = bool(call["dry-run"])
        release = self._ws.releases.rollback(
            call.app,
            to=call["bundle"] or None,
            reason=call["reason"],
            dry_run=is_dry,
            expected_route_version=call.ask.decided_on,
            actor=call.actor,
        )
        if not is_dry:
            return self._moved(release)
        return Outcome(told=Said(text=f"Nothing was done. A rollback would do this: {self._board.sentence(release)}"))

    def _moved(self, release: Release) -> Outcome:
        """The outcome of an act that changed a release."""
        return Outcome(told=Said(text=self._board.sentence(release)), release_id=release.release_id)

    # Acts on an app

    def _lock(self, call: Call) -> Outcome:
        return _announced(lock_text(self._ws.releases.lock(call.app, call["reason"], steal=bool(call["steal"]), actor=call.actor)))

    def _unlock(self, call: Call) -> Outcome:
        self._ws.releases.unlock(call.app, call["reason"], steal=bool(call["steal"]), actor=call.actor)
        why = f": {call['reason']}" if call["reason"] else ""
        return _announced(f"{call.actor.person} took the lock off releases of {call.app}{why}")

    def _freeze(self, call: Call) -> Outcome:
        return _announced(lock_text(self._ws.releases.freeze(call.app, call["reason"], actor=call.actor)))

    def _unfreeze(self, call: Call) -> Outcome:
        self._ws.releases.unfreeze(call.app, call["reason"], actor=call.actor)
        why = f": {call['reason']}" if call["reason"] else ""
        return _announced(f"{call.actor.person} ended the freeze of {call.app}{why}")

    def _override(self, call: Call) -> Outcome:
        ownership = self._ws.ownership
        start, until = self._stretch(call)
        person, reason = self._person(call.app, call["person"]), call["reason"]
        done = ownership.override(call.app, person, start=start, until=until, tier=_tier(call), reason=reason, actor=call.actor)
        return _announced(stand_in_text(done, zone=ownership.zone(call.app)))

    def _stretch(self, call: Call) -> tuple[datetime, datetime]:
        """From when until when somebody is to stand in."""
        zone = self._ws.ownership.zone(call.app)
        start = moment_of(call["from"], zone, since=call.at) if call["from"] else call.at
        return start, moment_of(call["until"], zone, since=start)

    # Looking

    def _status(self, call: Call) -> Outcome:
        self._require_view(call)
        return Outcome(told=self._board.status(call.app))

    def _gates(self, call: Call) -> Outcome:
        self._require_view(call)
        release = self._ws.releases.status(call.app).release
        if release is None or release.review_id is None:
            what = "has no release yet" if release is None else f"{release.release_id} is a {release.kind} and stands on no review"
            return Outcome(told=Said(text=f"{call.app}: {what}"))
        page = review_page(self._ws.readiness.get(release.review_id))
        return Outcome(told=Said(text=headline(page), blocks=page_card(page)))

    def _history(self, call: Call) -> Outcome:
        self._require_view(call)
        page = history_page(call.app, self._ws.releases.history(call.app), self._ws.releases.broken_glass(call.app))
        return Outcome(told=Said(text=headline(page), blocks=page_card(page)))

    def _show(self, call: Call) -> Outcome:
        self._require_view(call)
        ownership = self._ws.ownership
        spec, people = ownership.declared(call.app)
        duty, stand_ins, zone = ownership.on_call(call.app), ownership.stand_ins(call.app), ownership.zone(call.app)
        return _literal(f"{call.app} is owned by {spec.owner or 'nobody'}", owners_text(spec, people, duty, stand_ins=stand_ins, zone=zone))

    def _oncall(self, call: Call) -> Outcome:
        self._require_view(call)
        duty, zone = self._ws.ownership.on_call(call.app), self._ws.ownership.zone(call.app)
        return Outcome(told=Said(text=shifts_text(call.app, duty, zone=zone)))

    def _gaps(self, call: Call) -> Outcome:
        self._require_view(call)
        days = _number(call["days"], what="--days", most=_MOST_DAYS) if call["days"] else _DEFAULT_DAYS
        found = self._ws.ownership.gaps(call.app, start=call.at, until=call.at + timedelta(days=days))
        table = gaps_text(call.app, found, days=days, zone=self._ws.ownership.zone(call.app))
        return _literal(f"{call.app}: {counted(len(found), 'gap')} in the next {days} days", table)

    def _require_view(self, call: Call) -> None:
        """Return when the app is known and the actor may look at it."""
        if call.app not in self._ws.versions.apps():
            self._ws.require_app(call.app)
        self._ws.ownership.require(call.actor, "view", call.app)

    def _bundle_id(self, app: str, given: str | None) -> str:
        """The bundle that is meant; what was given where there is none, which is said when the act is tried."""
        versions = self._ws.versions
        try:
            return (versions.get(given, app=app) if given else versions.latest(app)).bundle_id
        except (UnknownSubject, UsageError):
            return given or ""

    def _person(self, app: str, given: str) -> str:
        """The name of a person who is mentioned or named.

        Raises:
            UsageError: the mention is of nobody whom the app declares.
        """
        mentioned, people = slack_id(given), self._ws.ownership.people(app)
        if mentioned is None:
            return given
        found = person_in(people, Identity(edge="slack", value=mentioned)) if people else None
        if found is None:
            raise UsageError(
                f"person {given}", seen=f"no one in people.yaml of {app} has this Slack id", next_step="name the person, or add the id"
            )
        return found


def _announced(text: str) -> Outcome:
    return Outcome(told=Said(text="Done; the channel was told."), announced=Said(text=text))


def _literal(text: str, table: str) -> Outcome:
    return Outcome(told=Said(text=text, blocks=literal_card(table)))


def _tier(call: Call) -> int:
    return _number(call["tier"] or "1", what="--tier")


def _number(text: str, *, what: str, most: int = 9) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise UsageError(what, seen=f'"{text}"', needed=f"a whole number from 1 to {most}")
    return int(text)
