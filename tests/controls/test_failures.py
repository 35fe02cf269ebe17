"""The table of failures, and how what a provider says finds its row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.failures import HANDLING, Counts, FailureKind, kind_of, kind_of_error, kind_of_status
from workbench.controls.providers import NotAsked, ProviderError

TABLE = {
    # kind: same target, other target, breaker, alarm
    "connect": (True, True, "full", False),
    "silent": (False, True, "full", False),
    "first_token": (False, True, "half", False),
    "slow": (False, True, "half", False),
    "transient": (True, True, "full", False),
    "garbage": (True, True, "full", False),
    "rate_limited": (True, True, "rate", False),
    "quota": (False, True, "open_now", True),
    "credential": (False, True, "open_now", True),
    "no_model": (False, True, "open_now", True),
    "context_length": (False, True, "none", False),
    "content_filter": (False, False, "none", False),
    "bad_request": (False, False, "none", False),
    "broken": (False, True, "full", False),
    "mid_stream": (False, False, "full", False),
    "deadline": (False, False, "none", False),
    "breaker_open": (False, True, "none", False),
    "throttled": (False, True, "none", False),
    "busy": (False, True, "none", False),
    "unfit": (False, False, "none", False),
}


def test_every_kind_is_handled_as_the_table_says():
    seen = {str(kind): (row.retry_same, row.fallback, str(row.breaker), row.alarm) for kind, row in HANDLING.items()}
    assert seen == TABLE
    assert set(HANDLING) == set(FailureKind)


def test_only_a_context_that_is_too_short_needs_a_larger_target():
    assert [kind for kind, row in HANDLING.items() if row.larger_only] == [FailureKind.CONTEXT_LENGTH]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, "transient") for status in (408, 409, 500, 502, 503, 504, 529, 599)),
        (429, "rate_limited"),
        (401, "credential"),
        (403, "credential"),
        (402, "quota"),
        (404, "no_model"),
        *((status, "bad_request") for status in (400, 405, 413, 418, 422)),
        *((status, "garbage") for status in (204, 301, 307)),
    ],
)
def test_a_status_alone_has_a_kind(status, kind):
    assert kind_of_status(status) == kind
    assert ProviderError("x", status=status).kind == kind


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, "quota"),
        (429, {"code": "rate_limit_exceeded", "type": "tokens"}, "rate_limited"),
        (400, {"code": "context_length_exceeded", "type": "invalid_request_error"}, "context_length"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, "context_length"),
        (429, {"message": "maximum context length"}, "rate_limited"),
        (400, {"code": "content_filter", "type": "invalid_request_error"}, "content_filter"),
        (400, {"type": "invalid_request_error"}, "bad_request"),
        (404, {"code": "model_not_found", "type": "invalid_request_error"}, "no_model"),
        (401, {"code": "invalid_api_key", "type": "invalid_request_error"}, "credential"),
        (None, {"type": "overloaded_error"}, "transient"),
        (None, {"code": 429, "status": "RESOURCE_EXHAUSTED"}, "rate_limited"),
        (None, {"code": 503}, "transient"),
        (None, {"code": "502"}, "transient"),
        (None, "maximum context length", "context_length"),
        (None, {}, None),
        (None, None, None),
        (500, None, "transient"),
    ],
)
def test_a_code_knows_better_than_a_status(status, error, kind):
    assert kind_of_error(error, status=status) == kind


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "type", "status", "message"]), inner, max_size=4),
    max_leaves=8,
)


@given(_anything, st.none() | st.integers(100, 599))
def test_whatever_a_provider_says_has_a_kind_or_none(error, status):
    kind = kind_of_error(error, status=status)
    assert kind is None or kind in HANDLING
    assert status is None or kind is not None


def test_what_is_no_error_of_a_provider_is_broken_and_a_lost_wait_is_the_deadline():
    assert kind_of(KeyError("x")) is FailureKind.BROKEN
    assert kind_of(TimeoutError()) is FailureKind.DEADLINE
    assert kind_of(ProviderError("busy", code="overloaded")) is FailureKind.TRANSIENT
    assert kind_of(ProviderError("no", may_pass=False)) is FailureKind.BAD_REQUEST


def test_only_kinds_that_pass_may_pass():
    assert not ProviderError("x", kind=FailureKind.SILENT, may_pass=True).may_pass
    assert not ProviderError("x", kind=FailureKind.GARBAGE, may_pass=False).may_pass
    assert ProviderError("x", kind=FailureKind.GARBAGE).may_pass


def test_a_target_that_was_not_asked_counts_nowhere():
    fault = NotAsked("x", kind=FailureKind.BUSY, retry_after_s=1.0)
    assert (fault.code, fault.was_sent, HANDLING[fault.kind].breaker) == ("busy", False, Counts.NONE)
