"""A real Spark cluster for tests: two workers beside the driver, each a JVM of its own, on loopback, gone afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PACKAGE = "openjdk-17-jre-headless"
_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""What begins sooner, and works slower."""
_SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.constraintPropagation.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",  # to compile the code of a query takes longer than to run it over so few rows
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.extraJavaOptions": _JVM,
    "spark.executor.extraJavaOptions": _JVM,
}


@contextmanager
def running_spark(tmp: Path) -> Iterator[SparkSession]:
    """A session on `local-cluster[2,1,1024]`: two workers with a core and 1 GiB each.

    Args:
        tmp: where the cluster writes.

    Skips the test where PySpark or Java is not installed; fails instead where the variable CI is set.
    """
    _require()
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SPARK_HOME", str(_home(tmp / "home")))
        environment.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        environment.setenv("SPARK_LOCAL_DIRS", str(tmp / "scratch"))
        builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("tests")
        for name, value in {**_SETTINGS, "spark.sql.warehouse.dir": str(tmp / "warehouse")}.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        try:
            yield session
        finally:
            _end(session)


def _require() -> None:
    try:
        import pyspark  # noqa: F401
    except ImportError:
        sentence = "PySpark is not installed; `make spark` provides it"
    else:
        if os.environ.get("JAVA_HOME") or shutil.which("java"):
            return
        sentence = f"Java is not installed; `apt-get install {PACKAGE}` provides it"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def _home(folder: Path) -> Path:
    """A Spark home of links to the installed one: a local cluster keeps its workers' files in its home."""
    import pyspark

    folder.mkdir()
    for part in Path(pyspark.__file__).parent.iterdir():
        (folder / part.name).symlink_to(part)
    return folder


def _end(session: SparkSession) -> None:
    """Stop the cluster and its driver's JVM, which else lives as long as this process."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    session.stop()
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(timeout=60)
        SparkContext._gateway = SparkContext._jvm = None
