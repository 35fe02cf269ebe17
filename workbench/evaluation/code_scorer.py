"""A scorer that an app declares as code. It runs in a process of its own: whatever it does, requests are answered meanwhile.

A scorer that hangs is ended with its process, and the next answer gets a new one.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import orjson

from workbench.evaluation.model import ScoredRequest, ScoreValue
from workbench.evaluation.scorer import ScorerFault, score_value
from workbench.ledger.canonical import digest
from workbench.spec.online import OnlineSpec, ScorerSpec

_START_S = 30.0
"""That a process may take to load the code."""
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "TMPDIR")
_MOST_BYTES = 1 << 20
"""Of what a scorer says."""


class CodeScorer:
    """A declared scorer. Used by one thread.

    Args:
        spec: which callable it is.
        files: the declared code, path to text.
    """

    source: Literal["rule"] = "rule"

    def __init__(self, spec: ScorerSpec, files: Mapping[str, str]) -> None:
        self.name = spec.name
        self._timeout_s = spec.timeout.total_seconds()
        self._entry, self._files = spec.entry, dict(files)
        self._digest = digest({"entry": spec.entry, "files": self._files})
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""

    @property
    def scorer_id(self) -> str:
        """The callable, and the first 12 digits of the digest of all code that is there when it runs."""
        return f"{self._entry}@{self._digest.removeprefix('sha256:')[:12]}"

    def score(self, request: ScoredRequest) -> ScoreValue | None:
        """As of `Scorer`."""
        if self._process is None:
            self._start()
        return score_value(self._ask(asdict(request), self._timeout_s))

    def close(self) -> None:
        """End its process."""
        process, self._process, self._read = self._process, None, b""
        if process is None:
            return
        process.kill()
        with process:  # closes the pipes and waits
            pass

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workbench.evaluation.code_worker"],
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the gateway, which ends it
        )
        hello = {"entry": self._entry, "files": self._files, "digest": self._digest, "timeout_s": self._timeout_s}
        try:
            self._ask(hello, _START_S)
        except ScorerFault as fault:
            self.close()
            raise ScorerFault("not_loaded", str(fault)) from None

    def _ask(self, content: Mapping[str, Any], timeout_s: float) -> Any:
        """What the process says to it.

        Raises:
            ScorerFault: it says that it failed, says nothing in time, or has ended; then it is ended.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ScorerFault("ended", "it does not run")
        try:
            process.stdin.write(orjson.dumps(content, default=str) + b"\n")
            process.stdin.flush()
            line = self._line(process.stdout.fileno(), time.monotonic() + timeout_s)
        except ScorerFault:
            self.close()
            raise
        except OSError:
            with contextlib.suppress(OSError):
                self.close()
            raise ScorerFault("ended", "its process ended") from None
        told = orjson.loads(line)
        if "fault" in told:
            raise ScorerFault(told["fault"], told["words"])
        return told["said"]

    def _line(self, output: int, until: float) -> bytes:
        while b"\n" not in self._read:
            left = until - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise ScorerFault("late", f"it took more than {self._timeout_s:g} s")
            piece = os.read(output, 65536)
            if not piece:
                raise ScorerFault("ended", "its process ended")
            self._read += piece
            if len(self._read) > _MOST_BYTES:
                raise ScorerFault("invalid", "it said more than 1 MiB")
        line, _, self._read = self._read.partition(b"\n")
        return line


def code_scorers(online: OnlineSpec) -> tuple[CodeScorer, ...]:
    """The scorers of an app, in the order of their declaration."""
    return tuple(CodeScorer(spec, online.files) for spec in online.scorers)
