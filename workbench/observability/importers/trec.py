"""The plain-text forms of retrieval research: judgments (qrels), a system's ranked lists (a run), and topics with their queries.

    qrels   topic  0   document  grade                     also: topic document grade, under a heading
    run     topic  Q0  document  rank  score  name         the rank is not read: scores decide, as in trec_eval
    topics  topic <tab> query, or JSON lines with `_id` (`id`, `topic`) and `text` (`query`, `title`)

A file is read whole or refused whole, with the line of each fault: half a set of judgments would make every score look better.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from workbench.errors import UsageError
from workbench.observability.importers.files import LONGEST_LINE, checked_head, lines_of, no_records

Qrels = dict[str, dict[str, int]]
"""Topic to document to grade."""
Run = dict[str, dict[str, float]]
"""Topic to document to score."""
_SHOWN = 3
"""Faults that a message tells of; it counts the others."""
_WHOLE = re.compile(r"[+-]?[0-9]{1,6}")
_ID_KEYS, _TEXT_KEYS = ("_id", "id", "topic", "qid"), ("text", "query", "title")
_HEADINGS = frozenset({"score", "grade", "relevance", "rel", "label"})
"""What stands over the grades where a file has a heading."""
_LONGEST_NAME = 512
_QREL, _SHORT_QREL, _RUN = 4, 3, 6


class _Fault(ValueError):
    """What is wrong with a line; never quotes a query."""


def read_qrels(path: Path) -> Qrels:
    """The judgments of a file.

    Raises:
        UsageError: it cannot be read, or a line is wrong; names the lines.
    """
    found: Qrels = {}

    def take(line: str, number: int) -> None:
        fields = line.split()
        if len(fields) == _SHORT_QREL and number == 1 and fields[2].casefold() in _HEADINGS:
            return
        if len(fields) not in (_QREL, _SHORT_QREL):
            raise _Fault(f"{len(fields)} fields; needed: topic 0 document grade")
        topic, doc, grade = fields[0], fields[-2], fields[-1]
        if not _WHOLE.fullmatch(grade):
            raise _Fault("the grade is no whole number")
        known = found.setdefault(_name(topic, "topic"), {})
        if known.setdefault(_name(doc, "document"), int(grade)) != int(grade):
            raise _Fault("the document was judged before, with another grade")

    _each_line(path, take)
    return found


def read_run(path: Path) -> Run:
    """The scores of a file, in any order of lines.

    Raises:
        UsageError: it cannot be read, or a line is wrong; names the lines.
    """
    found: Run = {}

    def take(line: str, _: int) -> None:
        fields = line.split()
        if len(fields) != _RUN:
            raise _Fault(f"{len(fields)} fields; needed: topic Q0 document rank score name")
        topic, doc, score = fields[0], fields[2], _score(fields[4])
        known = found.setdefault(_name(topic, "topic"), {})
        if _name(doc, "document") in known:
            raise _Fault("the document stands in the list of this topic twice")
        known[doc] = score

    _each_line(path, take)
    return found


def read_topics(path: Path) -> dict[str, str]:
    """Topic to its query.

    Raises:
        UsageError: it cannot be read, or a line is wrong; names the lines.
    """
    found: dict[str, str] = {}

    def take(line: str, _: int) -> None:
        topic, query = _from_json(line) if line.startswith("{") else _from_tabs(line)
        if not query.strip():
            raise _Fault("the query is empty")
        if found.setdefault(_name(topic, "topic"), query.strip()) != query.strip():
            raise _Fault("the topic stands above with another query")

    _each_line(path, take)
    return found


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise _Fault("the score is no finite number")
    return score


def _name(text: str, what: str) -> str:
    if not 0 < len(text) <= _LONGEST_NAME:
        raise _Fault(f"the {what}'s name has {len(text)} characters; needed: 1 to {_LONGEST_NAME}")
    return text


def _from_tabs(line: str) -> tuple[str, str]:
    topic, tab, query = line.partition("\t")
    if not tab:
        raise _Fault("no tab; needed: topic, a tab, query")
    return topic.strip(), query


def _from_json(line: str) -> tuple[str, str]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _Fault("is not JSON") from error
    topic = next((record[key] for key in _ID_KEYS if isinstance(record.get(key), str | int)), None)
    query = next((record[key] for key in _TEXT_KEYS if isinstance(record.get(key), str)), None)
    if topic is None or query is None:
        raise _Fault(f"needed: one of {', '.join(_ID_KEYS)} and one of {', '.join(_TEXT_KEYS)}")
    return str(topic), query


def _each_line(path: Path, take: Callable[[str, int], None]) -> None:
    """Give every line that is not blank to `take`.

    Raises:
        UsageError: the file cannot be read, it has no line, or `take` found faults.
    """
    subject = str(path)
    checked_head(path, subject=subject)
    n, faults = 0, list[str]()
    for number, line in _lines(path, faults):
        n += 1
        try:
            take(line, number)
        except _Fault as fault:
            faults.append(f"line {number}: {fault}")
    if faults:
        more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        raise UsageError(subject, seen="; ".join(faults[:_SHOWN]) + more, next_step="nothing was read; correct the file")
    if not n:
        raise no_records(subject, "every line is blank")


def _lines(path: Path, faults: list[str]) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for line in lines_of(file):
            if line.text is None:
                faults.append(f"line {line.number}: longer than {LONGEST_LINE // 2**20} MiB")
                continue
            try:
                text = line.text.decode("utf-8").strip()
            except UnicodeDecodeError:
                faults.append(f"line {line.number}: is not UTF-8")
                continue
            if text:
                yield line.number, text
