# SPDX-License-Identifier: Apache-2.0
"""Tests of the procedural colonoscopy phantoms."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from monai_sam2unet.data import phantoms
from monai_sam2unet.data.phantoms import make_polyp_phantom, write_polyp_phantoms

Bytes = NDArray[np.uint8]

SMALL = (96, 128)


def _best_threshold_iou(image: Bytes, mask: Bytes) -> float:
    """Best IoU of any threshold on any channel, above or below, chosen with the mask in sight."""
    best = 0.0
    for channel in np.moveaxis(image, -1, 0):
        inside = np.bincount(channel[mask > 0], minlength=256)
        outside = np.bincount(channel[mask == 0], minlength=256)
        for hit, miss in ((inside, outside), (inside[::-1], outside[::-1])):
            ious = np.cumsum(hit) / (inside.sum() + np.cumsum(miss))
            best = max(best, float(ious.max()))
    return best


def _contrast_with_ring(image: Bytes, mask: Bytes) -> float:
    """Distance between the mean RGB of the polyps and of a ring around them, in grey levels."""
    grown = np.asarray(Image.fromarray(mask).filter(ImageFilter.MaxFilter(15)))
    ring = (grown > 0) & (mask == 0) & (image.max(-1) > 30)
    return float(np.linalg.norm(image[mask > 0].mean(0) - image[ring].mean(0)))


def _frames(part: Path, kind: str) -> list[Path]:
    return sorted((part / kind).iterdir())


def test_same_seed_gives_same_frame() -> None:
    for first, second in zip(make_polyp_phantom(7, *SMALL), make_polyp_phantom(7, *SMALL), strict=True):
        np.testing.assert_array_equal(first, second)


def test_other_seed_gives_other_frame() -> None:
    (image, mask), (other_image, other_mask) = make_polyp_phantom(7, *SMALL), make_polyp_phantom(8, *SMALL)
    assert (image != other_image).any()
    assert (mask != other_mask).any()


@pytest.mark.parametrize("size", [(288, 384), (64, 64), (131, 97), (64, 256)])
def test_shapes_types_and_values(size: tuple[int, int]) -> None:
    image, mask = make_polyp_phantom(3, *size)
    assert image.shape == (*size, 3)
    assert mask.shape == size
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}
    assert image.std() > 10


def test_default_size() -> None:
    assert make_polyp_phantom(0)[1].shape == (288, 384)


@pytest.mark.parametrize("size", [SMALL, (64, 200)])
def test_polyps_cover_1_to_35_percent(size: tuple[int, int]) -> None:
    shares = [(make_polyp_phantom(seed, *size)[1] > 0).mean() for seed in range(40)]
    assert min(shares) >= 0.01
    assert max(shares) <= 0.35
    assert max(shares) > 3 * min(shares)


def test_frames_vary_in_colour_and_brightness() -> None:
    means = np.array([make_polyp_phantom(seed, *SMALL)[0].mean((0, 1)) for seed in range(20)])
    assert means.mean(1).std() > 8
    assert (means[:, 1] / means[:, 0]).std() > 0.03
    # Mucosa is red before it is green, and green before it is blue.
    assert (np.diff(means.mean(0)) < 0).all()


def test_no_threshold_finds_the_polyps_although_they_differ_from_their_surroundings() -> None:
    pairs = [make_polyp_phantom(seed, 144, 192) for seed in range(20)]
    assert np.mean([_best_threshold_iou(*pair) for pair in pairs]) < 0.6
    assert np.mean([_contrast_with_ring(*pair) for pair in pairs]) > 10


def test_layout_and_counts_on_disk(tmp_path: Path) -> None:
    folder = write_polyp_phantoms(str(tmp_path / "new" / "phantoms"), 3, 2, *SMALL)
    assert folder == tmp_path / "new" / "phantoms"
    for part, count in ((folder / "TrainDataset", 3), (folder / "TestDataset" / "Phantom", 2)):
        expected = [f"{number:04d}.png" for number in range(1, count + 1)]
        assert [path.name for path in _frames(part, "images")] == expected
        assert [path.name for path in _frames(part, "masks")] == expected


def test_frames_on_disk_have_their_own_sizes_and_matching_masks(tmp_path: Path) -> None:
    part = write_polyp_phantoms(tmp_path, 6, 0, *SMALL) / "TrainDataset"
    sizes = set()
    for image_path, mask_path in zip(_frames(part, "images"), _frames(part, "masks"), strict=True):
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            assert (image.mode, mask.mode) == ("RGB", "L")
            assert image.size == mask.size
            assert set(np.unique(np.asarray(mask))) == {0, 255}
            sizes.add(image.size)
    assert len(sizes) > 1
    assert all(0.9 * 128 - 1 <= width <= 1.1 * 128 + 1 for width, _ in sizes)
    assert all(0.9 * 96 - 1 <= height <= 1.1 * 96 + 1 for _, height in sizes)


def test_no_frame_is_written_twice_and_counts_do_not_change_frames(tmp_path: Path) -> None:
    few = write_polyp_phantoms(tmp_path / "few", 2, 2, *SMALL)
    many = write_polyp_phantoms(tmp_path / "many", 4, 3, *SMALL)
    other = write_polyp_phantoms(tmp_path / "other", 2, 2, *SMALL, seed=1)
    contents = {path.relative_to(many): path.read_bytes() for path in many.rglob("images/*.png")}
    everything = [*contents.values(), *(path.read_bytes() for path in other.rglob("images/*.png"))]
    assert len(set(everything)) == len(everything) == 11
    for path in few.rglob("images/*.png"):
        assert path.read_bytes() == contents[path.relative_to(few)]


def test_smallest_size_is_kept_to(tmp_path: Path) -> None:
    folder = write_polyp_phantoms(tmp_path, num_train=4, num_test=0, height=64, width=64)
    for path in _frames(folder / "TrainDataset", "images"):
        with Image.open(path) as image:
            assert min(image.size) >= 64
    assert _frames(folder / "TestDataset" / "Phantom", "images") == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_train": 0}, "num_train is 0, but must be 1 or more"),
        ({"num_test": -1}, "num_test is -1, but must be 0 or more"),
        ({"height": 63}, "height is 63, but must be 64 or more"),
        ({"width": 10}, "width is 10, but must be 64 or more"),
        ({"seed": -1}, "seed is -1, but must be 0 or more"),
    ],
)
def test_writing_names_what_is_wrong_before_writing(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_polyp_phantoms(tmp_path / "phantoms", **wrong)
    assert not (tmp_path / "phantoms").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 63, 64), "height is 63, but must be 64 or more"),
        ((0, 64, 0), "width is 0, but must be 64 or more"),
        ((-2, 64, 64), "seed is -2, but must be 0 or more"),
    ],
)
def test_making_names_what_is_wrong(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_polyp_phantom(*arguments)


def test_example_in_the_documentation() -> None:
    result = doctest.testmod(phantoms)
    assert result.attempted > 0
    assert result.failed == 0
