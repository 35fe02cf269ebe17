"""Personal data and secrets are found as redaction finds them: plain, encoded, and only the kinds that were asked for."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.guards.policies import broken, guards
from workbench.observability.redaction import Redactor

REAL = Path(__file__).parents[4] / "shared" / "realdata" / "pii" / "generated_small.json"
ALL = guards("secrets: [{action: redact}]\npersonal_data: [{stages: [input, output], action: redact}]")
WORDS = st.text(st.characters(categories=["L", "Zs", "Po"], exclude_characters="@%/\\."), max_size=30)
KNOWN = {
    "email": "ann.lee@example.org",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "phone": "+49 30 9018 2000",
    "ip": "192.0.2.17",
    "ssn": "078-05-1120",
    "secret": "sk-abcdefghijklmnopqrstuv",
}


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize(
    "form",
    [str, escaped, lambda text: quote(text, safe=""), lambda text: base64.b64encode(f"it says {text} here".encode()).decode()],
    ids=range(4),
)
def test_each_kind_is_found_in_each_form(kind: str, form) -> None:
    said = form(KNOWN[kind])
    checked = ALL.check_output_quickly(f"Here it is: {said} and that is all.")
    assert checked.text == f"Here it is: [{kind} removed] and that is all."
    assert broken(checked.findings) == [("secrets" if kind == "secret" else f"personal_data.{kind}", "redact", "matched")]


def test_only_what_was_asked_for_counts_and_the_gravest_order_for_it() -> None:
    policy = guards("""
secrets: []
personal_data:
  - {stages: [output], detectors: [email, card], action: flag}
  - {stages: [output], detectors: [card], action: block}
""")
    text = f"{KNOWN['email']} {KNOWN['phone']} {KNOWN['secret']}"
    assert (policy.check_output_quickly(text).text, broken(policy.check_output_quickly(text).findings)) == (
        text,
        [("personal_data.email", "flag", "matched")],
    )
    blocked = policy.check_output_quickly(f"card {KNOWN['card']}")
    assert (blocked.text, broken(blocked.findings)) == ("", [("personal_data.card", "block", "matched")])


def test_without_a_policy_only_secrets_are_taken_out_of_an_answer() -> None:
    checked = guards().check_output_quickly(f"{KNOWN['email']} {KNOWN['secret']}")
    assert checked.text == f"{KNOWN['email']} [secret removed]"


@given(WORDS, st.sampled_from(sorted(KNOWN)), WORDS)
def test_what_leaves_redacted_needs_no_redaction_in_storage(before: str, kind: str, after: str) -> None:
    left = ALL.check_output_quickly(f"{before} {KNOWN[kind]} {after}").text
    assert KNOWN[kind] not in left
    again = ALL.check_output_quickly(left)
    assert again.text == left


@pytest.mark.skipif(not REAL.is_file(), reason="the marked texts are not on this machine: shared/realdata/pii")
def test_on_real_texts_as_much_is_found_as_storage_redacts() -> None:
    redactor = Redactor(b"a key of sixteen")
    texts = [entry["full_text"] for entry in json.loads(REAL.read_text())]
    differing = [text for text in texts if (redactor.text(text, None) == text) != (ALL.check_output_quickly(text).text == text)]
    assert differing == []
    assert sum(ALL.check_output_quickly(text).text != text for text in texts) > 10
