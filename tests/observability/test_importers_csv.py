"""A CSV file becomes requests by its mapping; what does not fit is refused with its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.observability.real_data import real
from workbench.errors import SpecError, UsageError
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.mapped_csv import zone_of
from workbench.observability.importers.source import Imported, ImportOptions, Refused

MAPPING = """
app: shop
zone: UTC
separator: ";"
null_markers: ["", "-"]
columns:
  ts_start: {column: when, format: "%d.%m.%Y %H:%M:%S"}
  latency_ms: {column: seconds, unit: s}
  input_tokens: read
  status: {column: result, values: {OK: ok, BAD: error}}
  unit: customer
constants: {workflow: billing, model_requested: m-1}
request_id: [run, row]
scores:
  csat: stars
"""
HEADER = "when;seconds;read;result;customer;run;row;stars"
ROW = "01.02.2026 10:00:00;1.5;120;OK;c1;a;1;4"


def open_csv(folder: Path, *rows: str | bytes, mapping: str = MAPPING, header: str = HEADER, **options: object):
    path, mapping_path = folder / "log.csv", folder / "mapping.yaml"
    lines = [row if isinstance(row, bytes) else row.encode() for row in (header, *rows)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    mapping_path.write_text(mapping)
    return IMPORTERS["csv"].open(path, ImportOptions(mapping=mapping_path, **options))


def read(folder: Path, *rows: str | bytes, **more: object) -> list[Imported | Refused]:
    return list(open_csv(folder, *rows, **more).records())


def test_a_row_becomes_a_request_as_the_mapping_says(tmp_path: Path) -> None:
    (record,) = read(tmp_path, ROW)
    assert isinstance(record, Imported)
    request = record.rows.requests[0]
    expected = {
        "request_id": "a:1",
        "app": "shop",
        "workflow": "billing",
        "model_requested": "m-1",
        "ts_start": datetime(2026, 2, 1, 10, tzinfo=UTC),
        "ts_end": datetime(2026, 2, 1, 10, 0, 1, 500_000, tzinfo=UTC),
        "latency_ms": 1500.0,
        "input_tokens": 120,
        "status": "ok",
        "unit": "c1",
    }
    assert {key: request[key] for key in expected} == expected
    (score,) = record.rows.scores
    assert (score["name"], score["value"], score["request_id"]) == ("csat", 4.0, "a:1")


def test_a_null_marker_is_a_missing_value(tmp_path: Path) -> None:
    (record,) = read(tmp_path, "01.02.2026 10:00:00;-;;OK;c1;a;1;-")
    assert isinstance(record, Imported)
    assert "latency_ms" not in record.rows.requests[0]
    assert "input_tokens" not in record.rows.requests[0]
    assert record.rows.scores == []


def test_the_zone_option_overrules_the_mapping(tmp_path: Path) -> None:
    (record,) = read(tmp_path, ROW, zone=zone_of("Europe/Berlin"))
    assert isinstance(record, Imported)
    assert record.rows.requests[0]["ts_start"] == datetime(2026, 2, 1, 9, tzinfo=UTC)


def test_without_any_zone_a_naive_time_is_refused(tmp_path: Path) -> None:
    (record,) = read(tmp_path, ROW, mapping=MAPPING.replace("zone: UTC\n", ""))
    assert isinstance(record, Refused)
    assert record.reason == "no_zone"


@pytest.mark.parametrize(("unit", "cell"), [("s", "1769940000"), ("ms", "1769940000000"), ("us", "1769940000000000")])
def test_a_time_may_be_a_number_since_1970(tmp_path: Path, unit: str, cell: str) -> None:
    mapping = f"app: shop\ncolumns: {{ts_start: {{column: at, unit: {unit}}}}}\n"
    (record,) = read(tmp_path, cell, mapping=mapping, header="at")
    assert isinstance(record, Imported)
    assert record.rows.requests[0]["ts_start"] == datetime(2026, 2, 1, 10, tzinfo=UTC)


def test_rows_without_id_columns_are_named_by_file_and_number(tmp_path: Path) -> None:
    mapping = "app: shop\nzone: UTC\ncolumns: {ts_start: at}\n"
    first, second = read(tmp_path, "2026-02-01 10:00:00", "2026-02-01 10:00:00", mapping=mapping, header="at")
    assert isinstance(first, Imported)
    assert isinstance(second, Imported)
    assert first.rows.requests[0]["request_id"] != second.rows.requests[0]["request_id"]
    again, _ = read(tmp_path, "2026-02-01 10:00:00", "2026-02-01 10:00:00", mapping=mapping, header="at")
    assert isinstance(again, Imported)
    assert again.rows.requests[0]["request_id"] == first.rows.requests[0]["request_id"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("01.02.2026 10:00:00;-1;120;OK;c1;a;1;4", "negative_latency"),
        ("01.02.2026 10:00:00;fast;120;OK;c1;a;1;4", "wrong_type"),
        ("01.02.2026 10:00:00;nan;120;OK;c1;a;1;4", "out_of_range"),
        ("01.02.2026 10:00:00;1;-5;OK;c1;a;1;4", "negative_count"),
        ("01.02.2026 10:00:00;1;1.5;OK;c1;a;1;4", "wrong_type"),
        ("01.02.2026 10:00:00;1;5;MAYBE;c1;a;1;4", "unknown_value"),
        ("2026-02-01;1;5;OK;c1;a;1;4", "bad_time"),
        (";1;5;OK;c1;a;1;4", "missing_field"),
        ("01.02.2026 10:00:00;1;5;OK", "wrong_width"),
        ("", "empty_line"),
        (b"01.02.2026 10:00:00;1;5;OK;caf\xe9;a;1;4", "not_utf8"),
        ("01.02.2026 10:00:00;1;5;OK;c1;a;1;many", "wrong_type"),
    ],
)
def test_a_wrong_row_is_refused_and_the_next_one_read(tmp_path: Path, row: str | bytes, reason: str) -> None:
    refused, after = read(tmp_path, row, ROW)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.at) == (reason, 1)
    assert isinstance(after, Imported)


def test_a_column_that_the_file_lacks_is_named_with_its_nearest_match(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"columns.input_tokens: log.csv has no column 'reed'; did you mean 'read'\?"):
        open_csv(tmp_path, ROW, mapping=MAPPING.replace("input_tokens: read", "input_tokens: reed"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("input_tokens: read", "input_token: read"), "did you mean 'input_tokens'"),
        (("zone: UTC", "zone: Mars/Olympus"), "no time zone"),
        (("  ts_start:", "  ts_end:"), "ts_start"),
        (("unit: s", "unit: fortnight"), "fortnight"),
        (('separator: ";"', 'separator: ";;"'), "separator"),
        (("app: shop", "apps: shop"), "apps"),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_place(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        open_csv(tmp_path, ROW, mapping=MAPPING.replace(*change))


def test_csv_without_a_mapping_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--mapping"):
        IMPORTERS["csv"].open(tmp_path / "log.csv", ImportOptions())


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than once"):
        open_csv(tmp_path, header=HEADER + ";when")


def test_quoted_cells_may_hold_separators_and_line_ends(tmp_path: Path) -> None:
    mapping = "app: shop\nzone: UTC\ncolumns: {ts_start: at, input: text}\n"
    rows = ['2026-02-01 10:00:00,"a, b', 'and c"', "2026-02-01 10:00:01,d"]
    first, second = read(tmp_path, *rows, mapping=mapping, header="at,text")
    assert isinstance(first, Imported)
    assert first.rows.requests[0]["input"] == "a, b\nand c"
    assert isinstance(second, Imported)


def test_the_published_hour_of_requests_gives_the_known_sums(tmp_path: Path) -> None:
    mapping = tmp_path / "azure.yaml"
    columns = "{ts_start: TIMESTAMP, input_tokens: ContextTokens, output_tokens: GeneratedTokens}"
    mapping.write_text(f"app: code\nzone: UTC\ncolumns: {columns}\n")
    source = IMPORTERS["csv"].open(real("azure", "AzureLLMInferenceTrace_code.csv"), ImportOptions(mapping=mapping))
    records = list(source.records())
    requests = [record.rows.requests[0] for record in records if isinstance(record, Imported)]
    assert len(requests) == len(records) == 8819
    assert sum(request["input_tokens"] for request in requests) == 18_059_974
    assert sum(request["output_tokens"] for request in requests) == 245_896
    minutes = [request["ts_start"].replace(second=0, microsecond=0) for request in requests]
    assert len(set(minutes)) == 45
    assert len({request["request_id"] for request in requests}) == 8819


def test_a_refusal_names_the_line_that_an_editor_shows(tmp_path: Path) -> None:
    mapping = "app: shop\nzone: UTC\ncolumns: {ts_start: at, latency_ms: ms, input: text}\n"
    rows = ['2026-02-01 10:00:00,5,"a', "b", 'c"', "2026-02-01 10:00:01,-1,d", "", '2026-02-01 10:00:02,-1,"e', 'f"']
    records = read(tmp_path, *rows, mapping=mapping, header="at,ms,text")
    assert [(record.at, record.line) for record in records] == [(1, 2), (2, 5), (3, 6), (4, 7)]


@pytest.mark.parametrize("content", [HEADER, HEADER + "\n", HEADER + "\n\n"])
def test_a_table_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    path, mapping = tmp_path / "log.csv", tmp_path / "mapping.yaml"
    path.write_text(content)
    mapping.write_text(MAPPING)
    with pytest.raises(UsageError, match="holds no records"):
        IMPORTERS["csv"].open(path, ImportOptions(mapping=mapping))


def test_a_missing_mapping_is_named_once_and_no_file_is_to_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(MAPPING)
    with pytest.raises(UsageError) as caught:
        IMPORTERS["csv"].open(tmp_path / "log.csv", ImportOptions(mapping=tmp_path / "nomap.yaml"))
    assert str(caught.value) == f"--mapping {tmp_path / 'nomap.yaml'}: no such file; check the path"


def test_a_wrong_mapping_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        open_csv(tmp_path, ROW, mapping="columns: 5\n")
    assert str(caught.value).count("mapping.yaml") == 1


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("29.03.2026 01:59:59", datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)),
        ("29.03.2026 02:00:00", "skipped_time"),
        ("29.03.2026 02:30:00", "skipped_time"),
        ("29.03.2026 03:00:00", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("25.10.2026 01:59:59", datetime(2026, 10, 24, 23, 59, 59, tzinfo=UTC)),
        ("25.10.2026 02:00:00", "ambiguous_time"),
        ("25.10.2026 02:59:59", "ambiguous_time"),
        ("25.10.2026 03:00:00", datetime(2026, 10, 25, 2, tzinfo=UTC)),
    ],
)
def test_a_time_that_the_clocks_of_its_zone_skipped_or_showed_twice_is_refused(tmp_path: Path, when: str, found: datetime | str) -> None:
    (record,) = read(tmp_path, ROW.replace("01.02.2026 10:00:00", when), mapping=MAPPING.replace("zone: UTC", "zone: Europe/Berlin"))
    if isinstance(record, Imported):
        assert record.rows.requests[0]["ts_start"] == found
    else:
        assert record.reason == found
        assert "ts_start (column 'when'): a time that Europe/Berlin " in record.sentence
        assert "needed: a time with its offset" in record.sentence


def test_the_offset_tells_the_two_hours_apart(tmp_path: Path) -> None:
    mapping = "app: shop\nzone: Europe/Berlin\ncolumns: {ts_start: at}\n"
    early, late = read(tmp_path, "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", mapping=mapping, header="at")
    assert isinstance(early, Imported)
    assert isinstance(late, Imported)
    assert [record.rows.requests[0]["ts_start"].hour for record in (early, late)] == [0, 1]


def test_a_http_code_in_the_status_column_is_a_status(tmp_path: Path) -> None:
    rows = [ROW.replace("OK", code) for code in ("200", "504", "302")]
    ok, timeout, refused = read(tmp_path, *rows)
    assert isinstance(ok, Imported)
    assert isinstance(timeout, Imported)
    assert [record.rows.requests[0]["status"] for record in (ok, timeout)] == ["ok", "timeout"]
    assert isinstance(refused, Refused)
    assert "values" in refused.sentence
