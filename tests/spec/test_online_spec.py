"""online.yaml: what may stand in it, what is said of what may not, and that its code is declared with its content."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.cli.app_check import check_folder
from workbench.errors import SpecError
from workbench.spec.loading import load_app_folder, load_spec
from workbench.spec.online import OnlineSpec
from workbench.spec.schemas import schema_of
from workbench.versions.declarations import declared

GOOD = """\
sample: 0.2
code: [scorers/rules.py]
scorers:
  - name: quality
    entry: scorers.rules:answer_quality
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("sample: 0.2", "sample: 0", "sample: got 0; needed"),
        ("sample: 0.2", "sample: 20", "sample: got 20; needed"),
        ("rules.py]", "rules.txt]", "scorers/rules.txt is no Python file below the app folder"),
        ("scorers/rules.py", "../rules.py", "../rules.py is no Python file below the app folder"),
        ("scorers.rules:", "scorers.other:", "code has no file of the module scorers.other; it has scorers.rules"),
        ("answer_quality\n", "answer_quality\n    timeout: 2m\n", "timeout: got 2m; a scorer may take 30s at most"),
        ("answer_quality\n", "answer_quality\n  - {name: quality, entry: 'scorers.rules:b'}\n", "quality is declared more than once"),
        ("name: quality", "nam: quality", 'unknown key "nam"; did you mean "name"?'),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, old: str, new: str, fault: str) -> None:
    path = tmp_path / "online.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        load_spec(OnlineSpec, path)
    assert fault in caught.value.seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.yaml").write_text("app: shop\ntitle: Shop\nrisk_tier: low\n")
    (tmp_path / "online.yaml").write_text(GOOD)
    (tmp_path / "scorers").mkdir()
    (tmp_path / "scorers/rules.py").write_text("def answer_quality(request):\n    return 1.0\n")
    return tmp_path


def digest_of(folder: Path) -> str:
    return next(each.digest for each in declared(load_app_folder(folder)) if each.kind == "online")


def test_the_code_is_declared_with_its_content(folder: Path) -> None:
    before = digest_of(folder)
    assert check_folder(folder)
    path = folder / "scorers/rules.py"
    path.write_text(path.read_text().replace("1.0", "0.5"))
    assert digest_of(folder) != before
    (stored,) = (each for each in declared(load_app_folder(folder)) if each.kind == "online")
    assert stored.content["files"] == {"scorers/rules.py": "def answer_quality(request):\n    return 0.5\n"}
    assert OnlineSpec.model_validate(stored.content).files == stored.content["files"]


def test_code_that_cannot_be_had_is_refused_before_anything_is_stored(folder: Path) -> None:
    rules = folder / "scorers/rules.py"
    for change, fault in (
        (lambda: rules.write_bytes(b"\xff\xfe"), "it is not UTF-8"),
        (lambda: rules.write_text("#" * 300_000), "300,000 characters"),
        (rules.unlink, "does not exist"),
        (lambda: rules.symlink_to("/etc/passwd"), "leads outside the app folder"),
    ):
        change()
        with pytest.raises(SpecError, match=fault):
            declared(load_app_folder(folder))
        with pytest.raises(SpecError, match=fault):
            check_folder(folder)


def test_nobody_writes_the_content_by_hand(folder: Path) -> None:
    (folder / "online.yaml").write_text(GOOD + "files: {scorers/rules.py: 'x = 1'}\n")
    with pytest.raises(SpecError, match="it is written there"):
        declared(load_app_folder(folder))
    assert "files" not in schema_of("online")["properties"]
