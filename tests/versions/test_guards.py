"""A bundle's guards are a part of it: in its digest, in its difference, and checked before it is registered."""

from __future__ import annotations

import copy

import pytest

from tests.versions.folders import FILES, SPEC, write_app
from workbench.errors import SpecError
from workbench.versions.difference import diff
from workbench.versions.guards import guards_reference
from workbench.versions.reading import read_bundle

GUARDS = b"tools: {refund: {most_per_request: 1}}\n"


def folder(tmp_path, content: bytes = GUARDS, *, name: str = "app", path: str = "guards.yaml", **tool):
    spec = copy.deepcopy(SPEC)
    spec["policy"]["guards"] = path
    spec["orchestration"]["tools"][0].update(tool)
    return write_app(tmp_path / name, spec=spec, files={**FILES, "bundles/v1/guards.yaml": content}) / "bundles/v1"


def test_the_guards_are_in_the_digest_and_their_text_in_the_difference(tmp_path):
    old = read_bundle(folder(tmp_path))
    new = read_bundle(folder(tmp_path, GUARDS.replace(b"1", b"2"), name="other"))
    assert old.bundle.digest != new.bundle.digest
    assert guards_reference(old.bundle.parts["policy"].content)["file"] == "guards.yaml"
    (part,) = diff(old.bundle, old.files, new.bundle, new.files).parts
    assert part.name == "policy"
    assert "-tools: {refund: {most_per_request: 1}}" in part.files[0].diff


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"tools:\n  refnd: {}\n", "guards.yaml:2: tools.refnd"),
        (b"topics:\n  - {id: a, stages: [output], patterns: ['(?=a)b']}\n", r"guards.yaml:2: topics\[0\].patterns\[0\]: RE2"),
        (b"tools: {refund: {arguments: [{id: a, field: x, op: '<', threshold: refund_usd}]}}", 'did you mean "refund_eur"'),
        (b"", "guards.yaml: is empty"),
    ],
)
def test_guards_that_cannot_be_enforced_are_refused_with_file_line_and_path(tmp_path, content, says):
    with pytest.raises(SpecError, match=says):
        read_bundle(folder(tmp_path, content))


def test_guards_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(SpecError, match=r"policy.guards: guard.yaml does not exist"):
        read_bundle(folder(tmp_path, path="guard.yaml"))


def test_parameters_that_are_no_schema_are_refused(tmp_path):
    with pytest.raises(SpecError, match=r"orchestration.tools\[order_status\].parameters"):
        read_bundle(folder(tmp_path, parameters={"type": "objekt"}))
