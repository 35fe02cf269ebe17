from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.writers import raw
from workbench.errors import IntegrityError, UsageError
from workbench.ledger import audit
from workbench.ledger.audit import GENESIS, Head, digest_of, tail, verify
from workbench.ledger.canonical import canonical_json


@pytest.fixture
def chain(ledger, primary, url):
    for i in range(5):
        with ledger.write() as act:
            act.audit(primary, "bundle.register", app="support", subject=f"support@{i}", detail={"n": i, "words": ["ä", None, 1.5]})
    return url


def _verify(ledger, expected=None):
    with ledger.read() as connection:
        return verify(connection, expected=expected)


def _tail(ledger, n=10, **kwargs):
    with ledger.read() as connection:
        return tail(connection, n, **kwargs)


def test_an_empty_ledger_has_a_whole_chain(ledger):
    report = _verify(ledger)
    assert (report.n, report.broken_at, report.reason, report.head) == (0, None, "", Head(seq=0, digest=GENESIS))


def test_entries_are_chained_and_read_back_as_written(ledger, chain):
    entries = _tail(ledger)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.previous for entry in entries] == [GENESIS, *(entry.digest for entry in entries[:-1])]
    assert entries[2].detail == {"n": 2, "words": ["ä", None, 1.5]}
    assert str(entries[2].time) == "2026-03-01 09:00:02+00:00"
    report = _verify(ledger)
    assert report.is_whole
    assert (report.n, report.head) == (5, Head(seq=5, digest=entries[-1].digest))
    report.require_whole()


def test_the_digest_covers_every_field():
    entry = {
        "seq": 1,
        "time": "t",
        "actor": "a",
        "via": "v",
        "assurance": "s",
        "act": "x",
        "app": None,
        "subject": "y",
        "detail": {},
        "previous": "p",
    }
    digests = {digest_of(**{**entry, name: 2 if name == "seq" else {"k": 1} if name == "detail" else "other"}) for name in entry}
    assert len(digests | {digest_of(**entry)}) == len(entry) + 1


def test_the_tail_can_be_of_one_app(ledger, chain, primary):
    with ledger.write() as act:
        act.audit(primary, "declare", app="other", subject="other/app", detail={})
    assert [entry.subject for entry in _tail(ledger, 2, app="support")] == ["support@3", "support@4"]


@pytest.mark.parametrize("column", ["time", "actor", "via", "assurance", "act", "app", "subject", "detail", "previous", "digest"])
def test_one_altered_byte_in_any_column_names_its_entry(ledger, chain, column):
    raw(chain, f"UPDATE audit SET {column} = substr({column}, 1, 3) || '~' || substr({column}, 5) WHERE seq = 3")
    report = _verify(ledger)
    assert (report.broken_at, report.n) == (3, 2)
    assert "entry 3 was altered" in report.reason
    with pytest.raises(IntegrityError, match="audit entry 3"):
        report.require_whole()


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit SET detail = detail || ' ' WHERE seq = 2", 2),
        ("UPDATE audit SET app = NULL WHERE seq = 2", 2),
        ("UPDATE audit SET time = replace(time, 'T', ' ') WHERE seq = 2", 2),
        ("UPDATE audit SET seq = 9 WHERE seq = 2", 2),
        ("UPDATE audit SET seq = 0 WHERE seq = 1", 1),
        ("UPDATE audit SET seq = -1 WHERE seq = 4", 1),
        ("DELETE FROM audit WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 5", 5),
        ("DELETE FROM audit WHERE seq >= 3", 3),
        ("DELETE FROM audit", 1),
        ("DELETE FROM audit_head", 6),
        ("UPDATE audit_head SET seq = 4", 5),
        ("UPDATE audit_head SET seq = 7", 6),
        ("UPDATE audit_head SET digest = replace(digest, '1', '2')", 5),
    ],
)
def test_what_is_altered_or_missing_is_named(ledger, chain, statement, broken_at):
    raw(chain, statement)
    report = _verify(ledger)
    assert report.broken_at == broken_at
    assert str(broken_at - 1) in report.reason or str(broken_at) in report.reason


def test_two_swapped_entries_are_named(ledger, chain):
    raw(
        chain,
        "UPDATE audit SET seq = 99 WHERE seq = 2",
        "UPDATE audit SET seq = 2 WHERE seq = 4",
        "UPDATE audit SET seq = 4 WHERE seq = 99",
    )
    assert _verify(ledger).broken_at == 2


def test_a_tail_cut_together_with_its_head_shows_against_a_printed_head(ledger, chain):
    printed = _verify(ledger).head
    fourth = _tail(ledger)[3]
    raw(chain, "DELETE FROM audit WHERE seq = 5", f"UPDATE audit_head SET seq = 4, digest = '{fourth.digest}'")
    assert _verify(ledger).is_whole
    report = _verify(ledger, expected=printed)
    assert report.broken_at == 5
    assert "printed earlier" in report.reason


def test_a_chain_rewritten_whole_shows_against_a_printed_head(ledger, chain, primary):
    printed = _verify(ledger).head
    raw(chain, "DELETE FROM audit", f"UPDATE audit_head SET seq = 0, digest = '{GENESIS}'")
    for i in range(7):
        with ledger.write() as act:
            act.audit(primary, "bundle.register", app="support", subject=f"forged@{i}", detail={})
    assert _verify(ledger).is_whole
    assert _verify(ledger, expected=printed).broken_at == 5


def test_a_stored_act_without_its_entry_is_named(ledger, chain):
    columns = "(seq, app, kind, digest, registered_at, registered_by)"
    raw(chain, f"INSERT INTO declarations {columns} VALUES (7, 'support', 'gates', 'sha256:0', '2026-03-01T09:00:00+00:00', 'primary')")
    report = _verify(ledger)
    assert (report.n, report.broken_at) == (5, 6)
    assert report.reason == "entry 6 is missing: declaration support/gates was stored with entry 7, the chain ends at 5"
    raw(chain, "UPDATE declarations SET seq = 2")
    report = _verify(ledger)
    assert report.broken_at == 2
    assert report.reason == "entry 2 is not the one of declaration support/gates, which was stored with it"


@pytest.mark.parametrize("content", ["{}", "[1]", '"x"', '{"audit_seq": "5"}'])
def test_a_stored_review_that_names_no_entry_breaks_the_chain(ledger, chain, content):
    columns = "(review_id, reviewed_at, app, bundle_id, verdict, content, reviewed_by)"
    values = f"('sha256:1', '2026-03-01T09:00:00+00:00', 'support', 'support@1', 'GO', '{content}', 'primary')"
    raw(chain, f"INSERT INTO reviews {columns} VALUES {values}")
    report = _verify(ledger)
    assert (report.broken_at, report.reason) == (6, "review sha256:1 names no entry: its stored content was altered")


def test_an_older_printed_head_still_fits_a_longer_chain(ledger, chain, primary):
    printed = _verify(ledger).head
    with ledger.write() as act:
        act.audit(primary, "declare", app=None, subject="x", detail={})
    assert _verify(ledger, expected=printed).is_whole


def test_an_entry_with_damaged_text_is_named_and_not_a_crash(tmp_path, clock, primary):
    path = tmp_path / "ledger.sqlite"
    ledger = audit_ledger(path, clock, primary)
    content = path.read_bytes()
    assert content.count(b"support@1") == 1
    path.write_bytes(content.replace(b"support@1", b"support\xff1"))
    reopened = audit_ledger(path, clock, primary, n=0)
    assert _verify(reopened).broken_at == 2
    reopened.close()
    ledger.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_of_any_stored_entry_is_found(tmp_path_factory, clock, primary, data):
    path = tmp_path_factory.mktemp("flip") / "ledger.sqlite"
    audit_ledger(path, clock, primary).close()
    with sqlite3.connect(path) as connection:
        connection.text_factory = bytes
        rows = connection.execute("SELECT time, actor, via, assurance, act, app, subject, detail, previous, digest FROM audit").fetchall()
    connection.close()
    seq = data.draw(st.integers(1, len(rows)))
    record = b"".join(rows[seq - 1])
    content = bytearray(path.read_bytes())
    start = bytes(content).find(record)
    assert start > 0
    content[start + data.draw(st.integers(0, len(record) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    reopened = audit_ledger(path, clock, primary, n=0)
    assert _verify(reopened).broken_at == seq
    reopened.close()


def audit_ledger(path: Path, clock, author, n: int = 4):
    ledger = audit_open(path, clock)
    for i in range(n):
        with ledger.write() as act:
            act.audit(author, "bundle.register", app="support", subject=f"support@{i}", detail={"i": i})
    ledger.close()
    return ledger


def audit_open(path: Path, clock):
    from workbench.ledger.store import Ledger

    return Ledger.open(f"sqlite:///{path}", clock=clock)


def test_an_entry_and_its_act_are_stored_together_or_not_at_all(ledger, chain, primary):
    with pytest.raises(RuntimeError, match="changed my mind"), ledger.write() as act:  # noqa: PT012 -- the act is the subject
        act.audit(primary, "declare", app=None, subject="x", detail={})
        raise RuntimeError("changed my mind")
    assert _verify(ledger).n == 5


def test_one_act_may_have_several_entries(ledger, primary):
    with ledger.write() as act:
        entries = [act.audit(primary, "declare", app=None, subject=str(i), detail={}) for i in range(3)]
    assert [entry.seq for entry in entries] == [1, 2, 3]
    assert _verify(ledger).is_whole


def test_numbers_in_a_detail_survive_the_chain(ledger, primary):
    numbers = {"large": 1e16, "border": 2**53 - 1, "beyond": float(2**53), "small": 1e-7, "whole": 3.0}
    with ledger.write() as act:
        act.audit(primary, "declare", app=None, subject="x", detail=numbers)
    assert _verify(ledger).is_whole
    assert _tail(ledger)[0].detail == numbers


def test_a_detail_that_json_cannot_hold_is_refused_and_nothing_is_stored(ledger, primary):
    with pytest.raises(UsageError, match=r"\$\.rate"), ledger.write() as act:
        act.audit(primary, "declare", app=None, subject="x", detail={"rate": float("nan")})
    assert _verify(ledger).n == 0


def test_a_ledger_without_its_head_takes_no_more_acts(ledger, chain, primary):
    raw(chain, "DELETE FROM audit_head")
    with pytest.raises(IntegrityError, match="audit head: its record is gone"), ledger.write() as act:
        act.audit(primary, "declare", app=None, subject="x", detail={})


def test_a_head_set_back_does_not_let_an_entry_be_replaced(ledger, chain, primary):
    raw(chain, f"UPDATE audit_head SET seq = 2, digest = '{_tail(ledger)[1].digest}'")
    with pytest.raises(IntegrityError, match="entry 3 exists"), ledger.write() as act:
        act.audit(primary, "declare", app=None, subject="x", detail={})
    assert _verify(ledger).broken_at == 3


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5), lambda x: st.lists(x, max_size=3)
        ),
        max_size=4,
    )
)
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("value", "place"),
    [({"a": [1, float("inf")]}, "$.a[1]"), ({"a": {1: 2}}, "$.a"), ({"a": 2**53}, "$.a"), ({"a": b"x"}, "$.a"), ("\ud800", "$")],
)
def test_what_canonical_json_cannot_hold_is_refused_with_its_place(value, place):
    with pytest.raises(UsageError, match=re.escape(f"canonical JSON: {place}: ")):
        canonical_json(value)


def test_canonical_json_is_rfc_8785():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\x0f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(value).decode() == expected


def test_the_module_says_what_the_first_entry_follows():
    assert audit.GENESIS == "sha256:" + "0" * 64
