# SPDX-License-Identifier: Apache-2.0
"""Tests of the structure loss against the formula, written again in NumPy, and against the released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.losses import DeepSupervisionLoss
from torch.nn import functional as F

from monai_sam2unet.losses import StructureLoss

MODES = ("released", "weighted")


def reference(logits, truth, bce, kernel_size=31, boundary_weight=5.0):
    """The loss of one map (H, W), in float64."""
    logits, truth = np.asarray(logits, np.float64), np.asarray(truth, np.float64)
    padded = np.pad(truth, kernel_size // 2)
    surroundings = np.lib.stride_tricks.sliding_window_view(padded, (kernel_size, kernel_size)).mean((2, 3))
    weights = 1 + boundary_weight * np.abs(surroundings - truth)
    probability = 1 / (1 + np.exp(-logits))
    cross_entropy = -truth * np.log(probability) - (1 - truth) * np.log(1 - probability)
    first = cross_entropy.mean() if bce == "released" else np.average(cross_entropy, weights=weights)
    intersection = (weights * probability * truth).sum()
    union = (weights * (probability + truth)).sum() - intersection
    return first + 1 - (intersection + 1) / (union + 1)


def released_code(prediction, mask):
    """What the released code of SAM2-UNet does, ``reduce="none"`` included."""
    weights = 1 + 5 * torch.abs(F.avg_pool2d(mask, kernel_size=31, stride=1, padding=15) - mask)
    cross_entropy = F.binary_cross_entropy_with_logits(prediction, mask, reduce="none")
    cross_entropy = (weights * cross_entropy).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))
    prediction = torch.sigmoid(prediction)
    intersection = (prediction * mask * weights).sum(dim=(2, 3))
    union = ((prediction + mask) * weights).sum(dim=(2, 3))
    return (cross_entropy + 1 - (intersection + 1) / (union - intersection + 1)).mean()


def batch(channels=1, soft=False, shape=(36, 44)):
    """Logits, worst near outlines, and truth of two images; the truth has whole areas and touches the frame."""
    generator = torch.Generator().manual_seed(0)
    truth = F.interpolate(torch.rand(2, channels, 6, 7, generator=generator), shape, mode="bilinear")
    truth = truth if soft else (truth > 0.5).float()
    logits = 8 * F.avg_pool2d(truth, 9, stride=1, padding=4) - 4
    return logits + torch.randn(logits.shape, generator=generator), truth


def classes(count=3):
    """Logits of classes that exclude each other, and the class of each pixel (B, 1, H, W)."""
    logits, scores = batch(count, soft=True)
    return logits, scores.argmax(1, keepdim=True)


@pytest.mark.parametrize("bce", MODES)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("options", [{}, {"kernel_size": 7, "boundary_weight": 2.0}, {"boundary_weight": 0.0}])
def test_each_map_as_the_formula_says(bce, soft, options):
    logits, truth = batch(channels=2, soft=soft)
    expected = [[reference(logits[b, c], truth[b, c], bce, **options) for c in range(2)] for b in range(2)]
    found = StructureLoss(bce, reduction="none", **options)(logits, truth)
    torch.testing.assert_close(found, torch.tensor(expected).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*reduce.*:UserWarning")
@pytest.mark.parametrize("soft", [False, True])
def test_released_mode_is_the_released_code(soft):
    logits, truth = batch(soft=soft)
    torch.testing.assert_close(StructureLoss()(logits, truth), released_code(logits, truth))
    assert not torch.isclose(StructureLoss("weighted")(logits, truth), released_code(logits, truth), rtol=3e-3)


@pytest.mark.parametrize("bce", MODES)
def test_two_classes_are_one_mask(bce):
    logits, truth = batch()
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    options = {"kernel_size": 15, "reduction": "none"}
    as_classes = StructureLoss(bce, softmax=True, to_onehot_y=True, include_background=False, **options)(two, truth)
    torch.testing.assert_close(as_classes, StructureLoss(bce, **options)(logits, truth))


@pytest.mark.parametrize("bce", MODES)
def test_classes_as_the_formula_says(bce):
    logits, index = classes()
    onehot = np.moveaxis(np.eye(3)[index[:, 0].numpy()], -1, 1)
    windows = np.lib.stride_tricks.sliding_window_view
    # Beyond the frame there is background.
    padded = np.stack([np.pad(onehot[:, c], ((0, 0), (3, 3), (3, 3)), constant_values=c == 0) for c in range(3)], 1)
    difference = np.abs(windows(padded, (7, 7), (2, 3)).mean((4, 5)) - onehot)
    weights = 1 + 5 * difference.sum(1) / 2
    exponents = np.exp(logits.double().numpy())
    probability = exponents / exponents.sum(1, keepdims=True)
    cross_entropy = -np.log((probability * onehot).sum(1))
    expected = np.empty((2, 3))
    for b, c in np.ndindex(2, 3):
        both = (probability[b, c] * onehot[b, c] * weights[b]).sum()
        union = ((probability[b, c] + onehot[b, c]) * weights[b]).sum() - both
        average = cross_entropy[b].mean() if bce == "released" else np.average(cross_entropy[b], weights=weights[b])
        expected[b, c] = average + 1 - (both + 1) / (union + 1)
    found = StructureLoss(bce, softmax=True, to_onehot_y=True, kernel_size=7, reduction="none")(logits, index)
    torch.testing.assert_close(found, torch.tensor(expected).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_class_indices_equal_onehot(softmax):
    logits, index = classes()
    onehot = F.one_hot(index[:, 0], 3).movedim(-1, 1).float()
    by_index = StructureLoss(softmax=softmax, to_onehot_y=True)(logits, index)
    torch.testing.assert_close(by_index, StructureLoss(softmax=softmax)(logits, onehot))


@pytest.mark.parametrize("bce", MODES)
@pytest.mark.parametrize("softmax", [False, True])
def test_background_is_left_out(bce, softmax):
    logits, truth = batch(3)
    options = {"softmax": softmax, "reduction": "none"}
    without = StructureLoss(bce, include_background=False, **options)(logits, truth)
    torch.testing.assert_close(without, StructureLoss(bce, **options)(logits, truth)[:, 1:])


def test_reductions():
    logits, truth = batch(3)
    each = StructureLoss(reduction="none")(logits, truth)
    assert each.shape == (2, 3)
    torch.testing.assert_close(StructureLoss(reduction="sum")(logits, truth), each.sum())
    torch.testing.assert_close(StructureLoss(reduction="mean")(logits, truth), each.mean())


@pytest.mark.parametrize("bce", MODES)
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("fill", [0.0, 1.0])
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_gradients_stay_finite(bce, softmax, fill, extreme):
    truth = torch.full((1, 2, 16, 16), fill)
    truth[:, 1] = 1 - fill
    logits = torch.full_like(truth, extreme)
    logits[:, 1, ::2] = -extreme
    logits.requires_grad_()
    loss = StructureLoss(bce, softmax=softmax)(logits, truth)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_computed_in_float32():
    logits, truth = batch()
    rounded = logits.bfloat16()
    found = StructureLoss()(rounded, truth.bfloat16())
    assert found.dtype == torch.float32
    assert found == StructureLoss()(rounded.float(), truth)


@pytest.mark.parametrize("bce", MODES)
def test_the_worse_the_larger(bce):
    _, truth = batch()
    loss = StructureLoss(bce)
    perfect, unsure, wrong = (loss(scale * (truth - 0.5), truth) for scale in (40, 2, -4))
    assert perfect < 1e-3
    assert perfect < unsure < wrong


def test_deep_supervision_is_the_sum_over_outputs():
    outputs = [batch()[0] * scale for scale in (1, 0.5, -1)]
    truth = batch()[1]
    found = DeepSupervisionLoss(StructureLoss(), weight_mode="same")(outputs, truth)
    torch.testing.assert_close(found, sum(StructureLoss()(logits, truth) for logits in outputs))


def test_meta_tensors():
    logits, truth = batch()
    found = StructureLoss()(MetaTensor(logits), MetaTensor(truth))
    assert torch.as_tensor(found) == StructureLoss()(logits, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bce": "none"}, "bce must be"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"kernel_size": -1}, "kernel_size must be odd"),
        ({"boundary_weight": -0.1}, "boundary_weight must not be negative"),
        ({"reduction": "median"}, "median"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        StructureLoss(**options)


@pytest.mark.parametrize("options", [{"softmax": True}, {"to_onehot_y": True}, {"include_background": False}])
def test_one_channel_has_no_classes(options):
    with pytest.raises(ValueError, match="more than one channel"):
        StructureLoss(**options)(*batch())


@pytest.mark.parametrize("shape", [(2, 1, 8, 9), (2, 2, 8, 8), (2, 8, 8)])
def test_shapes_must_agree(shape):
    with pytest.raises(ValueError, match=r"must both be \(B, C, H, W\)"):
        StructureLoss()(torch.zeros(2, 1, 8, 8), torch.zeros(shape))


def test_logits_without_channels_are_refused():
    with pytest.raises(ValueError, match=r"must both be \(B, C, H, W\)"):
        StructureLoss()(torch.zeros(2, 8, 8), torch.zeros(2, 8, 8))
