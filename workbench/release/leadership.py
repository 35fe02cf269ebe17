"""One leader among the processes that could carry releases: by a lease in the ledger, which no wall clock decides about.

Whoever leads lets the lease beat. Whoever waits takes it over when it did not beat for `TAKEN_OVER_AFTER_S` by their own monotonic clock.
A leader that was asleep meanwhile finds another token there, and everything that it writes under its own is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from workbench.errors import ConflictError, StoreError
from workbench.ledger.leases import Lease, beat, give_back, require_lease, stored_lease, take_lease
from workbench.ledger.store import Ledger, WriteTransaction

TAKEN_OVER_AFTER_S = 5.0
BEAT_S = 1.5
"""Longest between two beats."""
LONGEST_WORK_S = 300.0
"""How long the lease beats for work that does not end; after that whoever works is taken for dead."""


class Leadership:
    """A process's part in the lease of one name.

    Args:
        ledger: where the lease is.
        name: what is led.
        holder: how the process is named there; every one has its own.
        monotonic: seconds that no change of the machine's time moves.
        taken_over_after_s: without a beat.
    """

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        holder: str,
        *,
        monotonic: Callable[[], float],
        taken_over_after_s: float = TAKEN_OVER_AFTER_S,
    ) -> None:
        self._ledger = ledger
        self._name = name
        self._holder = holder
        self._monotonic = monotonic
        self._taken_over_after_s = taken_over_after_s
        self._held: Lease | None = None
        self._beaten_at = 0.0
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._mutex = threading.RLock()

    @property
    def token(self) -> int | None:
        """The fence under which this process acts; None while it does not lead."""
        return self._held.token if self._held else None

    def leads(self) -> bool:
        """Whether this process leads now; it takes the lease when nobody else lives who holds it.

        Raises:
            StoreError: the ledger is out of reach; then it does not lead.
        """
        with self._mutex:
            try:
                return self._renewed(self._held) if self._held else self._taken()
            except ConflictError:
                self._held = None
                return False

    @contextmanager
    def kept(self, longest_s: float = LONGEST_WORK_S) -> Iterator[None]:
        """A block whose work may take longer than the lease lives: a thread lets it beat meanwhile.

        Args:
            longest_s: after which it beats no more.
        """
        ended, ends = threading.Event(), self._monotonic() + longest_s

        def beat_on() -> None:
            while not ended.wait(BEAT_S) and self._monotonic() < ends:
                with self._mutex, suppress(StoreError):
                    if self._held is None or not self.leads():  # what was lost amid the work is not taken again in it
                        return

        thread = threading.Thread(target=beat_on, name=f"lease {self._name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def fence(self, act: WriteTransaction) -> None:
        """Return when this process leads still, as the transaction sees it.

        Raises:
            ConflictError: otherwise.
        """
        held = self._held
        if held is None:
            raise ConflictError(f"lease {self._name}", seen="this process does not hold it", next_step="leave it to the process that does")
        require_lease(act.connection, held)

    def resign(self) -> None:
        """Give the lease back, so that the next process need not wait."""
        if self._held is not None:
            with suppress(ConflictError, StoreError), self._ledger.write() as act:
                give_back(act, self._held)
            self._held = None

    def _renewed(self, held: Lease) -> bool:
        if self._monotonic() - self._beaten_at < BEAT_S:
            return True
        with self._ledger.write() as act:
            held = beat(act, held)
        self._held, self._beaten_at = held, self._monotonic()
        return True

    def _taken(self) -> bool:
        now = self._monotonic()
        with self._ledger.read() as connection:
            there = stored_lease(connection, self._name)
        if there is None or there != self._seen:
            self._seen, self._seen_at = there, now
        is_free = there is None or not there.holder or now - self._seen_at >= self._taken_over_after_s
        if not is_free:
            return False
        with self._ledger.write() as act:
            taken = take_lease(act, self._name, self._holder, there)
        self._held, self._beaten_at = taken, self._monotonic()
        return True
