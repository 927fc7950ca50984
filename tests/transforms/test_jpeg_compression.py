# SPDX-License-Identifier: Apache-2.0
"""Tests of the JPEG compression: equal to a file written and read, and MONAI's conventions."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import RandJPEGCompression, RandJPEGCompressiond


def picture(channels=3, seed=0):
    """A smooth image (C, 24, 40) in [0, 1] with a sharp edge."""
    rows, columns = np.mgrid[0:24, 0:40] / 40
    waves = [0.5 + 0.4 * np.sin(6 * rows + k) * np.cos(5 * columns) for k in range(channels)]
    image = np.stack(waves).astype(np.float32)
    image[:, 8:16, 10:30] = np.random.default_rng(seed).random((channels, 1, 1))
    return image


def through_a_file(image, quality, folder):
    """The image written as a JPEG file and read again."""
    pixels = np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels.squeeze()).save(folder / "a.jpg", quality=quality)
    read = np.asarray(Image.open(io.BytesIO((folder / "a.jpg").read_bytes())), np.float32)
    return read.reshape(pixels.shape).transpose(2, 0, 1) / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [5, 50, 95])
def test_equals_a_file_written_and_read(channels, quality, tmp_path):
    image = picture(channels)
    out = RandJPEGCompression(1.0, (quality, quality))(image)
    np.testing.assert_allclose(out, through_a_file(image, quality, tmp_path), atol=1e-6)
    assert np.abs(out - image).max() > 0.003


def test_lower_quality_loses_more():
    image = picture()
    errors = [np.abs(RandJPEGCompression(1.0, (q, q))(image) - image).mean() for q in (5, 30, 90)]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]


def test_bytes_change_as_images_in_0_1_do():
    image = picture()
    small = RandJPEGCompression(1.0, (40, 40))(image)
    large = RandJPEGCompression(1.0, (40, 40), max_value=255)(image * 255)
    np.testing.assert_allclose(large, small * 255, atol=1e-3)


def test_qualities_are_drawn_from_the_whole_range():
    compression = RandJPEGCompression(1.0, (40, 43)).set_random_state(0)
    drawn = set()
    for _ in range(60):
        compression.randomize()
        drawn.add(compression._quality)
    assert drawn == {40, 41, 42, 43}


def test_probability_and_random_state():
    image = picture()
    assert RandJPEGCompression(0.0)(image) is image
    sometimes = RandJPEGCompression(0.3).set_random_state(0)
    assert 60 < sum(sometimes(image) is not image for _ in range(300)) < 120
    runs = [
        [np.asarray(compression(image)) for _ in range(4)]
        for compression in (RandJPEGCompression(1.0).set_random_state(s) for s in (5, 5, 6))
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_the_last_draw_can_be_repeated():
    image, compression = picture(), RandJPEGCompression(1.0, (5, 95)).set_random_state(0)
    first = compression(image)
    np.testing.assert_array_equal(compression(image, randomize=False), first)


def test_keeps_type_metadata_and_the_given_image():
    image = MetaTensor(torch.from_numpy(picture()), affine=torch.diag(torch.tensor([2.0, 3, 1, 1])))
    before = image.clone()
    out = RandJPEGCompression(1.0)(image)
    assert isinstance(out, MetaTensor)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.affine, image.affine)
    assert torch.equal(image, before)


def test_dictionary_version_changes_keys_alike():
    image = picture()
    compression = RandJPEGCompressiond(["a", "b"], prob=1.0, quality=(5, 95)).set_random_state(2)
    items = {"a": image, "b": image.copy(), "label": image}
    out = compression(items)
    np.testing.assert_array_equal(out["a"], out["b"])
    assert out["label"] is image
    assert not np.array_equal(compression(items)["a"], out["a"])
    assert RandJPEGCompressiond("a", prob=0.0)(items)["a"] is image
    with pytest.raises(KeyError, match="c"):
        RandJPEGCompressiond(["a", "c"], prob=1.0)(items)


def test_composed_with_a_random_state():
    def run():
        compose = Compose([RandJPEGCompressiond("a", prob=0.5)]).set_random_state(3)
        return [np.asarray(compose({"a": picture()})["a"]) for _ in range(6)]

    np.testing.assert_array_equal(run(), run())


@pytest.mark.parametrize("quality", [(0, 50), (60, 50), (50, 96)])
@pytest.mark.parametrize("make", [RandJPEGCompression, lambda **k: RandJPEGCompressiond("a", **k)])
def test_qualities_out_of_range(quality, make):
    with pytest.raises(ValueError, match=r"quality must be two whole numbers in \[1, 95\]"):
        make(quality=quality)


@pytest.mark.parametrize("shape", [(2, 8, 8), (8, 8), (3, 8, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="JPEG holds images"):
        RandJPEGCompression(1.0)(torch.zeros(shape))


@pytest.mark.parametrize("values", [255 * picture(), picture() - 1, np.full((3, 4, 4), np.nan, np.float32)])
def test_values_out_of_range_are_refused(values):
    with pytest.raises(DataError, match=r"takes values in \[0, 1\]"):
        RandJPEGCompression(1.0)(values)
