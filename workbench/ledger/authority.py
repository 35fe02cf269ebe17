"""Who acts, and who says whether they may: the two small shapes that lower layers need from `ownership`."""

from __future__ import annotations

from typing import Protocol

from workbench.spec.base import Spec


class Author(Protocol):
    """The person behind one act, as the edge authenticated them; `ownership.model.Actor` is one."""

    @property
    def person(self) -> str: ...

    @property
    def via(self) -> str: ...

    @property
    def assurance(self) -> str: ...


class Authority(Protocol):
    """Says whether an author may do an act."""

    def require(self, author: Author, act: str, app: str | None) -> None:
        """Return when the act is allowed.

        Args:
            act: name of the act, for example `bundle.register`.
            app: the application it touches, None for the whole workspace.

        Raises:
            NotPermitted: with the reason, otherwise.
        """

    def require_declaration(self, author: Author, app: str, kind: str, old: Spec | None, new: Spec | None) -> None:
        """Return when the author may change what the app declares from `old` to `new`; None where nothing is declared.

        Args:
            kind: `app`, `people`, `gates`, `plan`, `rota`, `slo` or `metrics`.

        Raises:
            NotPermitted: with the reason, otherwise.
        """
