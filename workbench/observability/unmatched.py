"""What an event names that nothing here knows: a request that is not in the log, an outcome that nothing reads. It is stored all the same.

A score may come before its request, and a KPI may be declared after its events; a slip of the finger looks the same. So it is said.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from workbench.observability.logs import Known
from workbench.spec.app import AppSpec
from workbench.spec.metrics import MetricsSpec

_MOST_ASKED = 1_000_000
"""Requests of one file that are asked for at once."""
_MOST_NAMES = 3
"""Outcomes that nothing reads of which a report names each."""
_MOST_KNOWN = 12
"""Outcomes that are read of which a sentence names each."""
_PLAIN = re.compile(r"[A-Za-z][\w.-]{0,62}")
"""What is quoted of a file, where any text may stand instead of a name."""


class RequestLog(Protocol):
    """What is asked of the log; `logs.Logs` is one."""

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> Known: ...


def outcomes_read(spec: AppSpec | None, own: MetricsSpec | None) -> tuple[str, ...]:
    """The outcomes that KPIs and rules of success in app.yaml, and metrics of metrics.yaml, read; each once, in their order."""
    declared = [spec.model_dump(include={"kpis", "workflows"})] if spec else []
    return tuple(dict.fromkeys(_outcomes([*declared, own.model_dump() if own else None])))


def _outcomes(declared: Any) -> Iterator[str]:
    match declared:
        case Mapping():
            if isinstance(named := declared.get("outcome"), str):
                yield named
            for value in declared.values():
                yield from _outcomes(value)
        case list() | tuple():
            for value in declared:
                yield from _outcomes(value)


def unread_note(app: str, outcome: str, read: Collection[str]) -> str:
    """That nothing reads the outcome, with the name that may be meant."""
    return f"no KPI, rule of success or metric of {app} reads the outcome {outcome!r} ({_known(outcome, read)})"


def _known(outcome: str, read: Collection[str]) -> str:
    if not read:
        return "they read none; `kpis` in app.yaml would"
    named = list(read)[:_MOST_KNOWN]
    more = f" and {len(read) - len(named)} more" if len(read) > len(named) else ""
    near = difflib.get_close_matches(outcome, read, n=1)
    return f"known: {', '.join(named)}{more}" + (f"; did you mean {near[0]!r}?" if near else "")


class _Rows(NamedTuple):
    """How many rows, and where the first of them stands."""

    n: int
    first: str

    def and_one(self) -> _Rows:
        return self._replace(n=self.n + 1)


class Unmatched:
    """What the events of one file name that nothing here knows, counted while it is read; the log is asked once for a million requests.

    Args:
        app: whose events they are.
        what: `score` or `outcome`.
        read: the outcomes that something of the app reads.
    """

    def __init__(self, app: str, what: str, read: Collection[str]) -> None:
        self._app = app
        self._what = what
        self._read = read
        self._n = 0
        self._asked: dict[str, _Rows] = {}
        self._missing: _Rows | None = None
        self._unread: dict[str, _Rows] = {}

    def see(self, row: Mapping[str, Any], place: str, logs: RequestLog) -> None:
        """One row that is stored.

        Args:
            row: of `scores` or `outcomes`.
            place: `file:line`.
            logs: asked when there is much to ask for.
        """
        self._n += 1
        request_id = row.get("request_id")
        if request_id is not None:
            known = self._asked.get(request_id)
            self._asked[request_id] = known.and_one() if known else _Rows(1, place)
            if len(self._asked) >= _MOST_ASKED:
                self.ask(logs)
        if "kpi" in row and row["kpi"] not in self._read:
            unread = self._unread.get(row["kpi"])
            self._unread[row["kpi"]] = unread.and_one() if unread else _Rows(1, place)

    def ask(self, logs: RequestLog) -> None:
        """Ask the log for the requests that were named since it was asked last."""
        known = {request_id for _, request_id in logs.known_requests([(self._app, named) for named in self._asked]).requests}
        missing = [rows for named, rows in self._asked.items() if named not in known]
        if missing:
            before = self._missing or _Rows(0, missing[0].first)
            self._missing = before._replace(n=before.n + sum(rows.n for rows in missing))
        self._asked = {}

    @property
    def n_unread(self) -> int:
        """Rows whose outcome nothing reads."""
        return sum(rows.n for rows in self._unread.values())

    def notes(self) -> Iterator[str]:
        """What is to be said of them, after `ask`."""
        if self._missing is not None:
            name = "names a request that is" if self._missing.n == 1 else "name requests that are"
            count = "it counts when that comes" if self._missing.n == 1 else "they count when those come"
            yield f"{self._of_all(self._missing)} {name} not in the log of {self._app} yet; {count}"
        most = sorted(self._unread.items(), key=lambda item: -item[1].n)
        for outcome, rows in most[:_MOST_NAMES]:
            if _PLAIN.fullmatch(outcome):
                yield f"{self._of_all(rows)}: {unread_note(self._app, outcome, self._read)}"
            else:
                yield f"{self._of_all(rows)}: its `kpi` is none that a KPI, rule of success or metric of {self._app} reads"
        if len(most) > _MOST_NAMES:
            yield f"{len(most) - _MOST_NAMES} more names of outcomes that nothing of {self._app} reads"

    def _of_all(self, rows: _Rows) -> str:
        return f"{rows.n:,} of {self._n:,} {self._what}{'' if self._n == 1 else 's'} ({rows.first}{' the first' if rows.n > 1 else ''})"
