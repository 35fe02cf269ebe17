"""May somebody stand in for this stretch, and would they count? Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from workbench.errors import UnknownSubject, UsageError
from workbench.ownership.model import StandIn
from workbench.ownership.rota import obstacle, tiers
from workbench.spec.faults import suggestion
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import RotaSpec

LONGEST_STAND_IN = timedelta(days=31)
"""Whoever is on duty for longer belongs into rota.yaml, whose digest a review holds."""


def check_stand_in(wanted: StandIn, rota: RotaSpec | None, people: PeopleSpec | None) -> None:
    """Return when the person would count at the tier for the whole stretch, the stretch is one, and a reason is given.

    Args:
        wanted: who is to stand in, when and at which tier.
        rota: as declared; None where none is.
        people: of the app; None where none are declared.

    Raises:
        UnknownSubject: there is no such rota, person or tier.
        UsageError: otherwise.
    """
    subject = f"stand-in of {wanted.person} on {wanted.app}"
    if rota is None:
        raise UnknownSubject(f"rota of {wanted.app}", seen="none is declared", next_step="declare rota.yaml: `workbench app register DIR`")
    known = sorted(people.people) if people else []
    if wanted.person not in known:
        seen = f"people.yaml of {wanted.app} does not name them{suggestion(wanted.person, known)}"
        raise UnknownSubject(f'person "{wanted.person}"', seen=seen, needed=f"one of {', '.join(known)}" if known else "people.yaml")
    if wanted.tier not in tiers(rota):
        needed = f"one of {', '.join(map(str, tiers(rota)))}"
        raise UnknownSubject(f"tier {wanted.tier} of {wanted.app}", seen="the rota has no such tier", needed=needed)
    if not wanted.reason:
        raise UsageError(subject, seen="no reason is given", needed="why, in a few words")
    if wanted.until <= wanted.start:
        raise UsageError(subject, seen=f"it ends {_words(wanted.until)}", needed=f"an end after {_words(wanted.start)}")
    if wanted.until - wanted.start > LONGEST_STAND_IN:
        seen = f"it lasts {(wanted.until - wanted.start) / timedelta(days=1):.1f} days"
        raise UsageError(subject, seen=seen, needed=f"at most {LONGEST_STAND_IN.days} days", next_step="change rota.yaml for longer")
    why = obstacle(rota, people, wanted.person, wanted.start, wanted.until)
    if why is not None:
        raise UsageError(subject, seen=why, needed="somebody who can be called in the whole stretch")


def _words(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
