"""The guards that a bundle carries: read from its own content, and held against the rest of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.errors import SpecError
from workbench.spec.document import Path
from workbench.spec.guards import GuardsSpec, disagreements
from workbench.spec.loading import parse_spec
from workbench.spec.tool_schemas import schema_fault
from workbench.versions.manifest import ReadBundle


def declared_guards(read: ReadBundle) -> GuardsSpec | None:
    """What the bundle's guards.yaml says, which can be enforced; None where it has none.

    Raises:
        SpecError: guards.yaml is wrong or names what the bundle does not have, or a tool's parameters are no JSON Schema.
    """
    for tool in read.spec.orchestration.tools:
        fault = schema_fault(tool.parameters)
        if fault:
            raise SpecError(f"bundle.yaml: orchestration.tools[{tool.name}].parameters", seen=fault, needed="a JSON Schema")

    def check(guards: GuardsSpec) -> Iterable[tuple[Path, str]]:
        return disagreements(guards, read.spec)

    reference = guards_reference(read.manifest["parts"].get("policy", {}))
    if reference is None:
        return None
    name = reference["file"]
    return parse_spec(GuardsSpec, name, read.files[name], subject=f"bundle {read.spec.app}/{read.spec.name}", check=check)


def guards_reference(policy: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Path and digest of the guards that a bundle's policy names; None when it names none."""
    reference: Mapping[str, str] | None = policy.get("guards")
    return reference
