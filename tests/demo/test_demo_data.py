"""The committed demo files: valid, pinned, consistent with each other, and found wherever the package lies."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from workbench.demo import resources
from workbench.demo.customers import known_facts
from workbench.demo.indexing import index_content
from workbench.demo.resources import demo_folder
from workbench.errors import StoreError
from workbench.ownership.rota import gaps
from workbench.spec.loading import load_app_folder
from workbench.versions.reading import read_bundle

NAMES = ("v1", "v2", "v3", "v4", "v5", "v6")


def articles(name: str = "articles.jsonl") -> dict[str, dict]:
    lines = (demo_folder() / "shop" / name).read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_there_are_sixty_articles_and_each_fact_stands_in_its_own():
    known = articles()
    assert len(known) >= 60
    assert {fact.article for fact in known_facts()} == set(known)
    assert all(fact.fact in known[fact.article]["text"] for fact in known_facts())


def test_last_years_articles_are_fewer_and_partly_outdated():
    now, then = articles(), articles("articles_2025.jsonl")
    assert set(then) < set(now)
    assert any(then[key]["text"] != now[key]["text"] for key in then)


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_index_is_what_its_sources_give(name):
    folder = demo_folder() / "bundles" / name
    built = index_content(folder)
    assert built is None or built == (folder / "index.json").read_bytes(), "run python -m workbench.demo.indexing"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_bundle_is_unpinned(name):
    read = read_bundle(demo_folder() / "bundles" / name)
    assert read.bundle.unpinned == ()
    assert read.bundle.app == "support"
    assert any(path.endswith("assistant/agent.py") for path in read.files)


def test_no_two_bundles_are_the_same():
    assert len({read_bundle(demo_folder() / "bundles" / name).bundle.digest for name in NAMES}) == len(NAMES)


def test_the_app_folder_is_complete_and_somebody_is_always_on_call():
    app = load_app_folder(demo_folder())
    assert app.people is not None
    assert app.rota is not None
    assert app.gates is not None
    assert app.plan is not None
    start = datetime(2026, 11, 1, tzinfo=UTC)
    berlin = ZoneInfo("Europe/Berlin")
    uncovered = gaps(app.rota, app.people, start, start + timedelta(days=400))
    assert {(f"{gap.start.astimezone(berlin):%a %H:%M}", f"{gap.until.astimezone(berlin):%a %H:%M}") for gap in uncovered} == {
        ("Mon 05:00", "Mon 09:00")
    }, "the demo's one gap, which a stand-in fills in the story"
    assert len(uncovered) == 57
    assert [step.share for step in app.plan.steps] == [0.1, 0.25, 0.5]


def test_the_demo_is_found_in_a_wheel_and_in_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "site" / "workbench"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "files", lambda _name: package)
    with pytest.raises(StoreError, match="reinstall"):
        resources.demo_folder()
    in_checkout = tmp_path / "site" / "data" / "demo"
    in_checkout.mkdir(parents=True)
    assert resources.demo_folder() == in_checkout
    shipped = package / "_shipped" / "demo"
    shipped.mkdir(parents=True)
    assert resources.demo_folder() == shipped
