"""The nouns of importing: what may be asked of an importer, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from workbench.spec.bundle import BundleSpec  # what reads lines in another process has no use for it, and it takes long to load

Row = dict[str, Any]
"""Column name to raw value. Instead of `unit_hash` a request has `unit`, and bodies are JSON values, not text: nothing is redacted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the caller says about the files."""

    app: str | None = None
    """The app of records that name none."""
    zone: ZoneInfo | None = None
    """Zone of times that carry none."""
    mapping: Path | None = None
    """Mapping file; `csv` only."""


class Rows(NamedTuple):
    """The log rows of one record. A named tuple, as the two below: there is one for each of millions of records."""

    requests: Sequence[Row]
    spans: Sequence[Row] = ()
    scores: Sequence[Row] = ()


class Imported(NamedTuple):
    """One record that can be stored."""

    at: int
    """Number of the record in its file, from 1; for line formats the line."""
    done: int
    """How much of the source's `total` is read after this record."""
    content: int
    """Hash of the record as it stood in the file; tells a repeated record from a conflicting one within one run."""
    rows: Rows
    line: int = 0
    """Line of the file on which the record begins, where that is another number than `at`."""


class Refused(NamedTuple):
    """One record that cannot be stored. The sentence never quotes the record: it may hold personal data."""

    at: int
    done: int
    reason: str
    sentence: str
    line: int = 0
    """As of `Imported`."""


Block = Callable[[], Iterator[Imported | Refused]]
"""The records of a piece of a file. It can be sent to another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalBundle:
    """The bundle that a file's traffic ran under, as far as the file tells, with the texts it names."""

    spec: BundleSpec
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file, checked as a whole and ready to be read."""

    path: Path
    digest: str
    """SHA-256 of the file's bytes, hex."""
    settings: Mapping[str, Any]
    """Options that change the rows; part of the source's identity."""
    total: int
    """Size of the work, in the unit of `done`: bytes or records."""
    records: Callable[[], Iterator[Imported | Refused]]
    blocks: Callable[[], Iterator[Block]] | None = None
    """The same records in pieces; None for a file that cannot be divided before it is read."""
    app: str | None = None
    """The app of records that name none."""
    bundle: ExternalBundle | None = None
    """The bundle of all records."""
    bundles: Mapping[str, ExternalBundle] = field(default_factory=dict)
    """Bundles that the file describes, by the name that its records have for them; for a file whose records ran under several."""
    notes: tuple[str, ...] = ()
    adds: frozenset[str] = frozenset()
    """What a request that is there already may get from this file: further `spans`, which are settled (`otlp/settling.py`), or `scores`."""


class Importer(Protocol):
    """One format."""

    name: str
    summary: str

    def open(self, path: Path, options: ImportOptions) -> Source:
        """The file as a source.

        Raises:
            UsageError: when the file as a whole cannot be used.
        """


@runtime_checkable
class Joining(Importer, Protocol):
    """A format whose files belong together: rows of one may be about rows of another."""

    def open_together(self, paths: Sequence[Path], options: ImportOptions) -> Source:
        """The files as one source.

        Raises:
            UsageError: when one of them cannot be used.
        """
