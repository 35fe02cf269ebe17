"""The demo's bundles, whole or with one part of another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench.controls.hosting import HostedBundle
from workbench.demo.customers import customers
from workbench.demo.resources import demo_folder
from workbench.demo.rows import Rows, RowWriter
from workbench.demo.shop import Shop
from workbench.demo.traffic import run_traffic
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer
from workbench.versions.reading import read_bundle

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = b"a key of thirty-two bytes, tests"
SHOP = Shop(seed=11)


@dataclass(frozen=True)
class Seen:
    """What traffic on one bundle came to."""

    rows: Rows

    def mean(self, score: str) -> float:
        values = [row["value"] for row in self.rows["scores"] if row["name"] == score]
        return sum(values) / len(values)

    def share(self, column: str) -> float:
        return sum(bool(row[column]) for row in self.rows["requests"]) / len(self.rows["requests"])

    def rules(self) -> set[str]:
        return {rule for row in self.rows["requests"] for rule in row["violation_rules"]}

    def latency_ms(self, share: float) -> float:
        latencies = sorted(row["latency_ms"] for row in self.rows["requests"])
        return latencies[int(share * len(latencies))]


def serve(folder: Path, *, n: int = 600, shop: Shop = SHOP, batch: int = 500) -> Seen:
    """The first `n` customers on the bundle of a folder."""
    read = read_bundle(folder)
    rows: Rows = {"requests": [], "spans": [], "scores": [], "outcomes": []}
    writer = RowWriter(seed=shop.seed, sealer=Sealer(Redactor(KEY), KEY))
    hosted = HostedBundle(read.bundle, read.files)
    for part in run_traffic(hosted, customers(shop, first=0, n=n), shop=shop, now=NOW, writer=writer, batch=batch):
        for name, entries in part.items():
            rows[name].extend(entries)
    return Seen(rows)


@pytest.fixture(scope="session")
def bundle_folder() -> Callable[[str], Path]:
    return lambda name: demo_folder() / "bundles" / name


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Folder of a copy of v2 with settings of bundle.yaml replaced and files overwritten."""

    def make(settings: dict[str, dict[str, Any]] | None = None, files: dict[str, bytes] | None = None) -> Path:
        app = tmp_path / "app"
        shutil.copytree(demo_folder(), app)
        folder = app / "bundles" / "v2"
        spec = yaml.safe_load((folder / "bundle.yaml").read_text())
        for part, values in (settings or {}).items():
            spec[part].update(values)
        (folder / "bundle.yaml").write_text(yaml.safe_dump(spec))
        for path, content in (files or {}).items():
            (folder / path).write_bytes(content)
        return folder

    return make


@pytest.fixture(scope="session")
def v1_seen() -> Seen:
    return serve(demo_folder() / "bundles" / "v1")


@pytest.fixture(scope="session")
def v2_seen() -> Seen:
    return serve(demo_folder() / "bundles" / "v2")


@pytest.fixture(scope="session")
def v3_seen() -> Seen:
    return serve(demo_folder() / "bundles" / "v3")


@pytest.fixture(scope="session")
def serving() -> Callable[..., Seen]:
    return serve


@pytest.fixture(scope="session")
def shop() -> Shop:
    return SHOP
