"""Whether a bundle can be put back into service: its stored parts resolve."""

from __future__ import annotations

from workbench.errors import IntegrityError, UnknownSubject
from workbench.versions.service import Versions


class Whole:
    """Whether a bundle's stored parts resolve; each is read once."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._seen: dict[str, bool] = {}

    def __call__(self, bundle_id: str) -> bool:
        if bundle_id not in self._seen:
            self._seen[bundle_id] = self._resolves(bundle_id)
        return self._seen[bundle_id]

    def _resolves(self, bundle_id: str) -> bool:
        try:
            self._versions.files(bundle_id)
        except (IntegrityError, UnknownSubject):
            return False
        return True
