"""From a registered bundle to the targets that are asked, and what is said when none answers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.controls.tiny import register, spec
from workbench.controls.chain import Ending, chain_of, embedding_chain_of
from workbench.controls.limits import Limits
from workbench.controls.providers import Providers
from workbench.controls.retries import RetryPolicy
from workbench.controls.targets import Capabilities
from workbench.errors import SpecError, UsageError
from workbench.spec.bundle import BundleSpec
from workbench.versions.pinning import unpinned

PROVIDERS = Providers({}, installed=lambda name: None if name == "nobody" else lambda _clock: name)
FALLBACK = [
    {"kind": "sibling", "provider": "other"},
    {
        "kind": "model",
        "provider": "third",
        "name": "large",
        "version": "2026-01-01",
        "params": {"temperature": 0.5},
        "capabilities": {"tools": True, "context_tokens": 32_000},
    },
    {"kind": "last_good", "max_age": "1h"},
    {"kind": "canned", "text": "Later."},
    {"kind": "human"},
]
WHOLE = {
    "timeout": "20s",
    "retries": 1,
    "attempts": 3,
    "limits": {"connect": "2s", "first_token": "10s", "min_tokens_per_s": 3},
    "stream": {"after_commit": "continue"},
    "fallback": FALLBACK,
}


def test_a_registered_chain_is_read_back_as_it_was_declared(ws):
    bundle = register(ws, "v1", controls=WHOLE)
    parts = {name: part.content for name, part in bundle.parts.items()}
    chain = chain_of(parts["model"], parts["controls"], PROVIDERS)
    assert [(target.kind, target.name) for target in chain.targets] == [
        ("primary", "scripted/small"),
        ("sibling", "other/small"),
        ("model", "third/large"),
    ]
    assert chain.targets[2].capabilities == Capabilities(tools=True, json_schema=False, context_tokens=32_000)
    assert chain.targets[2].params == {"temperature": 0.5}
    assert chain.endings == (Ending(kind="last_good", max_age_s=3600.0), Ending(kind="canned", text="Later."), Ending(kind="human"))
    assert chain.policy == RetryPolicy(per_target=2, in_all=3)
    assert chain.limits == Limits(connect_s=2.0, first_token_s=10.0, min_tokens_per_s=3.0)
    assert chain.stream.after_commit == "continue"


def test_vectors_come_from_one_model_alone():
    chain = embedding_chain_of({"provider": "acme", "name": "vectors"}, WHOLE, PROVIDERS)
    assert [target.name for target in chain.targets] == ["acme/vectors"]
    assert (chain.endings, chain.policy.per_target, chain.limits.connect_s) == ((), 2, 2.0)


def test_a_bundle_that_declares_nothing_asks_its_model_once():
    chain = chain_of({"provider": "acme", "name": "small"}, {}, PROVIDERS)
    assert [target.kind for target in chain.targets] == ["primary"]
    assert (chain.endings, chain.policy.per_target) == ((), 1)


def test_links_of_earlier_days_that_never_did_anything_still_do_nothing():
    controls = {"fallback": [{"kind": "apology", "words": 3}, {"kind": "canned", "text": "Later."}, "x"]}
    assert chain_of({"provider": "acme", "name": "small"}, controls, PROVIDERS).endings == (Ending(kind="canned", text="Later."),)


def test_a_provider_that_nobody_knows_is_named():
    with pytest.raises(UsageError, match="nobody"):
        chain_of({"provider": "acme", "name": "small"}, {"fallback": [{"kind": "sibling", "provider": "nobody"}]}, PROVIDERS)


def test_new_settings_do_not_change_what_earlier_bundles_are(ws):
    earlier = {"timeout": "8s", "retries": 1, "fallback": [{"kind": "canned", "text": "  Please try again later. "}]}
    assert register(ws, "v1", controls=earlier).parts["controls"].content == earlier


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ({"kind": "bundle", "bundle": "support@0123456789ab"}, "allowed: sibling, model, last_good, canned, human"),
        ({"provider": "x"}, "allowed: sibling, model, last_good, canned, human"),
        ({"kind": "sibling"}, "provider"),
        ({"kind": "model", "provider": "x", "nane": "y"}, "name"),
        ({"kind": "last_good", "max_age": "soon"}, "not a duration"),
    ],
)
def test_a_wrong_link_is_told_apart(ws, link, words):
    with pytest.raises(SpecError, match=words):
        register(ws, "v1", controls={"fallback": [link]})


def test_a_target_behind_an_ending_would_never_be_asked():
    with pytest.raises(ValidationError, match="would never be asked"):
        BundleSpec.model_validate(
            spec("v1", controls={"fallback": [{"kind": "canned", "text": "x"}, {"kind": "sibling", "provider": "y"}]})
        )


def test_a_fallback_model_that_may_change_is_named():
    link = {"kind": "model", "provider": "third", "name": "large"}
    found = unpinned(BundleSpec.model_validate(spec("v1", controls={"fallback": [link]})))
    assert "model third/large has no version: its provider may change it" in " ".join(found)
    assert "large" not in " ".join(unpinned(BundleSpec.model_validate(spec("v1", controls={"fallback": [{**link, "version": "3.1"}]}))))
