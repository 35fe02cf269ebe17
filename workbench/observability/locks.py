"""A lock on a file that the kernel gives back when its holder dies, and that says who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import StoreBusy, StoreError
from workbench.ledger.forking import in_each_child
from workbench.observability.patience import Patience

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who wrote their name into a lock file last."""

    pid: int
    host: str
    what: str

    @property
    def state(self) -> str:
        """`running`, `stopped`, `gone`, or `on another host`; `unknown` where the system does not tell."""
        if self.host != socket.gethostname():
            return "on another host"
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return "gone" if Path("/proc/self/stat").exists() else "unknown"
        except OSError:
            return "unknown"
        return "stopped" if stat.rpartition(")")[2].split()[0] in {"T", "t"} else "running"

    def __str__(self) -> str:
        return f"process {self.pid} ({self.state}{f', {self.what}' if self.what else ''})"


class FileLock:
    """A `flock`, exclusive unless it is said to be shared. One object is one holder: it is not shared between threads.

    The file may be removed by its holder (`remove`), so a lock counts only while the path still leads to the
    locked file.
    """

    def __init__(self, path: Path, *, is_shared: bool = False) -> None:
        self.path = path
        self._is_shared = is_shared
        self._fd: int | None = None
        in_each_child(self, FileLock.forget)

    @property
    def is_in_place(self) -> bool:
        """Whether it is held and keeps others out. Somebody who removes the file lets the next one in."""
        return self._fd is not None and is_at(os.fstat(self._fd), self.path)

    def try_acquire(self, what: str = "") -> bool:
        """Take the lock if nobody holds it, and write this process into the file, unless the lock is shared.

        Raises:
            StoreError: the file cannot be made, opened or locked.
        """
        fd = self._open()
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if self._is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError as fault:
            os.close(fd)
            raise StoreError(
                f"lock {self.path}",
                seen=f"the file system takes no lock: {fault.strerror or fault}",
                needed="a local disk, or a network file system with locks",
                next_step="choose another folder with WORKBENCH_HOME",
            ) from fault
        if not is_at(os.fstat(fd), self.path):
            os.close(fd)
            return False
        self._fd = fd
        if self._is_shared:
            return True
        with contextlib.suppress(OSError):  # the name is for people; a full disk must not cost the lock
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {socket.gethostname()} {what}\n".encode(), 0)
        return True

    def acquire(self, *, what: str, wait_s: float) -> None:
        """Take the lock, waiting for it.

        Raises:
            StoreBusy: somebody else held it for `wait_s` seconds in which this process ran; names the holder and whether it is stopped.
            StoreError: the file cannot be made or opened.
        """
        patience = Patience(wait_s)
        pause = _FIRST_PAUSE_S
        while not self.try_acquire(what):
            if patience.is_over():
                raise self.busy(what, wait_s)
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads the waiters, guards nothing
            pause = min(_LONGEST_PAUSE_S, pause * 2)

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        fcntl.flock(fd, fcntl.LOCK_UN)  # a forked child may hold a copy of the descriptor: closing would not unlock
        os.close(fd)

    def remove(self) -> None:
        """Remove the held file, then give the lock back."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.release()

    def holder(self) -> Holder | None:
        """Who wrote their name last; None for an empty or missing file. Only the lock itself says whether it is held."""
        try:
            pid, host, what = self.path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split(" ", 2)
            return Holder(pid=int(pid), host=host, what=what)
        except (OSError, ValueError):
            return None

    def busy(self, what: str, waited_s: float) -> StoreBusy:
        """The error that names the holder."""
        holder = self.holder()
        step = "run it again when that process is done"
        if holder is not None and holder.state == "stopped":
            step = f"continue it (kill -CONT {holder.pid}) or end it, then run this again"
        return StoreBusy(
            f"lock {self.path}",
            seen=f"held by {holder or 'another process'} for more than {waited_s:g} s",
            needed=f"the lock, to {what}",
            next_step=step,
        )

    def forget(self) -> None:
        """Close this process' copy of the lock without unlocking it: a forked child does not own its parent's locks."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as fault:
            raise StoreError(
                f"lock {self.path}",
                seen=fault.strerror or str(fault),
                needed="a folder that this user can write",
                next_step="check the disk's free space and the folder's permissions",
            ) from fault


def is_at(file: os.stat_result, path: Path) -> bool:
    """Whether the path leads to that file."""
    try:
        return os.path.samestat(file, path.stat())
    except OSError:
        return False
