"""The formats that can be imported."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from workbench.observability.importers.inspect_logs import Inspect
from workbench.observability.importers.langfuse import Langfuse
from workbench.observability.importers.mapped_csv import MappedCsv
from workbench.observability.importers.openai_jsonl import OpenAiJsonl
from workbench.observability.importers.otlp import Otlp
from workbench.observability.importers.promptfoo import Promptfoo
from workbench.observability.importers.source import Importer
from workbench.observability.importers.tau2 import Tau2

IMPORTERS: Mapping[str, Importer] = MappingProxyType(
    {importer.name: importer for importer in (OpenAiJsonl(), Tau2(), MappedCsv(), Otlp(), Inspect(), Promptfoo(), Langfuse())}
)
"""Format name to importer."""
