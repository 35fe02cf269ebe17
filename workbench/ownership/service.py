"""Who answers? The people, permissions and rotas of the declared apps, as they are declared at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from workbench.errors import NotPermitted, UnknownSubject, UsageError
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.overrides import StoredOverride, add_override, overrides_of
from workbench.ledger.store import Ledger
from workbench.ledger.types import utc_text
from workbench.ownership import cover, rota
from workbench.ownership.cover import Cover
from workbench.ownership.declaring import act_of, is_locked_out
from workbench.ownership.model import Actor, Assurance, Gap, Identity, Shift, StandIn
from workbench.ownership.people import LookedUpAuthor, name_across, name_in, person_in
from workbench.ownership.permissions import ACTS, ON_CALL_ACTS, READING_ACTS, Permission, may, roles_of
from workbench.ownership.standing_in import check_stand_in
from workbench.spec.app import AppSpec
from workbench.spec.base import Spec
from workbench.spec.faults import suggestion
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import Override, RotaSpec

_NEXT_STEP = {
    "unknown_act": "",
    "console": "act under your own login",
    "no_people": "declare people.yaml: `workbench app register DIR`",
    "unknown_person": "ask an administrator of the app to add you to its people.yaml",
    "no_role": "ask somebody who has the role, or an administrator to give it to you in people.yaml",
    "weak_assurance": "ask for it in Slack, where the bot knows who you are",
}


class Ownership:
    """Answers who may act and who is on call. It implements `ledger.authority.Authority`.

    What an app's people.yaml says counts for that app alone: who a login or Slack id is, and which roles it has. The whole workspace,
    and an app without a people.yaml, belong to all apps that have one: an act takes the role in each of them, looking takes one in any.

    Args:
        declarations: app and kind (`app`, `people`, `rota`) to the declared spec, None where none is declared.
        apps: the names of all apps that are declared or have bundles.
        clock: the time, aware.
        ledger: where stand-ins are declared beyond rota.yaml; without one there are none.
        is_demo: whether people may choose who they are; only in the workspace of the demo and in the console.
        clean: takes personal data out of a reason before it is stored.
    """

    def __init__(
        self,
        declarations: Callable[[str, str], Spec | None],
        *,
        apps: Callable[[], Iterable[str]],
        clock: Callable[[], datetime],
        ledger: Ledger | None = None,
        is_demo: bool = False,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._declarations = declarations
        self._apps = apps
        self._clock = clock
        self._ledger = ledger
        self._is_demo = is_demo
        self._clean = clean

    def actor_of_os_login(self, login: str, *, via: str) -> Actor:
        """Whoever has this login, by the name that every people.yaml agrees on, else by the login; assurance `local` either way."""
        identity = Identity(edge="os", value=login)
        return Actor(person=name_across(self._people_by_app(), identity), via=via, assurance=Assurance.LOCAL, identity=identity)

    def actor_of_slack_id(self, slack_id: str) -> Actor:
        """The person behind a Slack id that the edge has verified.

        Raises:
            NotPermitted: when nobody declares it.
        """
        declared, identity = self._people_by_app(), Identity(edge="slack", value=slack_id)
        if not any(person_in(people, identity) for people in declared.values()):
            raise NotPermitted(f'Slack id "{slack_id}"', seen="it belongs to nobody", next_step=_NEXT_STEP["unknown_person"])
        return Actor(person=name_across(declared, identity), via="slack", assurance=Assurance.VERIFIED, identity=identity)

    def require(self, author: Author, act: str, app: str | None) -> None:
        """Return when the author may do the act for the app (None: for the whole workspace).

        Raises:
            NotPermitted: otherwise, with the reason and whom to ask.
        """
        permission = self.may(author, act, app)
        if not permission.allowed:
            subject = f"{act} for {app}" if app else act
            seen = permission.sentence.removeprefix(f"{subject} ")
            raise NotPermitted(subject, seen=seen, next_step=_NEXT_STEP[permission.reason])

    def require_declaration(self, author: Author, app: str, kind: str, old: Spec | None, new: Spec | None) -> None:
        """Return when the author may change what the app declares, and could change it back.

        Raises:
            NotPermitted: otherwise.
        """
        self.require(author, act_of(kind, old, new), app)
        if kind != "people":
            return
        before, after = (spec if isinstance(spec, PeopleSpec) else None for spec in (old, new))
        if is_locked_out(_actor(author), app, old=before, new=after):
            raise NotPermitted(
                f"people.yaml of {app}",
                seen=f"{author.person} would no longer be an administrator, and could not undo it",
                needed="the role admin for whoever declares it, under the login or id they use now",
                next_step="correct your own entry; another administrator can take the role from you",
            )

    def may(self, author: Author, act: str, app: str | None) -> Permission:
        """Whether the author may do the act now, and why."""
        actor = _actor(author)
        deciding = self._deciding(app)
        if not deciding:
            return self._answer(actor, act, app)
        answers = [self._answer(actor, act, app, declared_by=name, people=deciding[name]) for name in sorted(deciding)]
        is_one_enough = act in READING_ACTS
        return next((answer for answer in answers if answer.allowed is is_one_enough), answers[0])

    def actor(self, author: Author) -> Actor:
        """Whoever acts, looked up once: for an act that reads and writes in one transaction."""
        return _actor(author)

    def person_in(self, app: str, author: Author) -> str:
        """How the app's own people.yaml names whoever acts; one human has one name there, whichever edge they come by."""
        actor, people = _actor(author), self.people(app)
        return actor.person if actor.identity is None or people is None else name_in(people, actor.identity)

    def holders(self, act: str, app: str) -> tuple[str, ...]:
        """The people of the app who have a role for the act, by name."""
        people = self.people(app)
        return tuple(name for name in sorted(people.people) if roles_of(name, act, app, people) & ACTS[act]) if people else ()

    def people(self, app: str) -> PeopleSpec | None:
        """The people of the app, by its own people.yaml; None without one."""
        spec = self._declarations(app, "people")
        return spec if isinstance(spec, PeopleSpec) else None

    def declared(self, app: str) -> tuple[AppSpec, PeopleSpec | None]:
        """The app's declaration and its people.

        Raises:
            UnknownSubject: when the app is not declared.
        """
        spec = self._declared_app(app)
        if spec is None:
            known = [name for name in self._apps() if self._declared_app(name) is not None]
            raise UnknownSubject(
                f'app "{app}"', seen=f"it is not declared{suggestion(app, known)}", next_step="declare it: `workbench app register DIR`"
            )
        return spec, self.people(app)

    def on_call(self, app: str, at: datetime | None = None) -> tuple[Shift, ...]:
        """Who is on call for the app at this moment (by default now) and can be reached, by tier; empty without a rota."""
        moment = at or self._clock()
        declared = self._rota(app, since=moment - rota.ON_CALL_REACH)
        return rota.on_call(declared, moment, self._known(app)) if declared else ()

    def gaps(self, app: str, *, start: datetime, until: datetime) -> tuple[Gap, ...]:
        """Where somebody must be on call and nobody is; without a rota nobody ever is.

        Args:
            app: the app.
            start: first moment, aware.
            until: end, not included, aware.
        """
        declared = self._rota(app, since=start)
        if declared is None:
            return (Gap(start=start, until=until, tier=1, reason="no rota is declared"),) if start < until else ()
        return rota.gaps(declared, self.people(app), start, until)

    def cover(self, app: str, *, start: datetime, until: datetime) -> Cover | None:
        """The figures of the cover between two aware moments; None without a rota."""
        declared = self._rota(app, since=start)
        return cover.summary(declared, self.people(app), start, until) if declared else None

    def zone(self, app: str) -> ZoneInfo:
        """The time zone of the app's rota; UTC without a rota."""
        declared = self._declared_rota(app)
        return ZoneInfo(declared.zone if declared else "UTC")

    def stand_ins(self, app: str) -> tuple[StandIn, ...]:
        """Who stands in for somebody on the rota, now or later, in the order of their declaration; those of rota.yaml left out."""
        return tuple(_stand_in(row) for row in self._overrides(app, since=self._clock()))

    def override(
        self, app: str, person: str, *, start: datetime | None = None, until: datetime, tier: int = 1, reason: str, actor: Author
    ) -> StandIn:
        """Puts somebody on call at one tier for one stretch of time. It counts from now on, and before whatever it overlaps.

        Args:
            app: the app.
            person: who stands in; one of its people.yaml who can be reached and is not away.
            start: first moment, aware; by default now, and never earlier: who was on call is not changed afterwards.
            until: end, not included, aware; in the future, and at most `LONGEST_STAND_IN` later.
            tier: which tier they take; one that the rota has.
            reason: why.
            actor: who declares it.

        Raises:
            NotPermitted: the actor has not the role.
            UnknownSubject: the person, the tier or the rota is not there.
            UsageError: the stretch makes no sense, the person would not count in it, or there is no reason.
        """
        self.require(actor, "owner.override", app)
        now = self._clock().astimezone(UTC)
        wanted = StandIn(
            app=app,
            person=person,
            tier=tier,
            start=max((start or now).astimezone(UTC), now),
            until=until.astimezone(UTC),
            reason=self._clean(" ".join(reason.split())),
            declared_by=self.person_in(app, actor),
            declared_at=now,
        )
        check_stand_in(wanted, self._declared_rota(app), self.people(app))
        if self._ledger is None:
            raise UsageError(f"stand-in on {app}", seen="no ledger is open", needed="a workspace")
        with self._ledger.write() as act:
            detail: dict[str, JSON] = {
                "person": person,
                "tier": tier,
                "start": utc_text(wanted.start),
                "until": utc_text(wanted.until),
                "reason": wanted.reason,
            }
            entry = act.audit(actor, "owner.override", app=app, subject=f"{app}/rota", detail=detail)
            add_override(act, StoredOverride(seq=entry.seq, **asdict(wanted)))
        return wanted

    def risk_tier(self, app: str) -> str | None:
        """The tier that the app declares; None where it declares nothing, which counts as high."""
        spec = self._declared_app(app)
        return spec.risk_tier if spec else None

    def _answer(
        self, actor: Actor, act: str, app: str | None, *, declared_by: str | None = None, people: PeopleSpec | None = None
    ) -> Permission:
        """What one people.yaml says; without one, what may be done before anybody is declared."""
        duty = self.on_call(app) if app is not None and act in ON_CALL_ACTS else ()
        return may(
            actor if actor.identity is None or people is None else replace(actor, person=name_in(people, actor.identity)),
            act,
            app,
            people=people,
            risk_tier=self.risk_tier(app) if app is not None else None,
            declared_by=declared_by,
            on_call={shift.person for shift in duty},
            is_console_allowed=self._is_demo,
        )

    def _deciding(self, app: str | None) -> dict[str, PeopleSpec]:
        """Every people.yaml that an act on the app (None: on the workspace) is asked of, by its app."""
        own = self.people(app) if app is not None else None
        return {app: own} if app is not None and own is not None else self._people_by_app()

    def _people_by_app(self) -> dict[str, PeopleSpec]:
        return {app: people for app in self._apps() if (people := self.people(app)) is not None}

    def _known(self, app: str) -> PeopleSpec:
        return self.people(app) or PeopleSpec.model_construct(people={})

    def _declared_app(self, app: str | None) -> AppSpec | None:
        spec = self._declarations(app, "app") if app is not None else None
        return spec if isinstance(spec, AppSpec) else None

    def _rota(self, app: str, *, since: datetime) -> RotaSpec | None:
        """The rota with every stand-in that ends after a moment."""
        declared = self._declared_rota(app)
        if declared is None:
            return None
        overrides = [
            Override(person=row.person, tier=row.tier, start=row.start, until=row.until) for row in self._overrides(app, since=since)
        ]
        return rota.with_overrides(declared, overrides)

    def _declared_rota(self, app: str) -> RotaSpec | None:
        spec = self._declarations(app, "rota")
        return spec if isinstance(spec, RotaSpec) else None

    def _overrides(self, app: str, *, since: datetime) -> tuple[StoredOverride, ...]:
        if self._ledger is None:
            return ()
        with self._ledger.read() as connection:
            return overrides_of(connection, app, since=since)


def _stand_in(row: StoredOverride) -> StandIn:
    return StandIn(**{field.name: getattr(row, field.name) for field in fields(StandIn)})


def _actor(author: Author) -> Actor:
    """The author as an actor, with the identity where the edge has one.

    Raises:
        NotPermitted: when the assurance is none that is known.
    """
    if isinstance(author, LookedUpAuthor):
        return author.find()
    return author if isinstance(author, Actor) else Actor(person=author.person, via=author.via, assurance=_assurance(author))


def _assurance(author: Author) -> Assurance:
    try:
        return Assurance(author.assurance)
    except ValueError as error:
        known = ", ".join(Assurance)
        raise NotPermitted(f"actor {author.person}", seen=f'its assurance is "{author.assurance}"', needed=f"one of {known}") from error
