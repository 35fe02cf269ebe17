"""What can go wrong. Every error of the workbench is one of these:

    WorkbenchError
    ├── UsageError              the caller asked for something impossible
    │   ├── UnknownSubject      an app, bundle, person, metric … that nobody registered
    │   ├── NotPermitted        the actor may not do this act
    │   └── ConflictError       somebody else changed the subject first, or it exists already
    ├── SpecError               a file that a person wrote is wrong
    ├── RecordRefused           one record of an import cannot be stored
    ├── RequestRefused          the controls did not serve a model call, and say so to whoever sent it
    ├── ReleaseRefused          the rules do not let a release take this step now
    ├── InsufficientData        a statistic was asked of too few observations
    └── StoreError              a store is broken, full, locked, read-only or of another version
        ├── NewerWorkspace      the store was written by a newer workbench
        ├── StoreBusy           a lock is held by another process for too long
        └── IntegrityError      stored content no longer matches its digest or its chain

A message names the subject, what was seen, what is needed and the next step. The edges (CLI, HTTP, bot, notebook) turn it
into their own form; nothing in between catches it to continue.
"""

from __future__ import annotations


class WorkbenchError(Exception):
    """Base of all expected failures. Its text is written for the person who meets it.

    Args:
        subject: what it is about, for example `bundle support@1a2b3c4d5e6f` or `gates.yaml: gates[2].at_least`.
        seen: what was found there.
        needed: what is required instead.
        next_step: what the reader can do now.
    """

    exit_code = 2

    def __init__(self, subject: str, *, seen: str, needed: str = "", next_step: str = "") -> None:
        self.subject = subject
        self.seen = seen
        self.needed = needed
        self.next_step = next_step
        said = seen
        for part in filter(None, (f"needed: {needed}" if needed else "", next_step)):
            said += f" {part}" if said.endswith("?") else f"; {part}"
        super().__init__(f"{subject}: {said}")


class UsageError(WorkbenchError):
    """The caller asked for something impossible."""


class UnknownSubject(UsageError):
    """An app, bundle, person or metric that nobody registered."""


class NotPermitted(UsageError):
    """The actor may not do this act."""


class ConflictError(UsageError):
    """Somebody else changed the subject first, or it exists already."""


class SpecError(WorkbenchError):
    """A file that a person wrote is wrong. `seen` may hold several lines, one per fault."""


class RecordRefused(WorkbenchError):
    """One record of an import cannot be stored. `reason` is a short code that the import report counts by."""

    def __init__(self, subject: str, *, reason: str, seen: str, needed: str = "", next_step: str = "") -> None:
        super().__init__(subject, seen=seen, needed=needed, next_step=next_step)
        self.reason = reason


class RequestRefused(WorkbenchError):
    """The controls did not serve a model call. Its text may be shown to whoever sent the call.

    Args:
        subject: as of every error.
        code: short and stable, for example `deadline_passed`; callers tell refusals apart by it.
        http_status: what an HTTP edge answers.
        seen: as of every error.
        needed: as of every error.
        next_step: as of every error.
        retry_after_s: when trying again may help; None where it does not.
    """

    def __init__(
        self,
        subject: str,
        *,
        code: str,
        http_status: int,
        seen: str,
        needed: str = "",
        next_step: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(subject, seen=seen, needed=needed, next_step=next_step)
        self.code = code
        self.http_status = http_status
        self.retry_after_s = retry_after_s


class ReleaseRefused(WorkbenchError):
    """The rules do not let a release take this step now: too early, in a freeze, without a valid approval …

    Args:
        subject: as of every error.
        reason: short and stable, for example `not_yet`; edges tell refusals apart by it.
        seen: as of every error.
        needed: as of every error.
        next_step: as of every error.
    """

    exit_code = 1

    def __init__(self, subject: str, *, reason: str, seen: str, needed: str = "", next_step: str = "") -> None:
        super().__init__(subject, seen=seen, needed=needed, next_step=next_step)
        self.reason = reason
        if reason in ("not_yet", "not_measured"):
            self.exit_code = 3


class InsufficientData(WorkbenchError):
    """A statistic was asked of too few observations. `n_needed` says how many it takes."""

    exit_code = 3

    def __init__(self, subject: str, *, n: int, n_needed: int, next_step: str = "") -> None:
        super().__init__(subject, seen=f"{n} observations", needed=f"at least {n_needed}", next_step=next_step)
        self.n = n
        self.n_needed = n_needed


class StoreError(WorkbenchError):
    """A store is broken, full, locked, read-only or of another version."""


class NewerWorkspace(StoreError):
    """The store was written by a newer workbench."""


class StoreBusy(StoreError):
    """A lock is held by another process for too long."""


class IntegrityError(StoreError):
    """Stored content no longer matches its digest or its chain."""

    exit_code = 1
