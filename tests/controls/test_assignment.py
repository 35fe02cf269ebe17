"""Who gets the candidate: the same everywhere, always the same, and only ever more when the share is raised."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.tiny import NOW
from workbench.controls.assignment import BUCKETS, assign, bucket
from workbench.controls.model import Reason, Route

ROUTE = Route(
    app="support",
    stable="support@aaaaaaaaaaaa",
    candidate="support@bbbbbbbbbbbb",
    share=0.05,
    salt="release-7",
    release_id="support.7",
    without_stable="fallback",
    route_version=3,
    changed_at=NOW,
)
UNITS = [f"customer-{number:06d}" for number in range(10_000)]
shares = st.floats(0, 1, allow_nan=False)


def hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 as RFC 2104 writes it."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def candidates(route: Route) -> set[str]:
    return {unit for unit in UNITS if assign(route, unit).arm == "candidate"}


@given(st.text(), st.text(min_size=1))
def test_the_bucket_is_the_declared_function_of_salt_and_unit(salt, unit):
    digest = hmac_by_hand(salt.encode("utf-8", "surrogatepass"), unit.encode("utf-8", "surrogatepass"))
    assert bucket(salt, unit) == int.from_bytes(digest[:8], "big") % 10_000


def test_ten_thousand_units_are_sticky_and_monotone_from_5_to_25_to_50_percent():
    steps = [candidates(replace(ROUTE, share=share)) for share in (0.05, 0.25, 0.5)]
    assert steps[0] < steps[1] < steps[2]
    assert steps == [candidates(replace(ROUTE, share=share)) for share in (0.05, 0.25, 0.5)]
    for members, share in zip(steps, (0.05, 0.25, 0.5), strict=True):
        spread = 5 * (share * (1 - share) / len(UNITS)) ** 0.5
        assert abs(len(members) / len(UNITS) - share) < spread


def test_another_process_gives_the_same_units():
    script = (
        "from tests.controls.test_assignment import ROUTE, candidates\n"
        "import hashlib\nprint(hashlib.sha256(','.join(sorted(candidates(ROUTE))).encode()).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert elsewhere == hashlib.sha256(",".join(sorted(candidates(ROUTE))).encode()).hexdigest()


def test_another_release_draws_other_units():
    here, there = candidates(replace(ROUTE, share=0.25)), candidates(replace(ROUTE, share=0.25, salt="release-8"))
    assert abs(len(here & there) / len(here) - 0.25) < 0.07


@given(shares, shares, st.text(min_size=1))
def test_raising_the_share_never_takes_a_unit_from_the_candidate(one, other, unit):
    low, high = sorted((one, other))
    if assign(replace(ROUTE, share=low), unit).arm == "candidate":
        assert assign(replace(ROUTE, share=high), unit).arm == "candidate"


@given(st.text(min_size=1))
def test_a_share_of_nothing_and_of_all_mean_what_they_say(unit):
    assert assign(replace(ROUTE, share=0.0), unit).arm == "stable"
    assert assign(replace(ROUTE, share=1.0), unit).arm == "candidate"


@pytest.mark.parametrize("share", [0.05, 0.07, 0.29, 0.3, 0.57, 0.58])
def test_a_share_is_as_many_buckets_as_it_says(share):
    """0.29 × 10,000 is 2899.9999999999995 in binary."""
    taken = sum(place < round(share * BUCKETS) for place in range(BUCKETS))
    assert taken == int(share * 100 + 0.5) * 100


@pytest.mark.parametrize("unit", [None, ""])
def test_nobody_in_particular_is_served_by_stable_even_at_full_share(unit):
    assignment = assign(replace(ROUTE, share=1.0), unit)
    assert (assignment.arm, assignment.bundle_id, assignment.reason) == ("stable", ROUTE.stable, Reason.NO_UNIT)


@pytest.mark.parametrize("reason", [Reason.STALE_ROUTE, Reason.NOT_LOADED])
def test_a_withheld_candidate_serves_nobody_and_the_share_says_so(reason):
    assignment = assign(replace(ROUTE, share=1.0), "customer-000001", withheld=reason)
    assert (assignment.arm, assignment.bundle_id, assignment.share, assignment.reason) == ("stable", ROUTE.stable, 0.0, reason)


def test_without_a_canary_everybody_is_on_stable():
    assignment = assign(replace(ROUTE, candidate=None, share=0.0), "customer-000001", withheld=Reason.STALE_ROUTE)
    assert (assignment.arm, assignment.reason) == ("stable", Reason.NO_CANDIDATE)


def test_without_a_stable_bundle_those_outside_the_share_have_none():
    first = replace(ROUTE, stable=None)
    arms = {assign(first, unit).arm for unit in UNITS[:500]}
    assert arms == {"candidate", "none"}
    outside = assign(first, None)
    assert (outside.bundle_id, outside.arm, outside.reason) == (None, "none", Reason.NO_STABLE)


def test_the_assignment_names_the_version_that_decided():
    assignment = assign(ROUTE, "customer-000001")
    assert (assignment.share, assignment.route_version, assignment.release_id) == (0.05, 3, "support.7")
