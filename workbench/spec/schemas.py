"""The specs as JSON Schema (draft 2020-12), for editors and for checks outside of Python."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import StoreError, UnknownSubject
from workbench.spec.app import AppSpec
from workbench.spec.base import Spec
from workbench.spec.bundle import BundleSpec
from workbench.spec.faults import suggestion
from workbench.spec.gates import GatesSpec
from workbench.spec.guards import GuardsSpec
from workbench.spec.metrics import MetricsSpec
from workbench.spec.online import OnlineSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.plan import PlanSpec
from workbench.spec.rota import RotaSpec
from workbench.spec.slo import SloSpec

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SPECS: dict[str, type[Spec]] = {
    "app": AppSpec,
    "people": PeopleSpec,
    "gates": GatesSpec,
    "plan": PlanSpec,
    "rota": RotaSpec,
    "slo": SloSpec,
    "metrics": MetricsSpec,
    "online": OnlineSpec,
    "bundle": BundleSpec,
    "guards": GuardsSpec,
}
"""Each spec under the name of its file."""


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema of one spec; titles and descriptions are the docstrings of its fields.

    Raises:
        UnknownSubject: when no spec has this name.
    """
    if name not in SPECS:
        raise UnknownSubject(f'spec "{name}"', seen=f"there is none{suggestion(name, SPECS)}")
    model = SPECS[name]
    about = (inspect.getmodule(model) or model).__doc__ or ""
    body = model.model_json_schema(mode="validation")
    return {"$schema": DRAFT, **body, "title": f"{name}.yaml", "description": " ".join(about.split())}


@cache
def schema_text(name: str) -> str:
    """Return the JSON Schema of one spec as the text of a file."""
    return json.dumps(schema_of(name), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def export(folder: Path) -> list[Path]:
    """Write `app.schema.json` and the others into the folder, and return their paths; the same specs give the same bytes.

    Raises:
        StoreError: when the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in SPECS:
            path = folder / f"{name}.schema.json"
            path.write_text(schema_text(name), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise StoreError(str(folder), seen=error.strerror or str(error), needed="a folder that this user can write") from error
    return written
