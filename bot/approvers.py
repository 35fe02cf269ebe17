"""Whether releases can be approved from the chat at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workbench.ownership.service import Ownership
from workbench.release.states import Act


def warnings_of(ownership: Ownership, apps: Iterable[str]) -> Iterator[str]:
    """A sentence for each app of which nobody can approve a release in Slack. An app that declares no people has no releases."""
    for app in apps:
        people = ownership.people(app)
        if people is None:
            continue
        holders = ownership.holders(Act.APPROVE, app)
        if any(people.people[name].slack for name in holders):
            continue
        why = f"{', '.join(holders)}: no Slack id" if holders else "nobody has the role approver"
        yield f"{app}: nobody can approve its releases in Slack ({why}); add an approver's Slack id to its people.yaml"
