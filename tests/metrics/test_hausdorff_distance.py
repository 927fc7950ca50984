# SPDX-License-Identifier: Apache-2.0
"""Tests of HD95 against distance transforms, of where its millimetres are from, and of empty masks."""

from __future__ import annotations

import math

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import LoadImage, Resize
from PIL import Image
from scipy import ndimage

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics import HausdorffDistance95Metric, compute_hausdorff_distance_95
from monai_sam2unet.metrics.mask_spacing import image_spacings
from monai_sam2unet.transforms.pixel_size import known_spacing


def reference(pred: np.ndarray, truth: np.ndarray, spacing=None) -> float:
    """Both directions by the transform of the distance to the other's outline."""
    outlines = [mask & ~ndimage.binary_erosion(mask) for mask in (pred, truth)]
    to = [ndimage.distance_transform_edt(~outline, sampling=spacing) for outline in outlines]
    return max(np.percentile(to[1][outlines[0]], 95), np.percentile(to[0][outlines[1]], 95))


def tensors(*masks: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(mask, dtype=np.float32))[None, None] for mask in masks]


def block(*shape: int, start: int = 2, stop: int = 6) -> torch.Tensor:
    """(1, ...) with ones in a block."""
    mask = torch.zeros(1, *shape)
    mask[(slice(None), *(slice(start, stop) for _ in shape))] = 1
    return mask


def affine(*spacing: float) -> torch.Tensor:
    return torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("spacing", [None, (0.5, 0.5), (0.7, 2.5)])
def test_equals_distance_transforms_on_shapes(shape_pairs, spacing):
    for pred, truth in shape_pairs:
        unit = "pixels" if spacing is None else "mm"
        found = compute_hausdorff_distance_95(*tensors(pred, truth), unit=unit, spacing=spacing)
        assert float(found) == pytest.approx(reference(pred, truth, spacing), rel=1e-5, abs=1e-5)


def test_equals_distance_transforms_on_real_masks(real_pairs):
    differing = 0
    for pred, truth in real_pairs:
        found = float(compute_hausdorff_distance_95(*tensors(pred, truth), unit="mm", spacing=(0.3, 0.4)))
        assert found == pytest.approx(reference(pred, truth, (0.3, 0.4)), rel=1e-5, abs=1e-5)
        differing += found > 0
    assert differing > 6


def test_equals_distance_transforms_on_volumes():
    rng = np.random.default_rng(1)
    for spacing in ((1.0, 1.0, 1.0), (0.7, 0.7, 5.0)):
        noise = [ndimage.gaussian_filter(rng.standard_normal((20, 24, 9)), 2) for _ in range(2)]
        pred, truth = (n > np.quantile(n, 0.8) for n in noise)
        found = compute_hausdorff_distance_95(*tensors(pred, truth), spacing=spacing)
        assert float(found) == pytest.approx(reference(pred, truth, spacing), rel=1e-5)


def test_is_the_larger_of_both_directions():
    truth = block(40, 40)
    pred = truth.clone()
    pred[:, 30:34, 30:34] = 1  # half of the prediction's outline is far from the truth, but none of the truth's is
    there = compute_hausdorff_distance_95(pred[None], truth[None], unit="pixels")
    assert float(there) > 30
    assert there == compute_hausdorff_distance_95(truth[None], pred[None], unit="pixels")


def test_border_of_the_image_is_an_outline():
    truth = torch.ones(1, 1, 30, 30)
    pred = truth.clone()
    pred[..., :, :10] = 0
    assert float(compute_hausdorff_distance_95(pred, truth, unit="pixels")) == 10


def test_empty_masks():
    empty, some = torch.zeros(1, 30, 40), block(30, 40)
    pred, truth = torch.stack([empty, empty, some, some]), torch.stack([empty, some, empty, some])
    found = compute_hausdorff_distance_95(pred, truth, unit="pixels").flatten()
    assert found.tolist() == [0, 50, 50, 0]
    assert compute_hausdorff_distance_95(pred, truth, spacing=(2, 0.5)).flatten()[1] == pytest.approx(
        math.hypot(60, 20)
    )
    ignored = compute_hausdorff_distance_95(pred, truth, unit="pixels", one_empty="ignore").flatten()
    assert torch.equal(ignored.isnan(), torch.tensor([False, True, True, False]))

    metric = HausdorffDistance95Metric(unit="pixels", one_empty="ignore")
    metric(pred[1:3], truth[1:3])
    assert metric.aggregate().isnan()
    metric(pred[:1], truth[:1])
    assert metric.aggregate() == 0


def test_channels_with_and_without_background():
    background, first, second = block(30, 30, start=0, stop=30), block(30, 30), block(30, 30, start=10, stop=15)
    truth = torch.cat([background, first, second])[None]
    pred = torch.cat([background, first.roll(2, -1), torch.zeros_like(second)])[None]
    found = compute_hausdorff_distance_95(pred, truth, unit="pixels")
    assert found.shape == (1, 2)
    assert found[0].tolist() == pytest.approx([2, math.hypot(30, 30)])
    every = compute_hausdorff_distance_95(pred, truth, unit="pixels", include_background=True)
    assert every[0].tolist() == pytest.approx([0, 2, math.hypot(30, 30)])

    metric = HausdorffDistance95Metric(unit="pixels", reduction="mean_batch")
    metric(pred, truth)
    metric(truth, truth)
    assert metric.aggregate().tolist() == pytest.approx([1, math.hypot(30, 30) / 2])
    assert metric.aggregate("none").shape == (2, 2)


def test_millimetres_of_each_image_of_a_batch_and_of_a_list():
    masks = [MetaTensor(block(20, 20), affine=affine(size, 2 * size, 5)) for size in (0.5, 1.0, 3.0)]
    batch = list_data_collate([{"label": mask} for mask in masks])["label"]
    shifted = torch.stack([mask.as_tensor().roll(2, -1) for mask in masks])
    assert compute_hausdorff_distance_95(shifted, batch).flatten().tolist() == [2, 4, 12]
    # The network's output may be what carries the meta.
    assert compute_hausdorff_distance_95(batch > 0, shifted).flatten().tolist() == [2, 4, 12]

    sizes = [MetaTensor(block(20, 10 + 5 * n), affine=affine(1, n, 1)) for n in (2, 3)]
    metric = HausdorffDistance95Metric()
    metric([mask.as_tensor().roll(2, -1) for mask in sizes], sizes)
    metric(shifted, decollate_batch(batch))
    assert metric.aggregate("none").flatten().tolist() == [4, 6, 2, 4, 12]


def test_millimetres_of_a_volume():
    label = MetaTensor(block(12, 12, 12), affine=affine(1, 1, 4))
    found = compute_hausdorff_distance_95(label.as_tensor().roll(1, -1)[None], label[None])
    assert float(found) == 4


def test_given_spacing_stands_before_the_affine():
    label = MetaTensor(block(12, 12), affine=affine(1, 1, 1.5))
    metric = HausdorffDistance95Metric()
    metric(label.roll(2, -1)[None], label[None], spacing=[1, 7.5])
    assert metric.aggregate() == 15


READ = {"original_affine": np.eye(4)}


@pytest.mark.parametrize(
    "image",
    [
        block(12, 12),
        MetaTensor(block(12, 12)),
        MetaTensor(block(12, 12), meta=dict(READ)),
        MetaTensor(block(12, 12), affine=affine(0.5, 2, 3)),
        MetaTensor(block(12, 12), affine=affine(0.5, 2)),
        MetaTensor(block(12, 12), affine=torch.tensor([[0.0, 2, 0, 5], [-3, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])),
        MetaTensor(block(12, 12), affine=affine(0.5, 2, 3), meta={"spacing_source": ""}),
        MetaTensor(block(12, 12), affine=affine(0.5, 2, 3), meta={"spacing_source": "unknown"}),
    ],
)
def test_knows_the_spacing_where_the_transforms_know_it(image):
    expected = known_spacing(image)
    if expected is None:
        with pytest.raises(DataError, match="size of a pixel"):
            image_spacings(image[None], image[None], "mm")
    else:
        assert image_spacings(image[None], image[None], "mm") == [expected]


@pytest.mark.parametrize(
    "image",
    [
        MetaTensor(block(12, 12, 12), affine=affine(0.5, 2, 3), meta={"spacing_source": "unknown"}),
        MetaTensor(block(12, 12, 12), affine=affine(0.5, 2)),
    ],
)
def test_a_volume_without_its_third_spacing_is_an_error(image):
    with pytest.raises(DataError, match="size of a pixel"):
        compute_hausdorff_distance_95(image[None], image[None])


def test_a_resized_picture_has_no_millimetres(tmp_path):
    Image.fromarray(block(40, 40)[0].byte().numpy()).save(tmp_path / "mask.png")
    picture = Resize((20, 20), mode="nearest")(LoadImage(ensure_channel_first=True)(tmp_path / "mask.png"))
    assert not torch.equal(picture.affine, torch.eye(4, dtype=picture.affine.dtype))
    with pytest.raises(DataError, match="size of a pixel"):
        compute_hausdorff_distance_95(picture[None], picture[None])


def test_a_resized_file_with_an_affine_has_millimetres(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((20, 10, 1), np.uint8), np.diag([1.0, 2, 3, 1])), tmp_path / "mask.nii")
    image = LoadImage(ensure_channel_first=True)(tmp_path / "mask.nii")[..., 0]
    resized = Resize((10, 10), mode="nearest")(image)
    assert image_spacings(resized[None], resized[None], "mm")[0] == pytest.approx((2, 2))


def test_two_spacings_for_the_same_pixels_are_an_error():
    one, other = (MetaTensor(block(12, 12), affine=affine(size, size, 5)) for size in (1.5, 1.0))
    with pytest.raises(DataError, match="one of the two affines is wrong"):
        compute_hausdorff_distance_95(one[None], other[None])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "cm"}, "unit must be one of mm, pixels, got 'cm'"),
        ({"one_empty": "zero"}, "one_empty must be one of diagonal, ignore"),
        ({"reduction": "median"}, "reduction must be one of"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        HausdorffDistance95Metric(**options)


@pytest.mark.parametrize("spacing", [0, -1.0, (1, 2, 3), (1.0, math.nan), [[1, 1]]])
def test_wrong_spacings_are_named(spacing):
    mask = block(12, 12)[None]
    with pytest.raises(ConfigError, match="spacing must be"):
        compute_hausdorff_distance_95(mask, mask, spacing=spacing)


def test_spacing_in_pixels_is_an_error():
    mask = block(12, 12)[None]
    with pytest.raises(ConfigError, match="spacing is in mm"):
        compute_hausdorff_distance_95(mask, mask, unit="pixels", spacing=1.0)


def test_wrong_masks_are_named():
    mask = block(12, 12)[None]
    metric = HausdorffDistance95Metric(unit="pixels")
    for pred, truth, message in (
        (mask * 255, mask, "y_pred must be binary"),
        (mask, mask * 0.5, "y must be binary"),
        (mask, mask / 0, "y must be binary"),
        (mask, mask[..., 1:], "differ in shape"),
        (mask[0], mask[0], r"must be \(B, C, H, W\)"),
        (mask[..., :0], mask[..., :0], "not empty"),
        (mask, None, "truth is missing"),
        ([mask[0]], [mask[0], mask[0]], "got 1 predictions and 2 of truth"),
        ([mask[0]], None, "none of truth"),
    ):
        with pytest.raises(DataError, match=message):
            metric(pred, truth)
    with pytest.raises(DataError, match="Nothing has been measured"):
        metric.aggregate()


def test_dtypes_give_the_same():
    pred, truth = block(12, 12)[None], block(12, 12, start=3)[None]
    expected = compute_hausdorff_distance_95(pred, truth, unit="pixels")
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16):
        assert torch.equal(compute_hausdorff_distance_95(pred.to(dtype), truth.to(dtype), unit="pixels"), expected)
