"""Who registered a bundle, by identities that outlive a change of people.yaml. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.ownership.people import names_of
from workbench.spec.people import PeopleSpec

_EDGES = ("os:", "slack:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Whoever registered a bundle."""

    recorded: str
    """The name in the record."""
    known_as: frozenset[str]
    """That name, and the logins and ids behind it; empty when nothing says who it is."""


def registrar_of(recorded: str, *, then: PeopleSpec | None, now: PeopleSpec | None) -> Registrar:
    """The human behind a recorded name.

    A name is what people.yaml makes of it. It is read as it stood at the registration, so that who is declared anew under another name
    is still the same human; and as it stands now only where it did not know the name then.

    Args:
        recorded: who registered the bundle, as it is recorded.
        then: the app's people at the registration.
        now: the app's people at present.
    """
    identities = _identities(recorded, then) or _identities(recorded, now)
    is_person = any(people is not None and recorded in people.people for people in (then, now))
    is_known = bool(identities) or is_person or recorded.startswith(_EDGES)
    return Registrar(recorded=recorded, known_as=identities | {recorded} if is_known else frozenset())


def _identities(recorded: str, people: PeopleSpec | None) -> frozenset[str]:
    """The logins and ids of everybody whom the record may hold under this name."""
    known = (names_of(person, people) for person in people.people) if people else ()
    return frozenset(name for names in known if recorded in names for name in names if name.startswith(_EDGES))
