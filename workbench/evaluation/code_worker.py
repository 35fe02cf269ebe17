"""The process in which a scorer's code runs: a line of JSON in, a line of JSON out. It ends with its standard input.

It has nothing of the workspace: no stores, no keys, no environment but where Python finds its packages. What the code prints goes nowhere.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping
from io import FileIO
from typing import Any

import orjson

from workbench.controls.modules import load_entry
from workbench.errors import UsageError
from workbench.evaluation.model import Done, ScoredRequest
from workbench.evaluation.scorer import ScorerFault, score_value

_LATER_S = 1.0
"""After a scorer's time the process that asked ends this one; where that process is gone, it ends by itself so much later."""


def request_of(content: Mapping[str, Any]) -> ScoredRequest:
    """The request as `as_json` wrote it."""
    return ScoredRequest(**{**content, "steps": tuple(Done(**step) for step in content["steps"])})


def said_of(entry: Callable[[ScoredRequest], Any], request: ScoredRequest) -> dict[str, Any]:
    """What the code says of a request, as the line that leaves: `{"said": …}`, or `{"fault": kind, "words": …}`."""
    try:
        said = entry(request)
        if inspect.isawaitable(said):
            said = asyncio.run(_awaited(said))
        found = score_value(said)
    except ScorerFault as fault:
        return {"fault": fault.kind, "words": str(fault)}
    except Exception as fault:  # noqa: BLE001 - somebody else's code; its words may quote the answer
        return {"fault": "failed", "words": type(fault).__name__}
    return {"said": found and {"value": found.value, "label": found.label, "explanation": found.explanation}}


async def _awaited(said: Any) -> Any:
    return await said


def main() -> int:
    """Serve until standard input ends."""
    os.nice(10)
    lines, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # the code neither reads what is asked nor writes what is answered
        os.dup2(nowhere, stream)
    first = orjson.loads(lines.readline())
    try:
        files = {path: text.encode() for path, text in first["files"].items()}
        entry = load_entry(first["entry"], files, digest=first["digest"], subject=f"scorer {first['entry']}")
    except UsageError as error:
        _tell(answers, {"fault": "not_loaded", "words": str(error)})
        return 2
    _tell(answers, {"said": None})
    for line in lines:
        signal.setitimer(signal.ITIMER_REAL, first["timeout_s"] + _LATER_S)
        told = said_of(entry, request_of(orjson.loads(line)))
        signal.setitimer(signal.ITIMER_REAL, 0)
        _tell(answers, told)
    return 0


def _tell(answers: FileIO, content: Mapping[str, Any]) -> None:
    answers.write(orjson.dumps(content) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
