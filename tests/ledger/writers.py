"""Processes that write to a ledger: started by tests, some of them to be killed."""

from __future__ import annotations

import sqlite3
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from workbench.ledger.store import Ledger
from workbench.ledger.tables import settings


@dataclass(frozen=True)
class Writer:
    person: str = "primary"
    via: str = "cli"
    assurance: str = "local"


def open_ledger(url: str) -> Ledger:
    return Ledger.open(url, clock=lambda: datetime.now(UTC))


def append_many(url: str, name: str, n: int) -> int:
    """Opens the ledger, which may be new, and writes n acts: a settings row and its entry each."""
    ledger = open_ledger(url)
    for i in range(n):
        write_act(ledger, f"{name}-{i}")
    ledger.close()
    return n


def write_act(ledger: Ledger, name: str) -> None:
    with ledger.write() as act:
        act.audit(Writer(), "declare", app="support", subject=name, detail={"name": name})
        act.connection.execute(settings.insert().values(name=name, value="1"))


def raw(url: str, *statements: str) -> list[tuple]:
    """Runs SQL behind the ledger's back; the rows of the last statement."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else psycopg.connect(url)
    try:
        for statement in statements:
            cursor = connection.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
    finally:
        connection.close()
    return rows


def main(url: str, how: str) -> None:
    ledger = open_ledger(url)
    if how == "hang":
        with ledger.write() as act:
            act.audit(Writer(), "declare", app="support", subject="half", detail={})
            act.connection.execute(settings.insert().values(name="half", value="1"))
            print("inside", flush=True)
            time.sleep(600)
    for i in range(1_000_000):
        write_act(ledger, f"{how}-{i}")
        print(i, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
