from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import SpecError
from workbench.spec.app import AppSpec
from workbench.spec.bundle import BundleSpec
from workbench.spec.gates import GatesSpec
from workbench.spec.loading import MAX_BYTES, load_app_folder, load_spec
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import RotaSpec
from workbench.spec.starter import write_starter

GATES = """\
gates:
  - id: success
    metric: success_rate
    at_least: 0.9
  - id: latency
    metric: latency_p95
    at_most: 8000
"""


def faults(model: type, path: Path, text: str | bytes) -> list[str]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        load_spec(model, path)
    assert caught.value.subject == str(path)
    return caught.value.seen.split("\n")


def seen_or_right(model: type, path: Path) -> list[str]:
    try:
        load_spec(model, path)
    except SpecError as error:
        return error.seen.split("\n")
    return []


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    return tmp_path / "gates.yaml"


def test_a_right_file_becomes_its_spec(gates: Path) -> None:
    gates.write_text(GATES)
    assert [gate.id for gate in load_spec(GatesSpec, gates).gates] == ["success", "latency"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("at_least: 0.9", 'at_least: "high"', 'gates.yaml:4: gates[0].at_least: got "high"; needed a number'),
        ("at_least: 0.9", "at_least: true", "gates.yaml:4: gates[0].at_least: got true; needed a number"),
        ("at_least: 0.9", "at_least: [1, 2]", "gates.yaml:4: gates[0].at_least: got a list of 2; needed a number"),
        (
            "at_least: 0.9",
            "at_leest: 0.9\n    at_most: 1",
            'gates.yaml:4: gates[0].at_leest: unknown key "at_leest"; did you mean "at_least"?',
        ),
        ("metric: success_rate", "metric: 1.10", 'gates.yaml:3: gates[0].metric: got 1.10; needed text: put it in quotes, "1.10"'),
        ("metric: success_rate", "metric: ''", 'gates.yaml:3: gates[0].metric: got ""; needed text that is not empty'),
        (
            "    metric: latency_p95\n",
            "",
            "gates.yaml:5: gates[1].metric: missing; needed: A metric of the catalogue or a KPI of app.yaml.",
        ),
        ("at_most: 8000", "at_most: 8000\n    min_n: 0", "gates.yaml:8: gates[1].min_n: got 0; needed at least 1"),
        ("at_most: 8000", "at_most: 8000\n    min_n: 1.5", "gates.yaml:8: gates[1].min_n: got 1.5; needed a whole number"),
        (
            "at_most: 8000",
            "at_most: 8000\n    family: qualty",
            'gates.yaml:8: gates[1].family: got "qualty"; allowed: business, quality, risk, rollback; did you mean "quality"?',
        ),
        (
            "at_most: 8000",
            "at_most: 8000\n    where: {workflow: 3}",
            'gates.yaml:8: gates[1].where.workflow: got 3; needed text: put it in quotes, "3"',
        ),
        (
            "at_most: 8000",
            "at_most: 1\n    at_least: 1",
            "gates.yaml:5: gates[1]: a gate has exactly one of at_least, at_most and against_baseline",
        ),
        ("id: latency", "id: success", "gates.yaml:1: gate ids must be unique; success appears more than once"),
        ("id: latency", "id: Latency!", 'gates.yaml:5: gates[1].id: got "Latency!"; needed a name of lower-case letters, digits, _ and -'),
        ("at_most: 8000", "at_most: .nan", "gates.yaml:7:14: gates[1].at_most: .nan is not a number that can be kept exactly"),
        ("at_most: 8000", "at_most: 1e999", "gates.yaml:7:14: gates[1].at_most: 1e999 is not a number that can be kept exactly"),
        ("at_most: 8000", "at_most: 9007199254740993", "gates.yaml:7:14: gates[1].at_most: 9007199254740993 is not a number"),
        ("at_most: 8000", "at_most: " + "9" * 5000, "gates.yaml:7:14: gates[1].at_most: 9999"),
        (
            "at_most: 8000",
            "at_most: 8000\n    max_age: 14",
            "gates.yaml:8: gates[1].max_age: 14 is not a duration; write a positive number and a unit",
        ),
        (
            "at_most: 8000",
            "at_most: 8000\n    max_age: 99999999999w",
            "gates.yaml:8: gates[1].max_age: '99999999999w' is too long for a duration",
        ),
        (
            "at_most: 8000",
            "at_most: 1\n    at_most: 2",
            'gates.yaml:8:5: gates[1]: the key "at_most" stands here for the second time, first in line 7',
        ),
        (
            "at_most: 8000",
            "at_most: !!python/object:os.system x",
            "gates.yaml:7:14: gates[1].at_most: the tag !!python/object:os.system is not allowed",
        ),
        (
            "at_most: 8000",
            "<<: {at_most: 1}\n    at_most: 8000",
            "gates.yaml:7:5: gates[1]: merge keys (<<) are not supported; write the keys out",
        ),
        ("at_most: 8000", "{a: b}: 1\n    at_most: 8000", "gates.yaml:7:5: gates[1]: a list or mapping stands where a key is needed"),
    ],
)
def test_one_change_to_a_right_file_gives_exactly_its_fault(gates: Path, old: str, new: str, fault: str) -> None:
    assert old in GATES
    seen = faults(GatesSpec, gates, GATES.replace(old, new, 1))
    assert len(seen) == 1
    assert seen[0].startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "gates.yaml: is empty"),
        ("# only a comment\n", "gates.yaml: is empty"),
        ("---\n", "gates.yaml: is empty"),
        ("- id: x\n", "gates.yaml:1: got a list; needed a mapping (key: value) with the keys gates"),
        ("hello\n", "gates.yaml:1: got a single value; needed a mapping"),
        ("gates:\n\t- id: x\n", "gates.yaml:2:1: not valid YAML: a tab where YAML wants spaces"),
        ("gates: [\n", "not valid YAML: a list or mapping in brackets that is never closed"),
        ("gates: 'abc\n", "not valid YAML: a quote that is opened here is never closed"),
        ("gates: a: b\n", 'gates.yaml:1:9: not valid YAML: a ": " in unquoted text'),
        ("gates: *nowhere\n", "gates.yaml:1:8: not valid YAML: the * begins an alias that nothing defines"),
        ("gates: []\n---\ngates: []\n", "not valid YAML: a second document begins"),
        ("gates: @x\n", "not valid YAML: text may not begin with this character"),
        ("gates:\n  - id: a\n metric: b\n", "not valid YAML"),
        ("gates: &a [*a]\n", "gates.yaml:1:8: gates[0]: an alias (*name) that contains itself"),
        (b"gates: \xe9\n", "gates.yaml:1: holds the byte 0xe9, which is not UTF-8; save it as UTF-8"),
        ("gates: []".encode("utf-16"), "gates.yaml: is UTF-16; save it as UTF-8"),
        (b"gates:\n- id: \x07\n", "gates.yaml:2: holds the control character U+0007"),
        ("gates: " + "[" * 200 + "]" * 200, "not valid YAML: nested more than 40 levels deep"),
        (b"x" * (MAX_BYTES + 1), "gates.yaml: is larger than 1024 KiB, which no spec needs"),
    ],
)
def test_broken_files_are_named_with_what_is_broken(gates: Path, text: str | bytes, fault: str) -> None:
    seen = faults(GatesSpec, gates, text)
    assert any(fault in line for line in seen), seen


def test_an_alias_bomb_is_refused_at_once(gates: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    seen = faults(GatesSpec, gates, "\n".join(levels))
    assert any("holds more than 50,000 values once its aliases (*name) are written out" in line for line in seen)


def test_aliases_within_reason_are_read(gates: Path) -> None:
    gates.write_text("gates:\n- {id: a, metric: m, at_least: 1, where: &w {workflow: x}}\n- {id: b, metric: m, at_least: 1, where: *w}\n")
    assert load_spec(GatesSpec, gates).gates[1].where == {"workflow": "x"}


def test_all_faults_are_told_at_once_in_the_order_of_their_lines(gates: Path) -> None:
    text = GATES.replace("0.9", "high").replace("latency_p95", "[]").replace("at_most: 8000", "at_mst: 8000\n    title: 3")
    seen = faults(GatesSpec, gates, text)
    assert [int(re.match(r"gates.yaml:(\d+)", line)[1]) for line in seen] == [4, 6, 7, 8]


def test_a_byte_order_mark_and_crlf_do_no_harm(gates: Path) -> None:
    gates.write_bytes(b"\xef\xbb\xbf" + GATES.replace("\n", "\r\n").encode())
    assert len(load_spec(GatesSpec, gates).gates) == 2


def test_no_on_and_times_are_text(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("app: 'no'\ntitle: NO\npurpose: on\nrisk_tier: low\nkill_switch: 18:30\n")
    spec = load_spec(AppSpec, path)
    assert (spec.app, spec.title, spec.purpose, spec.kill_switch) == ("no", "NO", "on", "18:30")


def test_unquoted_times_days_and_moments_are_what_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "rota.yaml"
    path.write_text(
        "zone: Europe/Berlin\nrequired: [{days: [mon], start: 09:00, until: 18:30}]\n"
        "layers: [{name: a, people: [p], first_handoff: 2026-10-05 09:00}]\n"
        "absences: [{person: p, first_day: 2026-10-05, last_day: 2026-10-06}]\n"
        "overrides: [{person: p, start: 2026-10-05T09:00Z, until: 2026-10-05 18:00+02:00}]\n"
    )
    spec = load_spec(RotaSpec, path)
    assert str(spec.required[0].start) == "09:00:00"
    assert spec.required[0].until.hour * 60 + spec.required[0].until.minute == 18 * 60 + 30
    assert spec.layers[0].first_handoff.isoformat() == "2026-10-05T09:00:00"
    assert spec.overrides[0].until.isoformat() == "2026-10-05T18:00:00+02:00"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("required: [{days: [mon], start: 9, until: 18:30}]", "required[0].start: got 9; needed a time of day such as 18:30"),
        ("required: [{days: [mon], start: 9:00, until: 18:30}]", 'required[0].start: got "9:00"; needed a time of day such as 18:30'),
        ("required: [{days: [mo], start: 09:00, until: 18:30}]", 'required[0].days[0]: got "mo"; allowed: mon, tue'),
        ("required: 7x24", 'required: got "7x24"; allowed: 24x7'),
        ("required: []", "required: got 0 entries; needed at least 1"),
        ("absences: [{person: p, first_day: 20261005, last_day: 2026-10-06}]", "absences[0].first_day: got 20261005; needed a day such as"),
        ("absences: [{person: p, first_day: 2026-10-07, last_day: 2026-10-06}]", "absences[0]: last_day 2026-10-06 is before first_day"),
        (
            "absences: [{person: p, first_day: 2026-10-07, last_day: 9999-12-31}]",
            "absences[0].last_day: 9999-12-31 is not within the years",
        ),
        ("overrides: [{person: p, start: 2026-10-05T09:00, until: 2026-10-06T09:00Z}]", "overrides[0].start: got"),
        (
            "overrides: [{person: p, start: 2026-10-06T09:00Z, until: 2026-10-05T09:00Z}]",
            "overrides[0]: until 2026-10-05T09:00:00+00:00 is not after",
        ),
        ("layers: [{name: a, people: [p], first_handoff: 2026-10-05T09:00Z}]", "layers[0]: first_handoff is wall-clock time"),
        ("layers: [{name: a, people: [], first_handoff: 2026-10-05T09:00}]", "layers[0].people: got 0 entries; needed at least 1"),
    ],
)
def test_wrong_times_are_not_read_as_something_else(tmp_path: Path, line: str, fault: str) -> None:
    seen = faults(RotaSpec, tmp_path / "rota.yaml", f"zone: Europe/Berlin\n{line}\n")
    assert len(seen) == 1
    assert f"rota.yaml:2: {fault}" in seen[0]


@pytest.mark.parametrize(
    ("success", "fault"),
    [
        ("{rule: score, score: x, at_least: high}", 'workflows[0].success.at_least: got "high"; needed a number'),
        ("{rule: score, score: [x], at_least: 1}", "workflows[0].success.score: got a list of 1; needed text"),
        ("{rule: score, score: x}", "workflows[0].success.at_least: missing; needed: The bar, in the score's own unit."),
        (
            "{rule: score, score: x, at_least: 1, within: 3d}",
            'workflows[0].success.within: unknown key "within"; known: at_least, rule, score',
        ),
        ("{rule: outcome, outcome: x, within: 3}", "workflows[0].success.within: 3 is not a duration"),
        ("{rule: scor}", 'workflows[0].success.rule: got "scor"; allowed: status, score, outcome; did you mean "score"?'),
        ("{}", "workflows[0].success.rule: missing; allowed: status, score, outcome"),
        ("status", 'workflows[0].success: got "status"; needed a mapping (key: value)'),
    ],
)
def test_faults_in_a_choice_of_rules_name_the_key_and_not_the_choice(tmp_path: Path, success: str, fault: str) -> None:
    text = f"app: a\ntitle: A\nrisk_tier: low\nworkflows:\n- name: w\n  success: {success}\n"
    seen = faults(AppSpec, tmp_path / "app.yaml", text)
    assert len(seen) == 1
    assert seen[0].startswith(f"app.yaml:6: {fault}")


def test_values_under_keys_that_name_secrets_are_not_repeated(tmp_path: Path) -> None:
    model = "model:\n  provider: p\n  name: m\n  api_key: sk-very-secret\n"
    text = f"app: a\nname: v1\n{model}controls:\n  fallback:\n  - token\npolicy:\n  thresholds: {{token: sk-hidden}}\n"
    seen = faults(BundleSpec, tmp_path / "bundle.yaml", text)
    assert 'bundle.yaml:6: model.api_key: unknown key "api_key"' in "\n".join(seen)
    assert "bundle.yaml:11: policy.thresholds.token: got a hidden value; needed a number" in seen
    assert "sk-" not in "\n".join(seen)


def test_long_values_are_cut(gates: Path) -> None:
    seen = faults(GatesSpec, gates, GATES.replace("0.9", "x" * 5000))
    assert len(seen[0]) < 200


def test_one_identity_is_one_person(tmp_path: Path) -> None:
    seen = faults(PeopleSpec, tmp_path / "people.yaml", "people:\n  a: {os: [x]}\n  b: {os: [x]}\n")
    assert seen == ['people.yaml:1: os identity "x" belongs to both "a" and "b"; one identity is one person']


def test_a_role_for_an_impossible_app_name_is_refused(tmp_path: Path) -> None:
    seen = faults(PeopleSpec, tmp_path / "people.yaml", "people:\n  a: {roles: {'My App': [viewer]}}\n")
    assert len(seen) == 1
    assert seen[0].startswith("people.yaml:2: people.a.roles.My App: this key is not allowed; needed")


def test_a_missing_file_says_how_to_get_one_and_what_lies_beside_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"app\.yaml: no such file; `workbench init DIR` writes a starter"):
        load_spec(AppSpec, tmp_path / "app.yaml")
    (tmp_path / "app.yml").write_text("app: x\n")
    with pytest.raises(SpecError, match=r"no such file; app\.yml is there: rename it"):
        load_spec(AppSpec, tmp_path / "app.yaml")


def test_a_folder_a_pipe_and_a_forbidden_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="is a folder; needed a file"):
        load_spec(AppSpec, tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecError, match="is not a regular file"):
        load_spec(AppSpec, tmp_path / "pipe.yaml")
    path = tmp_path / "app.yaml"
    path.write_text("app: x\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SpecError, match="cannot be read: Permission denied"):
        load_spec(AppSpec, path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["gates", "id", "metric", "rule", "score", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, model=st.sampled_from([AppSpec, GatesSpec, PeopleSpec, RotaSpec, BundleSpec]))
def test_whatever_stands_in_a_file_gives_a_spec_or_a_spec_error(tmp_path: Path, value: object, model: type) -> None:
    import yaml

    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    assert all(line.startswith("any.yaml") for line in seen_or_right(model, path))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(alphabet="gates: [{}]-&*!|>'\"#%@`\n\t ,?", max_size=40).map(str.encode))
def test_whatever_bytes_a_file_holds_it_gives_a_spec_or_a_spec_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(content)
    assert all(line.startswith("any.yaml") for line in seen_or_right(GatesSpec, path))


class TestAppFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_starter(tmp_path / "app", "shop", login="me")
        return tmp_path / "app"

    def change(self, folder: Path, name: str, old: str, new: str) -> list[str]:
        path = folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(SpecError) as caught:
            load_app_folder(folder)
        assert caught.value.subject == str(folder)
        return caught.value.seen.split("\n")

    def test_app_yaml_alone_is_enough(self, folder: Path) -> None:
        for name in ("people", "gates", "plan", "rota", "slo"):
            (folder / f"{name}.yaml").unlink()
        loaded = load_app_folder(folder)
        assert loaded.app.app == "shop"
        assert (loaded.people, loaded.gates, loaded.plan, loaded.rota) == (None, None, None, None)

    @pytest.mark.parametrize(
        ("name", "old", "new", "fault"),
        [
            ("app.yaml", "owner: owner\n\n#", "owner: ownr\n\n#", 'owner: "ownr" is not in people.yaml; did you mean "owner"?'),
            ("app.yaml", "to: secondary", "to: secondry", 'escalation[1].to: "secondry" is not in people.yaml; did you mean "secondary"?'),
            ("app.yaml", "    owner: owner\n", "    owner: somebody\n", 'kpis[0].owner: "somebody" is not in people.yaml; known: approver'),
            ("app.yaml", "    owner: risk_owner", "    owner: risk-owner", 'risks[0].owner: "risk-owner" is not in people.yaml'),
            ("rota.yaml", "[secondary, primary]", "[secondary, primry]", 'layers[1].people[1]: "primry" is not in people.yaml'),
            (
                "gates.yaml",
                "    at_least: 0.90",
                "    at_least: 0.9\n    where: {workflow: orders}",
                'workflow: workflow "orders" is not declared',
            ),
            ("people.yaml", "[admin, operator]", "[operator]", 'people: nobody has the role "admin" for shop or "*"'),
            ("people.yaml", '    os: ["me"]\n', "", "people: no admin (owner) has an `os` login or a `slack` id"),
            (
                "app.yaml",
                "  - {to: primary, within: 10m}",
                "  - {to: primary, within: 2h}",
                "escalation: secondary within 25m stands after",
            ),
            ("bundles/v1/bundle.yaml", "app: shop", "app: other", 'bundles/v1/bundle.yaml:4: app: got "other"; app.yaml says "shop"'),
        ],
    )
    def test_files_that_do_not_fit_each_other_are_told(self, folder: Path, name: str, old: str, new: str, fault: str) -> None:
        seen = self.change(folder, name, old, new)
        assert len(seen) == 1
        assert fault in seen[0]
        assert seen[0].startswith(f"{name}:")

    def test_a_rollback_to_a_fallback_needs_one(self, folder: Path) -> None:
        path = folder / "app.yaml"
        text = path.read_text()
        path.write_text(text[: text.index("fallback:\n")] + text[text.index("# How it is switched off") :])
        seen = self.change(folder, "plan.yaml", "target: last_good", "target: fallback")
        assert len(seen) == 1
        assert 'rollback.target: got "fallback", but app.yaml declares no fallback' in seen[0]

    def test_an_app_of_high_risk_answers_nothing_that_it_cannot_record(self, folder: Path) -> None:
        path = folder / "app.yaml"
        path.write_text(path.read_text() + "audit: best_effort\n")
        seen = self.change(folder, "app.yaml", "risk_tier: medium", "risk_tier: high")
        assert "audit: got best_effort" in seen[0]

    def test_faults_of_several_files_come_together(self, folder: Path) -> None:
        (folder / "plan.yaml").write_text("steps: []\n")
        (folder / "rota.yaml").write_text("zone: Nowhere/Land\n")
        seen = self.change(folder, "app.yaml", "risk_tier: medium", "risk_tier: mid")
        assert [line.split(":")[0] for line in seen] == ["app.yaml", "plan.yaml", "rota.yaml"]

    def test_a_misnamed_file_is_not_passed_over(self, folder: Path) -> None:
        (folder / "gates.yaml").rename(folder / "gate.yaml")
        (folder / "people.yaml").rename(folder / "people.yml")
        with pytest.raises(SpecError) as caught:
            load_app_folder(folder)
        assert caught.value.seen.split("\n") == [
            'gate.yaml: nothing reads a file of this name; did you mean "gates.yaml"? rename it',
            'people.yml: nothing reads a file of this name; did you mean "people.yaml"? rename it',
        ]

    def test_a_missing_folder_and_a_file_are_refused(self, folder: Path) -> None:
        with pytest.raises(SpecError, match="no such folder"):
            load_app_folder(folder / "none")
        with pytest.raises(SpecError, match="is a file, not a folder"):
            load_app_folder(folder / "app.yaml")
