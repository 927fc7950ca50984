# SPDX-License-Identifier: Apache-2.0
"""Tests of the files that predictions are written to; images are read from real files, in real runs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, Identityd, LoadImaged
from PIL import Image
from torch import nn

from monai_sam2unet.bundle import inference_datalist
from monai_sam2unet.data import to_rgb
from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.overlay import CLASS_COLOURS
from monai_sam2unet.handlers import PredictionWriter, draw_overlay


class Bright(nn.Module):
    """Takes pixels that are bright in red for foreground."""

    def forward(self, x):
        return x[:, :1]


def save(path: Path, height: int, width: int, seed: int = 0, **options) -> np.ndarray:
    """Write an image of coarse random squares; gives its pixels."""
    small = np.random.default_rng(seed).integers(0, 2, (height // 8, width // 8, 3)).astype(np.uint8) * 200 + 20
    pixels = small.repeat(8, 0).repeat(8, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def predict(dataset_dir, output_dir, network=None, postprocessing=None, **options):
    transform = Compose(
        [
            LoadImaged("image", reader="PILReader", converter=to_rgb, reverse_indexing=False),
            EnsureChannelFirstd("image"),
        ]
    )
    loader = DataLoader(Dataset(inference_datalist(dataset_dir)["cases"], transform), batch_size=1)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=network or Bright(),
        postprocessing=postprocessing or AsDiscreted("pred", threshold=127.5),
        val_handlers=[PredictionWriter(output_dir, dataset_dir, **options)],
    ).run()


def test_masks_and_overlays_have_name_and_size_of_their_images(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    images = {"a.png": (16, 24), "case.12.bmp": (32, 16), "sub/deeper/b.tif": (8, 8), "C.PNG": (24, 24)}
    pixels = {name: save(data / name, *size, seed) for seed, (name, size) in enumerate(images.items())}
    predict(data, out)
    expected = {name: str(Path(name).with_suffix(".png")) for name in images}
    assert files(out / "masks") == files(out / "overlays") == sorted(expected.values())
    for name, image in pixels.items():
        with Image.open(out / "masks" / expected[name]) as mask:
            assert (mask.format, mask.mode) == ("PNG", "L")
            np.testing.assert_array_equal(np.asarray(mask), np.where(image[..., 0] > 127, 255, 0))
        np.testing.assert_array_equal(read(out / "overlays" / expected[name]), draw_overlay(image, image[..., 0] > 127))


def test_images_of_one_stem_get_files_of_their_own(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    sizes = {"a.bmp": (8, 8), "a.jpg": (16, 16), "a.png": (24, 24), "b/a.png": (32, 32), "a.png.tif": (40, 40)}
    for name, size in sizes.items():
        save(data / name, *size)
    predict(data, out, overlays=False)
    assert files(out) == sorted(
        ["masks/a.bmp.png", "masks/a.jpg.png", "masks/a.png.png", "masks/b/a.png", "masks/a.png.tif.png"]
    )
    for name, (height, _) in sizes.items():
        assert read(out / "masks" / ("b/a.png" if name == "b/a.png" else f"{name}.png")).shape[0] == height, name
    predict(data / "a.jpg", tmp_path / "one", overlays=False)
    assert files(tmp_path / "one") == ["masks/a.png"]


def test_a_second_run_replaces_the_files(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    save(data / "a.jpg", 16, 16)
    predict(data, out)
    new = save(data / "a.jpg", 24, 16, seed=4, quality=95)
    predict(data, out)
    assert files(out) == ["masks/a.png", "overlays/a.png"]
    assert read(out / "masks" / "a.png").shape == new.shape[:2]


def test_one_image(tmp_path, caplog):
    save(tmp_path / "data" / "a.png", 16, 16)
    with caplog.at_level(logging.INFO, "monai_sam2unet"):
        predict(tmp_path / "data" / "a.png", str(tmp_path / "out"))
    assert files(tmp_path / "out") == ["masks/a.png", "overlays/a.png"]
    assert f"1 mask written to {tmp_path / 'out' / 'masks'}" in caplog.text


def test_photographs_lying_on_their_side(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "data" / "a.jpg", 16, 24, exif=exif)
    predict(tmp_path / "data", tmp_path / "out")
    assert read(tmp_path / "out" / "masks" / "a.png").shape == (24, 16)
    assert read(tmp_path / "out" / "overlays" / "a.png").shape == (24, 16, 3)


def test_a_prediction_of_another_size_is_refused(tmp_path):
    save(tmp_path / "data" / "a.png", 16, 24)
    with pytest.raises(DataError, match=r"a.png is \(8, 12\), the image \(16, 24\) pixels"):
        predict(tmp_path / "data", tmp_path / "out", nn.AvgPool2d(2))
    assert files(tmp_path / "out") == []


def test_masks_of_several_classes_hold_their_indices(tmp_path):
    class Levels(nn.Module):
        def forward(self, x):
            return (x[:, :1] > 127).float() * 2

    save(tmp_path / "data" / "a.png", 16, 24)
    predict(
        tmp_path / "data", tmp_path / "out", Levels(), postprocessing=Identityd("pred"), class_names=["edge", "bed"]
    )
    mask = read(tmp_path / "out" / "masks" / "a.png")
    assert set(np.unique(mask)) == {0, 2}
    with Image.open(tmp_path / "out" / "masks" / "a.png") as image:
        assert image.mode == "P"
        shown = np.asarray(image.convert("RGB"))
    assert (shown[mask == 2] == CLASS_COLOURS[1]).all()
    assert not shown[mask == 0].any()
    overlay = read(tmp_path / "out" / "overlays" / "a.png")
    assert (overlay[mask == 2] == CLASS_COLOURS[1]).all(-1).any()


def test_overlays_of_sixteen_bits(tmp_path):
    writer = PredictionWriter(tmp_path / "out", tmp_path / "a.png")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(tmp_path / "a.png")
    image = MetaTensor(torch.zeros(1, 8, 8), meta={"filename_or_obj": str(tmp_path / "a.png")})
    engine = Engine(lambda engine, batch: None)
    engine.state.batch, engine.state.output = [{"image": image}], [{"pred": torch.zeros(1, 8, 8)}]
    writer(engine)
    np.testing.assert_array_equal(read(tmp_path / "out" / "overlays" / "a.png")[0, :3, 0], [0, 4, 8])
