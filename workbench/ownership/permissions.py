"""May this person do this act? One table and one pure function decide, for every edge."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from workbench.ownership.model import Actor, Assurance
from workbench.spec.people import PeopleSpec, Role

_EVERY_ROLE = frozenset(Role)
_WORKING = frozenset({Role.OPERATOR, Role.APPROVER, Role.RISK_OWNER, Role.ADMIN})
_OPERATING = frozenset({Role.OPERATOR, Role.ADMIN})

ACTS: Mapping[str, frozenset[Role]] = {
    "view": _EVERY_ROLE,
    "audit.verify": _EVERY_ROLE,
    "log.import": _OPERATING,
    "log.record": _OPERATING,
    "log.maintain": _OPERATING,
    "log.export": _OPERATING,
    "retention.declare": frozenset({Role.ADMIN}),
    "bundle.register": _OPERATING,
    "declare": _OPERATING,
    "declare.people": frozenset({Role.ADMIN}),
    "review": _WORKING,
    "release.start": _OPERATING,
    "release.adopt": frozenset({Role.APPROVER, Role.ADMIN}),
    "release.approve": frozenset({Role.APPROVER}),
    "release.break_glass": frozenset({Role.OPERATOR}),
    "release.reviewed": frozenset({Role.APPROVER, Role.RISK_OWNER}),
    "release.reject": frozenset({Role.APPROVER}),
    "release.promote": frozenset({Role.OPERATOR, Role.APPROVER}),
    "release.hold": _WORKING,
    "release.resume": frozenset({Role.OPERATOR, Role.APPROVER}),
    "release.abort": frozenset({Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    "release.drill": frozenset({Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    "release.lock": _OPERATING,
    "release.unlock": _OPERATING,
    "release.freeze": _WORKING,
    "release.unfreeze": _OPERATING,
    "rollback": _WORKING,
    "rollback.to": _WORKING,
    "waiver.approve": frozenset({Role.RISK_OWNER, Role.ADMIN}),
    "owner.override": _OPERATING,
    "handoff.view": frozenset({Role.OPERATOR, Role.APPROVER, Role.RISK_OWNER}),
    "handoff.decide": frozenset({Role.OPERATOR, Role.APPROVER}),
    "incident.open": _WORKING,
    "key.create": frozenset({Role.ADMIN}),
    "key.revoke": frozenset({Role.ADMIN}),
    "erase": frozenset({Role.ADMIN}),
}
"""Which roles may do which act; one of them is enough.

An administrator hands out roles, and by that neither approves releases nor reads what customers wrote.
"""

BOOTSTRAP_ACTS = frozenset(
    {"view", "audit.verify", "log.import", "log.record", "log.export", "bundle.register", "declare", "declare.people", "review"}
)
"""What a login of this machine may do while the workspace declares nobody: look, measure and declare, but decide nothing."""

ON_CALL_ACTS = frozenset({"view", "rollback", "release.hold", "release.break_glass", "incident.open"})
"""What whoever is on call may do without a role: making things safe must not wait for one.

Nor must a release that repairs something wait for a second person who cannot be found; it is reviewed by one afterwards.
"""

DECIDING_ACTS = frozenset({act for act in ACTS if act.startswith(("release.", "rollback"))} | {"waiver.approve", "handoff.decide"}) - {
    "release.freeze",
    "release.drill",
}
"""Acts that need more than a login of this machine where the risk tier is high.

Freezing is none: it only stops. A drill is none: it serves nobody otherwise, and measures. Declaring people is none either, because no
edge that verifies people takes a declaration: an administrator's login must do, or nobody could ever take a role away from somebody who
left. So whoever has the login of an administrator can name themselves an approver; that needs the machine, never goes unseen (the audit
keeps who declared what), and the register of people stays what it must be: something that can be put right.
"""

CONTROLLER = "workbench:controller"
"""Who acts when a release is carried by its plan; no person can have this name."""
CONTROLLER_ACTS = frozenset({"view", "release.promote", "release.hold", "rollback"})
"""What it may do: go on with what people began and approved, and make things safe."""

READING_ACTS = frozenset({"view", "audit.verify"})
"""Acts that only look; at the whole workspace, whoever has a role for any app may look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """The answer, with a stable reason code and a sentence for the person who asked."""

    allowed: bool
    reason: str
    """`role`, `on_call`, `bootstrap`; or why not: `unknown_act`, `console`, `no_people`, `unknown_person`, `no_role`, `weak_assurance`."""
    sentence: str


def may(
    actor: Actor,
    act: str,
    app: str | None,
    *,
    people: PeopleSpec | None,
    risk_tier: str | None,
    declared_by: str | None = None,
    on_call: Collection[str] = (),
    is_console_allowed: bool = False,
) -> Permission:
    """Whether the actor may do the act, as one people.yaml has it.

    What is not declared allows nothing, but the bootstrap acts while nobody is declared.

    Args:
        actor: who asks, and how sure the edge is of it.
        act: one of `ACTS`.
        app: the application it touches; None is the whole workspace, where any role is enough to look.
        people: the people.yaml that is asked; None when the workspace has none.
        risk_tier: of the app; None where none is declared, which counts as high.
        declared_by: the app whose people.yaml it is, by default `app`; a role under that name, under `app` or under `*` counts.
        on_call: persons on call for the app at this moment.
        is_console_allowed: whether this edge lets people choose who they are; the demo workspace and the console only.
    """
    if act not in ACTS:
        return _no("unknown_act", f'"{act}" is not an act; known: {", ".join(sorted(ACTS))}')
    if actor.assurance is Assurance.CONSOLE and not is_console_allowed:
        return _no("console", "choosing who one is works only in the demo workspace and the console")
    if people is None or _is_controller(actor):
        return _as_controller(act) if _is_controller(actor) else _before_anybody(actor, act)
    where = f" for {app}" if app else ""
    owner = declared_by or app
    if actor.person not in people.people:
        return _no("unknown_person", f"{actor.person} is not in people.yaml{f' for {owner}' if owner else ''}")
    if _is_assurance_too_weak(actor, act, risk_tier):
        tier = f"the risk tier{where} is {risk_tier}" if risk_tier else f"no risk tier is declared{where}"
        return _no("weak_assurance", f"{act} with a login of this machine is refused, because {tier}; it takes a verified identity")
    held = roles_of(actor.person, act, app, people, declared_by=owner)
    return _by_role(actor.person, act, app, held, declared_by=owner, is_on_call=actor.person in on_call)


def _is_controller(actor: Actor) -> bool:
    return (actor.person, actor.via, actor.assurance) == (CONTROLLER, "controller", Assurance.VERIFIED)


def _as_controller(act: str) -> Permission:
    if act in CONTROLLER_ACTS:
        return Permission(allowed=True, reason="role", sentence=f"{act}: the release's plan says so")
    return _no("no_role", f"{act} takes a person")


def _by_role(person: str, act: str, app: str | None, held: frozenset[Role], *, declared_by: str | None, is_on_call: bool) -> Permission:
    where = f" for {app}" if app else ""
    source = f" in people.yaml of {declared_by}" if declared_by != app else ""
    if held & ACTS[act]:
        return Permission(allowed=True, reason="role", sentence=f"{act}{where}: {person} is {_either(held & ACTS[act])}")
    if is_on_call and act in ON_CALL_ACTS:
        return Permission(allowed=True, reason="on_call", sentence=f"{act}{where}: {person} is on call")
    return _no("no_role", f"{act}{where} needs the role {_either(ACTS[act])}; {person} has {_list(held)}{source}")


def roles_of(person: str, act: str, app: str | None, people: PeopleSpec, *, declared_by: str | None = None) -> frozenset[Role]:
    """The roles that count for the act: under the app's name, the declaring app's and `*`; to look at the workspace, all of them."""
    known = people.people.get(person)
    if known is None:
        return frozenset()
    is_anywhere = app is None and act in READING_ACTS
    return frozenset(role for name, roles in known.roles.items() if is_anywhere or name in {app, declared_by, "*"} for role in roles)


def _before_anybody(actor: Actor, act: str) -> Permission:
    if act not in BOOTSTRAP_ACTS:
        return _no("no_people", f"{act} needs people.yaml: nobody is declared yet, so nobody may")
    if actor.assurance is Assurance.VERIFIED:
        return _no("no_people", f"nobody is declared yet; until then only a login of the workspace's machine may {act}")
    return Permission(allowed=True, reason="bootstrap", sentence=f"{act}: nobody is declared yet, so a login of this machine may")


def _is_assurance_too_weak(actor: Actor, act: str, risk_tier: str | None) -> bool:
    return actor.assurance is Assurance.LOCAL and act in DECIDING_ACTS and risk_tier in ("high", None)


def _no(reason: str, sentence: str) -> Permission:
    return Permission(allowed=False, reason=reason, sentence=sentence)


def _either(roles: Collection[Role]) -> str:
    return " or ".join(sorted(roles))


def _list(roles: Collection[Role]) -> str:
    return ", ".join(sorted(roles)) or "none"
