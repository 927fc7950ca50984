# SPDX-License-Identifier: Apache-2.0
"""Tests of reading maps and masks from pictures of many kinds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation.map_files import check_sizes, read_map, read_truth, upsample_map
from monai_sam2unet.evaluation.prediction_folder import PredictionCase

LEVELS = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_gray_in_any_mode_keeps_its_levels(tmp_path, mode):
    levels = np.where(LEVELS > 127, 255, 0).astype(np.uint8) if mode == "1" else LEVELS
    Image.fromarray(levels).convert(mode).save(tmp_path / "map.png")
    found = read_map(tmp_path / "map.png")
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found[0].numpy(), levels)


def test_jpeg(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    Image.fromarray(np.stack([smooth] * 3, 2)).save(tmp_path / "map.jpg", quality=95)
    assert np.abs(read_map(tmp_path / "map.jpg")[0].numpy().astype(int) - smooth).max() <= 3


def test_more_than_eight_bits(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    found = read_map(tmp_path / "deep.png")
    np.testing.assert_allclose(found[0].numpy(), deep / 65535, atol=1e-6)
    values = (deep / 65535).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    np.testing.assert_allclose(read_map(tmp_path / "float.tif")[0].numpy(), values)


def test_maps_that_are_none(tmp_path):
    Image.fromarray(np.dstack([LEVELS, LEVELS.T.reshape(20, 30), LEVELS])).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match="coloured"):
        read_map(tmp_path / "colour.png")
    for name, value in (("large", 255.0), ("nan", np.nan), ("negative", -1.0)):
        Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / f"{name}.tif")
        with pytest.raises(DataError, match=r"values in \[0, 1\]"):
            read_map(tmp_path / f"{name}.tif")


def test_truth(tmp_path):
    Image.fromarray(LEVELS).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_truth(tmp_path / "mask.png")[0].numpy(), LEVELS >= 128)
    np.testing.assert_array_equal(read_truth(tmp_path / "mask.png", 10)[0].numpy(), LEVELS >= 10)
    Image.fromarray((LEVELS > 127).astype(np.uint8)).save(tmp_path / "ones.png")
    with pytest.raises(DataError, match=r"largest value is 1, foreground is 127.5 up \(--mask-threshold\)"):
        read_truth(tmp_path / "ones.png")
    assert read_truth(tmp_path / "ones.png", 0.5).any()
    Image.fromarray(LEVELS * 0).save(tmp_path / "empty.png")
    assert not read_truth(tmp_path / "empty.png").any()
    with pytest.raises(ConfigError, match="above 0 and at most 255"):
        read_truth(tmp_path / "mask.png", float("nan"))
    Image.fromarray(LEVELS.astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="it has 16 bits; save the mask with 8"):
        read_truth(tmp_path / "deep.png")


@pytest.mark.parametrize("read", [read_map, read_truth])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_in_the_alpha_channel_is_told(tmp_path, read, mode):
    picture = Image.new("L", (30, 20), 255).convert(mode)
    picture.save(tmp_path / "opaque.png")
    assert read(tmp_path / "opaque.png").any()
    picture.putalpha(Image.fromarray(LEVELS))
    picture.save(tmp_path / "alpha.png")
    with pytest.raises(DataError, match=r"alpha channel .* varies.*save that as a gray picture"):
        read(tmp_path / "alpha.png")


@pytest.mark.parametrize("read", [read_map, read_truth])
def test_a_transparent_colour_of_a_palette_is_alpha_too(tmp_path, read):
    Image.fromarray(LEVELS).convert("P").save(tmp_path / "palette.png", transparency=int(LEVELS[0, 0]))
    with pytest.raises(DataError, match="alpha channel"):
        read(tmp_path / "palette.png")


def test_resizing_is_bilinear_without_moved_corners():
    found = upsample_map(torch.from_numpy(LEVELS)[None], 45, 70)
    expected = cv2.resize(LEVELS.astype(np.float32) / 255, (70, 45), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)
    same = torch.from_numpy(LEVELS)[None]
    assert upsample_map(same, 20, 30) is same


def test_sizes_are_compared_before_anything_is_scored(tmp_path):
    cases = []
    for name, size in (("same", (20, 30)), ("other", (10, 15)), ("turned", (30, 20))):
        Image.fromarray(LEVELS).save(tmp_path / f"{name} truth.png")
        exif = Image.Exif()
        if name == "turned":
            exif[0x0112] = 6
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / f"{name}.png", exif=exif)
        cases.append(PredictionCase("A", name, tmp_path / f"{name}.png", tmp_path / f"{name} truth.png"))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    cases.append(PredictionCase("A", "broken", tmp_path / "broken.png", cases[0].truth))
    with pytest.raises(DataError, match=r"^1 maps are not as large(.|\n)*--resize") as caught:
        check_sizes(cases)
    assert "other.png: the map is 15x10 pixels, its mask 30x20 pixels" in str(caught.value)
    check_sizes([cases[0], *cases[2:]])


def test_a_map_turned_by_exif_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    square = LEVELS[:, :20]
    Image.fromarray(square).save(tmp_path / "map.png", exif=exif)
    np.testing.assert_array_equal(read_map(tmp_path / "map.png").squeeze().numpy(), square[::-1, ::-1])
