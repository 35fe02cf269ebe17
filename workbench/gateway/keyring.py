"""The API keys in memory: requests look there, a thread renews them, and nobody waits for the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from workbench.ownership.keys import ApiKey, KeySnapshot

INTERVAL_S = 1.0
"""How soon a new or revoked key counts."""
STALE_S = 30.0
"""From this age on the gateway says that it does not know of newer keys; the old ones go on to count."""
_LONGEST_JOIN_S = 5.0
"""The thread may hang in a database that does not answer; the process does not wait for it."""


class KeyRing:
    """The keys as they were last read. Used as a context manager.

    While the ledger is out of reach the last keys count: shutting everybody out would turn its failure into the application's.

    Args:
        read: the keys as they are now; raises where they cannot be read.
        interval_s: between two readings.
        monotonic: seconds, for the age.
    """

    def __init__(
        self, read: Callable[[], KeySnapshot], *, interval_s: float = INTERVAL_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._snapshot = KeySnapshot()
        self._read_at = monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway keys", daemon=True)

    def holder(self, text: str) -> ApiKey | None:
        """The key whose text this is; None for one that is unknown or revoked."""
        return self._snapshot.holder(text)

    @property
    def age_s(self) -> float:
        """Seconds since the ledger last told the keys."""
        return self._monotonic() - self._read_at

    def renew(self) -> None:
        """Read the keys now.

        Raises:
            StoreError: the ledger cannot be read.
        """
        asked_at = self._monotonic()
        self._snapshot = self._read()
        self._read_at = asked_at

    def __enter__(self) -> Self:
        self.renew()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_LONGEST_JOIN_S)

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            with suppress(Exception):  # the job loop: whatever ails the ledger, the age tells it on /readyz
                self.renew()
