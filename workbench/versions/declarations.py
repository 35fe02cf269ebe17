"""What an app folder declares, as values to store: one kind for each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from workbench.errors import StoreError, UnknownSubject
from workbench.spec.app import AppSpec
from workbench.spec.base import Spec
from workbench.spec.gates import GatesSpec
from workbench.spec.loading import AppFolder
from workbench.spec.metrics import MetricsSpec
from workbench.spec.online import OnlineSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.plan import PlanSpec
from workbench.spec.rota import RotaSpec
from workbench.spec.slo import SloSpec
from workbench.versions.canonical import digest
from workbench.versions.scorers import with_files

KINDS: Mapping[str, type[Spec]] = {
    "app": AppSpec,
    "people": PeopleSpec,
    "gates": GatesSpec,
    "plan": PlanSpec,
    "rota": RotaSpec,
    "slo": SloSpec,
    "metrics": MetricsSpec,
    "online": OnlineSpec,
}
"""Kind, which is also the file's name, to the model that reads it."""
REVIEWED = ("app", "people", "gates", "plan", "rota", "metrics", "online")
"""The kinds that a review reads. Objectives call people and decide no release: to change them leaves reviews and approvals as they are."""
NOTHING = digest(None)
"""The digest of a file that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One file of an app folder as the workspace knows it. `spec` is None when the file was taken away."""

    app: str
    kind: str
    """`app`, `people`, `gates`, `plan`, `rota`, `slo`, `metrics` or `online`."""
    digest: str
    """`sha256:` over the canonical JSON of the spec, defaults left out."""
    spec: Spec | None
    registered_at: datetime
    registered_by: str
    is_new: bool = False
    """True when this call stored it, false when it was known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One kind as it stands in the folder, ready to be stored; no content when the file is not there."""

    app: str
    kind: str
    digest: str
    content: Mapping[str, Any] | None

    @property
    def act(self) -> str:
        """What storing it is called in the audit."""
        return "declare.people" if self.kind == "people" else "declare"


def declared(folder: AppFolder) -> tuple[Declared, ...]:
    """Every kind of the folder, the app first; those without a file too. Scorers are declared with their code, which is read here.

    Raises:
        SpecError: that code cannot be read.
    """
    online = with_files(folder.online, folder.folder) if folder.online else None
    found = ((kind, online if kind == "online" else getattr(folder, kind)) for kind in KINDS)
    contents = ((kind, spec.model_dump(mode="json", exclude_defaults=True) if spec else None) for kind, spec in found)
    return tuple(Declared(app=folder.app.app, kind=kind, digest=digest(content), content=content) for kind, content in contents)


def spec_of(app: str, kind: str, content: Mapping[str, Any] | None) -> Spec | None:
    """The spec that was stored.

    Raises:
        UnknownSubject: when there is no such kind.
        StoreError: when this version cannot read what an older one stored.
    """
    model = KINDS.get(kind)
    if model is None:
        raise UnknownSubject(f"declaration {kind}", seen="no such kind", needed=", ".join(KINDS))
    try:
        return None if content is None else model.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False))
        raise StoreError(
            f"declaration {app}/{kind}",
            seen=f"this version cannot read what is stored: {faults}",
            next_step=f"correct {kind}.yaml and declare the app folder again",
        ) from error
