"""Which registered bundle answered a request: the bundles that records name, each name of an app looked up once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from workbench.errors import RecordRefused, UnknownSubject, UsageError
from workbench.ledger.authority import Author
from workbench.spec.bundle import BundleSpec
from workbench.versions.model import Bundle, RegisteredBundle

UNKNOWN_BUNDLE = "unknown_bundle"
"""Why a record is refused whose bundle nobody registered."""
_REGISTER = "register it first: `workbench bundle register DIR`"
_MOST_KNOWN = 4096
_MOST_NAMED = 5


class BundleRegistry(Protocol):
    """What importing needs of the versions; `versions.service.Versions` is one."""

    def register_external(self, spec: BundleSpec, files: Mapping[str, bytes], *, actor: Author | None = None) -> RegisteredBundle: ...

    def get(self, reference: str, *, app: str | None = None) -> Bundle: ...

    def list(self, app: str | None = None) -> Sequence[RegisteredBundle]: ...


class NamedBundles:
    """The registered bundles that the records of a run name."""

    def __init__(self, versions: BundleRegistry) -> None:
        self._versions = versions
        self._known: dict[tuple[str, str], str | RecordRefused] = {}
        self._n_registered: int | None = None

    @property
    def n_registered(self) -> int:
        """How many bundles were registered when the first was looked up, of all apps."""
        return self._count_registered()

    def bundle_id(self, reference: str, app: str) -> str:
        """The full id of the app's bundle that an id, the start of a digest or a name means.

        Raises:
            RecordRefused: `unknown_bundle` when it means none, `ambiguous_bundle` when it means several.
        """
        found = self._known.get((app, reference))
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._count_registered()
            found = self._known[app, reference] = self._looked_up(reference, app)
        if isinstance(found, RecordRefused):
            raise found.with_traceback(None)
        return found

    def check(self, reference: str, app: str | None) -> None:
        """Return when the reference may mean a bundle of the app, or of some app when none is given.

        Raises:
            UnknownSubject: when it means none.
        """
        try:
            self._versions.get(reference, app=app)
        except UnknownSubject as error:
            raise UnknownSubject(f"--bundle {reference}", seen=error.seen, needed=error.needed, next_step=_REGISTER) from error
        except UsageError:
            return  # several are meant: which one is asked for each record, among the bundles of its app

    def _count_registered(self) -> int:
        """Counted once, before the first look-up: a bundle that is registered after it counts as new the next time."""
        if self._n_registered is None:
            self._n_registered = len(self._versions.list())
        return self._n_registered

    def _looked_up(self, reference: str, app: str) -> str | RecordRefused:
        try:
            return self._versions.get(reference, app=app).bundle_id
        except UnknownSubject:
            is_app_known = bool(self._versions.list(app))
            seen = f"names no registered bundle of app {app}" + ("" if is_app_known else ", of which nobody registered one")
            needed = self._registered(app) if is_app_known else ""
            return RecordRefused("bundle", reason=UNKNOWN_BUNDLE, seen=seen, needed=needed, next_step=_REGISTER)
        except UsageError:
            seen = f"may mean several bundles of app {app}"
            return RecordRefused(
                "bundle", reason="ambiguous_bundle", seen=seen, needed=self._registered(app), next_step="name it by its id"
            )

    def _registered(self, app: str) -> str:
        """The newest bundles of the app, for a sentence."""
        known = [registered.bundle for registered in self._versions.list(app)]
        named = ", ".join(f"{bundle.bundle_id} ({bundle.name})" for bundle in known[-_MOST_NAMED:])
        return f"one of {named}" + (f" or {len(known) - _MOST_NAMED} older ones" if len(known) > _MOST_NAMED else "")
