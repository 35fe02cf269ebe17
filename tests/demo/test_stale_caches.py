"""What a bundle runs is compiled from its hashed source: a cache beside it, stale or tampered with, is never read."""

from __future__ import annotations

import py_compile
import shutil
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from workbench.controls.modules import load_entry
from workbench.errors import SpecError
from workbench.versions.reading import read_bundle

TAMPERED = "raise SystemExit('tampered')\n"


@pytest.fixture
def code(bundle_folder, tmp_path: Path) -> Path:
    """The assistant's package in an app folder of the test's own."""
    shutil.copytree(bundle_folder("v2").parents[1], tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "app" / "assistant"


def compiled(path: Path, tmp_path: Path) -> None:
    """Tampered code in a cache file that Python takes without a look at the source."""
    (tmp_path / "evil.py").write_text(TAMPERED)
    path.parent.mkdir(exist_ok=True)
    py_compile.compile(str(tmp_path / "evil.py"), cfile=str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def imported(code: Path, module: str) -> subprocess.CompletedProcess[str]:
    """What Python itself does with the folder."""
    return subprocess.run([sys.executable, "-c", f"import {module}"], cwd=code.parent, capture_output=True, text=True, check=False)


def test_a_tampered_cache_is_not_run(code: Path, tmp_path: Path):
    before = read_bundle(code.parent / "bundles" / "v2").bundle
    compiled(Path(cache_from_source(str(code / "agent.py"))), tmp_path)
    assert "tampered" in imported(code, "assistant.agent").stderr, "Python alone would run it"
    read = read_bundle(code.parent / "bundles" / "v2")
    assert read.bundle == before
    content = {reference["file"]: read.files[reference["file"]] for reference in read.bundle.parts["orchestration"].content["code"]}
    digest = "sha256:" + "5a" * 32
    entry = load_entry(read.spec.orchestration.entry, content, digest=digest, subject="bundle")
    assert entry.__code__.co_filename.startswith("<workbench_hosted_")


def test_compiled_code_without_a_source_is_refused(code: Path, tmp_path: Path):
    compiled(code / "extra.pyc", tmp_path)
    assert "tampered" in imported(code, "assistant.extra").stderr, "Python alone would run it"
    with pytest.raises(SpecError, match=r"extra\.pyc is compiled code"):
        read_bundle(code.parent / "bundles" / "v2")
