"""The checks of `workbench doctor`: each gives what it looked at, the state, what was seen, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.ledger.audit import verify
from workbench.settings import default_home
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from workbench.observability.health import Finding

Row = dict[str, str]
_SHOWN = 3
"""Of what should not be there, the newest."""


def run_checks() -> list[Row]:
    """Rows `check, state (ok | note | broken), seen, next step`; a broken check never stops the next one."""
    rows = [_row("python", "ok", sys.version.split()[0]), *_packages()]
    home = default_home()
    if not home.exists():
        return [*rows, _row("workspace", "note", f"{home} does not exist yet; `workbench demo` or `workbench import` makes it")]
    rows.append(_row("workspace", "ok", str(home)))
    with Workspace.open(create=False) as ws:
        looks = {"ledger": _ledger, "lake": _lake, "spools": _spools, "vault": _vault}
        rows += [_try(check, partial(look, ws)) for check, look in looks.items()]
        rows += _lake_health(ws)
        rows += [_find("unfinished requests", lambda: _unfinished(ws)), _find("audit gaps", lambda: _gaps(ws))]
    return rows


def _packages() -> Iterator[Row]:
    wanted = version("duckdb")
    for extension in ("ducklake", "sqlite-scanner", "postgres-scanner", "httpfs"):
        package = f"duckdb-extension-{extension}"
        try:
            seen = version(package)
        except PackageNotFoundError:
            is_optional = extension in {"postgres-scanner", "httpfs"}
            yield _row(package, "note" if is_optional else "broken", "not installed" + (" (extra `shared`)" if is_optional else ""))
            continue
        yield _row(
            package, "ok" if seen == wanted else "broken", seen if seen == wanted else f"{seen}, but duckdb is {wanted}; they must be equal"
        )


def _ledger(ws: Workspace) -> str:
    with ws.ledger.read() as connection:
        report = verify(connection)
    report.require_whole()
    return f"{report.n} audit entries, chain whole"


def _lake(ws: Workspace) -> str:
    report = ws.lake.files()
    if report is None:
        return "nothing was logged yet"
    report.require_whole(f"log lake {ws.lake.address}")
    some = f"; the ends of the newest {report.n_ends:,} were read" if 0 < report.n_ends < report.n else ""
    return f"readable at snapshot {report.snapshot}, whose {report.n:,} files are there{some}"


def _lake_health(ws: Workspace) -> list[Row]:
    """What a lake that was written needs; one row in place of what cannot be told."""
    try:
        if ws.lake.snapshot() is None:
            return []
        found = [_found(finding) for finding in ws.keeper.findings(every=ws.settings.upkeep_every)]
    except WorkbenchError as error:
        found = [_row("lake health", "broken", str(error))]
    for check, look in (("files of killed writers", ws.keeper.orphans), ("retention", ws.keeper.retention)):
        try:
            found.append(_found(look()))
        except WorkbenchError as error:
            found.append(_row(check, "broken", str(error)))
    return found


def _found(finding: Finding) -> Row:
    return _row(finding.check, finding.state.value, finding.seen, finding.next_step)


def _spools(ws: Workspace) -> str:
    waiting = ws.logs.waiting()
    return "empty" if not waiting else ", ".join(f"{spool}: {n} rows wait for the lake" for spool, n in waiting.items())


def _unfinished(ws: Workspace) -> str:
    found = ws.logs.unfinished()
    if not found:
        return ""
    newest = ", ".join(request.request_id for request in found[: -_SHOWN - 1 : -1])
    what = "request died with its process" if len(found) == 1 else "requests died with their process"
    return f"{len(found):,} {what} (status unknown), newest first: {newest}; `workbench audit unfinished` lists all"


def _gaps(ws: Workspace) -> str:
    return "; ".join(map(str, ws.logs.gaps()[: -_SHOWN - 1 : -1]))


def _vault(ws: Workspace) -> str:
    return "a key is given" if ws.handoffs.can_hold("") else "no key is given: nothing is held for a person"


def _try(check: str, look: Callable[[], str]) -> Row:
    try:
        return _row(check, "ok", look())
    except WorkbenchError as error:
        return _row(check, "broken", str(error))


def _find(check: str, look: Callable[[], str]) -> Row:
    """As `_try`, for something that should not be there."""
    row = _try(check, look)
    if row["state"] != "ok":
        return row
    return _row(check, "note", row["seen"]) if row["seen"] else _row(check, "ok", "none")


def _row(check: str, state: str, seen: str, next_step: str = "") -> Row:
    return {"check": check, "state": state, "seen": seen, "next step": next_step}
