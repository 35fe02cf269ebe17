"""A column is redacted exactly as its texts one by one, whatever stands in them: the first look never suspects too little."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime

import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.observability.real_data import real
from workbench.errors import RecordRefused
from workbench.observability.detectors import find
from workbench.observability.first_look import suspects
from workbench.observability.importers.source import Rows
from workbench.observability.redaction import Redactor
from workbench.observability.sealed_columns import SealedRows
from workbench.observability.sealing import Sealer, canonical_body
from workbench.observability.tables import arrow_table

KEY = b"0123456789abcdef"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVERY_KIND = (1 << 8) - 1

TELLING = [
    "joe@example.com",
    "jörg@müller.de",
    "+49 170 1234567",
    "+1 (415) 555-2671",
    "(030) 1234 5678",
    "0170/1234567",
    "986.291.2294x751",
    "call 5551234",
    "call me at 555 12 34 56",
    "4111111111111111",
    "5500-0000-0000-0004",
    "378282246310005",
    "DE89 3704 0044 0532 0130 00",
    "gb29nwbk60161331926819",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
    "58.74.121.78",
    "1.2.3.4",
    "::1",
    "2001:db8::1",
    "fe80:0:0:0:200:f8ff:fe21:67cf",
    "1:2:3:4:5:6:7:8",
    "::ffff:1.2.3.4",
    "531-21-7351",
    "sk-abcdefghijklmnop1234567890",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n",
    "password=hunter2",
    "PWD: x1y",
    "api_key: 'k-123-456'",
    "Authorization: Bearer abc.def",
    "bearer 0123456789",
    "token=abc",
    "https://user:pa55@host/x",
    "joe%40example.com",
    "am9lQGV4YW1wbGUuY29tIGlzIG1pbmU=",
    "access-key=abc",
    "client_secret=abc",
    "passphrase=abc",
]
KEYS = [
    "password",
    "PASSWORT",
    "db.pwd",
    "passphrase",
    "client_secret",
    "api-key",
    "apiKey",
    "access_token",
    "Authorization",
    "private key",
    "private_key",
    "token",
    "id_token",
    "paſſword",
    "toKen",
    "authorızation",
    "authorİzation",
    "apıkey",
    "phone",
    "telefon",
    "ſecret",
    "x",
    "joe@example.com",
    "5551234567",
]
HARMLESS = 'hello|order 12345|2026-01-01T00:00:00Z|9f86d081|a:b|a::|%|\\|"|\\u|\n|\0|\x7f|{|}|[1, 2]|é|\U0001f600|İ|x' + "|::" * 2
PARTS = st.sampled_from([*TELLING, *HARMLESS.split("|")])


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A telling text with something done to it: cut, stretched, in other letters, with something put in."""
    text = draw(st.sampled_from(TELLING))
    at = draw(st.integers(0, len(text)))
    piece = draw(st.sampled_from(["", " ", "-", ".", "(", ")", "/", "+", ":", "@", "\\", '"', "\n", "\0", "0", "7", "a", "é", "\u017f"]))
    text = text[:at] + piece * draw(st.integers(0, 3)) + text[at:]
    text = text[draw(st.integers(0, 3)) : len(text) - draw(st.integers(0, 3))]
    return draw(st.sampled_from([text, text.upper(), text.swapcase(), text.replace(" ", ""), text.replace("k", "\u212a")]))


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else char for char in text)


def _inside(text: str, form: int) -> str:
    """The text inside another one, as JSON or encoded."""
    data = text.encode("utf-8", "surrogatepass")
    return (
        json.dumps({"a": text}),
        json.dumps({"a": json.dumps([text])}),
        f' {{"a": "{_escaped(text)}"}}',
        base64.b64encode(data).decode(),
        "".join(f"%{byte:02x}" for byte in data),
        text,
    )[form]


TEXTS = st.builds(_inside, st.lists(st.one_of(PARTS, mangled(), st.text(max_size=12)), max_size=5).map("".join), st.integers(0, 5))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.one_of(st.sampled_from(KEYS), TEXTS), inner, max_size=4),
    max_leaves=10,
)


def _is_sound(text: str) -> bool:
    """Whether it can stand in a log: JSON and Arrow hold no half of a surrogate pair."""
    return text == text.encode("utf-8", "replace").decode()


@given(TEXTS.filter(_is_sound))
@settings(max_examples=600)
@example("fe80:0:0:0:200:f8ff:fe21:67cf")
@example('{"a": "\\u006aoe\\u0040example.com"}')
@example("1\0234567")
def test_what_can_be_found_in_a_text_is_suspected(text: str) -> None:
    redactor = Redactor(KEY)
    is_told = bool(find(text, flags=EVERY_KIND)) and redactor.text(text, "u") != text
    if is_told or redactor.text(text, "u") != text or redactor.identifier(text) != text:
        assert suspects(pa.array(["clean", text, None])) == [1]


@given(VALUES)
@settings(max_examples=600)
@example({"pa\u017f\u017fword": "x"})
@example({"ap\u0131\u212aey": "x"})
@example({"a": ["x", {"token": "abcdefghijklmnopq"}]})
@example([12345678, {"phone": 5551234567}])
def test_what_can_be_found_in_a_json_value_is_suspected_in_its_text(value: object) -> None:
    try:
        raw = canonical_body(value)
    except RecordRefused:
        return
    if Redactor(KEY).json_text(value, "u", raw=raw) != raw.decode():
        assert suspects(pa.array([raw.decode()])) == [0]


@pytest.mark.parametrize("depth", [1, 30, 33, 120])
@pytest.mark.parametrize("telling", [*TELLING, {"password": "x"}, {"pwd": 1}, 5551234567])
def test_what_lies_deep_is_suspected_too(depth: int, telling: object) -> None:
    value = telling
    for number in range(depth):
        value = [value] if number % 2 else {"a": value, "b": 1.5}
    raw = canonical_body(value)
    if Redactor(KEY).json_text(value, "u", raw=raw) != raw.decode():
        assert suspects(pa.array([raw.decode()])) == [0]


def test_ordinary_conversation_is_not_suspected() -> None:
    talk = [{"role": "user", "content": "My order 100234 has not arrived by 10:30, it cost 49.90 EUR. Is route A::B open?"}]
    ordinary = ["Hello there", "Tuesday, 3 March 2026", canonical_body([{"role": "user", "content": "Where is order 100234?"}]).decode()]
    assert suspects(pa.array([*ordinary, canonical_body(talk).decode()])) == [3], "`::` may be an address, and is looked at closely"


def rows_of(value: object, text: str, number: int) -> Rows:
    request = {
        "request_id": f"r{number}" if number % 2 else text[:50] or "r",
        "app": "shop",
        "ts_start": NOON,
        "unit": None if number % 3 == 0 else f"u{number}",
        "session_id": text[:80],
        "model_served": text[:20],
        "input": value,
        "output": None if number % 5 == 0 else [text],
    }
    span = {"request_id": request["request_id"], "span_id": "s", "app": "shop", "ts_start": NOON, "name": text[:40]}
    span |= {"tool_arguments": json.dumps(value), "tool_result": text, "retrieval_query": text}
    score = {"request_id": request["request_id"], "score_id": text[:9], "app": "shop", "name": "n", "label": text, "explanation": text}
    return Rows(requests=[request], spans=[span], scores=[score | {"ts": NOON, "source": "rule"}])


def sealed_one_by_one(sealer: Sealer, record: Rows, at: int) -> dict[str, list[dict]]:
    """What `sealing.Sealer` makes of a record."""
    (request,), (span,), (score,) = record
    unit = request["unit"]
    sealer.request(request)
    sealer.span(span, unit)
    sealer.score(score, unit)
    return {name: [row | {"seq": at}] for name, row in (("requests", request), ("spans", span), ("scores", score))}


@given(st.lists(st.tuples(VALUES, TEXTS.filter(_is_sound)), min_size=1, max_size=6))
@settings(max_examples=150)
def test_columns_are_sealed_as_rows_are(pairs: list[tuple[object, str]]) -> None:
    sealer, columns = Sealer(Redactor(KEY), KEY), SealedRows(Sealer(Redactor(KEY), KEY))
    expected: dict[str, list[dict]] = {"requests": [], "spans": [], "scores": []}
    for number, (value, text) in enumerate(pairs, start=1):
        record = rows_of(value, text, number)
        try:
            one_by_one = sealed_one_by_one(sealer, copy.deepcopy(record), number)
        except RecordRefused as refusal:
            with pytest.raises(RecordRefused, match=refusal.subject):
                columns.add(record, at=number)
            continue
        columns.add(record, at=number)
        for name, rows in one_by_one.items():
            expected[name] += rows
    made = columns.tables()
    assert made == {name: arrow_table(name, rows) for name, rows in expected.items() if rows}


def test_published_texts_are_sealed_alike() -> None:
    texts = [entry["full_text"] for entry in json.loads(real("pii", "generated_small.json").read_text())]
    sealer, columns = Sealer(Redactor(KEY), KEY), SealedRows(Sealer(Redactor(KEY), KEY))
    expected = []
    for number, text in enumerate(texts):
        record = rows_of([{"role": "user", "content": text}], text, number)
        expected += sealed_one_by_one(sealer, copy.deepcopy(record), number)["requests"]
        columns.add(record, at=number)
    assert columns.tables()["requests"] == arrow_table("requests", expected)
    assert orjson.loads(expected[0]["input"])
