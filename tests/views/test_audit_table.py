"""The audit as a table."""

from __future__ import annotations

from datetime import UTC, datetime

from workbench.ledger.audit import AuditEntry
from workbench.views.audit import entries_text


def test_a_bundle_stands_with_its_name_and_anything_else_as_it_is():
    entries = [
        AuditEntry(
            seq=seq,
            time=datetime(2026, 3, 2, 12, tzinfo=UTC),
            actor="primary",
            via="cli",
            assurance="local",
            act=act,
            app="support",
            subject=subject,
            detail={},
            previous="",
            digest="sha256:" + "ab" * 32,
        )
        for seq, (act, subject) in enumerate([("declare", "support/app"), ("bundle.register", "support@000000000000")], start=1)
    ]
    text = entries_text(entries, names={"support@000000000000": "v1"})
    assert "support@000000000000 (v1)" in text
    assert "support/app " in text
    assert "support@000000000000 (v1)" in " ".join(entries_text(entries, names={"support@000000000000": "v1"}, width=80).split())
    assert entries_text([]) == "the audit is empty"
