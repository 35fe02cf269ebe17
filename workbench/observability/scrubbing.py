"""What deleted rows leave in a SQLite file, removed: free pages by VACUUM, the write-ahead log by a truncating checkpoint.

Run as a file it does that to a lake's catalogue: DuckDB has a SQLite of its own, and two in one process drop each other's locks. So this
file imports nothing but the standard library, and the process that has the lake attached starts another one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path

_WAIT_S = 5.0
"""For readers and writers that have the file in use; their transactions are short, and writers of the lake wait meanwhile."""
BUSY = 3
"""Exit code: somebody used the file all the time."""


def scrub(spool: Path, mark: int) -> None:
    """Delete a spool's rows up to `mark`, which the lake holds, and leave nothing of any deleted row in its file.

    The owner may be at work: it waits for this as for any other writer.

    Raises:
        StoreError: the file is damaged, or was in use all the time.
    """
    from workbench.errors import StoreError  # noqa: PLC0415 - see above

    try:
        with _opened(spool) as connection:
            connection.execute("DELETE FROM rows WHERE seq <= ?", (mark,))
            is_clean = _cleaned(connection)
    except sqlite3.Error as fault:
        raise StoreError(f"spool {spool}", seen=f"deleted rows could not be overwritten: {fault}", next_step="run it again") from fault
    if not is_clean:
        raise StoreError(f"spool {spool}", seen="its write-ahead log is in use", next_step="run it again")


def _opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT_S))


def _cleaned(connection: sqlite3.Connection) -> bool:
    """Whether nothing but present rows is left; False when somebody reads the log of before."""
    connection.execute("VACUUM")
    return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]


def _main(path: Path) -> int:
    try:
        with _opened(path) as connection:
            return 0 if _cleaned(connection) else BUSY
    except sqlite3.OperationalError as fault:
        sys.stderr.write(f"{fault}\n")
        return BUSY if "locked" in str(fault) else 1


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
