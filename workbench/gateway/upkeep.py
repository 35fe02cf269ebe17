"""The log's upkeep while a gateway serves: a thread looks when it is due, and has another process do it.

Another process, of low priority: merging files takes the computing and the memory that requests need. Run as a module this is that process.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workbench.errors import StoreBusy, WorkbenchError
from workbench.gateway.turns import Turns
from workbench.observability.keeping import BY_ITSELF
from workbench.observability.kept import Kept, is_due
from workbench.workspace import Workspace

_LOOK_S = 60.0
"""Between two looks whether upkeep is due; before the first one, too, so that what is soon over starts nothing."""
_POLL_S = 0.25
_LONGEST_S = 3600.0
"""After which a run counts as stuck, and is ended. Every step of it is a transaction."""
_ENDED_S = 10.0
BUSY = 75
"""Exit code: another process is at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepStatus:
    """How the log's upkeep goes."""

    is_on: bool = False
    """Whether this gateway looks after it."""
    last: Kept | None = None
    """The last run, of any process, as this gateway saw it."""
    fault: str | None = None
    """What kept this gateway's newest run from its end."""


class UpkeepLoop(Turns):
    """Looks after the log of a workspace.

    Args:
        stores: where they are, as environment variables.
        every: how often; None for never.
        last: reads the last run.
        clock: the present time.
        look_s: seconds between two looks.
        command: what does the upkeep; by default this module.
    """

    def __init__(
        self,
        stores: Mapping[str, str],
        *,
        every: timedelta | None,
        last: Callable[[], Kept | None],
        clock: Callable[[], datetime],
        look_s: float = _LOOK_S,
        command: Sequence[str] = (sys.executable, "-m", "workbench.gateway.upkeep"),
    ) -> None:
        super().__init__("upkeep", wait_s=lambda: look_s * random.uniform(0.75, 1.25), is_on=every is not None)  # noqa: S311 - spreads gateways
        self._stores = stores
        self._every = every
        self._last = last
        self._clock = clock
        self._command = command
        self._seen: Kept | None = None
        self._run_fault: str | None = None

    @property
    def status(self) -> UpkeepStatus:
        return UpkeepStatus(is_on=self.is_on, last=self._seen, fault=self.fault or self._run_fault)

    def turn(self) -> None:
        self._seen = self._last()
        if self._every is not None and is_due(self._seen, every=self._every, now=self._clock()):
            self._run_fault = self._keep()
            self._seen = self._last()

    def _keep(self) -> str | None:
        """Have a run done; what went wrong with it, or None."""
        with subprocess.Popen(  # noqa: S603 - our own interpreter
            self._command,
            env={**os.environ, **self._stores},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the gateway, which ends it
            text=True,
        ) as run:
            told: list[str] = []
            reader = threading.Thread(target=lambda: told.append(run.stderr.read() if run.stderr else ""), name="upkeep's words")
            reader.start()
            is_stuck = not self._is_over(run)
            reader.join()
        if is_stuck:
            return f"it took more than {_LONGEST_S:.0f} s and was ended"
        if run.returncode in (0, BUSY) or self._ended.is_set():
            return None
        return " ".join("".join(told).split())[-400:] or f"its process ended with {run.returncode}"

    def _is_over(self, run: subprocess.Popen[str]) -> bool:
        """Wait for its end, which this brings about when the gateway stops or the run is stuck; False for a stuck one."""
        waited_s = 0.0
        while run.poll() is None:
            if self._ended.wait(_POLL_S) or waited_s >= _LONGEST_S:
                run.terminate()
                try:
                    run.wait(_ENDED_S)
                except subprocess.TimeoutExpired:
                    run.kill()
                return self._ended.is_set()
            waited_s += _POLL_S
        return True


def main() -> int:
    """One run of upkeep on the workspace in `$WORKBENCH_HOME`, unless it is not due any more; the exit code."""
    os.nice(10)
    try:
        with Workspace.open(create=False, via="schedule") as ws:
            if (every := ws.settings.upkeep_every) is not None:
                ws.keeper.run_if_due(BY_ITSELF, every=every)
    except StoreBusy:
        return BUSY
    except WorkbenchError as fault:
        sys.stderr.write(str(fault))
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
