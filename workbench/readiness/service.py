"""The verbs of readiness: review a bundle, and look up earlier reviews."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select

from workbench.errors import IntegrityError, UnknownSubject, UsageError
from workbench.ledger.audit import REVIEW_ACT, AuditEntry, Head, entries_of, read_head
from workbench.ledger.authority import Author, Authority
from workbench.ledger.canonical import digest
from workbench.ledger.evidence import add_evidence, add_once, evidence_row
from workbench.ledger.store import Ledger
from workbench.ledger.tables import evidence as evidence_table
from workbench.ledger.tables import reviews as reviews_table
from workbench.observability.evidence import as_row, from_row
from workbench.observability.measuring import Sitting
from workbench.observability.metrics import Metrics
from workbench.observability.model import Evidence
from workbench.ownership.service import Ownership
from workbench.readiness.antipatterns import alone, findings
from workbench.readiness.declared import COVER_DAYS, Declarations
from workbench.readiness.model import Review
from workbench.readiness.ports import EvidenceCollector
from workbench.readiness.questions import Answers, Questions, answers_of, latency_gates
from workbench.readiness.readings import SIDES
from workbench.readiness.records import CONTENT_DIGEST, from_stored, measured_bundles, review_digest, stored_content
from workbench.readiness.rehearsal import Rehearsal
from workbench.readiness.summary import comparison_sentence, review_sentence
from workbench.readiness.verdicts import decide
from workbench.spec.app import AppSpec
from workbench.spec.gates import GatesSpec
from workbench.spec.metrics import MetricsSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.plan import PlanSpec
from workbench.spec.rota import RotaSpec
from workbench.versions.declarations import NOTHING, REVIEWED
from workbench.versions.model import Bundle
from workbench.versions.service import Versions

T = TypeVar("T")


class Readiness:
    """May this bundle go live? Reviews are kept in the ledger with the evidence under them."""

    def __init__(
        self,
        ledger: Ledger,
        versions: Versions,
        ownership: Ownership,
        metrics: Metrics,
        *,
        authority: Authority,
        collector: EvidenceCollector,
        author: Author,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._versions = versions
        self._ownership = ownership
        self._metrics = metrics
        self._authority = authority
        self._collector = collector
        self._author = author
        self._clock = clock

    def review(self, app: str, bundle: Bundle | str | None = None, *, baseline: str | None = None, actor: Author | None = None) -> Review:
        """The verdict on a bundle, with every gate, stored with its evidence and an audit entry in one transaction.

        The same bundle, declarations and logs give the same `review_id` again.

        Args:
            app: the application.
            bundle: what to review; by default the newest of the app.
            baseline: what to compare with; by default the only other registered bundle of the app that has traffic.
            actor: who reviews; by default the workspace's actor.

        Raises:
            NotPermitted: the actor may not review this app.
            UnknownSubject: the app has no bundle, or a reference names none.
            UsageError: the bundle is another app's, or its own baseline.
        """
        author = actor or self._author
        self._authority.require(author, "review", app)
        candidate = self._bundle(app, bundle)
        others = self._others_with_traffic(app, candidate.bundle_id)
        against = self._baseline(app, candidate, baseline, others)
        now = self._clock()
        declared, digests = self._declared(app, candidate, now)
        snapshot, drill = self._metrics.snapshot(), self._drill(app)

        def ask(sitting: Sitting | None) -> Answers:
            is_first = against is None and not others
            return answers_of(declared, Questions(sitting, has_baseline=against is not None, drill=drill), now=now, is_first=is_first)

        answers = (
            ask(None)
            if snapshot is None
            else self._metrics.sitting(ask, app=app, bundle=candidate.bundle_id, baseline=against, snapshot=snapshot)
        )
        results, decision = answers.results, decide(answers.results)
        review = Review(
            review_id="",
            app=app,
            bundle_id=candidate.bundle_id,
            bundle_name=candidate.name,
            baseline_id=against,
            verdict=decision.verdict,
            deciding=decision.deciding,
            sentence=review_sentence(decision, results),
            comparison=comparison_sentence(answers.success, answers.latency, results, latency_gates=latency_gates(declared)),
            gates=results,
            findings=(
                *findings(declared, results, score_sources=answers.score_sources),
                *alone(self._collector.unreviewed(app), now=now),
            ),
            unpinned=candidate.unpinned,
            not_enforced=not_enforced(declared.spec, candidate),
            spec_digests=digests,
            snapshot=snapshot,
            reviewed_at=now,
            reviewed_by=author.person,
        )
        review = replace(review, review_id=review_digest(review))
        return self._store(review, answers.taken, author)

    def reviews(self, app: str) -> tuple[Review, ...]:
        """All reviews of an app, oldest first."""
        wanted = (
            select(reviews_table.c.content)
            .where(reviews_table.c.app == app)
            .order_by(reviews_table.c.reviewed_at, reviews_table.c.review_id)
        )
        with self._ledger.read() as connection:
            contents = connection.execute(wanted).scalars().all()
            vouchers = _vouchers(connection, app)
        return tuple(from_stored(content, vouchers) for content in contents)

    def get(self, review_id: str) -> Review:
        """The newest review of this id, or of this unique prefix of it.

        Raises:
            UnknownSubject: there is none.
            UsageError: the prefix fits several.
            IntegrityError: it is not what was stored, or its audit entry is gone.
        """
        prefix = review_id if review_id.startswith("sha256:") else f"sha256:{review_id}"
        wanted = (
            select(reviews_table.c.review_id, reviews_table.c.app, reviews_table.c.content)
            .where(reviews_table.c.review_id.startswith(prefix, autoescape=True))
            .order_by(reviews_table.c.reviewed_at.desc())
        )
        with self._ledger.read() as connection:
            rows = connection.execute(wanted).all()
            vouchers = _vouchers(connection, rows[0].app) if rows else {}
        ids = {row.review_id for row in rows}
        if not ids:
            raise UnknownSubject(f"review {review_id}", seen="no review has this id", next_step="run `workbench readiness APP` to make one")
        if len(ids) > 1:
            raise UsageError(f"review {review_id}", seen=f"{len(ids)} reviews begin so", needed="more digits of the id")
        return from_stored(rows[0].content, vouchers)

    def evidence(self, evidence_id: str) -> Mapping[str, Any]:
        """One stored evidence record: its query, statistics and row set, as plain values.

        Raises:
            UnknownSubject: there is none of this id.
            IntegrityError: its content is no longer what its id is the digest of.
        """
        with self._ledger.read() as connection:
            row = evidence_row(connection, evidence_id)
        if row is None:
            raise UnknownSubject(f"evidence {evidence_id}", seen="no record has this id", next_step="take the id from a review's gates")
        from_row(row)
        return dict(row)

    def verify(self, evidence_id: str) -> str:
        """Whether the log still says what a stored evidence record says, as of `Metrics.verify`.

        Raises:
            UnknownSubject: there is none of this id.
            IntegrityError: its content is no longer what its id is the digest of.
        """
        return self._metrics.verify(from_row(self.evidence(evidence_id)))

    def cited_snapshots(self, since: Callable[[str], datetime | None] = lambda _app: None) -> frozenset[int]:
        """The log's snapshots that evidence names.

        Args:
            since: app to from when on its evidence counts; None for all of it.
        """
        table = evidence_table.c
        newest = select(table.app, table.snapshot, func.max(table.collected_at))
        wanted = newest.where(table.snapshot.is_not(None)).group_by(table.app, table.snapshot)
        with self._ledger.read() as connection:
            found = connection.execute(wanted).all()
        starts = {app: since(app) for app in {app for app, _, _ in found}}
        return frozenset(snapshot for app, snapshot, at in found if (start := starts[app]) is None or at >= start)

    def _bundle(self, app: str, bundle: Bundle | str | None) -> Bundle:
        if bundle is None:
            return self._versions.latest(app)
        found = bundle if isinstance(bundle, Bundle) else self._versions.get(bundle, app=app)
        if found.app != app:
            raise UsageError(f"bundle {found.bundle_id}", seen=f"it belongs to {found.app}", needed=f"a bundle of {app}")
        return found

    def _baseline(self, app: str, candidate: Bundle, reference: str | None, others: Sequence[str]) -> str | None:
        if reference is None:
            registered = {known.bundle.bundle_id for known in self._versions.list(app)}
            known = [bundle_id for bundle_id in others if bundle_id in registered]
            return known[0] if len(known) == 1 else None
        found = self._bundle(app, reference)
        if found.bundle_id == candidate.bundle_id:
            raise UsageError(f"baseline {reference}", seen="it is the bundle under review itself", needed="another bundle of the app")
        return found.bundle_id

    def _others_with_traffic(self, app: str, bundle_id: str) -> tuple[str, ...]:
        """Other bundles of the app that have rows in the log, or had some at an earlier review: erasing a log forgets no bundle.

        They need not be registered: rows under any other name show that this bundle is not the first.
        """
        table = evidence_table
        seen = select(table.c.subject, table.c.baseline, table.c.statistics).where(table.c.app == app, table.c.row_n > 0)
        with self._ledger.read() as connection:
            remembered = {name for row in connection.execute(seen) for name in _with_traffic(*row)}
            contents = connection.execute(select(reviews_table.c.content).where(reviews_table.c.app == app)).scalars()
            remembered = remembered.union(*map(measured_bundles, contents))
        return tuple(sorted((remembered | set(self._metrics.bundles_with_rows(app))) - {bundle_id}))

    def _declared(self, app: str, candidate: Bundle, now: datetime) -> tuple[Declarations, tuple[tuple[str, str], ...]]:
        """The declarations with their digests; read again when somebody declares in between."""
        while True:
            before = self._digests(app)
            specs = {kind: self._versions.declaration(app, kind) for kind in REVIEWED}
            if self._digests(app) == before:
                break
        rota = _as(RotaSpec, specs["rota"])
        gaps = self._ownership.gaps(app, start=now, until=now + timedelta(days=COVER_DAYS)) if rota else ()
        ids = [known.bundle.bundle_id for known in self._versions.list(app)]
        earlier = ids[: ids.index(candidate.bundle_id)] if candidate.bundle_id in ids else ids
        return Declarations(
            app=app,
            spec=_as(AppSpec, specs["app"]),
            people=_as(PeopleSpec, specs["people"]),
            gates=_as(GatesSpec, specs["gates"]),
            plan=_as(PlanSpec, specs["plan"]),
            rota=rota,
            metrics=_as(MetricsSpec, specs["metrics"]),
            gaps=tuple(gaps),
            earlier=tuple(earlier),
            plan_digest=dict(before).get("plan", NOTHING),
        ), before

    def _drill(self, app: str) -> Rehearsal | IntegrityError | None:
        """The newest drill; the error where its record is not what was stored, which the gate on it says."""
        try:
            return self._collector.drill(app)
        except IntegrityError as error:
            return error

    def _digests(self, app: str) -> tuple[tuple[str, str], ...]:
        found = ((kind, self._versions.declaration_digest(app, kind)) for kind in REVIEWED)
        return tuple((kind, found_digest) for kind, found_digest in found if found_digest is not None)

    def _store(self, review: Review, taken: Sequence[Evidence], author: Author) -> Review:
        """The review as stored, with the head of the audit at its entry; the one that is there when this moment has it already."""
        with self._ledger.write() as transaction:
            connection = transaction.connection
            stored = select(reviews_table.c.content).where(
                reviews_table.c.review_id == review.review_id, reviews_table.c.reviewed_at == review.reviewed_at
            )
            twin = connection.execute(stored).scalar_one_or_none()
            if twin is not None:
                return from_stored(twin, _vouchers(connection, review.app))
            head = read_head(connection, lock=True)
            content = stored_content(review, (head.seq if head else 0) + 1)
            add_evidence(transaction, [as_row(record) for record in taken])
            add_once(connection, reviews_table, [_review_row(review, content)])
            entry = transaction.audit(author, REVIEW_ACT, app=review.app, subject=review.bundle_id, detail=_audit_detail(review, content))
        return replace(review, audit_head=str(Head(seq=entry.seq, digest=entry.digest)))


def not_enforced(spec: AppSpec | None, bundle: Bundle) -> tuple[str, ...]:
    """Sentences on the parts of a bundle that the workbench records but does not enforce, by the declared way of serving."""
    serving = spec.serving if spec else None
    parts = {str(part): "run by the client" for part in bundle.external}
    if serving == "external":
        parts = {str(part): "the application runs the bundle itself and only reports" for part in bundle.parts}
    elif serving == "proxied":
        for part in ("orchestration", "retrieval", "environment"):
            if part in bundle.parts:
                parts.setdefault(part, "run by the client, behind the gateway")
    return tuple(f"{part}: {why}" for part, why in sorted(parts.items()))


def _as(kind: type[T], spec: object) -> T | None:
    return spec if isinstance(spec, kind) else None


def _vouchers(connection: Connection, app: str) -> dict[int, AuditEntry]:
    """The audit entries of an app's reviews, by number."""
    return {entry.seq: entry for entry in entries_of(connection, REVIEW_ACT, app=app)}


def _with_traffic(subject: str, baseline: str | None, statistics: Mapping[str, Any]) -> Iterator[str]:
    """The bundles that a stored evidence record with rows has observations of."""
    if baseline is None:
        yield subject
        return
    for bundle, name in zip((subject, baseline), SIDES, strict=True):
        side = statistics.get(name) or {}
        if side.get("n") or side.get("n_eligible") or side.get("last"):
            yield bundle


def _review_row(review: Review, content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "review_id": review.review_id,
        "reviewed_at": review.reviewed_at,
        "app": review.app,
        "bundle_id": review.bundle_id,
        "baseline_id": review.baseline_id,
        "verdict": str(review.verdict),
        "content": content,
        "reviewed_by": review.reviewed_by,
    }


def _audit_detail(review: Review, content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "review_id": review.review_id,
        "verdict": str(review.verdict),
        "deciding": list(review.deciding),
        "baseline": review.baseline_id,
        "snapshot": review.snapshot,
        "evidence": sorted({evidence_id for gate in review.gates for evidence_id in gate.evidence_ids}),
        CONTENT_DIGEST: digest(content),
    }
