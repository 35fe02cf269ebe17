"""Processes of this interpreter, forked from one that has imported the workbench: its imports are most of a short process' time.

They are children of the test's process, and what runs in them, what they are told and how they die is as with `subprocess.Popen`. The
forks of one process have its hash seed in common.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import json
import os
import runpy
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, CompletedProcess, Popen
from typing import Any

import duckdb

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = (
    *("workbench.workspace", "workbench.gateway.server", "workbench.cli.main", "workbench.cli.serve", "workbench.cli.releases"),
    *("workbench.cli.metrics", "bot.app", "bot.running", "workbench.demo.story", "tests.bot.office", "tests.release.carrying"),
)
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux."""
_MOST_BYTES = 1 << 20
_DEFAULTS = {
    "shell": False,
    "start_new_session": False,
    "pass_fds": (),
    "preexec_fn": None,
    "process_group": -1,
    "umask": -1,
    "uid": None,
    "gid": None,
    "gids": None,
}
_ONE_AT_A_TIME = threading.Lock()
"""Who starts a process is answered on one socket, and adopts what is orphaned meanwhile."""
Asked = tuple[list[str], str, dict[str, str]]
"""`-m` or `-c` and what follows it, the working directory, and the environment."""


class Forked(Popen):
    """As `subprocess.Popen([sys.executable, OPTIONS…, "-m" or "-c", WHAT, ARGUMENTS…], …)`, without a new interpreter.

    It takes the working directory, the environment and the three streams, and no other option that is about the child.
    """

    def _execute_child(self, *given: Any) -> None:
        asked = inspect.signature(Popen._execute_child).bind(self, *given).arguments
        executable, *words = map(os.fspath, asked["args"])
        assert executable == sys.executable
        assert all(asked[option] == default for option, default in _DEFAULTS.items()), "it takes no such option"
        place = min(words.index(way) for way in ("-m", "-c") if way in words)
        ends = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        told = (words[place:], os.fspath(asked["cwd"] or Path.cwd()), dict(os.environ if asked["env"] is None else asked["env"]))
        with _ONE_AT_A_TIME, _adopting():
            self.pid = _forked(tuple(words[:place]), told, [own if end == -1 else end for own, end in enumerate(ends)])
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")))


def run(command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    """What came of a process that reads nothing."""
    with Forked(command, cwd=cwd, env=env, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    return CompletedProcess(command, process.returncode, out, err)


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """A block in which orphans below this process become its children."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(_SUBREAPER, 0, 0, 0, 0)


def _forked(options: tuple[str, ...], told: Asked, streams: Sequence[int]) -> int:
    """The number of a new process that does what it is told, with these files as its input, output and errors."""
    server = _server(options)
    socket.send_fds(server, [json.dumps(told).encode()], streams)
    return int(server.recv(_MOST_BYTES))


@cache
def _server(options: tuple[str, ...]) -> socket.socket:
    """A socket to a process that has imported the workbench under the interpreter's options."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, *options, "-c", f"from tests.forks import serve; serve({theirs.fileno()})"]
    with theirs:
        process = Popen(command, cwd=ROOT, stdin=DEVNULL, pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(number: int) -> None:
    """Fork for each request on the socket of that number; in the fork do what was asked, and end as any interpreter ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # what is imported is no garbage of a fork, which would copy all of its memory to look through it
    duckdb.default_connection().close()  # it was opened by the import, and its threads are not in a fork
    if (asked := _asked(number)) is None:
        return
    (way, what, *arguments), folder, environment = asked
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    if way == "-m":
        sys.argv[0] = what
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"]
        for name in [name for name in vars(main) if not name.startswith("__")]:
            delattr(main, name)
        exec(compile(what, "<string>", "exec"), vars(main))  # noqa: S102 - what `python -c` does


def _asked(number: int) -> Asked | None:
    """The request, in the process that was forked for it, its streams in place; None in this one, when there are no more."""
    with socket.socket(fileno=number) as requests:
        while True:
            content, streams, _, _ = socket.recv_fds(requests, _MOST_BYTES, 3)
            if not content:
                return None
            read, write = os.pipe()
            if (between := os.fork()) == 0:
                if (process := os.fork()) == 0:
                    for own, stream in enumerate(streams):
                        os.dup2(stream, own)
                    for left in (*streams, read, write):
                        os.close(left)
                    return json.loads(content)
                os.write(write, str(process).encode())
                os._exit(0)
            os.waitpid(between, 0)  # the process between is gone, so that the other one is adopted
            requests.send(os.read(read, _MOST_BYTES))
            for left in (*streams, read, write):
                os.close(left)
