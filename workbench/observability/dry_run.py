"""An import that stores nothing: a log and a registry that answer as if they kept what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from workbench.ledger.authority import Author, Authority
from workbench.observability.import_bundles import BundleRegistry
from workbench.observability.import_run import LogStore
from workbench.observability.importers.repeats import Repeats
from workbench.observability.logs import Known
from workbench.spec.bundle import BundleSpec
from workbench.versions.manifest import assemble
from workbench.versions.model import Bundle, RegisteredBundle
from workbench.versions.reading import given_files


class DryLogs:
    """The log as it stands, and which requests would be in it by now."""

    def __init__(self, logs: LogStore) -> None:
        self._logs = logs
        self._given = Repeats()

    def append(
        self,
        batch: Mapping[str, pa.Table],
        *,
        source_id: str,
        from_seq: int,  # noqa: ARG002 - the shape of the log
        to_seq: int,
        as_of: int | None = None,  # noqa: ARG002 - the shape of the log
    ) -> bool:
        """Whether the rows would be stored; which requests they are is remembered."""
        is_new = to_seq > self.mark(source_id)
        if is_new and "requests" in batch:
            names = _names(_keys(batch["requests"]))
            self._given.judge(names, [0] * len(names))
            self._given.compact()
        return is_new

    def mark(self, source_id: str) -> int:
        return self._logs.mark(source_id)

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> Known:
        given, known = self._given.had(_names(keys)), self._logs.known_requests(keys)
        return known._replace(requests=known.requests | {key for key, is_given in zip(keys, given, strict=True) if is_given})

    def new_rows(self, table: str, rows: pa.Table) -> pa.Table:
        return self._logs.new_rows(table, rows)

    def given_bundles(self, requests: pa.Table) -> pa.Table:
        given = self._given.had(_names(_keys(requests)))
        return self._logs.given_bundles(requests.filter(pa.array([not is_given for is_given in given], pa.bool_())))


class DryVersions:
    """The registry as it stands; what would be registered gets its id and is forgotten."""

    def __init__(self, versions: BundleRegistry, authority: Authority, clock: Callable[[], datetime], author: Author) -> None:
        self._versions = versions
        self._authority = authority
        self._clock = clock
        self._author = author

    def register_external(self, spec: BundleSpec, files: Mapping[str, bytes], *, actor: Author | None = None) -> RegisteredBundle:
        author = actor or self._author
        bundle = assemble(spec, given_files(files)).bundle
        self._authority.require(author, "bundle.register", bundle.app)
        return RegisteredBundle(bundle=bundle, registered_at=self._clock(), registered_by=author.person)

    def get(self, reference: str, *, app: str | None = None) -> Bundle:
        return self._versions.get(reference, app=app)

    def list(self, app: str | None = None) -> Sequence[RegisteredBundle]:
        return self._versions.list(app)


def _keys(requests: pa.Table) -> list[tuple[str, str]]:
    return list(zip(requests["app"].to_pylist(), requests["request_id"].to_pylist(), strict=True))


def _names(keys: Sequence[tuple[str, str]]) -> list[str]:
    return ["\0".join(key) for key in keys]
