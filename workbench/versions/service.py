"""The registry: bundles and declarations, stored once, each with its audit entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, select

from workbench.errors import ConflictError, IntegrityError, SpecError, UnknownSubject
from workbench.ledger import registry
from workbench.ledger.authority import Author, Authority
from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ledger.tables import bundles
from workbench.spec.base import Spec
from workbench.spec.bundle import BundleSpec
from workbench.spec.loading import load_app_folder
from workbench.versions.canonical import JSON, digest
from workbench.versions.declarations import KINDS, NOTHING, Declaration, Declared, declared, spec_of
from workbench.versions.difference import diff
from workbench.versions.manifest import ReadBundle, assemble, bundle_of, file_references
from workbench.versions.model import Bundle, BundleDiff, RegisteredBundle
from workbench.versions.reading import app_folder_of, given_files, read_bundle
from workbench.versions.references import find


class Versions:
    """Which exact thing is this? Every verb that changes something takes the actor and asks the authority first."""

    def __init__(self, ledger: Ledger, *, authority: Authority, author: Author, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._authority = authority
        self._author = author
        self._clock = clock

    def register(self, path: str | Path, *, actor: Author | None = None) -> RegisteredBundle:
        """The bundle of a folder, stored with its files; what its app folder declares is stored with it.

        Args:
            path: a folder with a `bundle.yaml`, or that file.
            actor: who registers it; the workspace's author otherwise.

        Raises:
            SpecError: when a spec or a file that it names is wrong.
            NotPermitted: when the actor may not register bundles or declare what changed.
            ConflictError: when somebody else declared something for the app in the meantime.
            IntegrityError: when another bundle has the same short id.

        Returns:
            The bundle, and the others of its name: a name is a label, and with several bundles under it only an id says which one.
        """
        folder = Path(path)
        read = read_bundle(folder)
        above = app_folder_of(folder.parent if folder.is_file() else folder)
        specs = declared(load_app_folder(above)) if above else ()
        if specs and specs[0].app != read.spec.app:
            seen = f"it names the app `{read.spec.app}`, but {above}/app.yaml declares `{specs[0].app}`"
            raise SpecError("bundle.yaml: app", seen=seen, needed=specs[0].app, next_step="correct one of the two files")
        return self._store_bundle(read, specs, actor or self._author)

    def register_external(self, spec: BundleSpec, files: Mapping[str, bytes], *, actor: Author | None = None) -> RegisteredBundle:
        """A bundle that is known only from a log.

        Args:
            spec: what the log tells of it.
            files: content of every file that the spec names, by path.
            actor: who registers it; the workspace's author otherwise.
        """
        return self._store_bundle(assemble(spec, given_files(files)), (), actor or self._author)

    def declare(self, app_dir: str | Path, *, actor: Author | None = None) -> tuple[Declaration, ...]:
        """All that an app folder declares; what changed is stored, all of it or nothing.

        Raises:
            SpecError: with every fault of every file.
            NotPermitted: when the actor may not declare what changed.
            ConflictError: when somebody else declared something for the app in the meantime.
        """
        specs = declared(load_app_folder(Path(app_dir)))
        author = actor or self._author
        seen = self._require(specs, author)
        changed = frozenset(spec.kind for spec in _changed(specs, seen))
        if changed:
            with self._ledger.write() as act:
                changed = self._store_declared(act, specs, seen, author)
        with self._ledger.read() as connection:
            rows = {row.kind: row for row in registry.newest_declarations(connection, app=specs[0].app)}
        known = (rows[kind] for kind in KINDS if kind in rows)
        return tuple(_declaration(row, is_new=row.kind in changed) for row in known if row.content is not None or row.kind in changed)

    def declaration(self, app: str, kind: str) -> Spec | None:
        """What the app declares, by kind as of `declarations.KINDS`; None when nothing."""
        row = self._newest(app, kind)
        return spec_of(app, kind, row.content if row else None)

    def declared(self, app: str, kind: str) -> Declaration | None:
        """The same with who declared it when; None when nothing is declared."""
        row = self._newest(app, kind)
        return _declaration(row, is_new=False) if row and row.content is not None else None

    def declaration_digest(self, app: str, kind: str) -> str | None:
        """The digest of what the app declares now, None when nothing."""
        row = self._newest(app, kind)
        return row.digest if row and row.content is not None else None

    def apps(self) -> tuple[str, ...]:
        """Every app that was declared or has a bundle, by name."""
        with self._ledger.read() as connection:
            return registry.apps(connection)

    def get(self, reference: str, *, app: str | None = None) -> Bundle:
        """The bundle that is meant.

        Args:
            reference: its id, at least 8 hex digits of its digest, or its name.
            app: looks only among the bundles of this app.

        Raises:
            UnknownSubject: when there is none.
            UsageError: when several are meant.
        """
        with self._ledger.read() as connection:
            exact = registry.bundle_rows(connection, app=app, bundle_id=reference)
            rows = exact or registry.bundle_rows(connection, app=app)
        return find(reference, tuple(_bundle(row) for row in rows), app=app)

    def list(self, app: str | None = None) -> tuple[RegisteredBundle, ...]:
        """All bundles, or those of one app, in the order of their registration."""
        with self._ledger.read() as connection:
            return tuple(_registered(row) for row in registry.bundle_rows(connection, app=app))

    def latest(self, app: str) -> Bundle:
        """The bundle of the app that was registered last.

        Raises:
            UnknownSubject: when the app has none.
        """
        known = self.list(app)
        if not known:
            raise UnknownSubject(f"app {app}", seen="no bundle is registered", next_step="run `workbench bundle register DIR`")
        return known[-1].bundle

    def diff(self, old: str, new: str) -> BundleDiff:
        """What changed from one registered bundle to another; each named as in `get`."""
        before, after = self.get(old), self.get(new)
        return diff(before, self.files(before.bundle_id), after, self.files(after.bundle_id))

    def files(self, bundle_id: str) -> Mapping[str, bytes]:
        """The files of a bundle by path, as they were registered.

        Raises:
            IntegrityError: when stored content is gone or no longer matches its digest.
        """
        bundle = self.get(bundle_id)
        named = {reference.path: f"sha256:{reference.sha256}" for reference in file_references(bundle.parts)}
        with self._ledger.read() as connection:
            contents = registry.blobs_by_digest(connection, set(named.values()))
        return {path: _checked(bundle, path, wanted, contents.get(wanted)) for path, wanted in named.items()}

    def _store_bundle(self, read: ReadBundle, specs: tuple[Declared, ...], author: Author) -> RegisteredBundle:
        bundle = read.bundle
        self._authority.require(author, "bundle.register", bundle.app)
        seen = self._require(specs, author)
        with self._ledger.read() as connection:
            known = _known(connection, bundle)
        if known and not _changed(specs, seen):
            return known
        with self._ledger.write() as act:
            self._store_declared(act, specs, seen, author)
            known = _known(act.connection, bundle)
            return known or replace(self._insert(act, read, author), namesakes=_namesakes(act.connection, bundle))

    def _insert(self, act: WriteTransaction, read: ReadBundle, author: Author) -> RegisteredBundle:
        bundle = read.bundle
        detail: dict[str, JSON] = {
            "name": bundle.name,
            "digest": bundle.digest,
            "n_files": len(read.files),
            "n_unpinned": len(bundle.unpinned),
        }
        entry = act.audit(author, "bundle.register", app=bundle.app, subject=bundle.bundle_id, detail=detail)
        row = registry.StoredBundle(
            bundle_id=bundle.bundle_id,
            seq=entry.seq,
            app=bundle.app,
            name=bundle.name,
            digest=bundle.digest,
            spec=read.spec.model_dump(mode="json", exclude_defaults=True),
            manifest=read.manifest,
            unpinned=bundle.unpinned,
            external=bundle.external,
            registered_at=self._clock(),
            registered_by=author.person,
        )
        registry.insert_blobs(act.connection, {digest(content): content for content in read.files.values()})
        registry.insert_bundle(act.connection, row)
        return _registered(row, is_new=True)

    def _newest(self, app: str, kind: str) -> registry.StoredDeclaration | None:
        with self._ledger.read() as connection:
            return next(iter(registry.newest_declarations(connection, app=app, kind=kind)), None)

    def _require(self, specs: tuple[Declared, ...], author: Author) -> Mapping[str, str]:
        """The digest of each kind as it stands, after the authority allowed every change of it."""
        with self._ledger.read() as connection:
            rows = {row.kind: row for row in registry.newest_declarations(connection, app=specs[0].app)} if specs else {}
        seen = {kind: row.digest for kind, row in rows.items()}
        for spec in _changed(specs, seen):
            row = rows.get(spec.kind)
            old, new = spec_of(spec.app, spec.kind, row.content if row else None), spec_of(spec.app, spec.kind, spec.content)
            self._authority.require_declaration(author, spec.app, spec.kind, old, new)
        return seen

    def _store_declared(
        self, act: WriteTransaction, specs: tuple[Declared, ...], seen: Mapping[str, str], author: Author
    ) -> frozenset[str]:
        """The kinds that were stored, each with its own audit entry; nothing but the changes that were allowed, on what was seen then.

        Raises:
            ConflictError: when somebody else declared something else for the app since.
        """
        rows = registry.newest_declarations(act.connection, app=specs[0].app) if specs else ()
        current = {row.kind: row.digest for row in rows}
        for spec in specs:
            _check_unmoved(spec, seen=seen.get(spec.kind, NOTHING), current=current.get(spec.kind, NOTHING))
        changed = _changed(specs, current)
        for spec in changed:
            entry = act.audit(author, spec.act, app=spec.app, subject=f"{spec.app}/{spec.kind}", detail={"digest": spec.digest})
            row = registry.StoredDeclaration(
                seq=entry.seq,
                app=spec.app,
                kind=spec.kind,
                digest=spec.digest,
                content=spec.content,
                registered_at=self._clock(),
                registered_by=author.person,
            )
            registry.insert_declaration(act.connection, row)
        return frozenset(spec.kind for spec in changed)


def _changed(specs: tuple[Declared, ...], known: Mapping[str, str]) -> tuple[Declared, ...]:
    """Those that differ from the digests by kind. A file that never was there is no change."""
    return tuple(spec for spec in specs if known.get(spec.kind, NOTHING) != spec.digest)


def _check_unmoved(spec: Declared, *, seen: str, current: str) -> None:
    """Return when the kind is as it was when the change was allowed, or already as the folder has it."""
    if current not in (seen, spec.digest):
        raise ConflictError(
            f"{spec.app}/{spec.kind}.yaml",
            seen=f"somebody declared another one in the meantime ({current[:19]})",
            needed=f"{seen[:19]}, on which this change was allowed" if seen != NOTHING else "none, as when this change was allowed",
            next_step="nothing was stored; bring the folder up to date and register it again",
        )


def _known(connection: Connection, bundle: Bundle) -> RegisteredBundle | None:
    """The registered bundle of this id, None when there is none; raises when its content is another."""
    row = next(iter(registry.bundle_rows(connection, bundle_id=bundle.bundle_id)), None)
    if row and row.digest != bundle.digest:
        raise IntegrityError(
            f"bundle {bundle.bundle_id}",
            seen=f"registered with digest {row.digest}, read with {bundle.digest}",
            needed="one content for one id",
            next_step="change a word in the new bundle's name and register it again; then run `workbench audit verify`",
        )
    return replace(_registered(row), namesakes=_namesakes(connection, bundle)) if row else None


def _namesakes(connection: Connection, bundle: Bundle) -> tuple[str, ...]:
    """Ids of the app's other bundles of that name, oldest first."""
    named = select(bundles.c.bundle_id).where(bundles.c.app == bundle.app, bundles.c.name == bundle.name).order_by(bundles.c.seq)
    return tuple(bundle_id for bundle_id in connection.scalars(named) if bundle_id != bundle.bundle_id)


def _registered(row: registry.StoredBundle, *, is_new: bool = False) -> RegisteredBundle:
    return RegisteredBundle(bundle=_bundle(row), registered_at=row.registered_at, registered_by=row.registered_by, is_new=is_new)


def _bundle(row: registry.StoredBundle) -> Bundle:
    return bundle_of(row.manifest, row.digest, row.unpinned)


def _checked(bundle: Bundle, path: str, wanted: str, content: bytes | None) -> bytes:
    if content is None or digest(content) != wanted:
        seen = "its stored content is gone" if content is None else "its stored content no longer matches its digest"
        raise IntegrityError(
            f"bundle {bundle.bundle_id}: {path}",
            seen=seen,
            needed=wanted,
            next_step="restore the ledger from a backup, or find the file elsewhere",
        )
    return content


def _declaration(row: registry.StoredDeclaration, *, is_new: bool) -> Declaration:
    return Declaration(
        app=row.app,
        kind=row.kind,
        digest=row.digest,
        spec=spec_of(row.app, row.kind, row.content),
        registered_at=row.registered_at,
        registered_by=row.registered_by,
        is_new=is_new,
    )
