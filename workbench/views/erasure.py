"""Erasures and upkeep as text: what is gone, what is not yet and until when, and what nobody here can reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from workbench.observability.erasure import ErasedPart, ErasureReport
from workbench.observability.upkeep import UpkeepReport
from workbench.views.numbers import counted
from workbench.views.tables import WIDTH, rows_text, shown


def erasure_text(report: ErasureReport, *, width: int = WIDTH) -> str:
    """One erasure: its state, what each store did, and what it does not reach."""
    if report.is_done:
        state = "is done" if report.n_removed else "is done: no store held anything of it"
    else:
        state = "goes on" + (f" after {_time(report.until)}" if report.until else "")
    lines = [f"erasure {report.erasure_id} of unit {report.unit_hash} {state}"]
    rows = [row for part in report.parts for row in _rows(part)]
    if rows:
        lines += ["", rows_text(rows, width=width)]
    lines += ["", *(f"{part.store}: left {part.left}" for part in report.parts if part.left)]
    lines += [f"not reached: {'; '.join(report.beyond)}"]
    if not report.is_done:
        lines += ["`workbench erase --finish` goes on with it, and so does `workbench lake maintain`."]
    return shown("\n".join(lines))


def erasures_text(reports: Sequence[ErasureReport], *, width: int = WIDTH) -> str:
    """Several erasures, one below the other."""
    return "\n\n".join(erasure_text(report, width=width) for report in reports) or "no erasure is pending"


def upkeep_text(report: UpkeepReport) -> str:
    """What a regular run did."""
    did = [("sum hours that got rows", report.hours), *report.done.items()]
    done = [f"{step}: {n}" for step, n in did if n]
    if report.waits_until is not None:
        done.append(
            f"nothing {'more ' if done else ''}to do before {_time(report.waits_until)}: given-up files may still be read until then"
        )
    return "\n".join(done) or "nothing to do"


def evidence_text(answers: Mapping[str, str], *, width: int = WIDTH) -> str:
    """One line per record: what the log says of it now."""
    rows = [{"evidence": evidence_id, "now": answer} for evidence_id, answer in answers.items()]
    return rows_text(rows, empty="the review rests on no evidence", width=width)


def _rows(part: ErasedPart) -> Iterator[dict[str, object]]:
    removed = ", ".join(counted(n, what.removesuffix("s")) for what, n in part.removed.items() if n) or None
    if removed or part.pending:
        yield {"store": part.store, "removed": removed, "pending": part.pending or None, "until": part.until}


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
