from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.versions.folders import FILES, PART_OF, SPEC, write_app, write_yaml
from workbench.errors import SpecError
from workbench.spec.bundle import BundleSpec
from workbench.versions import reading
from workbench.versions.canonical import canonical_json, digest
from workbench.versions.manifest import assemble, file_references
from workbench.versions.reading import given_files, read_bundle


def _with(path: tuple, value) -> dict:
    spec = copy.deepcopy(SPEC)
    holder = spec
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return spec


def _changed_parts(old, new) -> set[str]:
    names = old.parts.keys() | new.parts.keys()
    return {name for name in names if (old.parts.get(name) and old.parts[name].digest) != (new.parts.get(name) and new.parts[name].digest)}


def test_a_bundle_has_every_part_and_every_file(bundle_dir):
    read = read_bundle(bundle_dir)
    assert list(read.bundle.parts) == ["model", "prompts", "orchestration", "retrieval", "policy", "controls", "environment"]
    assert read.bundle.bundle_id == f"support@{read.bundle.digest[7:19]}"
    assert {os.path.normpath(f"bundles/v1/{path}"): content for path, content in read.files.items()} == FILES
    assert read.bundle.unpinned == ()


def test_the_digest_is_over_the_manifest_and_each_part_over_its_content(bundle_dir):
    read = read_bundle(bundle_dir)
    assert digest(read.manifest) == read.bundle.digest
    assert all(part.digest == digest(part.content) for part in read.bundle.parts.values())
    assert {f"sha256:{each.sha256}" for each in file_references(read.bundle.parts)} == {digest(content) for content in read.files.values()}


def test_the_digest_stays_the_same_from_version_to_version(bundle_dir):
    """Registered bundles must be found again by every later version of this library."""
    assert read_bundle(bundle_dir).bundle.digest == "sha256:b6201a6a934990f87d97b6ced4a977a59288c0af16f1fdbf3fbe69267905014b"


def test_the_spec_file_can_be_named_itself(bundle_dir):
    assert read_bundle(bundle_dir / "bundle.yaml").bundle == read_bundle(bundle_dir).bundle


def test_the_same_content_in_another_folder_is_the_same_bundle(bundle_dir, tmp_path):
    shutil.copytree(tmp_path / "support", tmp_path / "elsewhere" / "deep")
    assert read_bundle(tmp_path / "elsewhere/deep/bundles/v1").bundle == read_bundle(bundle_dir).bundle


def test_comments_key_order_and_spelled_out_defaults_do_not_count(bundle_dir):
    before = read_bundle(bundle_dir).bundle
    spec = {key: SPEC[key] for key in reversed(SPEC)} | {"external": []}
    write_yaml(bundle_dir / "bundle.yaml", spec)
    path = bundle_dir / "bundle.yaml"
    path.write_text(f"# a comment\n{path.read_text()}\n\n", encoding="utf-8")
    assert read_bundle(bundle_dir).bundle == before


def test_caches_of_the_interpreter_do_not_count(app_dir, bundle_dir):
    before = read_bundle(bundle_dir).bundle
    (app_dir / "assistant/__pycache__").mkdir()
    (app_dir / "assistant/__pycache__/agent.cpython-311.pyc").write_bytes(b"x")
    assert read_bundle(bundle_dir).bundle == before


@pytest.mark.parametrize("code", ["../../assistant", "../../assistant/tools/extra.pyc"])
def test_compiled_code_outside_the_cache_is_refused_because_python_would_run_it(app_dir, bundle_dir, code):
    (app_dir / "assistant/tools/extra.pyc").write_bytes(b"x")
    write_yaml(bundle_dir / "bundle.yaml", _with(("orchestration", "code"), [code]))
    with pytest.raises(SpecError, match=r"bundle\.yaml: orchestration\.code\[0\]: .*tools/extra\.pyc is compiled code.*needed: its source"):
        read_bundle(bundle_dir)


def test_a_renamed_a_new_and_a_removed_code_file_each_make_another_bundle(app_dir, bundle_dir):
    ids = {read_bundle(bundle_dir).bundle.bundle_id}
    (app_dir / "assistant/agent.py").rename(app_dir / "assistant/agent2.py")
    ids.add(read_bundle(bundle_dir).bundle.bundle_id)
    (app_dir / "assistant/new.py").write_bytes(b"")
    ids.add(read_bundle(bundle_dir).bundle.bundle_id)
    (app_dir / "assistant/agent2.py").unlink()
    ids.add(read_bundle(bundle_dir).bundle.bundle_id)
    assert len(ids) == 4


@pytest.fixture(scope="module")
def original():
    with tempfile.TemporaryDirectory() as name:
        yield read_bundle(write_app(Path(name) / "app") / "bundles/v1").bundle


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_changed_byte_of_any_file_makes_another_bundle_and_changes_only_its_part(original, data):
    name = data.draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    if data.draw(st.booleans()) or not content:
        content.insert(data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 255)))
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        changed = read_bundle(write_app(Path(folder) / "app", files={**FILES, name: bytes(content)}) / "bundles/v1").bundle
    assert changed.bundle_id != original.bundle_id
    assert _changed_parts(original, changed) == {PART_OF[name]}


SETTINGS = [
    (("model", "provider"), "other"),
    (("model", "name"), "other"),
    (("model", "version"), "1.4.3"),
    (("model", "params", "temperature"), 0.20000000000000004),
    (("model", "params", "temperature"), "0.2"),
    (("model", "params", "stop"), []),
    (("model", "params", "seed"), None),
    (("prompts", "handoff"), "prompts/system.md"),
    (("orchestration", "entry"), "assistant.agent:other"),
    (("orchestration", "tools", 0, "side_effect"), "write"),
    (("orchestration", "tools", 1, "description"), "Pays back."),
    (("orchestration", "limits", "max_turns"), 7),
    (("retrieval", "top_k"), 5),
    (("retrieval", "embedding", "version"), "3"),
    (("retrieval", "sources", 0, "name"), "texts"),
    (("policy", "thresholds", "refund_eur"), 50.5),
    (("controls", "timeout"), "8001ms"),
    (("controls", "retries"), 0),
    (("controls", "fallback"), []),
    (("environment", "image"), "sha256:" + "0" * 64),
]


@pytest.mark.parametrize(("path", "value"), SETTINGS)
def test_one_changed_setting_makes_another_bundle_and_changes_only_its_part(original, app_dir, bundle_dir, path, value):
    write_yaml(bundle_dir / "bundle.yaml", _with(path, value))
    changed = read_bundle(bundle_dir).bundle
    assert changed.bundle_id != original.bundle_id
    assert _changed_parts(original, changed) == {path[0]}


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(one=_values, other=_values)
def test_bundles_are_the_same_exactly_when_their_settings_are(one, other):
    spec = {"app": "support", "name": "v1", "model": {"provider": "p", "name": "m", "version": "1"}}
    bundles = [
        assemble(
            BundleSpec.model_validate({**spec, "orchestration": {"tools": [{"name": "t", "parameters": {"x": value}}]}}), given_files({})
        ).bundle
        for value in (one, other)
    ]
    assert (bundles[0].bundle_id == bundles[1].bundle_id) == (canonical_json(one) == canonical_json(other))
    assert bundles[0].parts["model"] == bundles[1].parts["model"]


@pytest.mark.parametrize(("key", "value"), [("name", "v2"), ("external", ["retrieval"])])
def test_another_label_or_another_enforcement_is_another_bundle_with_the_same_parts(original, bundle_dir, key, value):
    write_yaml(bundle_dir / "bundle.yaml", {**SPEC, key: value})
    changed = read_bundle(bundle_dir).bundle
    assert changed.bundle_id != original.bundle_id
    assert _changed_parts(original, changed) == set()


def test_settings_that_look_like_a_named_file_are_settings(original, bundle_dir):
    write_yaml(bundle_dir / "bundle.yaml", _with(("model", "params", "trap"), {"file": "prompts/system.md", "sha256": "0" * 64}))
    changed = read_bundle(bundle_dir).bundle
    assert len(file_references(changed.parts)) == len(file_references(original.parts))


# --- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("prompts", "system"), "prompts.system"),
        (("orchestration", "code", 0), "orchestration.code[0]"),
        (("retrieval", "sources", 0, "file"), "retrieval.sources[0].file"),
        (("retrieval", "index", "file"), "retrieval.index.file"),
        (("policy", "rules"), "policy.rules"),
        (("environment", "lock"), "environment.lock"),
    ],
)
@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("no/such.file", "no/such.file does not exist"),
        ("../../../outside.md", "leads outside the app folder"),
        ("prompts/../../../../outside.md", "leads outside the app folder"),
        ("/etc/hostname", "is an absolute path"),
        ("link.md", "leads outside the app folder"),
        ("linked/outside.md", "leads outside the app folder"),
        ("circle.md", "link"),
        ("pipe", "is not a regular file"),
        ("a\0b", "is no path"),
        (" ", "is no path"),
    ],
)
def test_a_path_that_is_not_a_file_inside_the_app_folder_is_refused_with_its_place(bundle_dir, path, place, declared, message):
    tmp_path = bundle_dir.parents[2]
    (tmp_path / "outside.md").write_text("secret")
    (bundle_dir / "link.md").symlink_to(tmp_path / "outside.md")
    (bundle_dir / "linked").symlink_to(tmp_path)
    (bundle_dir / "circle.md").symlink_to(bundle_dir / "circle.md")
    os.mkfifo(bundle_dir / "pipe")
    spec = BundleSpec.model_validate(_with(path, declared))
    files = reading.FolderFiles(bundle_dir / "bundle.yaml", root=tmp_path / "support")
    with pytest.raises(SpecError) as caught:
        assemble(spec, files.find)
    assert caught.value.subject == f"bundle.yaml: {place}"
    assert message in caught.value.seen


def test_the_borders_hold_for_a_bundle_read_from_its_folder(bundle_dir, tmp_path):
    (tmp_path / "outside.md").write_text("secret")
    write_yaml(bundle_dir / "bundle.yaml", _with(("prompts", "system"), "../../../outside.md"))
    with pytest.raises(SpecError, match=r"bundle\.yaml: prompts\.system: .*leads outside the app folder"):
        read_bundle(bundle_dir)


def test_without_an_app_folder_the_bundle_folder_is_the_border(app_dir, bundle_dir):
    (app_dir / "app.yaml").unlink()
    with pytest.raises(SpecError, match=r"orchestration\.code\[0\]: .*leads outside"):
        read_bundle(bundle_dir)


def test_a_link_inside_a_code_folder_is_held_to_the_same_border(app_dir, bundle_dir, tmp_path):
    (tmp_path / "outside.py").write_text("secret = 1")
    (app_dir / "assistant/leak.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(SpecError, match=r"orchestration\.code\[0\]: .*leak\.py leads outside"):
        read_bundle(bundle_dir)


def test_a_link_that_stays_inside_counts_as_the_file_it_leads_to(app_dir, bundle_dir):
    before = read_bundle(bundle_dir).bundle
    (bundle_dir / "prompts/system.md").rename(app_dir / "shared.md")
    (bundle_dir / "prompts/system.md").symlink_to("../../../shared.md")
    assert read_bundle(bundle_dir).bundle == before


def test_a_code_folder_that_links_back_to_itself_is_refused(app_dir, bundle_dir):
    (app_dir / "assistant/again").symlink_to(app_dir / "assistant")
    with pytest.raises(SpecError, match="links back to a folder above it"):
        read_bundle(bundle_dir)


def test_a_link_to_nothing_in_a_code_folder_is_refused(app_dir, bundle_dir):
    (app_dir / "assistant/gone.py").symlink_to("nowhere.py")
    with pytest.raises(SpecError, match=r"gone\.py does not exist"):
        read_bundle(bundle_dir)


@pytest.mark.parametrize("path", [("prompts", "system"), ("policy", "rules"), ("retrieval", "index", "file")])
def test_a_folder_where_a_file_is_needed_is_refused(bundle_dir, path):
    write_yaml(bundle_dir / "bundle.yaml", _with(path, "prompts"))
    with pytest.raises(SpecError, match="prompts is a folder; needed: a file"):
        read_bundle(bundle_dir)


def test_an_empty_code_folder_is_refused(bundle_dir):
    (bundle_dir / "empty").mkdir()
    write_yaml(bundle_dir / "bundle.yaml", _with(("orchestration", "code"), ["empty"]))
    with pytest.raises(SpecError, match="the folder empty holds no files"):
        read_bundle(bundle_dir)


def test_a_large_index_is_refused_with_what_to_name_instead(bundle_dir):
    with (bundle_dir / "index.bin").open("wb") as file:
        file.truncate(reading.MAX_FILE_BYTES + 1)
    with pytest.raises(SpecError, match=r"retrieval\.index\.file: index\.bin is larger than 32 MiB; .*`digest` or an immutable `snapshot`"):
        read_bundle(bundle_dir)


def test_files_that_are_too_large_together_are_refused(bundle_dir, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BUNDLE_BYTES", 60)
    with pytest.raises(SpecError, match="exceed 256 MiB"):
        read_bundle(bundle_dir)


def test_a_file_that_this_user_may_not_read_is_refused(bundle_dir, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    spec = BundleSpec.model_validate(SPEC)
    files = reading.FolderFiles(bundle_dir / "bundle.yaml", root=bundle_dir.parents[1])
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SpecError, match="Permission denied; needed: a file that this user may read"):
        assemble(spec, files.find)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has such names")
def test_a_file_name_that_is_no_text_is_refused(app_dir, bundle_dir):
    (app_dir / "assistant" / os.fsdecode(b"b\xffd.py")).write_bytes(b"")
    with pytest.raises(SpecError, match="is not UTF-8"):
        read_bundle(bundle_dir)


@pytest.mark.parametrize(("value", "place"), [(float("nan"), "model.params.x"), (2**60, "model.params.x"), ({1: 2}, "model.params.x")])
def test_a_setting_that_json_does_not_hold_is_refused_with_its_place(bundle_dir, value, place):
    spec = BundleSpec.model_validate(_with(("model", "params", "x"), value))
    with pytest.raises(SpecError) as caught:
        assemble(spec, reading.FolderFiles(bundle_dir / "bundle.yaml", root=bundle_dir.parents[1]).find)
    assert caught.value.subject == f"bundle.yaml: {place}"


def test_a_bundle_known_from_a_log_needs_no_folder():
    spec = BundleSpec.model_validate(
        {"app": "shop", "name": "x", "model": {"provider": "p", "name": "m"}, "prompts": {"system": "system.md"}}
    )
    read = assemble(spec, given_files({"system.md": b"Be kind."}))
    assert read.files == {"system.md": b"Be kind."}
    with pytest.raises(SpecError, match=r"bundle\.yaml: prompts\.system: system\.md was not given"):
        assemble(spec, given_files({}))
