# SPDX-License-Identifier: Apache-2.0
"""Tests of scoring files: in batches, with resizing, and with files that cannot be read."""

from __future__ import annotations

import numpy as np
import py_sod_metrics
import pytest
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation import CasePictures, ScoreTable, find_prediction_cases, score_files


@pytest.fixture
def folders(tmp_path):
    """Six maps of two sizes with their masks."""
    generator = np.random.default_rng(0)
    for number in range(6):
        shape = (24, 32) if number < 4 else (20, 28)
        mask = np.zeros(shape, np.uint8)
        mask[4 : 10 + number, 6:20] = 255
        noise = generator.integers(0, 100, shape)
        soft = np.clip(0.5 * np.roll(mask, number, 1) + noise, 0, 255).astype(np.uint8)
        for kind, pixels in (("maps", soft), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.png")
    return tmp_path


def find(folder):
    return find_prediction_cases(folder / "maps", folder / "masks")[0]


def test_files_are_scored_as_pysodmetrics_does(folders):
    table, done = ScoreTable(), []
    assert score_files(find(folders), table, advance=done.append) == []
    assert sum(done) == 6
    measure = py_sod_metrics.Smeasure(), py_sod_metrics.MAE()
    for number in range(6):
        pair = (np.asarray(Image.open(folders / kind / f"{number}.png")) for kind in ("maps", "masks"))
        pair = tuple(pair)
        for each in measure:
            each.step(*pair)
    frame = table.frame()
    assert list(frame["image"]) == [f"{n}.png" for n in range(6)]
    assert frame["s_measure"].mean() == pytest.approx(measure[0].get_results()["sm"], abs=1e-6)
    assert frame["mae"].mean() == pytest.approx(measure[1].get_results()["mae"], abs=1e-6)


def test_batches_change_nothing(folders, monkeypatch):
    frames = []
    for pixels in (1, 2 * 24 * 32, 10**9):
        monkeypatch.setattr("monai_sam2unet.evaluation.file_scoring.BATCH_PIXELS", pixels)
        table, sizes = ScoreTable(), []
        score_files(find(folders), table, advance=sizes.append)
        frames.append(table.frame())
        assert max(sizes) == {1: 1, 2 * 24 * 32: 2, 10**9: 4}[pixels]
    for frame in frames[1:]:
        np.testing.assert_allclose(
            frame.drop(columns=["dataset", "image"]).to_numpy(float),
            frames[0].drop(columns=["dataset", "image"]).to_numpy(float),
            atol=1e-6,
        )


def test_what_cannot_be_read_does_not_lose_the_rest(folders):
    (folders / "maps" / "1.png").write_bytes((folders / "maps" / "1.png").read_bytes()[:60])
    (folders / "masks" / "4.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folders / "maps" / "5.png")
    table, pictures, done = ScoreTable(protocol="clinical"), CasePictures(), []
    problems = score_files(find(folders), table, pictures, advance=done.append)
    assert [row["image"] for row in table.rows] == ["0.png", "2.png", "3.png"]
    assert len(problems) == 3
    assert sum(done) == 6
    for line, name in zip(problems, ("maps/1.png", "masks/4.png", "maps/5.png: 5x5 pixels"), strict=True):
        assert name in line
    assert len(pictures.draw(table.rows[0]["dataset"], "0.png")) == 2


def test_maps_of_another_size_are_resized_if_asked_for(folders):
    mask = np.asarray(Image.open(folders / "masks" / "0.png"))
    Image.fromarray(np.kron(mask, np.ones((2, 2), np.uint8))).save(folders / "maps" / "0.png")
    table = ScoreTable(protocol="clinical")
    assert score_files(find(folders), table, resize=True) == []
    assert table.rows[0]["dice"] == 1
    assert (table.rows[0]["height"], table.rows[0]["width"]) == mask.shape


def test_nothing_could_be_scored(folders):
    for path in (folders / "maps").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"None of the maps could be scored(.|\n)*maps/0.png"):
        score_files(find(folders), ScoreTable())


def test_masks_of_zero_and_one_are_told(folders):
    for path in (folders / "maps").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 127).astype(np.uint8)).save(path)
    with pytest.raises(DataError, match="1 of 255"):
        score_files(find(folders), ScoreTable())
    assert score_files(find(folders), ScoreTable(protocol="sod")) == []
    for path in (folders / "maps").iterdir():  # nothing predicted anywhere is possible
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    assert score_files(find(folders), ScoreTable()) == []
