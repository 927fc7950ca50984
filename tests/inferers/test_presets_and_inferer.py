# SPDX-License-Identifier: Apache-2.0
"""Tests of volumes from a file to a mask: a preset, the inferer made from it, and the final segmentation."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Compose, FlattenSubKeysd
from torch import nn

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers import SliceWiseInferer
from monai_sam2unet.transforms import FinaliseSegmentationd, Preset

SHAPE = (20, 28, 12)
#: The first axis runs to the feet, the second to the front, the third to the left; the last has the thick slices.
AFFINE = np.array([[0, 0, -3.0, 20], [0, 1.25, 0, -30], [-1.0, 0, 0, 9], [0, 0, 0, 1]])
#: Height and width of the slices as they are shown.
SIZES = {"axial": (28, 12), "coronal": (20, 12), "sagittal": (20, 28)}


@pytest.fixture
def files(tmp_path):
    """Two volumes that are not RAS, of smooth content and some noise, and their values on the files' grids."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    paths, values = [], []
    for number in range(2):
        blob = 600 * np.exp(-3 * ((x - 0.2 * number) ** 2 + y**2 + (z + 0.3) ** 2)) + 200 * x + 100 * y
        image = (blob + rng.normal(0, 20, SHAPE)).astype(np.float32)
        paths.append(str(tmp_path / f"{number}.nii.gz"))
        nib.save(nib.Nifti1Image(image, AFFINE), paths[-1])
        values.append(image)
    return paths, values


def scaled(image):
    """What the MR preset makes of a volume, by numpy."""
    low, high = np.percentile(image, (0.5, 99.5))
    return ((image - low) / (high - low)).clip(0, 1)


class Thresholds(nn.Module):
    """One logit a threshold of the middle channel: above 0 where the value in [0, 1] is above it."""

    def __init__(self, *thresholds, channels=3):
        super().__init__()
        self.register_buffer("thresholds", torch.tensor(thresholds).view(1, -1, 1, 1))
        self.register_buffer("mean", torch.tensor(0.456 if channels == 3 else (0.485 + 0.456 + 0.406) / 3))
        self.register_buffer("std", torch.tensor(0.224 if channels == 3 else (0.229 + 0.224 + 0.225) / 3))
        self.channels = channels
        self.eval()

    def forward(self, x):
        assert x.shape[1] == self.channels
        middle = x[:, self.channels // 2][:, None]
        return 40 * (middle * self.std + self.mean - self.thresholds)


class Classes(Thresholds):
    """Logits of the background and of one class a threshold, each the likeliest beyond its own."""

    def forward(self, x):
        above = super().forward(x)
        return torch.cat([torch.zeros_like(above[:, :1]), above.cumsum(1)], 1)


def exact(plane, **options):
    """A preset that resizes nothing, so that results are those of the voxels."""
    return Preset("mr", spatial_size=SIZES[plane], plane=plane, keep_aspect=False, **options)


def agree(found, expected, values, thresholds):
    """Masks agree wherever a value is not at a threshold, give or take a rounding error."""
    clear = np.all([np.abs(values - threshold) > 1e-4 for threshold in thresholds], axis=0)
    assert clear.mean() > 0.99
    assert np.array_equal(np.asarray(found)[clear], expected[clear])


# --- the network sees in inference what it saw in training


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", 0])
@pytest.mark.parametrize(
    "options",
    [
        {"neighbours": 1},
        {"neighbours": 2, "in_channels": 5},
        {"neighbours": 1, "pixel_spacing": 1.0},
        {"neighbours": 1, "keep_aspect": False},
        {},
    ],
    ids=str,
)
def test_inference_sees_the_slices_of_training_bit_for_bit(files, tmp_path, plane, options):
    paths, values = files
    nib.save(nib.Nifti1Image((values[0] > 300).astype(np.uint8), AFFINE), tmp_path / "label.nii.gz")
    preset = Preset("mr", spatial_size=(48, 64), plane=plane, **options)
    case = preset.volumes()({"image": paths[0], "label": str(tmp_path / "label.nii.gz")})
    trained_on = [item["image"] for item in Dataset(preset.slices()(case), preset.training())]
    seen = []

    def network(x):
        seen.append(x.clone())
        return x[:, :1]

    image = preset.inference()({"image": paths[0]})["image"]
    SliceWiseInferer.from_preset(preset, sw_batch_size=5)(image[None], network)
    given = list(torch.cat(seen))
    assert len(given) == len(trained_on)
    assert given[0].shape == (options.get("in_channels", 3), 48, 64)
    # The inferer reads slices in the array's order, which may be the plane's reversed.
    if not torch.equal(given[0], trained_on[0]):
        given.reverse()
    for slice_given, slice_trained in zip(given, trained_on, strict=True):
        assert torch.equal(slice_given, slice_trained)


# --- from the file to the mask


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_masks_of_two_volumes_through_a_data_loader(files, plane, activation):
    paths, values = files
    preset = exact(plane)
    items = [{"image": path} for path in paths]
    batch = next(iter(DataLoader(Dataset(items, preset.inference()), batch_size=2)))
    batch["pred"] = SliceWiseInferer.from_preset(preset, activation=activation)(batch["image"], Thresholds(0.3, 0.6))
    finish = preset.postprocessing(threshold=0.5)
    for item, image in zip(map(finish, decollate_batch(batch)), values, strict=True):
        assert item["pred"].dtype == torch.uint8
        assert np.array_equal(item["pred"].affine, AFFINE)
        for channel, threshold in enumerate((0.3, 0.6)):
            agree(item["pred"][channel], scaled(image) >= threshold, scaled(image), [threshold])


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_activated_results_are_not_activated_again(files, threshold, activation):
    """Averaged probabilities and the logits of one pass give one mask, at any threshold."""
    paths, _ = files
    preset = exact("axial")
    image = preset.inference()({"image": paths[0]})["image"]
    network = Classes(0.3, 0.6)
    logits = SliceWiseInferer.from_preset(preset)(image[None], network)[0]
    averaged = SliceWiseInferer.from_preset(preset, flips=["rows", "columns"], activation=activation)(
        image[None], network
    )[0]
    assert averaged.meta["activation"] == activation
    finish = FinaliseSegmentationd("pred", threshold=threshold, activation=activation)
    expected, found = (finish({"pred": pred})["pred"] for pred in (logits, averaged))
    assert 0 < found.float().mean() < 1
    p = averaged.as_tensor()
    clear = (p - threshold).abs() > 1e-5
    assert torch.equal(found.as_tensor()[clear], (p >= threshold).to(torch.uint8)[clear])
    assert torch.equal(found.as_tensor()[clear], expected.as_tensor()[clear])


@pytest.mark.parametrize("options", [{}, {"activation": "softmax"}, {"activation": "softmax", "flips": ["both"]}])
def test_classes(files, options):
    paths, values = files
    preset = exact("coronal", neighbours=1)
    image = preset.inference()({"image": paths[1]})["image"]
    pred = SliceWiseInferer.from_preset(preset, **options)(image[None], Classes(0.3, 0.6))[0]
    mask = preset.postprocessing(argmax=True)({"pred": pred})["pred"]
    values = scaled(values[1])
    agree(mask[0], (values > 0.3).astype(int) + (values > 0.6), values, [0.3, 0.6])


def test_three_views_with_uncertainty(files):
    paths, values = files
    preset = Preset("mr", spatial_size=(32, 32), plane="sagittal", keep_aspect=False)
    views = ["axial", "coronal", "sagittal"]
    inferer = SliceWiseInferer.from_preset(preset, spatial_dim=views, activation="sigmoid", uncertainty="variance")
    items = [{"image": path} for path in paths]
    batch = next(iter(DataLoader(Dataset(items, preset.inference()), batch_size=2)))
    batch["pred"] = inferer(batch["image"], Thresholds(0.4))
    finish = Compose([FlattenSubKeysd("pred", prefix="pred"), FinaliseSegmentationd("pred_mean", threshold=0.5)])
    for item, image in zip(map(finish, decollate_batch(batch)), values, strict=True):
        assert item["pred_mean"].shape == SHAPE
        assert (np.asarray(item["pred_mean"]) == (scaled(image) > 0.4)).mean() > 0.95
        assert item["pred_uncertainty"].shape == (1, *SHAPE)
        assert "activation" not in item["pred_uncertainty"].meta


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_real_volume_that_is_not_ras(shared_data, plane):
    path = sorted((shared_data / "sct-spine").rglob("*.nii*"))[0]
    source = nib.load(path)
    values = scaled(source.get_fdata(dtype=np.float32))
    preset = Preset("mr", spatial_size=None, plane=plane, neighbours=1)
    image = preset.inference()({"image": str(path)})["image"]
    pred = SliceWiseInferer.from_preset(preset, activation="sigmoid")(image[None], Thresholds(0.5))[0]
    mask = preset.postprocessing(threshold=0.5)({"pred": pred})["pred"]
    assert np.array_equal(mask.affine, source.affine)
    agree(mask[0], values >= 0.5, values, [0.5])


# --- what from_preset takes


def test_from_preset_takes_all_that_is_the_presets():
    preset = Preset("mr", spatial_size=64, plane="coronal", neighbours=2, in_channels=5)
    inferer = SliceWiseInferer.from_preset(preset, sw_batch_size=3, precision="bf16")
    assert inferer.settings.planes == ("coronal",)
    assert inferer.settings.neighbours == 2
    assert inferer.settings.slice_transform is preset.slice_transform
    assert inferer.settings.sw_batch_size == 3
    assert inferer.autocast.precision == "bf16"

    class Own(SliceWiseInferer):
        pass

    assert type(Own.from_preset(preset)) is Own


def test_from_preset_in_a_bundles_config():
    parser = ConfigParser(
        {
            "preset": {"_target_": "monai_sam2unet.transforms.Preset", "modality": "ct", "plane": "sagittal"},
            "inferer": {
                "_target_": "monai_sam2unet.inferers.SliceWiseInferer.from_preset",
                "preset": "@preset",
                "spatial_dim": ["sagittal", "axial"],
                "activation": "sigmoid",
                "flips": ["rows"],
            },
        }
    )
    inferer = parser.get_parsed_content("inferer")
    assert isinstance(inferer, SliceWiseInferer)
    assert inferer.settings.planes == ("sagittal", "axial")
    assert inferer.settings.slice_transform is parser.get_parsed_content("preset").slice_transform


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 1}, "neighbours of slices are the preset's: set them there"),
        ({"neighbours": 0}, "neighbours"),
        ({"slice_transform": None, "neighbours": 1}, "slice_transform and neighbours"),
        ({"spatial_dim": "coronal"}, "The preset cuts slices by 'axial', and spatial_dim 'coronal' leaves that out"),
        ({"spatial_dim": ["coronal", "sagittal"]}, "leaves that out"),
        ({"spatial_dim": 2}, "leaves that out"),
        ({"spatial_dim": ["axial", "coronal"]}, "2 predictions are averaged"),
        ({"spatial_dim": ["axial", "transversal"]}, "axial, coronal, sagittal"),
        ({"sw_batch_size": 0}, "sw_batch_size"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SliceWiseInferer.from_preset(Preset("ct"), **options)


def test_presets_that_are_refused():
    with pytest.raises(ConfigError, match=r"endoscopy images are pictures.*AutocastInferer.*postprocessing"):
        SliceWiseInferer.from_preset(Preset("endoscopy"))
    with pytest.raises(ConfigError, match=r"takes a monai_sam2unet.transforms.Preset, got 'ct'"):
        SliceWiseInferer.from_preset("ct")
    with pytest.raises(TypeError, match="sw_batch"):
        SliceWiseInferer.from_preset(Preset("ct"), sw_batch=3)


def test_a_network_for_another_number_of_channels_and_a_volume_that_was_not_loaded(files):
    preset = Preset("mr", spatial_size=32)
    image = preset.inference()({"image": files[0][0]})["image"]
    inferer = SliceWiseInferer.from_preset(preset)
    with pytest.raises(ConfigError, match=r"slices of 3 channels.*and takes 1.*HieraInput"):
        inferer(image[None], nn.Conv2d(1, 1, 1).eval())
    with pytest.raises(DataError, match="axial slices need the affine"):
        inferer(image.as_tensor()[None], Thresholds(0.5))
