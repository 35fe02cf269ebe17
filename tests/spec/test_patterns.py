from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.spec.patterns import LONGEST_MATCH, compiled, fault_of, longest_match


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(?=a)b", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("(a{1000}){1000}", "invalid repetition size"),
        ("((a{30}){30}){30}", "bad repetition operator|too large|invalid repetition size|without an end|27000 characters"),
        ("a**", "bad repetition"),
        ("[z-a]", "invalid character class range"),
        ("(", "missing"),
        ("\ud800", "surrogates"),
        (r"\C", "part of a character"),
        ("a*", "empty text"),
        ("", "empty text"),
        ("a+", "without an end"),
        ("a{250}b{7}", "257 characters"),
        ("x" * 1001, "at most 1000"),
    ],
    ids=range(14),
)
def test_what_cannot_be_used_is_refused_with_the_reason(pattern: str, says: str) -> None:
    fault = fault_of(pattern)
    assert fault is not None
    assert re.search(says, fault)


@pytest.mark.parametrize(
    "pattern", ["a", "a{256}", r"\bcard [0-9]{4,19}\b", r"(?i:x|yy)z?", r"\p{Greek}{3}", r"\Qa.b\E", "[[:alpha:]]{2}", "(?P<n>a)", "^a$"]
)
def test_what_can_be_used_is(pattern: str) -> None:
    assert fault_of(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        (r"\Qab\E{3}", 4),
        (r"\p{Lu}\pL\x{41}\x41\101", 5),
        ("[]a]{2}", 2),
        ("[^]a]", 1),
        ("[[:^alpha:]x]", 1),
        ("(?i)ab", 2),
        ("a{2,}?", math.inf),
        ("a{0}b", 1),
        ("(a|bb|)(c)?", 3),
        (r"^\Aa\z$", 1),
        ("a{,3}", 5),
    ],
)
def test_known_lengths(pattern: str, length: float) -> None:
    compiled(pattern)
    assert longest_match(pattern) == length


ATOMS = st.sampled_from(["a", "b", ".", r"\d", "[ab]", r"\.", "ä", "^", "$", r"\b", "[^x]", "(?:ab)"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{0,3}", "{1,}", "{2,3}?", "{0}"])).map(
            lambda both: f"({both[0]}){both[1]}"
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=400)
@given(PATTERNS)
def test_the_longest_match_is_that_of_pythons_own_compiler(pattern: str) -> None:
    lowest_unbounded = 10**6
    expected = re._parser.parse(pattern).getwidth()[1]
    found = longest_match(pattern)
    assert found == (math.inf if expected >= lowest_unbounded else expected)


@given(PATTERNS, st.text(alphabet="abxä1. ", max_size=40))
def test_no_match_is_longer_than_was_said(pattern: str, text: str) -> None:
    if fault_of(pattern) is None:
        assert all(found.end() - found.start() <= min(longest_match(pattern), LONGEST_MATCH) for found in compiled(pattern).finditer(text))
