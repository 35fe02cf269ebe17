"""A real PostgreSQL server for tests: Debian's binaries, an own data folder, loopback only, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

PACKAGE = "postgresql"
_UNSAFE_BUT_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200 -c unix_socket_directories=''"


def postgres_binaries() -> Path | None:
    """The folder with the newest `initdb` and `pg_ctl` of this machine, or None."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    folders += [Path(on_path).resolve().parent] if on_path else []
    usable = [folder for folder in folders if (folder / "pg_ctl").exists()]
    return max(usable, key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdigit()], default=None)


@contextmanager
def running_postgres(tmp: Path) -> Iterator[str]:
    """The URL of a server's `postgres` database, `postgresql://postgres@127.0.0.1:<port>/postgres`, up for the block.

    Args:
        tmp: where the data lies. As root the server runs as another user, which may not enter `tmp`: then it lies in the
            system's temporary folder. It is removed at the end either way.

    Skips the test when PostgreSQL is not installed; fails instead where the variable CI is set.
    """
    binaries = postgres_binaries()
    if binaries is None:
        sentence = f"PostgreSQL is not installed; `apt-get install {PACKAGE}` provides it"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    user = _server_user()
    root = Path(tempfile.mkdtemp(prefix="pg-", dir=None if user else tmp))
    try:
        if user:
            os.chown(root, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        data = root / "data"
        _run([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"], root, user)
        port = _start(binaries, data, root, user)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            _run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], root, user)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def new_database(url: str) -> str:
    """The URL of a new, empty database on the server of `url`."""
    return named_database(url, f"t_{uuid4().hex[:16]}")


def named_database(url: str, name: str) -> str:
    """The URL of the database of that name on the server of `url`, made where there is none."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection, contextlib.suppress(psycopg.errors.DuplicateDatabase):
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return f"{url.rpartition('/')[0]}/{name}"


def _server_user() -> str | None:
    """The unprivileged user to run the server as: None when this process is not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _start(binaries: Path, data: Path, root: Path, user: str | None) -> int:
    """The port the server listens on. Another process may take a free port first, so it is tried a few times."""
    for attempt in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        options = f"-c listen_addresses=127.0.0.1 -c port={port} {_UNSAFE_BUT_FAST}"
        try:
            _run([binaries / "pg_ctl", "-D", data, "-o", options, "-l", root / "log", "-w", "-t", "60", "start"], root, user)
        except RuntimeError:
            if attempt == 4:
                raise
            continue
        return port
    raise AssertionError("unreachable")


def _run(command: list[Path | str], root: Path, user: str | None) -> None:
    """Runs one command as `user`; its output goes to a file, because a started server keeps its parent's pipes open."""
    output = root / "output"
    with output.open("wb") as sink:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=root,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=180,
        )
    if done.returncode:
        log = root / "log"
        detail = output.read_text(errors="replace") + (log.read_text(errors="replace") if log.exists() else "")
        raise RuntimeError(f"{command[0]} exited with {done.returncode}:\n{detail}")
