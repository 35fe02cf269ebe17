"""What an importer must bear: any JSON value in any place of a file. Each record is refused, or a store would take it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.observability.importing import KEY, Bundles
from tests.observability.lakes import NOON
from workbench.errors import SpecError, UsageError
from workbench.observability.import_stretch import Preparing
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.source import ImportOptions
from workbench.observability.redaction import Redactor
from workbench.observability.rows import conformed
from workbench.observability.sealing import Sealer
from workbench.ownership.model import Actor, Assurance

_SEALER = Sealer(Redactor(KEY), KEY)
_ACTOR = Actor(person="primary", via="cli", assurance=Assurance.LOCAL)
_NUMBERS = (0, -1, 1, 0.5, 10**12, 10**12 + 1, 2**53, 2**63, -(2**70), 999_999_999.5, 1e308, -1e308, 1e-320, 1769904000)
_TEXTS = ("", "x", "\0", "NaN", "é" * 600, "2026-02-01T00:00:00Z", "2026-02-01T00:00:00", "9999-12-31T23:59:59-23:59", "1e999")
ODD = st.sampled_from([None, True, False, *_NUMBERS, *_TEXTS, [], {}, [[]], {"": {}}, [None], {"value": "C"}])
VALUES = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdeinopstuvwxyz_", max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, as the keys that lead there."""
    parts = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, part in parts:
        yield (*at, key)
        yield from places(part, (*at, key))


def with_value(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A copy of the document with the value at that place."""
    changed = copy.deepcopy(document)
    holder = changed
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = value
    return changed


def stored_or_refused(format_: str, *paths: Path, **options: Any) -> int:
    """How many requests a store would take; what it would not take although the importer did is an error."""
    n_stored = 0
    for path in paths:
        try:
            source = IMPORTERS[format_].open(path, ImportOptions(**options))
            if source.bundle is not None:
                Bundles().register_external(source.bundle.spec, source.bundle.files, actor=_ACTOR)
        except (UsageError, SpecError):
            continue
        for stretch in Preparing(_SEALER, NOON + timedelta(days=1), 0).stretches(source.records()):
            tables = {name: conformed(name, table) for name, table in stretch.tables.items()}
            n_stored += tables["requests"].num_rows if "requests" in tables else 0
    return n_stored
