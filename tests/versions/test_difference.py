from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.versions.folders import SPEC, write_yaml
from workbench.errors import UnknownSubject
from workbench.versions.canonical import canonical_json, digest
from workbench.versions.difference import _settings as _lines_of
from workbench.versions.difference import checked_parts, diff, file_diff
from workbench.versions.manifest import CODE_PLACE, FileReference
from workbench.versions.moves import moved
from workbench.versions.reading import read_bundle


@pytest.fixture
def changed(app_dir, bundle_dir):
    """The difference after a change of the spec and of files."""
    before = read_bundle(bundle_dir)

    def make(change=dict, **files):
        spec = copy.deepcopy(SPEC)
        change(spec)
        write_yaml(bundle_dir / "bundle.yaml", spec)
        for name, content in files.get("files", {}).items():
            (app_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (app_dir / name).write_bytes(content)
        after = read_bundle(bundle_dir)
        return diff(before.bundle, before.files, after.bundle, after.files)

    return make


def _settings(found) -> dict[str, tuple[str, ...]]:
    return {part.name: part.settings for part in found.parts}


def test_the_same_bundle_has_no_difference(changed):
    found = changed()
    assert (found.parts, found.labels) == ((), ())


def test_prompt_and_threshold_are_told_apart_with_the_prompts_text(changed):
    found = changed(
        lambda s: s["policy"]["thresholds"].update(refund_eur=80),
        files={"bundles/v1/prompts/system.md": b"You help customers of a shop.\nBe kind.\nBe exact.\n"},
    )
    assert _settings(found) == {"prompts": (), "policy": ("thresholds.refund_eur: 50 → 80",)}
    (file,) = found.parts[0].files
    assert (file.path, file.kind) == ("prompts/system.md", "changed")
    assert file.diff == (
        "--- a/prompts/system.md\n+++ b/prompts/system.md\n@@ -1,3 +1,3 @@\n"
        " You help customers of a shop.\n Be kind.\n-Be brief.\n+Be exact."
    )


def test_settings_are_lines_from_old_to_new(changed):
    def change(spec):
        spec["model"].update(version="2.0", params={"temperature": 0.7, "stop": ["\n\n"], "seed": "7", "note": "a\nb"})
        spec["controls"].pop("retries")

    assert _settings(changed(change)) == {
        "model": (
            'params.note: (not set) → "a\\nb"',
            'params.seed: (not set) → "7"',
            "params.temperature: 0.2 → 0.7",
            'version: 1.4.2 → "2.0"',
        ),
        "controls": ("retries: 2 → (not set)",),
    }


def test_an_inserted_tool_is_told_by_its_name_and_moves_no_other(changed):
    found = changed(lambda s: s["orchestration"]["tools"].insert(0, {"name": "search", "side_effect": "read"}))
    assert _settings(found) == {"orchestration": ('tools[search]: (not set) → {"name": "search", "side_effect": "read"}',)}


def test_a_reordering_of_tools_is_a_change(changed):
    found = changed(lambda s: s["orchestration"]["tools"].reverse())
    assert _settings(found)["orchestration"] == ('tools (order): ["order_status", "refund"] → ["refund", "order_status"]',)


@given(st.data())
def test_every_difference_of_settings_is_shown(data):
    leaves = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "1", "a", "null"])
    items = st.dictionaries(st.sampled_from(["name", "x", "y"]), leaves, max_size=2)
    values = st.dictionaries(
        st.sampled_from(["a", "b"]),
        leaves | items | st.lists(leaves | items, max_size=3) | st.lists(items | st.lists(leaves, max_size=1), max_size=2),
        max_size=2,
    )
    old, new = data.draw(values), data.draw(values)
    assert bool(_lines_of(old, new)) == (canonical_json(old) != canonical_json(new))
    assert all(
        line.split(": ", 1)[1].count(" → ") == 1 and len(set(line.split(": ", 1)[1].split(" → "))) == 2 for line in _lines_of(old, new)
    )


def test_parts_that_come_and_go_say_so(changed):
    found = changed(lambda s: [s.pop("controls"), s["environment"].update(lock="policy.yaml")])
    assert [(part.name, part.kind) for part in found.parts] == [("controls", "removed"), ("environment", "changed")]
    assert found.parts[1].settings == ("lock: ../../environment.lock → policy.yaml",)
    (lock,) = found.parts[1].files
    assert (lock.old_path, lock.path, lock.kind) == ("../../environment.lock", "policy.yaml", "changed")


def test_a_new_code_file_is_shown_whole(changed):
    (file,) = changed(files={"assistant/new.py": b"x = 1\n"}).parts[0].files
    assert (file.kind, file.diff) == ("added", "--- /dev/null\n+++ b/../../assistant/new.py\n@@ -0,0 +1 @@\n+x = 1")


def test_a_source_in_another_file_is_one_changed_file_with_its_text(changed):
    found = changed(
        lambda s: (
            s["retrieval"]["sources"].insert(0, {"name": "news", "file": "../../news.jsonl"})
            or s["retrieval"]["sources"][1].update(file="../../articles_2025.jsonl")
        ),
        files={"articles_2025.jsonl": b'{"id": 2}\n', "news.jsonl": b"{}\n"},
    )
    source, news = found.parts[0].files
    assert (source.kind, source.old_path, source.path) == ("changed", "../../articles.jsonl", "../../articles_2025.jsonl")
    assert source.diff == ('--- a/../../articles.jsonl\n+++ b/../../articles_2025.jsonl\n@@ -1 +1 @@\n-{"id": 1}\n+{"id": 2}')
    assert (news.kind, news.old_path, news.path) == ("added", None, "../../news.jsonl")


def test_a_prompt_under_another_name_in_the_same_file_is_that_file(changed):
    found = changed(lambda s: s["prompts"].update(main=s["prompts"].pop("system")), files={"bundles/v1/prompts/system.md": b"Be exact.\n"})
    assert [(file.kind, file.old_path, file.path) for file in found.parts[0].files] == [("changed", None, "prompts/system.md")]


def test_code_in_another_folder_is_the_same_files(changed):
    moved = {
        f"helper/{name}": content
        for name, content in (("__init__.py", b""), ("agent.py", b"x = 1\n"), ("tools/orders.py", b"ORDERS = {}\n"))
    }
    (part,) = changed(lambda s: s["orchestration"].update(code=["../../helper"]), files=moved).parts
    assert [(file.kind, file.old_path, file.path) for file in part.files] == [
        ("moved", "../../assistant/__init__.py", "../../helper/__init__.py"),
        ("changed", "../../assistant/agent.py", "../../helper/agent.py"),
        ("moved", "../../assistant/tools/orders.py", "../../helper/tools/orders.py"),
    ]
    assert [file.diff for file in part.files if file.kind == "moved"] == ["", ""]


@given(st.data())
def test_every_file_stands_in_one_change_at_most_and_equal_pairs_in_none(data):
    paths = st.sampled_from(["a/x.py", "b/x.py", "a/y.py", "b/y.py", "c/a/x.py", "z.py"])
    sides = [data.draw(st.dictionaries(paths, st.sampled_from([b"1", b"2", b""]))) for _ in range(2)]
    before, after = (
        {path: FileReference(part="orchestration", place=CODE_PLACE, path=path, sha256=digest(content)) for path, content in side.items()}
        for side in sides
    )
    pairs = moved(before, after)
    assert len(set(pairs.values())) == len(pairs)
    assert pairs.keys() <= after.keys() - before.keys()
    assert set(pairs.values()) <= before.keys() - after.keys()
    lone = (before.keys() - after.keys() - set(pairs.values()), after.keys() - before.keys() - pairs.keys())
    assert not {sides[0][path] for path in lone[0]} & {sides[1][path] for path in lone[1]}, "the same content is never removed and added"


def test_an_unknown_part_is_refused_with_the_nearest():
    assert checked_parts(["policy", "model"]) == ("model", "policy")
    with pytest.raises(UnknownSubject, match=r'part "promts".*did you mean "prompts"'):
        checked_parts(["promts"])


def test_labels_and_enforcement_are_told(changed):
    found = changed(lambda s: s.update(name="v2", external=["retrieval"]))
    assert found.labels == ("name: v1 → v2",)
    assert _settings(found) == {"retrieval": ("external: false → true",)}


def test_binary_and_large_files_are_told_by_size_and_digest(changed):
    (part,) = changed(files={"bundles/v1/index.bin": b"\x00" * 3_000}).parts
    assert part.files[0].diff.startswith("32 bytes sha256:")
    assert "→ 3,000 bytes sha256:" in part.files[0].diff
    assert "250,000 bytes" in file_diff("x", b"", b"x" * 250_000)
    assert "binary or large" in file_diff("x", b"", b"\xff\xfe")


def test_a_missing_line_end_is_shown():
    assert file_diff("x", b"a\n", b"a") == "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file"


def test_line_ends_and_control_characters_are_visible_and_harmless():
    shown = file_diff("x", b"a\n", b"a\r\n\x1b[31mred\n")
    assert "+a␍" in shown
    assert "+␛[31mred" in shown
    assert "\x1b" not in shown


@given(st.text(max_size=60), st.text(max_size=60))
def test_every_difference_of_texts_is_shown(old, new):
    shown = file_diff("x", old.encode(), new.encode())
    assert (shown == "") == (old == new)
