"""The metric catalogue where one machine is outgrown: the same expressions, run by Spark over an exported folder.

Everything is SQL that Ibis writes from the catalogue, so that executors run no Python. Only sums by group come back; the numbers and
their intervals are made of them here, by the same code as everywhere.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis

from workbench.errors import StoreError, UsageError
from workbench.observability.answering import Answered, MetricFrame
from workbench.observability.answering import Path as Way
from workbench.observability.asking import Definitions
from workbench.observability.export import MANIFEST, Manifest, parse_manifest, read_manifest
from workbench.observability.facts import LOG
from workbench.observability.frames import Asked, frame, readings
from workbench.observability.measuring import LEVEL, Where
from workbench.observability.model import Window
from workbench.observability.sum_reader import SumReader
from workbench.spec.app import AppSpec
from workbench.spec.metrics import MetricsSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_EXTRA = "pip install 'readiness-workbench[spark]'"
_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",  # what overflows is an error, and not another number
    "spark.sql.caseSensitive": "true",
    "spark.sql.parser.escapedStringLiterals": "false",
}
"""What the catalogue's SQL is written for; set in a session of our own, beside the one that is given."""
_numbers = itertools.count()


class SparkMetrics:
    """The metric catalogue over the folder of an export.

    Args:
        folder: what `workbench export --parquet` wrote: a folder that every executor sees under this path, or its address, such as
            `s3a://bucket/export`.
        session: the Spark session of whoever asks; without one, the session that Spark's own configuration describes.
        app_spec: the declaration of an app, or None for an app that nobody declared.
        app_metrics: its own metrics, or None for an app without any.

    Raises:
        UsageError: PySpark or Java is not installed, or the session cannot be used.
        StoreError: the folder is no whole export, or Spark cannot read it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        session: SparkSession | None = None,
        app_spec: Callable[[str], AppSpec | None] = lambda _: None,
        app_metrics: Callable[[str], MetricsSpec | None] = lambda _: None,
    ) -> None:
        self._folder = str(folder)
        self._subject = f"Spark over the export {folder}"
        self._session = _own(session or _default_session())
        self._app_spec = app_spec
        self._app_metrics = app_metrics
        with _spark_errors(self._subject):
            self._views = {table.get_name(): self._view(table) for table in LOG}
            self.manifest = self._checked_manifest()

    def query(
        self,
        metrics: str | Sequence[str],
        *,
        by: str | Sequence[str] = (),
        window: str | Window | None = None,
        grain: str | None = None,
        where: Where | None = None,
        app: str | None = None,
        detail: bool = False,
    ) -> MetricFrame:
        """One row per group that has requests: as `Metrics.query` answers it from the requests, in the same columns.

        A window such as `7d` ends when the export was made.
        """
        asked = Asked.parse(metrics, by=by, window=window, grain=grain, where=where, app=app, now=self.manifest.exported_at)
        with _spark_errors(self._subject), _Reader.over(self._session, self._views) as reader:
            question = asked.question(Definitions.declared(asked.apps or reader.apps(), self._app_spec, self._app_metrics))
            groups = dict(readings(reader, question, LEVEL if detail else None))
        way = Answered(path=Way.EXACT, error_bound=0.0, reason=f"Spark read the export of snapshot {self.manifest.snapshot}")
        return MetricFrame.of(frame(question, groups, detail=detail), way)

    def _view(self, table: ibis.Table) -> str:
        """The name under which Spark knows one table of the export."""
        from ibis.backends.pyspark.datatypes import PySparkSchema  # noqa: PLC0415 - loads PySpark

        name = f"exported_{table.get_name()}_{next(_numbers)}"
        rows = self._session.read.schema(PySparkSchema.from_ibis(table.schema())).parquet(self._address(table.get_name()))
        rows.select(*table.columns).createOrReplaceTempView(name)
        return name

    def _address(self, name: str) -> str:
        """Where Spark finds a file or folder of the export; its own default may be another file system than this machine's."""
        return f"{self._folder}/{name}" if _is_address(self._folder) else f"file://{Path(self._folder).absolute()}/{name}"

    def _checked_manifest(self) -> Manifest:
        """The manifest, when Spark sees as many rows as it names."""
        if _is_address(self._folder):
            text = self._session.read.text(self._address(MANIFEST), wholetext=True).collect()
            manifest = parse_manifest(text[0][0] if text else "", self._folder)
        else:
            manifest = read_manifest(Path(self._folder))
        counts = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS n FROM `{view}`" for name, view in self._views.items())
        for name, n in self._session.sql(counts).collect():
            if n != manifest.tables[name].rows:
                raise StoreError(
                    f"export {self._folder}: {name}",
                    seen=f"Spark sees {n:,} rows",
                    needed=f"the {manifest.tables[name].rows:,} that were exported",
                    next_step="export it again, or copy it again",
                )
        return manifest


class _Reader(SumReader):
    """A look at the views of an export."""

    dialect = "pyspark"
    quote = "`"
    microseconds = "unix_micros"

    def __init__(self, session: SparkSession, views: dict[str, str]) -> None:
        super().__init__({name: f"SELECT * FROM `{view}`" for name, view in views.items()})
        self._session = session
        self._kept: dict[str, DataFrame] = {}

    @classmethod
    @contextmanager
    def over(cls, session: SparkSession, views: dict[str, str]) -> Iterator[_Reader]:
        """The reader; what it keeps is given up afterwards."""
        reader = cls(session, views)
        try:
            yield reader
        finally:
            for view, rows in reader._kept.items():
                session.catalog.dropTempView(view)
                rows.unpersist()

    def apps(self) -> tuple[str, ...]:
        return tuple(row["app"] for row in self.rows("SELECT DISTINCT app FROM `requests` ORDER BY app"))

    def _answer(self, sql: str) -> list[dict[str, Any]]:
        return [row.asDict() for row in self._session.sql(sql).collect()]

    def _keep(self, name: str, sql: str) -> str:
        view = f"{name}_{next(_numbers)}"
        self._kept[view] = self._session.sql(sql).persist()
        self._kept[view].createOrReplaceTempView(view)
        return f"SELECT * FROM `{view}`"


def _is_address(folder: str) -> bool:
    return "://" in folder


def _default_session() -> SparkSession:
    """The session that Spark's configuration and environment describe: all cores of this machine where they say nothing."""
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - an extra
    except ImportError as fault:
        raise UsageError("Spark", seen="PySpark is not installed", next_step=_EXTRA) from fault
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise UsageError(
            "Spark",
            seen="Java is not installed",
            needed="Java 17 or 21",
            next_step="apt-get install openjdk-17-jre-headless, or set JAVA_HOME",
        )
    with _spark_errors("Spark session"):
        return SparkSession.builder.appName("readiness workbench").getOrCreate()


def _own(session: SparkSession) -> SparkSession:
    """A session beside the given one, on the same cluster, with its own settings and views."""
    _ = ibis.pyspark  # registers the options that Ibis reads when it writes SQL for Spark
    if "connect" in type(session).__module__:
        raise UsageError("Spark session", seen="a session of Spark Connect", needed="a classic one, `SparkSession.builder.master(…)`")
    own = session.newSession()
    for name, value in _SETTINGS.items():
        own.conf.set(name, value)
    return own


@contextmanager
def _spark_errors(subject: str) -> Iterator[None]:
    """What Spark complains of, as one of our errors."""
    from py4j.protocol import Py4JError  # noqa: PLC0415 - comes with PySpark
    from pyspark.errors import PySparkException  # noqa: PLC0415 - an extra

    try:
        yield
    except (PySparkException, Py4JError) as fault:
        seen = next((line.strip() for line in str(fault).splitlines() if line.strip()), type(fault).__name__)
        raise StoreError(subject, seen=seen[:400], next_step="look into the log of Spark's driver") from fault
