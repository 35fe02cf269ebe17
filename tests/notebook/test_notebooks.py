"""The notebooks are pages for readers: thin, without outputs, and each runs on recorded traffic."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest
import yaml

from tests.observability.test_impact import KPIS, Town
from tests.readiness.test_review_service import OPERATOR, rows, write_app
from workbench import notebook
from workbench.errors import UnknownSubject, UsageError, WorkbenchError
from workbench.notebook.running import TAG, literal, run
from workbench.views.page import page_text
from workbench.views.review import PARTS, part_of
from workbench.workspace import Workspace

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
REVIEW = next(path for path in NOTEBOOKS if path.name == "01_readiness_review.ipynb")
OPERATIONS = next(path for path in NOTEBOOKS if path.name == "04_operations.ipynb")
FIGURE = "application/vnd.plotly.v1+json"
SLO = """\
min_events: 20
alerts:
  - {burn_rate: 2, long: 12h, short: 1h, severity: page}
objectives:
  - {name: answers, indicator: availability, target: 0.9}
  - {name: settled, indicator: success, target: 0.8}
"""
IMPACT = next(path for path in NOTEBOOKS if path.name == "05_business_impact.ipynb")
ids = [path.name for path in NOTEBOOKS]


def code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_a_notebook_begins_with_a_title_and_one_line_under_it(path):
    title, blank, line = nbformat.read(path, as_version=4).cells[0].source.splitlines()
    assert title.startswith("# ")
    assert not blank
    assert line


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_a_notebook_is_committed_without_outputs_counts_or_machine_metadata(path):
    page = nbformat.read(path, as_version=4)
    assert set(page.metadata) <= {"kernelspec", "language_info"}
    assert set(page.metadata.language_info) == {"name"}
    for cell in code(path):
        assert (cell.outputs, cell.execution_count) == ([], None)
        assert set(cell.metadata) <= {"tags"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_cells_are_short_and_hold_no_logic(path):
    for cell in code(path):
        assert len(cell.source.splitlines()) <= 8
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.For | ast.If | ast.Try)
        assert not re.search(r"(?i)\bselect\b.*\bfrom\b|https?://|<style|\.(?:csv|sqlite|duckdb|yaml)\b", cell.source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_only_the_workbench_is_imported(path):
    for cell in code(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"workbench", "workbench.notebook"}
            if isinstance(node, ast.ImportFrom):
                assert node.module in {"workbench", "workbench.notebook"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)
def test_one_cell_holds_the_parameters(path):
    assert len([cell for cell in code(path) if TAG in cell.metadata.get("tags", [])]) == 1


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with an app and two bundles with traffic of this hour, reviewed by the login of this machine."""
    place = tmp_path_factory.mktemp("notebook")
    folder = write_app(place / "app")
    import getpass

    people = folder / "people.yaml"
    people.write_text(people.read_text().replace("os: [primary]", f"os: [primary, {getpass.getuser()}]"))
    (folder / "slo.yaml").write_text(SLO)
    ago = datetime(2026, 3, 2, 12, 0, tzinfo=UTC) - datetime.now(UTC) + timedelta(hours=1)
    with Workspace.open(place / "home", actor=OPERATOR) as ws:
        for name, slow in (("v1", 1.0), ("v2", 3.0)):
            bundle = ws.versions.register(folder / "bundles" / name).bundle
            ws.logs.record(rows(bundle.bundle_id, n=200, good=180, slow=slow, ago=ago))
        ws.logs.flush()
    return place / "home"


@pytest.fixture(scope="module")
def executed(home):
    return run(REVIEW, {"app": "support", "bundle": "v2", "baseline": "v1"}, workspace_home=home)


def shown(page) -> list[str]:
    return [output.data["text/plain"] for cell in page.cells for output in cell.get("outputs", []) if "data" in output]


@pytest.mark.slow
def test_the_review_notebook_shows_the_words_of_the_terminal(executed, home):
    with Workspace.open(home) as ws:
        review = ws.readiness.reviews("support")[-1]
    texts = shown(executed)
    for name in PARTS:
        assert page_text(part_of(review, name)) in texts
    assert texts[0].startswith("✕ NO GO   support v2")
    assert "decided by “P95 latency against the baseline” (FAIL)" in texts[0]


@pytest.mark.slow
def test_the_review_notebook_shows_what_changed_in_the_prompt(executed):
    difference = next(text for text in shown(executed) if "Changed: prompts" in text)
    assert "+Be kind. This is v2." in difference


@pytest.mark.slow
def test_an_executed_notebook_keeps_html_but_no_widget_state_and_no_stray_output(executed):
    assert "widgets" not in executed.metadata
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in outputs} == {"execute_result"}
    assert all(output.data["text/html"].startswith("<style>") for output in outputs)


@pytest.mark.slow
def test_the_reviewer_is_recorded_as_acting_in_a_notebook(executed, home):
    from workbench.ledger.audit import tail

    with Workspace.open(home) as ws, ws.ledger.read() as connection:
        entry = tail(connection, 1)[0]
    assert (entry.act, entry.via) == ("review", "notebook")


@pytest.fixture(scope="module")
def operations(home):
    return run(OPERATIONS, {"app": "support"}, workspace_home=home)


@pytest.mark.slow
def test_the_operations_notebook_shows_every_figure_with_its_finding(operations):
    standing, burn, traffic, success, violations, retrieval, live = shown(operations)
    assert standing.startswith("● OK   support: objectives in service")
    assert burn.startswith(
        "settled: 50 % of the error budget is left: 90.00 % of 400 events in the last 28d were good, the target is 80 %."
    )
    assert re.match(r"p95 latency [\d,]+ ms at the end, [\d,]+ ms at its highest; \d+ requests in the busiest hour, ", traffic)
    assert success.startswith("Ask ends well in 90.0 % of requests (86.7 to 92.6 %)")
    assert violations.startswith("Nobody looked whether answers keep the rules")
    assert retrieval.startswith("Nothing is known of retrieval hit rate")
    assert live.startswith("Success rate: ")


@pytest.mark.slow
def test_no_figure_of_a_notebook_can_be_uploaded_or_holds_a_request(operations):
    figures = [output.data[FIGURE] for cell in operations.cells for output in cell.get("outputs", []) if FIGURE in output.get("data", {})]
    assert len(figures) == 5
    for figure in figures:
        assert (figure["config"]["showSendToCloud"], figure["config"]["plotlyServerURL"]) == (False, "")
        assert len(str(figure["data"])) < 20_000
    assert "widgets" not in operations.metadata


@pytest.mark.slow
def test_the_live_figure_follows_its_choices(home):
    with Workspace.open(home) as ws:
        panel = notebook.operations(ws, "support").explore()
        assert panel.drawing.finding.startswith("Success rate: ")
        panel.metric.value = "latency_p95"
        assert panel.figure.layout.title.text.startswith("P95 latency: ")
        assert list(panel.figure.data[1].y) == list(panel.drawing.figure.data[1].y)
        panel.workflow.value = panel.workflow.options[1]
        panel.grain.value = "1d"
        assert panel.drawing.subtitle.startswith("ms per day, UTC; n ")
        panel.metric.value = "quality_mean"
        assert panel.drawing.finding.startswith("Nothing is known of quality mean")
        assert repr(panel).startswith("Nothing is known of quality mean")


@pytest.mark.slow
def test_an_app_without_objectives_still_has_its_figures(home):
    with Workspace.open(home) as ws:
        seen = notebook.operations(ws, "support", window="7d")
        with pytest.raises(UsageError, match="support declares none of that name; did you mean"):
            seen.burn("anwers")
        ws.__dict__["objectives"]._slo_spec = lambda _app: None
        seen = notebook.operations(ws, "support", window="7d")
        assert page_text(seen.objectives()).startswith("objectives of support: no slo.yaml is declared")
        assert page_text(seen.burn()).startswith("objectives of support: no slo.yaml is declared")


@pytest.mark.slow
def test_a_failing_cell_says_which_error(home):
    with pytest.raises(WorkbenchError, match="UnknownSubject"):
        run(REVIEW, {"app": "support", "bundle": "v9"}, workspace_home=home)


def test_the_given_values_stand_after_the_defaults_and_the_file_stays(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("workbench.notebook.running._execute", lambda page, *_, **__: seen.append(page))
    before = REVIEW.read_bytes()
    page = run(REVIEW, {"bundle": 'it\'s "v2"\nimport os', "baseline": None}, workspace_home=tmp_path)
    sources = [cell.source for cell in page.cells if cell.cell_type == "code"]
    assert ast.literal_eval(sources[1].splitlines()[0].removeprefix("bundle = ")) == 'it\'s "v2"\nimport os'
    assert sources[1].splitlines()[1:] == ["baseline = None"]
    assert seen == [page]
    assert REVIEW.read_bytes() == before


def test_a_parameter_that_the_notebook_does_not_have_is_refused(tmp_path):
    with pytest.raises(UsageError, match="it has no parameter bundel; needed: one of app, bundle, baseline"):
        run(REVIEW, {"bundel": "v2"}, workspace_home=tmp_path)


@pytest.mark.parametrize("value", [[1], {"a": 1}, float("nan"), float("inf"), b"x", Path("x"), type("S", (str,), {})("x")])
def test_only_plain_values_become_code(value):
    with pytest.raises(UsageError):
        literal(value)


@pytest.mark.parametrize("value", ["v2", "a'b\"c\\n", 3, 0.25, True, None])
def test_a_plain_value_is_written_exactly(value):
    assert ast.literal_eval(literal(value)) == value


@pytest.mark.parametrize("content", [None, "", "not json", "{}", "[1]"])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content):
    path = tmp_path / "page.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError):
        run(path, {"app": "x"}, workspace_home=tmp_path)


def test_a_notebook_without_parameters_cell_takes_none(tmp_path):
    path = tmp_path / "page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1", id="a")]), path)
    with pytest.raises(UsageError, match="0 cells are tagged 'parameters'"):
        run(path, {"x": 1}, workspace_home=tmp_path)


def test_opening_a_place_without_a_workspace_says_so(tmp_path):
    with pytest.raises(UnknownSubject):
        notebook.open(tmp_path / "nowhere")


def test_an_unknown_part_lists_the_parts():
    with pytest.raises(UsageError, match="verdict, comparison, measured"):
        notebook.part(None, "verdikt")


@pytest.fixture(scope="module")
def business(tmp_path_factory):
    """A workspace whose app has a release that divided its users between two bundles, and the executed notebook on it."""
    place = tmp_path_factory.mktemp("business")
    folder = write_app(place / "app")
    declared = yaml.safe_load((folder / "app.yaml").read_text())
    (folder / "app.yaml").write_text(yaml.safe_dump({**declared, "kpis": list(KPIS)}))
    town = Town("support")
    with Workspace.open(place / "home", actor=OPERATOR) as ws:
        ws.versions.register(folder / "bundles" / "v1")
        ws.logs.record({"requests": town.requests, "outcomes": town.outcomes})
        ws.logs.flush()
    return run(IMPACT, {"kpi": "solved", "value_kpi": "basket"}, workspace_home=place / "home")


@pytest.mark.slow
def test_the_impact_notebook_shows_every_figure_and_no_way_to_send_one(business):
    charts = [
        output.data["application/vnd.plotly.v1+json"]
        for cell in business.cells
        for output in cell.get("outputs", [])
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    assert len(charts) == 7
    assert all(chart["config"]["showSendToCloud"] is False for chart in charts)
    kinds = {trace["type"] for chart in charts for trace in chart["data"]}
    assert {"scatter", "bar", "waterfall"} <= kinds


@pytest.mark.slow
def test_the_impact_notebook_refuses_what_a_broken_split_cannot_say(business):
    by_cell = {cell.id: [output.data["text/plain"] for output in cell.get("outputs", [])] for cell in business.cells}
    assert "SPLIT_MISMATCH" in by_cell["drill"][0]
    assert "A drill, as if 30 % of the candidate's units had been lost." in " ".join(by_cell["drill"][0].split())
    assert "absolute effect" not in by_cell["drill"][0]
    assert "absolute effect" in by_cell["effect"][0]
