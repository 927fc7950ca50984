# SPDX-License-Identifier: Apache-2.0
"""Tests of looking through folders of pictures: what is measured, and what is wrong with broken ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.plan.picture_fingerprint import fingerprint_picture, measure_objects
from monai_sam2unet.plan.picture_survey import survey_pictures

SHAPE = (40, 60)


def save(pixels: np.ndarray, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def mask(value: int = 255, row: int = 5) -> np.ndarray:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[row : row + 10, 10:30] = value
    return pixels


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six pictures of three patients, with a rectangle in each."""
    folder = tmp_path / "data"
    for number in range(6):
        save(picture(number), folder / "images" / f"p{number // 2}_{number}.png")
        save(mask(row=5 + number), folder / "masks" / f"p{number // 2}_{number}.png")
    return folder


def test_what_a_picture_is_like(tmp_path: Path):
    image, truth = np.full((*SHAPE, 3), 51, np.uint8), mask(2)
    image[truth > 0] = 204
    truth[30:34, :] = 1
    save(image, tmp_path / "a.png")
    save(truth, tmp_path / "m.png")
    found = fingerprint_picture({"image": str(tmp_path / "a.png"), "label": str(tmp_path / "m.png")})
    assert not isinstance(found, str)
    assert (found.height, found.width, found.is_colour, found.bits) == (*SHAPE, False, 8)
    assert found.values == {0: 40 * 60 - 200 - 240, 1: 240, 2: 200}
    assert (found.objects, found.areas) == ([1, 2], [240, 200])
    assert found.thickness[0] == pytest.approx(4, abs=0.5)
    assert found.inside == pytest.approx([0.2, 0.2, 0.8])
    assert found.outside == pytest.approx([0.2] * 3)
    assert found.foreground == pytest.approx(440 / 2400)


@pytest.mark.parametrize("width", range(1, 10))
def test_a_strip_is_as_thick_as_it_is_wide(width: int):
    strip = np.zeros((300, 320), np.uint8)
    strip[100 : 100 + width, 10:310] = 1
    for drawn in (strip, strip.T):
        assert measure_objects(drawn) == ([1], [300 * width], [pytest.approx(width, rel=0.01)])


@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("angle", [15, 30, 45])
def test_a_tilted_strip_is_about_as_thick(width: int, angle: int):
    rows, columns = np.mgrid[:400, :400] - 199.6
    along, across = (columns * np.cos(a) + rows * np.sin(a) for a in np.deg2rad([angle, angle + 90]))
    strip = ((abs(across) <= width / 2) & (abs(along) <= 150)).astype(np.uint8)
    _, (area,), (thickness,) = measure_objects(strip)
    assert thickness == pytest.approx(area / 300, rel=0.08, abs=0.5)


def test_noise_of_jpeg_is_no_class(tmp_path: Path):
    noisy = mask().astype(int) + np.random.default_rng(0).integers(-5, 6, SHAPE)
    save(picture(0), tmp_path / "a.png")
    save(noisy.clip(0, 255).astype(np.uint8), tmp_path / "m.png")
    found = fingerprint_picture({"image": str(tmp_path / "a.png"), "label": str(tmp_path / "m.png")})
    assert not isinstance(found, str)
    assert found.values == {0: 2200, 255: 200}


@pytest.mark.parametrize(
    ("values", "threshold", "classes"), [((0, 255), 127.5, 1), ((0, 1), 0.5, 1), ((0, 1, 2, 3), None, 3)]
)
def test_masks_are_told_by_their_values(data: Path, values, threshold, classes):
    for number, path in enumerate(sorted((data / "masks").iterdir())):
        save(mask(values[1 + number % (len(values) - 1)]), path)
    survey = survey_pictures(data, workers=1)
    assert survey.problems == []
    assert (survey.mask_threshold, survey.num_classes, survey.is_colour) == (threshold, classes, True)


def test_what_was_read_is_not_read_again(data: Path, tmp_path: Path):
    first, advanced = [], []
    a = survey_pictures(data, workers=1, cache=tmp_path / "cache", advance=lambda: first.append(1))
    b = survey_pictures(data, workers=1, cache=tmp_path / "cache", advance=lambda: advanced.append(1))
    assert a == b
    assert (len(first), len(advanced)) == (6, 0)
    save(mask(row=20), data / "masks" / "p0_0.png", compress_level=0)
    survey_pictures(data, workers=1, cache=tmp_path / "cache", advance=lambda: advanced.append(1))
    assert len(advanced) == 6


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "an image without a mask": (lambda d: (d / "masks" / "p0_0.png").unlink(), "p0_0.png: no mask of this name"),
    "a mask without an image": (lambda d: (d / "images" / "p0_0.png").unlink(), "p0_0.png: no image of this name"),
    "a mask of another size": (
        lambda d: save(mask()[:30], d / "masks" / "p0_0.png"), "p0_0.png: the mask is 60x30 pixels, its image 60x40",
    ),
    "a truncated image": (lambda d: truncate(d / "images" / "p0_0.png"), "p0_0.png or its mask cannot be read"),
    "a page of HTML": (
        lambda d: (d / "images" / "p0_0.png").write_text("<html>404</html>"), "p0_0.png or its mask cannot be read",
    ),
    "a gap in the labels": (lambda d: save(mask(3), d / "masks" / "p0_0.png"), "masks hold the values 0, 3, 255"),
    "labels that are not contiguous": (
        lambda d: [save(mask((1, 3)[n % 2]), p) for n, p in enumerate((d / "masks").iterdir())],
        "not contiguous: of 0 to 3 no mask has 2",
    ),
    "a soft mask": (
        lambda d: save(np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1)), d / "masks" / "p0_0.png"),
        "masks hold the values 0, 4, 8,",
    ),
    "a border of 255 around classes": (
        lambda d: [save(np.where(mask(2) > 0, 2, mask(255, 22)).astype(np.uint8), p) for p in (d / "masks").iterdir()],
        "masks hold the values 0, 2, 255",
    ),
    "empty masks": (lambda d: [save(mask(0), p) for p in (d / "masks").iterdir()], "all masks are empty"),
    "a mask of fractions": (
        lambda d: (
            (d / "masks" / "p0_0.png").unlink(), save(mask().astype(np.float32) / 7, d / "masks" / "p0_0.tif"),
        ),
        "p0_0.tif: the mask holds values that are no integers",
    ),
    "two images of one name": (
        lambda d: save(picture(0), d / "images" / "p0_0.jpg"), "p0_0.jpg has the same stem",
    ),
    "several pages": (
        lambda d: (
            (d / "images" / "p0_0.png").unlink(),
            save(picture(0), d / "images" / "p0_0.tif", save_all=True, append_images=[Image.fromarray(picture(1))]),
        ),
        "p0_0.tif or its mask cannot be read (it has 2 pages",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_folders(data: Path, kind: str):
    damage, message = BROKEN[kind]
    damage(data)
    assert any(message in problem for problem in survey_pictures(data, workers=1).problems)


def test_all_problems_are_listed_at_once(data: Path):
    for kind in ("an image without a mask", "a gap in the labels"):
        BROKEN[kind][0](data)
    (data / "masks" / "p0_0.png").unlink()
    save(mask()[:30], data / "masks" / "p1_2.png")
    truncate(data / "images" / "p2_5.png")
    save(mask(3), data / "masks" / "p1_3.png")
    problems = "\n".join(survey_pictures(data, workers=1).problems)
    for name in ("p0_0.png: no mask", "p1_2.png: the mask is", "p2_5.png or its mask", "the values 0, 3, 255"):
        assert name in problems


def test_the_same_file_twice_is_told(data: Path):
    (data / "images" / "p2_5.png").write_bytes((data / "images" / "p0_0.png").read_bytes())
    survey = survey_pictures(data, workers=1)
    assert survey.problems == []
    assert "p2_5.png: the same file as" in survey.remarks[0]


def test_patients_in_both_parts_are_told(data: Path, tmp_path: Path):
    root = tmp_path / "split"
    root.mkdir()
    data.rename(root / "TrainDataset")
    for name in ("p0_9.png", "p7_0.png"):
        save(picture(9), root / "TestDataset" / "own" / "images" / name)
        save(mask(), root / "TestDataset" / "own" / "masks" / name)
    assert survey_pictures(root, workers=1).problems == []
    problems = survey_pictures(root, group_pattern="(p[0-9]+)_", workers=1).problems
    assert problems == [f"p0: this patient is in the training and in the test sets ({SHARED})"]


SHARED = "as p0_0.png and p0_9.png"


def nnunet(data: Path, root: Path) -> Path:
    for part, folder in (("images", "imagesTr"), ("masks", "labelsTr")):
        for path in (data / part).iterdir():
            suffix = "_0000.png" if part == "images" else ".png"
            (root / folder).mkdir(parents=True, exist_ok=True)
            path.rename(root / folder / f"{path.stem}{suffix}")
    for name in ("p0_9", "p7_0"):
        save(picture(9), root / "imagesTs" / f"{name}_0000.png")  # without masks, to be predicted
    return root


def folders(data: Path, root: Path) -> Path:
    root.mkdir()
    data.rename(root / "train")
    for name in ("p0_9.png", "p7_0.png"):
        save(picture(9), root / "test" / "images" / name)
        save(mask(), root / "test" / "masks" / name)
    return root


def datalist(data: Path, root: Path) -> Path:
    def cases(folder: Path) -> list[dict[str, str]]:
        names = sorted(path.name for path in (folder / "images").iterdir())
        return [{"image": str(folder / "images" / n), "label": str(folder / "masks" / n)} for n in names]

    folder = folders(data, root)
    (root / "list.json").write_text(
        json.dumps({"training": cases(folder / "train"), "test": cases(folder / "test")}), encoding="utf-8"
    )
    return root / "list.json"


@pytest.mark.parametrize("layout", [nnunet, folders, datalist])
def test_they_are_told_of_every_layout_with_two_parts(data: Path, tmp_path: Path, layout):
    root = layout(data, tmp_path / "split")
    assert len(survey_pictures(root, workers=1).cases) == 6
    assert survey_pictures(root, group_pattern="^(p7|p[0-9]+_[0-9])", workers=1).problems == []
    (problem,) = survey_pictures(root, group_pattern="(p[0-9]+)_", workers=1).problems
    assert problem.startswith("p0: this patient is in the training and in the test sets (as p0_0")


def test_they_are_told_with_all_else(data: Path, tmp_path: Path):
    root = folders(data, tmp_path / "split")
    truncate(root / "train" / "images" / "p1_2.png")
    problems = survey_pictures(root, group_pattern="(p[0-9]+)_", workers=1).problems
    assert len(problems) == 2
    problems = survey_pictures(root, group_pattern="(p[0-6])_", workers=1).problems
    assert len(problems) == 2
    assert "finds no patient in the name of" in problems[-1]


def test_sets_without_a_part_share_what_they_like(data: Path, tmp_path: Path):
    (tmp_path / "sets").mkdir()
    data.rename(tmp_path / "sets" / "kvasir")
    save(picture(9), tmp_path / "sets" / "clinic" / "images" / "p0_9.png")
    save(mask(), tmp_path / "sets" / "clinic" / "masks" / "p0_9.png")
    assert survey_pictures(tmp_path / "sets", group_pattern="(p[0-9]+)_", workers=1).problems == []


def test_a_palette_that_contradicts_its_indices_is_told(data: Path):
    image = Image.fromarray(mask(1))
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(data / "masks" / "p0_0.png")
    assert any("colours say otherwise" in problem for problem in survey_pictures(data, workers=1).problems)


def test_failures_are_not_kept(data: Path, tmp_path: Path):
    truncate(data / "images" / "p0_0.png")
    survey_pictures(data, workers=1, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    save(picture(0), data / "images" / "p0_0.png")
    survey_pictures(data, workers=1, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text("{")
    assert len(survey_pictures(data, workers=1, cache=tmp_path / "cache").cases) == 6


def test_nothing_to_look_through(tmp_path: Path):
    with pytest.raises(DataError, match="There is no folder"):
        survey_pictures(tmp_path / "none")
    with pytest.raises(DataError, match="no images with masks"):
        survey_pictures(tmp_path)
