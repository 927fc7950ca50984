# SPDX-License-Identifier: Apache-2.0
"""Tests of what a run leaves for people to read."""

from __future__ import annotations

from dataclasses import replace
from time import time

import pandas as pd
import pytest

from monai_sam2unet.batch.journal_row import JournalRow, State
from monai_sam2unet.batch.run_report import unlikeness, with_sizes, write_run_report

ROW = JournalRow(
    **{name: "" for name in JournalRow.names()} | {
        "state": State.DONE, "slices": 10, "size_bytes": 1, "attempts": 1, "published": 1, "finished_at": time() + 60,
        "started_at": 0.0, "read_s": 1.0, "predict_s": 2.0, "write_s": 3.0, "notes": (),
        "outputs": ("measurements.csv", "preview.png"),
    }
)  # fmt: skip


@pytest.fixture
def rows(tmp_path):
    found = []
    for number, volume in enumerate([100.0, 105.0, 0.0, 95.0, 300.0]):
        folder = tmp_path / f"s{number}"
        folder.mkdir()
        table = {
            "number": [1],
            "label": ["spleen <1>"],
            "volume_ml": [volume],
            "area_mm2": [None],
            "area_pixels": [None],
        }
        pd.DataFrame(table).to_csv(folder / "measurements.csv", index=False)
        (folder / "preview.png").write_bytes(f"picture {number}".encode())
        found.append(replace(ROW, key=f"s{number}", modality="CT"))
    return found


def test_pictures_of_what_is_least_like_the_others_come_first(rows, tmp_path) -> None:
    page = write_run_report(tmp_path, rows, seconds=10, made_with={"bundle": "Spleens"}).read_text()
    places = [page.index(f"Segmentation of s{number}") for number in (2, 4)]
    assert places == sorted(places)
    assert all(places[1] < page.index(f"Segmentation of s{number}") for number in (0, 1, 3))
    assert "spleen &lt;1&gt;" in page
    assert "4 of 5" in page
    assert "Spleens" in page
    table = pd.read_csv(tmp_path / "measurements.csv")
    assert table["series"].tolist() == [f"s{number}" for number in range(5)]
    assert table["volume_ml"].tolist() == [100.0, 105.0, 0.0, 95.0, 300.0]


def test_failures_come_with_their_reason(rows, tmp_path) -> None:
    failed = replace(ROW, key="bad", state=State.FAILED, reason="/secret/path is damaged", shown_reason="it is damaged")
    page = write_run_report(tmp_path, [*rows, failed], seconds=10, made_with={"bundle": "Spleens"}).read_text()
    assert "it is damaged" in page
    assert "secret" not in page
    assert "5 series done, 1 failed" in page


def test_a_run_without_measurements(tmp_path) -> None:
    page = write_run_report(tmp_path, [replace(ROW, outputs=())], seconds=0, made_with={}).read_text()
    assert "1 series done" in page
    assert not (tmp_path / "measurements.csv").exists()


def test_sizes_in_several_units_are_not_compared() -> None:
    table = pd.DataFrame({
        "series": list("abcdef"), "number": 1, "volume_ml": [10.0, 11, 12, None, None, None],
        "area_mm2": [None, None, None, 5000.0, 5100, 4900], "area_pixels": None,
    })  # fmt: skip
    sized = with_sizes(table)
    assert sized["unit"].tolist() == ["ml"] * 3 + ["mm2"] * 3
    assert unlikeness(sized).max() < 4
