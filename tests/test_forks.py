"""A forked process is to its test what a started one is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest

from tests.forks import Forked

SAYS = (
    "import os, sys; print(sys.argv, os.getcwd(), os.environ['OWN'], __name__, input(), os.getppid()); sys.stderr.write('odd'); sys.exit(3)"
)


@pytest.mark.parametrize("popen", [subprocess.Popen, Forked])
def test_it_gets_its_words_folder_environment_and_streams_and_ends_with_its_code(tmp_path, popen):
    command = [sys.executable, "-c", SAYS, "a", "b"]
    with popen(command, cwd=tmp_path, env={**os.environ, "OWN": "x"}, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as process:
        said = process.communicate("hello\n")
    assert process.returncode == 3
    assert said == (f"['-c', 'a', 'b'] {tmp_path} x __main__ hello {os.getpid()}\n", "odd")


@pytest.mark.parametrize("popen", [subprocess.Popen, Forked])
def test_it_is_killed_as_a_child_of_the_test(popen):
    with popen([sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"], stdout=PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
