"""Readers of recorded traffic: one file each, pure from a parsed record to log rows. See `imports` for what is done with them."""

from collections.abc import Mapping
from types import MappingProxyType

from workbench.observability.importers.mapped_csv import CsvMapping, MappedCsv, zone_of
from workbench.observability.importers.openai_jsonl import OpenAiJsonl
from workbench.observability.importers.source import (
    ExternalBundle,
    Imported,
    Importer,
    ImportOptions,
    Refused,
    Row,
    Rows,
    Source,
)
from workbench.observability.importers.tau2 import Tau2

IMPORTERS: Mapping[str, Importer] = MappingProxyType({importer.name: importer for importer in (OpenAiJsonl(), Tau2(), MappedCsv())})
"""Format name to importer."""

__all__ = [
    "IMPORTERS",
    "CsvMapping",
    "ExternalBundle",
    "ImportOptions",
    "Imported",
    "Importer",
    "Refused",
    "Row",
    "Rows",
    "Source",
    "zone_of",
]
