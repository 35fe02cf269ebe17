"""Bundles and their differences as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from workbench.versions.model import Bundle, BundleDiff, FileChange, Part, PartChange, RegisteredBundle
from workbench.views.bundles import bundle_text, bundles_text, diff_html, diff_text, registered_text

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
    assert "every part has the same digest" in diff_text(replace(CHANGE, parts=()))


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


def test_one_bundle_shows_parts_with_their_files():
    text = bundle_text(OLD)
    assert "prompt.md" in text
    assert "aaaaaaaaaaaa" in text
