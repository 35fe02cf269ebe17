"""Stretches of a file prepared by other processes: reading and sealing are work for Python, which does one thing at a time.

Each worker is a fresh interpreter that talks over its pipes: it gets the keys and the limits once, then blocks of the file, and answers
each with its stretches. The order of the file is kept, and only a few blocks are under way. A worker stores nothing and knows no
store, so one that is killed leaves nothing behind, and one whose importing process is gone reads the end of its input and ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import queue
import secrets
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Self

from workbench.errors import StoreError
from workbench.observability.import_stretch import Preparing, Stretch
from workbench.observability.importers.source import Block, Source

_LEAST_BYTES = 32 << 20
"""A smaller file is read before the workers have started."""
_MOST_WORKERS = 8
_UNDER_WAY = 2
"""Blocks for each worker that are read ahead of the one that is stored."""


def workers_for(source: Source) -> int:
    """How many processes it is worth to start for the file; 0 where this one does it alone."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    is_worth_it = source.blocks is not None and source.total >= _LEAST_BYTES and cores > 1
    return min(cores, _MOST_WORKERS) if is_worth_it else 0


@contextlib.contextmanager
def stretches_of(source: Source, how: Preparing, *, n_workers: int) -> Iterator[Iterator[Stretch]]:
    """The stretches of the file in their order, while the block lasts.

    Args:
        n_workers: processes that prepare them; 0 for this one. A file that cannot be divided is prepared by this one.

    Raises:
        StoreError: a worker ended before its time.
    """
    if not n_workers or source.blocks is None:
        yield how.stretches(source.records())
        return
    with _Pool(how, n_workers, subject=f"import of {source.path.name}") as pool:
        yield pool.stretches(source.blocks())


class _Pool:
    """Workers, and a thread for each of them that waits for its answer."""

    def __init__(self, how: Preparing, n_workers: int, *, subject: str) -> None:
        self._how = how
        self._n_workers = n_workers
        self._subject = subject
        self._workers: list[_Worker] = []
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(max_workers=n_workers, thread_name_prefix="import worker")

    def __enter__(self) -> Self:
        # hashes tell a repeated record from a conflicting one, so they are alike in all workers
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path)), "PYTHONHASHSEED": str(secrets.randbelow(1 << 32))}
        try:
            for _ in range(self._n_workers):
                self._workers.append(_Worker(environment, self._subject))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        for worker in self._workers:
            self._free.put(worker)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def stretches(self, blocks: Iterator[Block]) -> Iterator[Stretch]:
        under_way: deque[Future[list[Stretch]]] = deque()
        for block in blocks:
            under_way.append(self._threads.submit(self._ask, block))
            if len(under_way) >= _UNDER_WAY * self._n_workers:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()

    def _ask(self, block: Block) -> list[Stretch]:
        worker = self._free.get()
        try:
            answer = worker.ask(self._how, block)
        finally:
            self._free.put(worker)
        if answer is None:
            list(self._how.stretches(block()))  # the fault of the block is raised here, where somebody hears of it
            raise _broken(self._subject, "a process that read the file could not, and this one can")
        return answer


class _Worker:
    """One process. It is in a session of its own, so that an interrupt from the keyboard reaches the importing process only."""

    def __init__(self, environment: dict[str, str], subject: str) -> None:
        self._subject = subject
        self._is_told = False
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        self._questions, self._answers = self._process.stdin, self._process.stdout

    def ask(self, how: Preparing, block: Block) -> list[Stretch] | None:
        """The stretches of a block; None when the worker could not make them."""
        try:
            if not self._is_told:
                pickle.dump(how, self._questions, pickle.HIGHEST_PROTOCOL)
                self._is_told = True
            pickle.dump(block, self._questions, pickle.HIGHEST_PROTOCOL)
            self._questions.flush()
            answer: list[Stretch] | None = pickle.load(self._answers)  # noqa: S301 - from a process of ours
        except (OSError, EOFError, pickle.UnpicklingError) as fault:
            code = self._process.wait()
            end = f"by signal {-code}" if code < 0 else f"with code {code}"
            raise _broken(self._subject, f"a process that read the file ended {end}") from fault
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        for pipe in (self._questions, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()


def _broken(subject: str, seen: str) -> StoreError:
    step = "run it again: it goes on behind what is stored; --workers 0 reads without such processes"
    return StoreError(subject, seen=seen, needed="its answer", next_step=step)


def work(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer blocks until there are no more, or until whoever asks is gone, in the middle of a question or of an answer."""
    with contextlib.suppress(EOFError, pickle.UnpicklingError, BrokenPipeError):
        how: Preparing = pickle.load(questions)  # noqa: S301 - from the process that started this one
        while True:
            block: Block = pickle.load(questions)  # noqa: S301
            try:
                answer: list[Stretch] | None = list(how.stretches(block()))
            except Exception:  # noqa: BLE001 - an edge: the importing process does it again, and its error is the one that counts
                answer = None
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()


if __name__ == "__main__":
    gc.disable()  # as in the importing process: rows hold no cycles
    to_parent = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what prints by mistake does not stand among the answers
    work(sys.stdin.buffer, to_parent)
    os._exit(0)  # nothing here needs to be taken down
