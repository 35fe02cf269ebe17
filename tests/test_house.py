"""Claims about the project as a whole: its borders, its start-up and its packaging."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.wheels import ROOT, python
from workbench import errors


def test_the_error_tree_in_the_docstring_is_the_real_one():
    drawn = re.findall(r"(?:├──|└──|^ {4})\s*(\w+)", errors.__doc__, flags=re.MULTILINE)
    defined = {cls.__name__ for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.WorkbenchError)}
    assert set(drawn) >= defined
    assert {name for name in drawn if name[0].isupper()} == defined


def test_help_pays_for_no_heavy_import():
    heavy = "duckdb,polars,ibis,pandas,numpy,scipy,sqlalchemy,plotly,great_tables,IPython,pyarrow,alembic"
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from workbench.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print(sorted(set({heavy!r}.split(',')) & set(sys.modules)))"
    )
    assert python("-c", script).stdout.strip() == "[]"


def test_importing_the_package_says_and_does_nothing():
    result = python("-W", "error", "-c", "import workbench, workbench.workspace")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_no_file_speaks_of_anything_but_the_project():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    foreign = re.compile(r"/wor[k]/|\bsubagent|pypi\.org|registry\.npmjs|deb\.debian\.org", re.IGNORECASE)
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        for name in names
        if (ROOT / name).is_file() and name != "tests/test_house.py"
    }
    assert [name for name, text in texts.items() if foreign.search(text)] == []


@pytest.mark.slow
def test_the_wheel_carries_the_demo_and_the_notebooks(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"workbench/_shipped/demo/app.yaml", "workbench/_shipped/notebooks/01_readiness_review.ipynb", "workbench/py.typed"} <= names
    assert any(name.startswith("workbench/ledger/migrations/versions/") for name in names)
