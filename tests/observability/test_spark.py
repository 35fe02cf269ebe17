"""The catalogue on Spark: over an export it finds the numbers that DuckDB finds in the lake, to the ends of their intervals."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.observability.metric_oracle import START, spec_of
from tests.observability.spark_log import APP, EVERYTHING, ODD, OF_FAMILIES, OWN, SIZES, WEIGHTED, rows
from tests.spark import running_spark
from workbench.errors import StoreError, UnknownSubject, UsageError
from workbench.observability.catalogue import FAMILIES
from workbench.observability.export import MANIFEST
from workbench.observability.metrics import Metrics
from workbench.observability.model import Window
from workbench.observability.spark import SparkMetrics
from workbench.workspace import Workspace

pytestmark = [
    pytest.mark.soak,  # a cluster of three JVMs, and 435 MB to install
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # PySpark leaves the socket of each answer to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
DECLARED = {"app_spec": spec_of, "app_metrics": {APP: OWN}.get}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("spark log")


@pytest.fixture(scope="module")
def lake(folder):
    """The metrics over the log, by DuckDB."""
    with Workspace.open(folder / "ws") as ws:
        ws.logs.record(rows())
        ws.logs.flush()
        ws.exports.parquet(folder / "export")
        yield Metrics(ws.lake, clock=lambda: START, **DECLARED)


@pytest.fixture(scope="module")
def spark(lake, folder):
    """The metrics over its export, by Spark."""
    with running_spark(folder) as session:
        yield SparkMetrics(folder / "export", session=session, **DECLARED)


def check_alike(by_spark: pl.DataFrame, by_duckdb: pl.DataFrame) -> None:
    assert by_duckdb.height > 0
    assert_frame_equal(by_spark, by_duckdb, rel_tol=1e-12, abs_tol=1e-15)


@pytest.mark.timeout(900)
def test_every_metric_is_the_same_over_all_requests_and_in_groups_of_every_size(lake, spark):
    """Values, observations, counts and ends of intervals; of groups of 1 to 6 requests of own units, of one unit, and of none."""
    assert [family.name for family in FAMILIES if not any(map(family.made, OF_FAMILIES))] == []
    whole = lake.query(EVERYTHING, app=APP, detail=True, exact=True)
    assert [name for name in EVERYTHING if not whole[f"{name}_n"][0]] == []
    check_alike(spark.query(EVERYTHING, app=APP, detail=True), whole)
    groups = lake.query(EVERYTHING, app=APP, by="bundle", detail=True, exact=True)
    assert {f"{kind}{size}" for kind in ("own", "shared", "nobody") for size in SIZES} <= set(groups["bundle"])
    check_alike(spark.query(EVERYTHING, app=APP, by="bundle", detail=True), groups)


def test_sampled_scores_are_weighted_alike(lake, spark):
    weighted = lake.query(WEIGHTED, by=["app", "bundle"], detail=True, exact=True)
    assert (
        weighted.select("success_rate_count", "retrieval_hit_rate_count").null_count().row(0) == (weighted.height,) * 2
    )  # no whole numbers
    check_alike(spark.query(WEIGHTED, by=["app", "bundle"], detail=True), weighted)


def test_windows_steps_filters_and_reasons_choose_the_same_rows(lake, spark):
    names = ["success_rate", "latency_p50", "conversion"]
    window = Window(start=START + timedelta(minutes=20, microseconds=1), until=START + timedelta(hours=7))
    asked = {"by": ["workflow"], "grain": "1h", "window": window, "where": {"workflow": [ODD, "buy"]}, "app": APP}
    check_alike(spark.query(names, **asked), lake.query(names, exact=True, **asked))
    reasons = {"by": ["workflow", "failure_reason"], "where": {"arm": "stable"}}
    check_alike(spark.query("volume", **reasons), lake.query("volume", exact=True, **reasons))
    answered = spark.query("volume").answered
    assert answered.reason == f"Spark read the export of snapshot {spark.manifest.snapshot}"
    assert spark.query("volume", window="1d").is_empty()  # it ends when the export was made
    with pytest.raises(UnknownSubject, match="latency_p51x"):
        spark.query("latency_p51x")


def test_what_is_not_installed_is_named_with_the_step_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyspark.sql", None)
        with pytest.raises(UsageError, match=r"PySpark is not installed.*readiness-workbench\[spark\]"):
            SparkMetrics(tmp_path)
    pytest.importorskip("pyspark")
    with pytest.raises(UsageError, match=r"Java is not installed.*openjdk-17-jre-headless"):
        SparkMetrics(tmp_path)


def test_an_export_that_is_not_whole_is_refused(spark, folder):
    session = spark._session
    copy = folder / "copy"
    shutil.copytree(folder / "export", copy)
    added = next(copy.glob("requests/**/*.parquet"))
    shutil.copy(added, added.with_name("again.parquet"))
    with pytest.raises(StoreError, match="requests: Spark sees"):
        SparkMetrics(copy, session=session)
    address = copy.as_uri()
    added.with_name("again.parquet").unlink()
    assert SparkMetrics(address.replace("%20", " "), session=session).manifest == spark.manifest
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**manifest, "snapshot": 0}))
    with pytest.raises(StoreError, match="not what was written"):
        SparkMetrics(copy, session=session)
    with pytest.raises(StoreError, match=r"PATH_NOT_FOUND"):
        SparkMetrics(folder / "nowhere", session=session)
