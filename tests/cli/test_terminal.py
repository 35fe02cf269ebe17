"""What is printed has the width of the terminal it is printed on, and one width everywhere else."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios

import pytest
from rich.cells import cell_len

from tests.forks import Forked, run
from workbench.cli import shared
from workbench.views.tables import WIDTH


def printed(columns: int, *words: str) -> str:
    """What `workbench WORDS` shows on a terminal of that many columns."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = Forked([sys.executable, "-m", "workbench", *words], stdout=its, env=environment)
    os.close(its)
    seen = b""
    try:
        while chunk := os.read(ours, 65_536):
            seen += chunk
    except OSError:  # how Linux ends a terminal that nobody holds any more
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return seen.decode()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 100, 200])
def test_a_table_fits_the_terminal(columns: int):
    lines = printed(columns, "metrics", "list").splitlines()
    assert columns - 30 < max(map(cell_len, lines)) <= columns
    assert "1 / sample_probability" in " ".join(" ".join(lines).split())


@pytest.mark.slow
def test_a_pipe_gets_one_width_whatever_the_terminal_around_it():
    out = [
        run([sys.executable, "-m", "workbench", "metrics", "list"], env={**os.environ, "COLUMNS": columns}).stdout
        for columns in ("50", "300")
    ]
    assert out[0] == out[1]
    assert WIDTH - 30 < max(map(cell_len, out[0].splitlines())) <= WIDTH


def test_a_terminal_that_is_hardly_one_is_taken_as_narrow(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "3")
    assert shared.terminal_width() == shared.NARROWEST
