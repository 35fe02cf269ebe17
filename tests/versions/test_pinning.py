from __future__ import annotations

import copy

import pytest

from tests.versions.folders import SPEC
from workbench.spec.bundle import BundleSpec
from workbench.versions.pinning import is_alias, unpinned


def _unpinned(change=dict) -> tuple[str, ...]:
    spec = copy.deepcopy(SPEC)
    change(spec)
    return unpinned(BundleSpec.model_validate(spec))


def test_a_bundle_whose_parts_are_all_fixed_has_nothing_unpinned():
    assert _unpinned() == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s["model"].pop("version"), "model local/shopkeeper has no version: its provider may change it"),
        (
            lambda s: s["model"].update(version="latest"),
            "model local/shopkeeper has the version `latest`, which is a moving name: its provider may change it",
        ),
        (
            lambda s: s["model"].update(version="v2-stable"),
            "model local/shopkeeper has the version `v2-stable`, which is a moving name: its provider may change it",
        ),
        (
            lambda s: s["model"].update(version="large"),
            "model local/shopkeeper has the version `large`, which is a moving name: its provider may change it",
        ),
        (
            lambda s: s["orchestration"].pop("code"),
            "entry point assistant.agent:answer has neither code files nor an artifact digest: its code may change",
        ),
        (
            lambda s: s["retrieval"].update(sources=[{"name": "wiki"}]),
            "source wiki has no file, digest or snapshot: its content may change",
        ),
        (
            lambda s: s["retrieval"].update(sources=[{"name": "wiki", "snapshot": "latest"}]),
            "source wiki has the snapshot `latest`, which is a moving name: its content may change",
        ),
        (
            lambda s: s["retrieval"].update(index={"name": "search"}),
            "index search has no file, digest or snapshot: its content may change",
        ),
        (lambda s: s["retrieval"]["embedding"].pop("version"), "embedding local/words has no version: its provider may change it"),
        (lambda s: s.pop("environment"), "environment has no lock file and no image digest: the libraries under the code may change"),
    ],
)
def test_each_thing_that_may_change_has_its_sentence(change, sentence):
    assert _unpinned(change) == (sentence,)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["orchestration"].update(code=[], artifact="sha256:" + "0" * 64),
        lambda s: s["retrieval"].update(index={"name": "search", "digest": "sha256:" + "0" * 64, "snapshot": "latest"}),
        lambda s: s["retrieval"].update(sources=[{"name": "wiki", "snapshot": "2026-03-01T00:00Z"}]),
        lambda s: s.update(environment={"image": "sha256:" + "0" * 64}),
        lambda s: s.pop("retrieval"),
        lambda s: s["orchestration"].update(tools=[{"name": "x", "side_effect": "unknown"}]),
    ],
)
def test_what_fixes_the_content_is_enough(change):
    assert _unpinned(change) == ()


@pytest.mark.parametrize(
    ("version", "expected"), [("2024-08-06", False), ("stable2", False), ("4o-latest", True), ("AUTO", True), ("r7", False)]
)
def test_an_alias_is_a_word_that_moves(version, expected):
    assert is_alias(version) is expected
