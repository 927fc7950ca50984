# SPDX-License-Identifier: Apache-2.0
"""Tests of scoring files: in batches, with resizing, and with files that cannot be read."""

from __future__ import annotations

import numpy as np
import py_sod_metrics
import pytest
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
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
    assert score_files(find(folders), table, advance=done.append) == ([], [])
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
    problems, _ = score_files(find(folders), table, pictures, advance=done.append)
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
    assert score_files(find(folders), table, resize=True) == ([], [])
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
    assert score_files(find(folders), ScoreTable(protocol="sod")) == ([], [])
    for path in (folders / "maps").iterdir():  # nothing predicted anywhere is possible
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    assert score_files(find(folders), ScoreTable()) == ([], [])


def two_sets(folder, bright, dark):
    """A set of maps whose foreground is bright, and one whose foreground is dark; the last dark map shows nothing."""
    mask = np.zeros((24, 32), np.uint8)
    mask[4:12, 6:20] = 1
    for dataset, value in (("A", bright), ("B", dark)):
        for number in range(3):
            shown = 0 * value if (dataset, number) == ("B", 2) else value
            for kind, pixels in (("maps", mask * shown), ("masks", mask * np.uint8(255))):
                (folder / kind / dataset).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / kind / dataset / f"{number}.png")
    return folder


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize(
    ("bright", "dark", "told"),
    [
        (np.uint8(255), np.uint8(1), "value above 1 of 255: masks of 0 and 1"),
        (np.uint16(65535), np.uint16(1), "value above 255 of 65535: values of 8 bits"),
        (np.uint8(255), np.uint16(255), "value above 255 of 65535: values of 8 bits"),
    ],
)
def test_a_dark_set_beside_a_bright_one_is_not_scored(tmp_path, bright, dark, told, resize):
    folder, table = two_sets(tmp_path, bright, dark), ScoreTable(protocol="clinical")
    if resize:
        for path in (folder / "maps").rglob("*.png"):
            pixels = np.asarray(Image.open(path))
            Image.fromarray(np.kron(pixels, np.ones((2, 2), pixels.dtype))).save(path)
    problems, warnings = score_files(find(folder), table, CasePictures(), resize)
    assert len(problems) == 3
    assert all(f"maps/B/{n}.png: no map of B holds a {told}" in line for n, line in enumerate(problems))
    assert warnings == []
    assert [row["dice"] for row in table.rows if row["dataset"] == "A"] == [1, 1, 1]
    assert set(table.summary()) == {"A"}
    assert score_files(find(folder), ScoreTable(protocol="sod"), None, resize) == ([], [])


def test_single_dark_maps_are_scored_and_named(folders):
    """A network may find nothing in an image; but it is said, for it may be a mask of 0 and 1."""
    path = folders / "maps" / "2.png"
    Image.fromarray((np.asarray(Image.open(path)) > 127).astype(np.uint8)).save(path)
    table = ScoreTable(protocol="clinical")
    problems, [warning] = score_files(find(folders), table)
    assert problems == []
    assert warning.startswith("1 maps hold no value above 1 of 255")
    assert warning.endswith(str(path))
    assert table.rows[2]["dice"] == 0


def test_a_truth_of_zero_and_one_is_named_whatever_the_others_are(folders):
    path = folders / "masks" / "2.png"
    Image.fromarray((np.asarray(Image.open(path)) > 127).astype(np.uint8)).save(path)
    table = ScoreTable()
    [problem], _ = score_files(find(folders), table)
    assert "masks/2.png: its largest value is 1" in problem
    assert "Multiply it by 255" in problem
    assert len(table) == 5


def test_soft_truth_is_told(folders):
    ramp = np.tile(np.linspace(0, 255, 32), (24, 1)).astype(np.uint8)
    for number in range(2):
        Image.fromarray(ramp).save(folders / "masks" / f"{number}.png")
    smooth = np.zeros((24, 32), np.uint8)  # an outline that is smoothed is usual
    smooth[4:20, 4:28], smooth[5:19, 5:27] = 128, 255
    Image.fromarray(smooth).save(folders / "masks" / "2.png")
    problems, [warning] = score_files(find(folders), ScoreTable(protocol="clinical"))
    assert problems == []
    assert warning.startswith("2 of 6 true masks are soft")
    assert "swapped" in warning
    assert warning.endswith(f"{folders / 'masks' / '0.png'}, {folders / 'masks' / '1.png'}")


def test_a_map_with_swapped_rows_and_columns_is_not_resized(folders):
    path = folders / "maps" / "1.png"
    Image.fromarray(np.asarray(Image.open(path)).T.copy()).save(path)
    table = ScoreTable(protocol="clinical")
    [problem], _ = score_files(find(folders), table, resize=True)
    assert "maps/1.png: the map is 24x32 pixels, its mask 32x24 pixels: rows and columns look swapped" in problem
    assert len(table) == 5


@pytest.mark.parametrize("value", [float("nan"), 0, -1, 256])
def test_mask_thresholds_that_are_refused(folders, value):
    with pytest.raises(ConfigError, match="above 0 and at most 255"):
        score_files(find(folders), ScoreTable(), mask_threshold=value)
