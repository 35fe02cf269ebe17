from __future__ import annotations

import json
import os
import re
from datetime import date
from pathlib import Path
from unittest.mock import Mock

import jsonschema
import pytest

from workbench.controls.modules import load_entry
from workbench.errors import ConflictError, StoreError, UnknownSubject, UsageError
from workbench.spec.bundle import BundleSpec
from workbench.spec.document import read_document
from workbench.spec.loading import load_app_folder, load_spec
from workbench.spec.people import Role
from workbench.spec.schemas import DRAFT, SPECS, export, schema_of
from workbench.spec.starter import write_starter
from workbench.versions.scorers import with_files


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    write_starter(tmp_path / "new" / "shop", "shop", login="DOMAIN\\me", today=date(2026, 11, 4))
    return tmp_path / "new" / "shop"


def test_the_starter_passes_its_own_checks(starter: Path) -> None:
    loaded = load_app_folder(starter)
    assert None not in (loaded.people, loaded.gates, loaded.plan, loaded.rota, loaded.slo, loaded.metrics)
    bundle = load_spec(BundleSpec, starter / "bundles/v1/bundle.yaml")
    assert (loaded.app.app, bundle.app) == ("shop", "shop")
    assert (starter / "bundles/v1" / bundle.prompts["system"]).is_file()


def fill_in(folder: Path) -> None:
    """Uncomment what the starter asks its user to fill in."""
    for name in ("app.yaml", "people.yaml"):
        path = folder / name
        path.write_text(re.sub(r"^(\s+|)# (baseline|target|kill_switch|contact): ", r"\1\2: ", path.read_text(), flags=re.MULTILINE))


def test_what_only_its_user_knows_is_left_out_so_that_no_template_passes_a_review(starter: Path) -> None:
    loaded = load_app_folder(starter)
    assert not any(person.contact for person in loaded.people.people.values())
    assert (loaded.app.kill_switch, loaded.app.kpis[0].baseline, loaded.app.kpis[0].target) == (None, None, None)


def test_the_starter_filled_in_answers_every_declared_gate(starter: Path) -> None:
    fill_in(starter)
    loaded = load_app_folder(starter)
    app, people, plan, rota = loaded.app, loaded.people.people, loaded.plan, loaded.rota
    kpi = app.kpis[0]
    assert kpi.owner in people
    assert kpi.target > kpi.baseline
    assert kpi.target_date == date(2027, 5, 3)
    assert len({step.to for step in app.escalation}) >= 2
    assert app.owner
    assert app.fallback
    assert app.kill_switch
    assert app.risks
    assert plan.rollback.criteria
    assert rota.required == "24x7"
    assert any(Role.APPROVER in roles for name, person in people.items() if name != app.owner for roles in person.roles.values())


def test_whoever_writes_the_starter_is_not_locked_out_by_it(starter: Path) -> None:
    owner = load_app_folder(starter).people.people["owner"]
    assert owner.os == ("DOMAIN\\me",)
    assert Role.ADMIN in owner.roles["*"]


def test_the_rota_of_the_starter_begins_before_today_on_a_monday(starter: Path) -> None:
    first = load_app_folder(starter).rota.layers[0].first_handoff
    assert first.date() < date(2026, 11, 4)
    assert first.weekday() == 0


def test_the_starters_scorer_runs_as_it_is_declared(starter: Path) -> None:
    online = with_files(load_app_folder(starter).online, starter)
    found = load_entry(
        online.scorers[0].entry, {path: text.encode() for path, text in online.files.items()}, digest="ab", subject="starter"
    )
    assert [found(Mock(answer=answer)) for answer in ("It is on its way.", "As an AI I cannot say.", " ")] == [1.0, 0.0, 0.0]


def test_no_placeholder_is_left(starter: Path) -> None:
    for path in starter.rglob("*"):
        if path.is_file():
            assert "{{" not in path.read_text(), path


@pytest.mark.parametrize("name", SPECS)
def test_each_file_of_the_starter_fits_its_json_schema(starter: Path, name: str) -> None:
    path = starter / (f"bundles/v1/{name}.yaml" if name in ("bundle", "guards") else f"{name}.yaml")
    schema = json.loads((starter / f"schemas/{name}.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert list(validator.iter_errors(read_document(path.read_text()).value)) == []
    first_line = path.read_text().split("\n")[0]
    assert (path.parent / first_line.rpartition("$schema=")[2]).resolve() == (starter / f"schemas/{name}.schema.json").resolve()


@pytest.mark.parametrize("name", SPECS)
def test_schemas_are_closed_described_and_in_the_form_that_people_write(name: str) -> None:
    schema = schema_of(name)
    assert schema["$schema"] == DRAFT
    assert schema["title"] == f"{name}.yaml"
    assert schema["additionalProperties"] is False
    text = json.dumps(schema)
    assert not re.search(r'"default": "P', text), "a duration in ISO form is not what people write"
    for definition in (schema, *schema.get("$defs", {}).values()):
        assert definition["description"]


def test_the_schema_refuses_what_the_spec_refuses() -> None:
    validator = jsonschema.Draft202012Validator(schema_of("gates"))
    good = {"gates": [{"id": "a", "metric": "m", "at_least": 1}]}
    assert validator.is_valid(good)
    for key, value in (("metrc", "x"), ("id", "A b"), ("max_age", "14"), ("family", "qualty"), ("min_n", 0)):
        assert not validator.is_valid({"gates": [{**good["gates"][0], key: value}]}), key


def test_export_writes_all_schemas_and_the_same_bytes_again(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in export(tmp_path / "a")}
    assert sorted(first) == sorted(f"{name}.schema.json" for name in SPECS)
    assert first == {path.name: path.read_bytes() for path in export(tmp_path / "b")}


def test_an_unknown_schema_names_the_near_one() -> None:
    with pytest.raises(UnknownSubject, match='did you mean "gates"'):
        schema_of("gate")


def test_a_folder_with_something_in_it_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConflictError, match=r"it holds notes\.txt"):
        write_starter(tmp_path, "shop")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ConflictError, match="it is a file"):
        write_starter(tmp_path / "notes.txt", "shop")


def test_an_empty_folder_stays_the_same_folder(tmp_path: Path) -> None:
    inode = tmp_path.stat().st_ino
    write_starter(tmp_path, "shop")
    assert tmp_path.stat().st_ino == inode
    assert load_app_folder(tmp_path).app.app == "shop"
    assert not list(tmp_path.glob(".starter*"))


@pytest.mark.parametrize("target", ["new", "empty"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    (tmp_path / "empty").mkdir()
    real, n = Path.write_text, 0

    def write_text(self: Path, *args: object, **kwargs: object) -> int:
        nonlocal n
        n += 1
        if n == 7:
            raise OSError(28, "No space left on device")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(StoreError, match="No space left on device"):
        write_starter(tmp_path / target, "shop")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_failure_while_files_move_into_an_empty_folder_takes_them_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, moved = Path.rename, []

    def rename(self: Path, to: Path) -> Path:
        if self.name == "app.yaml":
            assert moved, "app.yaml comes last"
            raise OSError(5, "Input/output error")
        moved.append(self.name)
        return real(self, to)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StoreError, match="Input/output error"):
        write_starter(tmp_path, "shop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "hint"), [("My App!", "my-app"), ("9lives", "lives"), ("", "support"), ("ä", "support")])
def test_a_name_that_is_not_allowed_comes_with_one_that_is(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"for example {hint}"):
        write_starter(tmp_path / "x", name)
    assert not (tmp_path / "x").exists()


def test_a_user_without_a_name_still_gets_a_starter_and_the_environment_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name(user: int) -> None:
        raise KeyError(f"uid not found: {user}")

    monkeypatch.setattr("pwd.getpwuid", no_name)
    monkeypatch.setenv("LOGNAME", "approver")
    monkeypatch.setenv("USER", "approver")
    write_starter(tmp_path / "x", "shop")
    assert load_app_folder(tmp_path / "x").people.people["owner"].os == (f"uid:{os.geteuid()}",)
