"""The JSON Schema of a tool's arguments, ready to check: no network, and no text that takes more than linear time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.spec.document import shorten


def validator_of(schema: Mapping[str, Any]) -> Any:
    """What checks values against the schema; draft 2020-12 unless it names another.

    Raises:
        ValueError: it is not a JSON Schema, or names something outside of itself.
    """
    import jsonschema_rs  # noqa: PLC0415 - a native library, loaded where a schema is used

    linear = jsonschema_rs.RegexOptions()
    try:
        return jsonschema_rs.validator_for(dict(schema), offline=True, pattern_options=linear)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        said = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
        raise ValueError(shorten(said, 200)) from error


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a schema, in one sentence; None where it can be used."""
    try:
        validator_of(schema)
    except ValueError as error:
        return str(error)
    return None
