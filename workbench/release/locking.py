"""Releases in one person's hand, and releases stopped for everybody."""

from __future__ import annotations

from workbench.ledger.authority import Author
from workbench.release.acting import Acting
from workbench.release.model import Lock, LockKind


class Locking(Acting):
    """The verbs of locks and freezes."""

    def lock(self, app: str, reason: str, *, steal: bool = False, actor: Author | None = None) -> Lock:
        """The app's releases in one person's hand: until it is unlocked only the actor starts, resumes and promotes.

        Args:
            app: the application.
            reason: why; everybody who is stopped reads it.
            steal: whether to take the lock over from somebody else, which the audit shows.
            actor: who takes it.

        Raises:
            ReleaseRefused: somebody else holds it, and it is not taken over.
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason)
        with self._permitted("release.lock", app, actor) as doer, self._ledger.write() as act:
            return self._turn(act, doer).put_lock(LockKind.LOCK, reason=words, steal=steal)

    def freeze(self, app: str, reason: str, *, actor: Author | None = None) -> Lock:
        """The app's releases stopped for everybody, until they are unfrozen. Holding, aborting and rolling back stay possible.

        Raises:
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason)
        with self._permitted("release.freeze", app, actor) as doer, self._ledger.write() as act:
            return self._turn(act, doer).put_lock(LockKind.FREEZE, reason=words, steal=True)

    def unlock(self, app: str, reason: str = "", *, steal: bool = False, actor: Author | None = None) -> None:
        """The lock taken away.

        Args:
            app: the application.
            reason: why; needed to take away somebody else's.
            steal: whether to take away somebody else's, which the audit shows.
            actor: who takes it away.

        Raises:
            ReleaseRefused: somebody else holds it, or nobody does.
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason) if reason else ""
        with self._permitted("release.unlock", app, actor) as doer, self._ledger.write() as act:
            self._turn(act, doer).take_lock_away(LockKind.LOCK, reason=words, steal=steal)

    def unfreeze(self, app: str, reason: str = "", *, actor: Author | None = None) -> None:
        """The freeze by hand taken away. Days on which the plan freezes stay frozen.

        Raises:
            ReleaseRefused: nobody froze it.
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason) if reason else ""
        with self._permitted("release.unfreeze", app, actor) as doer, self._ledger.write() as act:
            self._turn(act, doer).take_lock_away(LockKind.FREEZE, reason=words, steal=True)
