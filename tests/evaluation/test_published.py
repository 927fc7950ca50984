# SPDX-License-Identifier: Apache-2.0
"""Tests of our numbers beside published ones."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.evaluation.published import PublishedRow, PublishedTable

PUBLISHED = {
    "CAMO": {"s_measure": 0.884, "mae": 0.042},
    "NC4K": {"s_measure": 0.901},
    "Kvasir": {"dice_mean": 0.928},
}
SUMMARY = {
    "Kvasir": {"images": 100, "mean_dice": 0.5, "mean_dice_mean": None},
    "own": {"images": 3, "mean_s_measure": 0.7},
    "CAMO": {"images": 250, "mean_s_measure": 0.90051, "std_s_measure": 0.1, "mean_mae": 0.0511, "images_mae": 249},
}


@pytest.fixture
def table() -> PublishedTable:
    return PublishedTable(PUBLISHED)


def printed(table: PublishedTable, summary) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    table.print(summary, console)
    return console.export_text()


def test_rows_are_of_the_sets_that_were_measured(table):
    rows = table.rows(SUMMARY)
    assert rows == [
        PublishedRow("CAMO", "s_measure", 0.90051, 0.884, 250),
        PublishedRow("CAMO", "mae", 0.0511, 0.042, 249),
        PublishedRow("Kvasir", "dice_mean", None, 0.928, 0),
    ]
    assert [r.difference for r in rows] == [pytest.approx(0.01651), pytest.approx(0.0091), None]
    assert table.not_measured(SUMMARY) == ["NC4K"]
    assert table.rows({}) == []
    assert table.not_measured({}) == ["CAMO", "NC4K", "Kvasir"]


@pytest.mark.parametrize(
    ("column", "ours", "paper", "better"),
    [
        ("dice_mean", 0.91, 0.90, True),
        ("dice_mean", 0.89, 0.90, False),
        ("mae", 0.01, 0.02, True),
        ("mae", 0.03, 0.02, False),
        ("mae", None, 0.02, None),
        ("iou", 0.9, 0.9, False),
    ],
)
def test_which_direction_is_better(column, ours, paper, better):
    assert PublishedRow("A", column, ours, paper, 10).better is better


def test_the_printed_table_has_all_that_the_rows_have(table):
    text = printed(table, SUMMARY)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert lines == [
        ["CAMO", "S-measure", "250", "0.901", "0.884", "+0.017"],
        ["CAMO", "MAE (lower is better)", "249", "0.051", "0.042", "+0.009"],
        ["Kvasir", "Dice, mean (mDice)", "0", "-", "0.928", "-"],
    ]
    assert "Published, but not measured here: NC4K." in text
    assert "not measured" not in printed(table, {**SUMMARY, "NC4K": {"images": 1, "mean_s_measure": 0.9}})


def test_files(table, tmp_path):
    table.write(SUMMARY, tmp_path)
    with (tmp_path / "published.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["dataset", "column", "n", "ours", "paper", "difference"]
    assert [(r["dataset"], r["column"], r["n"], r["ours"], r["paper"]) for r in rows] == [
        ("CAMO", "s_measure", "250", "0.90051", "0.884"),
        ("CAMO", "mae", "249", "0.0511", "0.042"),
        ("Kvasir", "dice_mean", "0", "", "0.928"),
    ]
    assert float(rows[0]["difference"]) == pytest.approx(0.01651)
    assert rows[2]["difference"] == ""
    lines = (tmp_path / "published.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| test set | score | n | ours | paper | difference |"
    assert lines[2] == "| CAMO | S-measure | 250 | 0.901 | 0.884 | +0.017 |"
    assert lines[-1] == "Published, but not measured here: NC4K."


def test_the_note_stands_wherever_the_numbers_do(tmp_path):
    table = PublishedTable({"note": "From [memory],\nnot checked.\n", **PUBLISHED})
    assert table.note == "From [memory],\nnot checked."
    assert table.rows(SUMMARY) == PublishedTable(PUBLISHED).rows(SUMMARY)
    assert table.not_measured({}) == list(PUBLISHED)
    text = printed(table, SUMMARY)
    assert text.index("From [memory],") < text.index("not checked.") < text.index("Published, but not measured here")
    table.write(SUMMARY, tmp_path)
    markdown = (tmp_path / "published.md").read_text(encoding="utf-8")
    assert "|\n\nFrom [memory],\nnot checked.\n\nPublished, but" in markdown
    assert "memory" not in (tmp_path / "published.csv").read_text(encoding="utf-8")
    assert PublishedTable(PUBLISHED).note == ""


def test_names_are_no_markup():
    assert "[red]a" in printed(PublishedTable({"[red]a": {"dice": 0.5}}), {"[red]a": {"images": 2, "mean_dice": 0.25}})


def test_names_with_bars_leave_the_markdown_table_whole(table):
    markdown = PublishedTable({"a|b": {"dice": 0.5}}).markdown({"a|b": {"images": 2, "mean_dice": 0.25}})
    assert r"| a\|b | Dice | 2 | 0.250 | 0.500 | -0.250 |" in markdown


def test_nothing_measured_that_is_published(table, tmp_path):
    table.write({"own": {"images": 3}}, tmp_path)
    assert "not measured here: CAMO, NC4K, Kvasir" in (tmp_path / "published.md").read_text(encoding="utf-8")
    assert len((tmp_path / "published.csv").read_text().splitlines()) == 1
    told = printed(table, {"own": {"images": 3}})
    assert told.startswith("None of the sets measured here has published numbers.")
    assert "not measured here: CAMO, NC4K, Kvasir" in told


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ({}, "published numbers are given as"),
        ([("CAMO", 1)], "published numbers are given as"),
        ({"CAMO": 0.9}, "published numbers of CAMO are given as 0.9"),
        ({"CAMO": {}}, "published numbers of CAMO"),
        ({"CAMO": {"S": 0.9}}, r"'S' \(published for CAMO\) is no score. The scores are: dice, .*s_measure"),
        ({"CAMO": {"mae": "0.9"}}, "mae published for CAMO is '0.9'"),
        ({"CAMO": {"mae": True}}, "must be a number"),
        ({"CAMO": {"mae": float("nan")}}, "must be a number"),
        ({"note": "from memory"}, "but there are none"),
        ({"note": {"mae": 0.1}, "CAMO": {"mae": 0.1}}, "must be a text"),
    ],
)
def test_wrong_numbers_are_refused(published, message):
    with pytest.raises(ConfigError, match=message):
        PublishedTable(published)


def test_what_json_gives_back_serves(table):
    assert table.rows(json.loads(json.dumps(SUMMARY))) == table.rows(SUMMARY)
