"""The tests of the stores once more, in a run of their own: ledger and catalogue on PostgreSQL, data in an S3 server, both started here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.objects import environment, running_objects
from tests.postgres import running_postgres

HERE = Path(__file__).parent
QUICK = ("test_lake.py", "test_stored_files.py", "test_upkeep.py", "test_retention.py")
WHOLE = (
    *QUICK,
    "test_flusher.py",
    "test_logs.py",
    "test_erasure.py",
    "test_evidence.py",
    "test_keeping.py",
    "test_reshaping.py",
    "test_lake_growth.py",
    "test_metrics_query.py",
)


def run(files: tuple[str, ...], tmp_path: Path, *more: str) -> str:
    """The last line of a run of these test files on servers.

    Lakes that a test leaves open have a session open, too, which Python would complain about.
    """
    with running_postgres(tmp_path) as postgres, running_objects() as objects:
        servers = {"TEST_SHARED_STORES": json.dumps({"postgres": postgres, "objects": objects})}
        options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "--timeout", "300"]
        command = [sys.executable, "-m", "pytest", *options, *more, *(str(HERE / name) for name in files)]
        given = {**os.environ, **environment(objects), **servers}
        done = subprocess.run(command, cwd=HERE.parents[1], env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tests_of_the_stores_pass_on_postgresql_and_an_object_store(tmp_path):
    assert " passed" in run(QUICK, tmp_path, "-m", "not slow and not soak")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_all_tests_of_the_stores_pass_on_postgresql_and_an_object_store(tmp_path):
    print(f"\nstores on PostgreSQL and S3: {run(WHOLE, tmp_path, '-m', 'not soak')}")
