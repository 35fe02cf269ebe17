"""Which documents a search should find: judgments brought into the log, and what they say of a recorded run.

A judgment is of an app, a topic and a document. The words of a topic's query are redacted as those of the log are, and tell which lookups
of live traffic it speaks of; a topic without words is its own query. What is stored is what changed: the same file again stores nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import duckdb
import pyarrow as pa

from workbench.errors import RecordRefused, UnknownSubject, UsageError
from workbench.ledger.authority import Author, Authority
from workbench.ledger.canonical import JSON
from workbench.ledger.store import Ledger
from workbench.observability.flusher import literal
from workbench.observability.importers import fields
from workbench.observability.importers.files import sha256_of
from workbench.observability.importers.trec import Qrels, read_qrels, read_run, read_topics
from workbench.observability.lake import Lake
from workbench.observability.redaction import Redactor
from workbench.observability.retrieval import DEFAULT_MEASURES, RunReport, evaluated
from workbench.observability.tables import arrow_table
from workbench.stats.ranking import RELEVANT

JUDGED = "retrieval.judge"
Source = Literal["rule", "judge", "human", "user"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """One judgment as it holds now."""

    topic: str
    query: str | None
    doc_id: str
    grade: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgmentReport:
    """What bringing a file of judgments in did."""

    app: str
    file: str
    topics: int
    judgments: int
    """In the file."""
    stored: int
    """New ones, and those whose grade or query changed."""
    unchanged: int
    without_relevant: tuple[str, ...]
    """Topics of the file in which no document is relevant: no lookup of theirs is measured."""
    without_query: int
    """Topics whose words are not known: only lookups whose query is the topic's own name are theirs."""
    is_dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedApp:
    """What is judged of one app."""

    app: str
    topics: int
    judgments: int
    relevant: int
    newest: datetime


class JudgmentLog(Protocol):
    """What storing judgments needs of the log; `logs.Logs` is one."""

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int, as_of: int | None = None) -> bool: ...


class Judgments:
    """The verbs of judging what searches find.

    Args:
        lake: where judgments are read.
        logs: where they go.
        ledger: its audit tells who brought them.
        redactor: takes personal data out of queries.
    """

    def __init__(
        self,
        lake: Lake,
        logs: JudgmentLog,
        ledger: Ledger,
        *,
        redactor: Callable[[], Redactor],
        authority: Authority,
        author: Author,
        clock: Callable[[], datetime],
    ) -> None:
        self._lake = lake
        self._logs = logs
        self._ledger = ledger
        self._redactor = redactor
        self._authority = authority
        self._author = author
        self._clock = clock

    def store(
        self,
        qrels: Path,
        *,
        app: str,
        topics: Path | None = None,
        source: Source = "human",
        judge: str | None = None,
        actor: Author | None = None,
        is_dry_run: bool = False,
    ) -> JudgmentReport:
        """Bring a file of judgments in, beside those that are there; a document that was judged before gets its new grade.

        Args:
            qrels: the judgments, as `importers.trec` reads them.
            app: whose searches they judge.
            topics: the words of each topic's query; without them a topic keeps the words it has.
            source: who judged.
            judge: the name of whoever judged.

        Raises:
            UsageError: a file cannot be used, or the app has no possible name; nothing is stored.
            NotPermitted: the actor may not import into the app.
        """
        author = actor or self._author
        _check_app(app)
        self._authority.require(author, "log.import", app)
        grades, words = read_qrels(qrels), read_topics(topics) if topics else {}
        known = {(each.topic, each.doc_id): each for each in self.of(app)}
        given = self._sealed(grades, words, {each.topic: each.query for each in known.values()})
        changed = [each for each in given if known.get((each.topic, each.doc_id)) != each]
        if changed and not is_dry_run:
            self._audit(author, app, qrels, topics, n=len(changed))
            self._append(app, changed, source=source, judge=judge)
        return JudgmentReport(
            app=app,
            file=str(qrels),
            topics=len(grades),
            judgments=len(given),
            stored=len(changed),
            unchanged=len(given) - len(changed),
            without_relevant=tuple(sorted(topic for topic, docs in grades.items() if max(docs.values()) < RELEVANT)),
            without_query=len({each.topic for each in given if each.query is None}),
            is_dry_run=is_dry_run,
        )

    def of(self, app: str) -> list[Judgment]:
        """The judgments of an app as they hold now, by topic and document."""
        sql = f"""SELECT topic, query, doc_id, grade FROM lake.judgments WHERE app = {literal(app)}
                  QUALIFY row_number() OVER (PARTITION BY topic, doc_id ORDER BY ts DESC, batch_id DESC, seq DESC) = 1
                  ORDER BY topic, doc_id"""
        rows = self._lake.read(lambda connection: connection.execute(sql).fetchall())
        return [Judgment(topic=topic, query=query, doc_id=doc, grade=grade) for topic, query, doc, grade in rows]

    def apps(self) -> list[JudgedApp]:
        """What is judged of each app, by name."""

        def look(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int]]:
            sql = "SELECT app, epoch_us(max(ts)) FROM lake.judgments GROUP BY app ORDER BY app"
            return connection.execute(sql).fetchall()

        found = []
        for app, newest in self._lake.read(look):
            held = self.of(app)
            found.append(
                JudgedApp(
                    app=app,
                    topics=len({each.topic for each in held}),
                    judgments=len(held),
                    relevant=sum(each.grade >= RELEVANT for each in held),
                    newest=datetime.fromtimestamp(newest / 1e6, tz=self._clock().tzinfo),
                )
            )
        return found

    def evaluate(
        self,
        run: Path,
        *,
        qrels: Path | None = None,
        app: str | None = None,
        measures: Sequence[str] = DEFAULT_MEASURES,
        is_complete: bool = False,
    ) -> RunReport:
        """What judgments say of a recorded run, by topic; those of a file, or those stored for an app. Nothing is stored.

        Raises:
            UsageError: a file cannot be used, a measure is unknown, or not exactly one of `qrels` and `app` is given.
            UnknownSubject: nobody judged the app's searches.
        """
        if (qrels is None) == (app is None):
            raise UsageError(
                "judgments", seen="not exactly one source of them", needed="a qrels file, or an app whose judgments are stored"
            )
        grades = read_qrels(qrels) if qrels else self._stored(app or "")
        return evaluated(read_run(run), grades, measures=measures, is_complete=is_complete)

    def _stored(self, app: str) -> Qrels:
        grades: Qrels = {}
        for each in self.of(app):
            grades.setdefault(each.topic, {})[each.doc_id] = each.grade
        if not grades:
            step = f"workbench retrieval judge QRELS --app {app}"
            raise UnknownSubject(f"judgments of {app}", seen="there are none", next_step=step)
        return grades

    def _sealed(self, grades: Qrels, words: Mapping[str, str], known: Mapping[str, str | None]) -> list[Judgment]:
        """What the file says, as it is stored; a topic without words here keeps those it has."""
        redactor = self._redactor()
        found = []
        for topic, documents in grades.items():
            name, query = redactor.identifier(topic), words.get(topic)
            query = redactor.text(query, None) if query is not None else known.get(name)
            found += [Judgment(topic=name, query=query, doc_id=redactor.identifier(doc), grade=grade) for doc, grade in documents.items()]
        return found

    def _audit(self, author: Author, app: str, qrels: Path, topics: Path | None, *, n: int) -> None:
        files: list[JSON] = [{"file": path.name, "sha256": sha256_of(path)} for path in (qrels, topics) if path]
        with self._ledger.write() as act:
            act.audit(author, JUDGED, app=app, subject=qrels.name, detail={"files": files, "judgments": n})

    def _append(self, app: str, judgments: Sequence[Judgment], *, source: Source, judge: str | None) -> None:
        now, judge_id = self._clock(), None if judge is None else self._redactor().identifier(judge)
        rows = [
            {
                "app": app,
                "topic": each.topic,
                "query": each.query,
                "doc_id": each.doc_id,
                "grade": each.grade,
                "source": source,
                "judge_id": judge_id,
                "ts": now,
            }
            for each in judgments
        ]
        batch = {"judgments": arrow_table("judgments", rows)}
        self._logs.append(batch, source_id=f"judgments:{uuid.uuid4().hex}", from_seq=1, to_seq=len(rows))


def _check_app(name: str) -> None:
    try:
        fields.app_name(name)
    except RecordRefused as refusal:
        raise UsageError(f"--app {name!r}", seen=refusal.seen, needed=refusal.needed) from refusal
