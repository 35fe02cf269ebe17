"""Live answers, scored: what is new in the log is looked at once, and the scores are stored with the mark that says so.

Which answers are scored depends on their ids alone, so it is the same for both arms and for whoever scores. Scores and mark are one
transaction of the log: a process that dies between looking and storing has done nothing, and of two that look at once one stores.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from workbench.errors import ConflictError
from workbench.evaluation.code_scorer import code_scorers
from workbench.evaluation.model import Done, ScoredRequest, ScoreValue, ScoringStatus
from workbench.evaluation.online import is_chosen, score_id
from workbench.evaluation.scorer import Scorer, ScorerFault
from workbench.observability.lake import Lake
from workbench.observability.online_rows import BROKEN, Answered, Fresh, fresh_answers, read_answers, stored_scores
from workbench.observability.sealing import Sealer, parsed
from workbench.observability.tables import arrow_table
from workbench.spec.online import OnlineSpec
from workbench.versions.declarations import Declaration

log = logging.getLogger(__name__)
MOST_AT_ONCE = 2000
"""Final records that one look takes in, unless a batch has more."""
MOST_FAULTS = 5
"""In a row: then the rest of a look's answers is not shown to a scorer that seems to be broken."""


NO_ANSWER = ScoreValue(value=0.0, label="no_answer")
"""What a request is worth that failed: were it left out, an arm that fails more would have fewer scores, and better ones."""


class Declares(Protocol):
    """What apps declare; `versions.service.Versions` is one."""

    def apps(self) -> tuple[str, ...]: ...

    def declared(self, app: str, kind: str) -> Declaration | None: ...


class Appending(Protocol):
    """The writing side of the log; `logs.Logs` is one."""

    def append(self, batch: Mapping[str, Any], *, source_id: str, from_seq: int, to_seq: int, as_of: int | None = None) -> bool: ...


@dataclass(slots=True)
class _Standing:
    """The scorers of an app, opened."""

    digest: str
    scorers: Sequence[Scorer]
    in_a_row: Counter[str] = field(default_factory=Counter)
    """Faults of each scorer since it last gave a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A stretch of the log, with those of its answers that are to be scored."""

    fresh: Fresh
    answers: Sequence[Answered]
    wanted: Mapping[str, tuple[Scorer, ...]]
    """Request to the scorers whose turn it is."""


class Evaluation:
    """How good is it? Used by one thread.

    Args:
        lake: where answers are read.
        logs: where scores go.
        versions: what apps declare.
        sealer: takes personal data out of what scorers say.
        clock: the time of a score.
        scorers: opens the scorers of an app.
    """

    def __init__(
        self,
        lake: Lake,
        logs: Appending,
        versions: Declares,
        *,
        sealer: Sealer,
        clock: Callable[[], datetime],
        scorers: Callable[[OnlineSpec], Sequence[Scorer]] = code_scorers,
    ) -> None:
        self._lake = lake
        self._logs = logs
        self._versions = versions
        self._sealer = sealer
        self._clock = clock
        self._open = scorers
        self._standing: dict[str, _Standing] = {}
        self._scores: Counter[tuple[str, ...]] = Counter()
        self._faults: Counter[tuple[str, ...]] = Counter()
        self._behind: dict[str, int] = {}

    @property
    def status(self) -> ScoringStatus:
        """What was scored here, without whether this process leads."""
        return ScoringStatus(is_on=True, scores=dict(self._scores), faults=dict(self._faults), behind=dict(self._behind))

    def score_new(self) -> int:
        """Look at what is new of each app that declares scorers; how many scores were given.

        Raises:
            StoreError: the log or the ledger is out of reach.
        """
        declared = {app: found for app in self._versions.apps() if (found := self._versions.declared(app, "online")) is not None}
        for app in set(self._standing) - set(declared):
            self._forget(app)
        return sum(self._score_app(app, found) for app, found in declared.items())

    def close(self) -> None:
        """End the scorers."""
        for app in tuple(self._standing):
            self._forget(app)

    def _score_app(self, app: str, declared: Declaration) -> int:
        spec = declared.spec
        if not isinstance(spec, OnlineSpec) or self._lake.snapshot() is None:
            return 0
        standing = self._scorers(app, declared.digest, spec)
        look = self._look(app, spec, standing.scorers, since=declared.registered_at)
        self._behind[app] = look.fresh.n_behind
        if look.fresh.to <= look.fresh.after:
            return 0
        rows = list(self._rows(app, spec, standing, look))
        batch = {"scores": arrow_table("scores", rows)} if rows else {}
        with suppress(ConflictError):
            stored = self._logs.append(batch, source_id=_source(app), from_seq=look.fresh.after + 1, to_seq=look.fresh.to)
            if stored:
                self._scores.update((app, row["name"]) for row in rows)
                return len(rows)
        return 0  # somebody else looked at it

    def _scorers(self, app: str, digest: str, spec: OnlineSpec) -> _Standing:
        standing = self._standing.get(app)
        if standing is None or standing.digest != digest:
            self._forget(app)
            standing = self._standing[app] = _Standing(digest, self._open(spec))
        return standing

    def _forget(self, app: str) -> None:
        standing = self._standing.pop(app, None)
        self._behind.pop(app, None)
        for scorer in standing.scorers if standing else ():
            scorer.close()

    def _look(self, app: str, spec: OnlineSpec, scorers: Sequence[Scorer], *, since: datetime) -> _Look:
        def read(connection: Any) -> _Look:
            fresh = fresh_answers(connection, app, source_id=_source(app), since=since, most=MOST_AT_ONCE)
            chosen = {
                request_id: tuple(scorer for scorer in scorers if is_chosen(request_id, scorer.name, spec.sample))
                for request_id in fresh.batch_of
            }
            ids = {score_id(request_id, scorer.name) for request_id, some in chosen.items() for scorer in some}
            known = stored_scores(connection, app, sorted(ids)) if ids else frozenset()
            wanted = {
                request_id: left
                for request_id, some in chosen.items()
                if (left := tuple(scorer for scorer in some if score_id(request_id, scorer.name) not in known))
            }
            return _Look(fresh=fresh, answers=tuple(read_answers(connection, app, list(wanted))) if wanted else (), wanted=wanted)

        return self._lake.read(read)

    def _rows(self, app: str, spec: OnlineSpec, standing: _Standing, look: _Look) -> Iterator[dict[str, Any]]:
        standing.in_a_row.clear()
        for answered in look.answers:
            request_id = answered.request["request_id"]
            request = scored_request(app, answered)
            for scorer in look.wanted[request_id]:
                row = self._row(spec, standing, scorer, request)
                if row is not None:
                    yield {**row, "seq": look.fresh.batch_of[request_id]}

    def _row(self, spec: OnlineSpec, standing: _Standing, scorer: Scorer, request: ScoredRequest) -> dict[str, Any] | None:
        """The score of a request, sealed; None where there is none."""
        said = NO_ANSWER if request.status in BROKEN else self._said(standing, scorer, request)
        if said is None:
            return None
        row: dict[str, Any] = {
            "score_id": score_id(request.request_id, scorer.name),
            "app": request.app,
            "request_id": request.request_id,
            "name": scorer.name,
            "value": said.value,
            "label": said.label,
            "scorer_id": scorer.scorer_id,
            "source": scorer.source,
            "explanation": said.explanation,
            "sample_probability": spec.sample,
            "ts": self._clock(),
        }
        self._sealer.score(row, None)
        return row

    def _said(self, standing: _Standing, scorer: Scorer, request: ScoredRequest) -> ScoreValue | None:
        """What the scorer says, where it says something and is in order."""
        if standing.in_a_row[scorer.name] >= MOST_FAULTS:
            self._note(request.app, scorer, ScorerFault("skipped", "it failed too often in a row"))
            return None
        try:
            said = scorer.score(request)
        except ScorerFault as fault:
            self._note(request.app, scorer, fault)
            standing.in_a_row[scorer.name] += 1
            return None
        standing.in_a_row[scorer.name] = 0
        return said

    def _note(self, app: str, scorer: Scorer, fault: ScorerFault) -> None:
        key = (app, scorer.name, fault.kind)
        if not self._faults[key]:
            log.warning("scorer %s of %s gave no score (%s): %s", scorer.scorer_id, app, fault.kind, fault)
        self._faults[key] += 1


def scored_request(app: str, answered: Answered) -> ScoredRequest:
    """An answer of the log as a scorer sees it."""
    request = answered.request
    return ScoredRequest(
        app=app,
        request_id=request["request_id"],
        workflow=request["workflow"],
        status=request["status"],
        is_fallback=request["is_fallback"],
        input=parsed(request["input"]),
        output=parsed(request["output"]),
        steps=tuple(
            Done(
                kind=step["kind"],
                name=step["tool_name"] or step["name"] or "",
                status=step["status"] or "unknown",
                arguments=step["retrieval_query"] if step["kind"] == "retrieval" else parsed(step["tool_arguments"]),
                result=parsed(step["tool_result"]),
            )
            for step in answered.steps
        ),
    )


def _source(app: str) -> str:
    """Whose mark in the log says how far an app's answers were looked at."""
    return f"online:{app}"
