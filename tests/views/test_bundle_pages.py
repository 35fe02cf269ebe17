"""Bundles and their differences as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from workbench.versions.model import Bundle, BundleDiff, FileChange, Part, PartChange, RegisteredBundle
from workbench.views.bundles import bundle_text, bundles_text, diff_html, diff_stat, diff_stat_text, diff_text, registered_text

PROMPT = Part(name="prompts", digest="sha256:" + "aa" * 32, content={"system": {"file": "prompt.md", "sha256": "00" * 32}})
MODEL = Part(name="model", digest="sha256:" + "bb" * 32, content={"name": "tiny"})
OLD = Bundle(
    app="support",
    name="v1",
    bundle_id="support@000000000000",
    digest="sha256:" + "00" * 32,
    parts={"model": MODEL, "prompts": PROMPT},
    external=(),
    unpinned=("model: tiny has no version",),
)
NEW = replace(OLD, name="v2", bundle_id="support@111111111111", unpinned=())
CHANGE = BundleDiff(
    old=OLD,
    new=NEW,
    parts=(
        PartChange(
            name="prompts",
            kind="changed",
            settings=("system: prompt.md → kind.md",),
            files=(
                FileChange(
                    path="prompt.md", kind="changed", diff="--- prompt.md\n+++ prompt.md\n@@ -1 +1 @@\n-Be brief.\n+Be <b>kind</b>.\n"
                ),
            ),
        ),
    ),
)
KNOWN = RegisteredBundle(bundle=OLD, registered_at=datetime(2026, 3, 1, tzinfo=UTC), registered_by="primary", is_new=True)


def test_a_difference_is_exact():
    assert (
        diff_text(CHANGE)
        == """\
v1 (support@000000000000) → v2 (support@111111111111)
Changed: prompts. The same: model.

prompts: changed
  - system: prompt.md → kind.md

prompt.md (changed)
  --- prompt.md
  +++ prompt.md
  @@ -1 +1 @@
  -Be brief.
  +Be <b>kind</b>."""
    )


def test_equal_bundles_say_so():
    same = replace(CHANGE, parts=())
    assert "every part has the same digest" in diff_text(same)
    assert diff_stat_text(same) == diff_text(same)


INDEX = FileChange(path="index.bin", kind="changed", diff="32 bytes sha256:aa… → 40 bytes sha256:bb…; shown by digest because it is binary")
MODEL_CHANGE = PartChange(name="model", kind="changed", settings=("name: tiny → small", "version: 1 → 2"), files=(INDEX,))


def test_the_summary_has_one_line_for_each_changed_part():
    diff = replace(CHANGE, parts=(MODEL_CHANGE, *CHANGE.parts))
    assert diff_stat_text(diff).splitlines() == [
        "v1 (support@000000000000) → v2 (support@111111111111)",
        "Changed: model, prompts.",
        "",
        "part      change    settings   files   lines added   lines removed",
        "──────────────────────────────────────────────────────────────────",
        "model     changed          2       1             0               0",
        "prompts   changed          1       1             1               1",
    ]
    assert [row["part"] for row in diff_stat(diff, parts=("prompts",))] == ["prompts"]


def test_lines_that_look_like_a_head_are_counted_like_all_others():
    diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,1 @@\n--- old\n-- older\n+++ new\n"
    part = replace(CHANGE.parts[0], files=(replace(CHANGE.parts[0].files[0], diff=diff),))
    (row,) = diff_stat(replace(CHANGE, parts=(part,)))
    assert (row["lines added"], row["lines removed"]) == (1, 2)


def test_one_part_is_shown_alone_and_what_else_changed_is_named():
    diff = replace(CHANGE, parts=(MODEL_CHANGE, *CHANGE.parts))
    text = diff_text(diff, parts=("model",))
    assert "Changed: model, prompts." in text
    assert "version: 1 → 2" in text
    assert "prompt.md" not in text


def test_a_file_with_another_path_is_one_file():
    change = replace(CHANGE.parts[0].files[0], path="kind.md", old_path="prompt.md")
    part = replace(CHANGE.parts[0], files=(change, FileChange(path="b/x.py", kind="moved", diff="", old_path="a/x.py")))
    text = diff_text(replace(CHANGE, parts=(part,)))
    assert "prompt.md → kind.md (changed)" in text
    assert "a/x.py → b/x.py (moved, with the same content)" in text


def test_a_long_line_of_a_prompt_is_not_folded():
    line = "-" + "word " * 60 + "end"
    part = replace(CHANGE.parts[0], files=(replace(CHANGE.parts[0].files[0], diff=line),))
    assert f"  {line}" in diff_text(replace(CHANGE, parts=(part,)))


def test_a_difference_is_escaped_in_html():
    assert "Be &lt;b&gt;kind&lt;/b&gt;." in diff_html(CHANGE)


def test_a_list_has_a_line_per_bundle():
    text = bundles_text([KNOWN])
    assert "support@000000000000" in text
    assert "2026-03-01 00:00:00 UTC" in text
    assert bundles_text([]).startswith("no bundles yet")


def test_a_registration_names_what_is_not_pinned():
    assert registered_text(KNOWN) == "registered v1 as support@000000000000\nnot pinned:\n  - model: tiny has no version"
    assert registered_text(replace(KNOWN, is_new=False)).startswith("known already")


def test_a_registration_under_a_taken_name_warns_with_both_ids():
    new = replace(KNOWN, namesakes=("support@222222222222",))
    assert registered_text(new).splitlines()[1] == (
        "warning: `v1` meant support@222222222222 until now, and now also support@000000000000; alone it is refused from here on. "
        "Name a bundle by its id, or give this one a name of its own in bundle.yaml"
    )
    assert "`v1` means support@222222222222, and also support@000000000000" in registered_text(replace(new, is_new=False))
    assert "warning" not in registered_text(KNOWN)


def test_one_bundle_shows_parts_with_their_files():
    text = bundle_text(OLD)
    assert "prompt.md" in text
    assert "aaaaaaaaaaaa" in text
