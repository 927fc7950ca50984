# SPDX-License-Identifier: Apache-2.0
"""Tests of the final segmentation: classes as MONAI finds them, sizes in mm, options by class, geometry."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, Compose, FlattenSubKeysd, KeepLargestConnectedComponent

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import FinaliseSegmentation, FinaliseSegmentationd, VolumeToSlices, class_masks

AFFINE = torch.tensor([[0, -0.5, 0, 30], [0, 0, 4, -20], [-2.0, 0, 0, 10], [0, 0, 0, 1]], dtype=torch.float64)


def probabilities(channels, *shape):
    return torch.softmax(torch.randn(channels, *shape), 0)


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_classes_are_those_of_monai(shape, dtype):
    x = probabilities(3, *shape).to(dtype)
    before = x.clone()
    out = FinaliseSegmentation(argmax=True, squeeze_channel=False)(x)
    assert out.dtype == torch.uint8
    assert torch.equal(out.as_tensor(), AsDiscrete(argmax=True)(x).as_tensor().to(torch.uint8))
    out = FinaliseSegmentation(threshold=0.4)(x)
    assert torch.equal(out.as_tensor(), AsDiscrete(threshold=0.4)(x).as_tensor().to(torch.uint8))
    assert torch.equal(x, before)


def test_one_channel_is_squeezed():
    x = torch.full((1, 4, 5), 0.5)
    assert FinaliseSegmentation()(x).shape == (4, 5)
    assert FinaliseSegmentation()(x).all()
    assert FinaliseSegmentation(squeeze_channel=False)(x).shape == (1, 4, 5)
    assert FinaliseSegmentation(argmax=True)(x.repeat(3, 1, 1)).shape == (4, 5)
    assert FinaliseSegmentation(threshold=0.5)(x.repeat(3, 1, 1)).shape == (3, 4, 5)


def test_a_threshold_a_channel():
    out = FinaliseSegmentation(threshold=[0.2, 0.9])(torch.full((2, 3, 3), 0.5))
    assert out[0].all()
    assert not out[1].any()


def test_geometry_is_kept():
    x = MetaTensor(probabilities(3, 5, 6, 7), affine=AFFINE, meta={"filename_or_obj": "v.nii"})
    x.push_applied_operation({"class": "Before"})
    call = FinaliseSegmentationd("pred", argmax=True, largest_component=True, min_size=1, unit="mm3", fill_holes=True)
    out = call({"pred": x, "case": 1})
    assert out["case"] == 1
    assert torch.equal(out["pred"].affine, AFFINE)
    assert out["pred"].meta["filename_or_obj"] == "v.nii"
    assert len(out["pred"].applied_operations) == 1
    assert out["pred"].shape == (5, 6, 7)


def test_largest_component_is_that_of_monai():
    torch.manual_seed(1)
    x = probabilities(4, 30, 30, 6)
    labels = AsDiscrete(argmax=True)(x)
    expected = KeepLargestConnectedComponent([1, 3])(labels.clone()).as_tensor().to(torch.uint8)[0]
    out = FinaliseSegmentation(argmax=True, largest_component=[1, 3])(x)
    # Of components of one size either may stay.
    for value in range(4):
        assert (out == value).sum() == (expected == value).sum()
    assert torch.equal(out == 2, labels.as_tensor()[0] == 2)


def blocks(affine=AFFINE):
    """A volume with a component of 4 voxels, and one of 6, of class 1; and one of 4 of class 2."""
    labels = torch.zeros(8, 8, 4, dtype=torch.int64)
    labels[0, 0, :] = 1
    labels[4, 2:5, 0:2] = 1
    labels[7, 7, :] = 2
    return MetaTensor(torch.nn.functional.one_hot(labels, 3).permute(3, 0, 1, 2).float(), affine=affine)


@pytest.mark.parametrize(
    ("size", "unit", "counts"),
    [
        (4, "pixels", (10, 4)),
        (5, "pixels", (6, 0)),
        ({1: 5}, "pixels", (6, 4)),
        ({2: 5}, "pixels", (10, 0)),
        # A voxel is 0.5 x 4 x 2 = 4 mm3.
        (16, "mm3", (10, 4)),
        (16.1, "mm3", (6, 0)),
        ({1: 24, 2: 16}, "mm3", (6, 4)),
        (25, "mm3", (0, 0)),
    ],
)
def test_smallest_size(size, unit, counts):
    out = FinaliseSegmentation(argmax=True, min_size=size, unit=unit)(blocks())
    assert ((out == 1).sum(), (out == 2).sum()) == counts
    masks = FinaliseSegmentation(threshold=0.5, min_size=size, unit=unit)(MetaTensor(blocks()[1:], affine=AFFINE))
    assert tuple(masks.flatten(1).sum(1).tolist()) == counts


def test_areas_of_slices_are_those_of_their_own_pixels():
    # Pixels of this plane are 2 x 0.5 mm, 4 mm apart: the distance of the slices must not come in.
    mask = torch.zeros(1, 6, 6, 6)
    mask[:, 1:4, 2:4, 3] = 1
    slices = VolumeToSlices("coronal")(MetaTensor(mask, affine=AFFINE))
    (piece,) = (s for s in slices if s.any())
    assert FinaliseSegmentation(min_size=6, unit="mm2")(piece).sum() == 6
    assert FinaliseSegmentation(min_size=6.1, unit="mm2")(piece).sum() == 0


def test_order_largest_then_size_then_holes():
    mask = torch.zeros(1, 12, 12)
    mask[0, 1:8, 1:8] = 1
    mask[0, 2:7, 2:7] = 0
    mask[0, 4, 4] = 1  # a speck inside of the ring: not the largest, then a hole
    mask[0, 10:, 10:] = 1
    out = FinaliseSegmentation(largest_component=True, min_size=20, fill_holes=True)(mask)
    expected = torch.zeros(12, 12)
    expected[1:8, 1:8] = 1
    assert torch.equal(out.as_tensor(), expected.to(torch.uint8))
    assert FinaliseSegmentation(largest_component=True, min_size=25, fill_holes=True)(mask).sum() == 0


def test_masks_of_channels_are_cleaned_apart():
    x = torch.zeros(2, 5, 5)
    x[:, 1:4, 1:4] = 1
    x[:, 2, 2] = 0
    out = FinaliseSegmentation(fill_holes=[2])(x)
    assert out.flatten(1).sum(1).tolist() == [8, 9]


def test_an_empty_prediction_stays_empty():
    for x in (torch.zeros(1, 6, 6), torch.zeros(1, 6, 6, 2)):
        out = FinaliseSegmentation(largest_component=True, min_size=3, fill_holes=True)(x)
        assert not out.any()


def test_arrays_are_taken():
    out = FinaliseSegmentation()(np.array([[[0.1, 0.9]]]))
    assert out.tolist() == [[0, 1]]


def logits(*shape):
    """Of the size that networks give, and some around which float32 has no other probability than 1."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 6
    x.view(-1)[::7] *= 10
    return x


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 7)])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.97, [0.1, 0.5, 0.9]])
def test_logits_are_held_against_thresholds_as_their_probabilities_are(shape, threshold):
    x = logits(3, *shape)
    before = x.clone()
    limits = torch.tensor(threshold, dtype=torch.float64).expand(3).view(3, *[1] * len(shape))
    for name, probability in (("sigmoid", torch.sigmoid(x.double())), ("softmax", torch.softmax(x.double(), 0))):
        out = FinaliseSegmentationd("pred", threshold=threshold, activation=name)({"pred": x})["pred"]
        assert torch.equal(out.as_tensor().bool(), probability >= limits)
        assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (1e-30, [0, 0, 1, 1]),
        (1 - 1e-12, [0, 0, 1, 1]),
        (1.0, [0, 0, 0, 1]),
    ],
)
def test_thresholds_at_the_ends_of_the_sigmoid(threshold, expected):
    x = torch.tensor([[[-float("inf"), -100, 30, float("inf")]]])
    assert FinaliseSegmentation(threshold=threshold, activation="sigmoid")(x).tolist() == [expected]


@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
def test_argmax_takes_the_largest_logit_however_large_all_are(activation):
    x = torch.tensor([0.0, 18, 30]).view(3, 1, 1)
    assert FinaliseSegmentation(argmax=True, activation=activation)(x).item() == 2


@pytest.mark.parametrize("done", ["sigmoid", "softmax", "identity"])
def test_marked_probabilities_are_not_activated_again(done):
    x = MetaTensor(torch.tensor([[[0.2, 0.6]], [[0.5, 0.4]]]), affine=AFFINE, meta={"activation": done})
    for activation in (None, done) if done != "identity" else (None, "sigmoid", "softmax"):
        out = FinaliseSegmentation(activation=activation)(x)
        assert out.tolist() == [[[0, 1]], [[1, 0]]]
        # Masks are no probabilities any more.
        assert "activation" not in out.meta
    assert x.meta["activation"] == done
    assert FinaliseSegmentation(argmax=True, activation="sigmoid")(x).tolist() == [[1, 0]]
    assert FinaliseSegmentation(argmax=True, activation="softmax")(x).tolist() == [[1, 0]]


def test_a_mark_that_is_not_what_was_asked_for_is_told():
    marked = MetaTensor(torch.rand(2, 4, 4), meta={"activation": "softmax"})
    with pytest.raises(ConfigError, match="given activation 'sigmoid', and the prediction is a softmax already"):
        FinaliseSegmentation(activation="sigmoid")(marked)
    marked.meta["activation"] = "relu"
    with pytest.raises(DataError, match=r"meta\['activation'\] must be"):
        FinaliseSegmentation()(marked)


@pytest.mark.parametrize("options", [{"argmax": True}, {}, {"activation": "sigmoid"}, {"activation": "softmax"}])
def test_slabs_do_not_show(options, monkeypatch):
    x = logits(3, 9, 8, 7)
    expected = FinaliseSegmentation(**options)(x)
    for pixels in (1, 8 * 7 * 2, 8 * 7 * 4):
        monkeypatch.setattr(class_masks, "SLAB", pixels)
        assert torch.equal(FinaliseSegmentation(**options)(x).as_tensor(), expected.as_tensor())
        broken = x.clone()
        broken[1, 8, 3, 2] = float("nan")
        with pytest.raises(DataError, match="NaN"):
            FinaliseSegmentation(**options)(broken)


MEMORY = """
import resource, torch
from monai_sam2unet.transforms import FinaliseSegmentation
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
x = torch.rand(2, 256, 256, 128)  # 64 MiB
for options in ({"argmax": True}, {}, {"activation": "sigmoid"}, {"activation": "softmax"}):
    final = FinaliseSegmentation(**options)
    final(x[:, :8, :8, :8].clone())
    before = peak()
    final(x)
    print(peak() - before)
"""


def test_finalising_costs_little_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    # The masks are 16 MiB; indices of 64 bits would be 64, a copy of the prediction as well. At most some slabs more.
    assert max(map(float, done.stdout.split())) < 45


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mean": torch.zeros(1, 4, 4), "uncertainty": torch.zeros(1, 4, 4)}, r"'mean', 'uncertainty'.*\[\"mean\"\]"),
        ({"mean": torch.zeros(1, 4, 4)}, "FlattenSubKeysd"),
        ([torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)], "One prediction at a time .* list of 2"),
        ((torch.zeros(1, 4, 4),), "tuple of 1"),
    ],
)
def test_a_prediction_is_one_tensor(given, said):
    with pytest.raises(DataError, match=said):
        FinaliseSegmentationd("pred")({"pred": given})


def test_an_inferers_mean_is_taken_as_the_error_says():
    both = {"pred": {"mean": torch.ones(1, 4, 4), "uncertainty": torch.zeros(1, 4, 4)}}
    out = Compose([FlattenSubKeysd("pred"), FinaliseSegmentationd("mean")])(both)
    assert out["mean"].all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": "relu"},
        {"threshold": 0.5, "argmax": True},
        {"threshold": float("nan")},
        {"threshold": 0.0},
        {"threshold": 50},
        {"threshold": [0.5, -0.1]},
        {"threshold": "0.5"},
        {"threshold": True},
        {"threshold": {"polyp": 0.5}},
        {"threshold": []},
        {"unit": "cm2"},
        {"min_size": -1},
        {"min_size": {0: 5}},
        {"largest_component": [0]},
        {"largest_component": 1},
        {"fill_holes": ["liver"]},
        {"connectivity": 4},
    ],
)
def test_what_is_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        FinaliseSegmentation(**arguments)


@pytest.mark.parametrize(
    ("arguments", "x", "said"),
    [
        ({}, torch.zeros(4, 4), r"\(K, H, W\) or"),
        ({}, torch.full((1, 4, 4), float("nan")), "NaN"),
        ({"argmax": True}, torch.zeros(1, 4, 4), "2 to 256 channels"),
        ({"argmax": True}, torch.zeros(257, 1, 1), "2 to 256 channels"),
        ({"threshold": [0.5, 0.5]}, torch.zeros(3, 4, 4), "2 thresholds for 3 channels"),
        ({"argmax": True, "largest_component": [3]}, torch.zeros(3, 4, 4), r"no class \[3\] here: .* 1 to 2"),
        ({"min_size": {2: 1}}, torch.zeros(1, 4, 4), r"no class \[2\]"),
        ({"min_size": 1, "unit": "mm2"}, torch.zeros(1, 4, 4), "has none"),
        ({"min_size": 1, "unit": "mm2"}, MetaTensor(torch.zeros(1, 4, 4)), "has none"),
        ({"min_size": 1, "unit": "mm2"}, MetaTensor(torch.zeros(1, 4, 4, 4), affine=AFFINE), "use mm3"),
        ({"min_size": 1, "unit": "mm3"}, MetaTensor(torch.zeros(1, 4, 4), affine=AFFINE), "use mm2"),
    ],
)
def test_predictions_that_are_refused(arguments, x, said):
    with pytest.raises(DataError, match=said):
        FinaliseSegmentation(**arguments)(x)
