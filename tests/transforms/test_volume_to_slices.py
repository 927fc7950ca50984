# SPDX-License-Identifier: Apache-2.0
"""Tests of cutting volumes in MONAI's pipelines: traces, lists, loaders, empty slices, grids."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, Invertd
from monai.utils.enums import TraceKeys

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import PLANES, FitToSized, SliceSequence, VolumeToSlices, VolumeToSlicesd

AFFINE = torch.tensor([[0, -0.9, 0.1, 30], [0.1, 0, 3, -20], [-0.8, 0, 0.2, 10], [0, 0, 0, 1]], dtype=torch.float64)
SHAPE = (10, 8, 12)


def volume(channels=1, affine=AFFINE, shape=SHAPE):
    return MetaTensor(torch.rand(channels, *shape), affine=affine, meta={"filename_or_obj": "v.nii"})


def label(slices=(3, 4, 9)):
    """A label with something in these array slices along the last axis only: coronal ones of AFFINE."""
    values = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    for index in slices:
        values[:, 2:5, 3, index] = 1
    return MetaTensor(values, affine=AFFINE)


def numbers(items, key="image"):
    return [item[key].meta["slice_index"] for item in items]


@pytest.mark.parametrize("plane", [*PLANES, 0, 1, 2])
def test_there_and_back_in_any_order(plane):
    cut, source = VolumeToSlices(plane), volume(2)
    slices = cut(source)
    assert isinstance(slices, SliceSequence)
    shuffled = random.Random(0).sample(list(slices), len(slices))
    back = cut.inverse(shuffled)
    assert torch.equal(back.as_tensor(), source.as_tensor())
    assert torch.equal(back.affine, source.affine)
    assert back.meta["filename_or_obj"] == "v.nii"
    assert not {"plane", "slice_index"} & set(back.meta)
    assert back.applied_operations == []
    assert len(shuffled[0].applied_operations) == 1


def test_array_axes_stay_as_they_are():
    source = torch.rand(1, *SHAPE)
    for axis in range(3):
        for index, piece in enumerate(VolumeToSlices(axis)(source)):
            assert torch.equal(piece.as_tensor(), source.select(axis + 1, index))


def test_trace():
    source = volume()
    source.push_applied_operation({"class": "Before"})
    piece = VolumeToSlices("coronal")(source)[5]
    before, entry = piece.applied_operations
    assert before == {"class": "Before"}
    assert entry[TraceKeys.CLASS_NAME] == "VolumeToSlices"
    assert entry[TraceKeys.ORIG_SIZE] == SHAPE
    assert entry[TraceKeys.EXTRA_INFO]["index"] == 5
    assert len(source.applied_operations) == 1
    cut = VolumeToSlices("coronal")
    cut.tracing = False
    assert len(cut(source)[0].applied_operations) == 1


def test_predictions_come_back_with_the_trace():
    cut, source = VolumeToSlices("sagittal"), volume()
    predictions = [MetaTensor(piece.as_tensor().expand(3, -1, -1) > 0.5).copy_meta_from(piece) for piece in cut(source)]
    back = cut.inverse(predictions)
    assert back.dtype == torch.bool
    assert torch.equal(back.as_tensor(), (source.as_tensor() > 0.5).expand(3, -1, -1, -1))


def test_incomplete_or_mixed_slices_are_refused():
    cut = VolumeToSlices("axial")
    slices = list(cut(volume()))
    with pytest.raises(DataError, match="each of its 10 axial slices once:\n  slice 2: 0 times"):
        cut.inverse(slices[:2] + slices[3:])
    with pytest.raises(DataError, match="slice 0: 2 times"):
        cut.inverse([*slices, slices[0]])
    moved = AFFINE.clone()
    moved[0, 3] += 1
    with pytest.raises(DataError, match="different grids"):
        cut.inverse([*slices[:-1], cut(volume(affine=moved))[-1]])
    for wrong in ([], torch.zeros(10, 1, 8, 12), [torch.zeros(1, 8, 12)]):
        with pytest.raises(DataError, match="all its slices"):
            cut.inverse(wrong)


def test_dictionaries_become_a_plain_list():
    data = {"image": volume(), "label": label(), "case": "a"}
    items = VolumeToSlicesd(["image", "label"], "coronal", neighbours=1, label_key="label")(data)
    assert type(items) is list
    assert len(items) == 12
    assert items[0]["image"].shape == (3, 10, 8)
    assert items[0]["label"].shape == (1, 10, 8)
    assert all(item["case"] == "a" for item in items)
    assert numbers(items) == numbers(items, "label") == list(range(12))
    assert len(items + items) == 24
    copied = pickle.loads(pickle.dumps(items[:2]))
    assert torch.equal(copied[1]["image"], items[1]["image"])


def test_neighbours_by_key():
    items = VolumeToSlicesd(["a", "b"], neighbours=[0, 2])({"a": volume(), "b": volume()})
    assert (len(items[0]["a"]), len(items[0]["b"])) == (1, 5)


@pytest.mark.parametrize("share", [None, 0.0, 0.1, 0.5, 1.0])
def test_empty_slices_are_kept_by_share(share):
    data = {"image": volume(), "label": label((3, 4, 9))}
    items = VolumeToSlicesd(["image", "label"], "coronal", keep_empty=share, label_key="label")(data)
    kept = [item for item in items if not item["label"].any()]
    assert sum(bool(item["label"].any()) for item in items) == 3
    assert len(kept) == {None: 9, 0.0: 0, 0.1: 1, 0.5: 5, 1.0: 9}[share]
    assert numbers(items) == sorted(numbers(items))
    for item in items:
        assert item["image"].meta["slice_index"] == item["label"].meta["slice_index"]


def test_the_seed_decides_which_empty_slices():
    data = {"image": volume(), "label": label((3,))}

    def kept(seed):
        cut = VolumeToSlicesd(["image", "label"], "coronal", keep_empty=0.4, label_key="label", seed=seed)
        np.random.seed(len(cut.keys))
        return [numbers(cut(data)) for _ in range(2)]

    assert kept(0)[0] == kept(0)[1] == kept(0)[0]
    assert len({tuple(kept(seed)[0]) for seed in range(5)}) > 1


def test_in_a_compose_and_a_dataset():
    data = {"image": volume(), "label": label()}
    fit = FitToSized(["image", "label"], (32, 64), mode=["bilinear", "nearest"])
    cut = VolumeToSlicesd(["image", "label"], "axial")
    composed = Compose([cut, fit])(data)
    assert len(composed) == 10
    assert composed[0]["image"].shape == (1, 32, 64)
    for dataset in (Dataset(cut(data), fit), CacheDataset(cut(data), fit, progress=False)):
        batches = list(DataLoader(dataset, batch_size=4))
        assert [len(batch["image"]) for batch in batches] == [4, 4, 2]
        assert torch.equal(batches[0]["image"][1], composed[1]["image"])
    raw = next(iter(DataLoader(Dataset(cut(data)), batch_size=10)))
    assert raw["label"].shape[0] == 10


def test_back_to_volumes_from_fitted_slices():
    data = {"image": volume(), "label": label(), "case": "a"}
    cut = VolumeToSlicesd(["image", "label"], "axial")
    fit = Compose([FitToSized(["image", "label"], (32, 64), mode=["bilinear", "nearest"])])
    items = fit(cut(data))
    invert = Invertd("pred", fit, orig_keys="label")
    restored = [invert({**item, "pred": MetaTensor(item["label"].as_tensor().clone())}) for item in items]
    preds = [item["pred"] for item in restored]
    back = cut.cuts[1].inverse(preds)
    assert torch.equal(back.as_tensor(), data["label"].as_tensor())
    assert torch.equal(back.affine, AFFINE)
    both = cut.inverse([fit.inverse(item) for item in items])
    assert torch.equal(both["label"].as_tensor(), data["label"].as_tensor())
    assert both["image"].shape == data["image"].shape
    assert both["case"] == "a"
    with pytest.raises(DataError, match="single slice"):
        cut.inverse(items[0])


@pytest.mark.parametrize("plane", PLANES)
def test_planes_need_an_affine_that_was_given(plane):
    never = MetaTensor(torch.rand(1, *SHAPE))
    with pytest.raises(DataError, match=f"{plane} slices need the affine .* was never given one"):
        VolumeToSlices(plane)(never)
    with pytest.raises(DataError, match="was never given one"):
        VolumeToSlicesd(["a"], plane)({"a": never})
    assert len(VolumeToSlices(1)(never)) == SHAPE[1]
    read = MetaTensor(never.as_tensor(), affine=torch.eye(4), meta={"original_affine": torch.eye(4)})
    assert len(VolumeToSlices(plane)(read)) == SHAPE[{"sagittal": 0, "coronal": 1, "axial": 2}[plane]]


def test_a_cine_has_no_planes():
    cine = volume()
    cine.meta.update(in_patient_space=False, original_affine=AFFINE)
    with pytest.raises(DataError, match=r"place in the patient.*axis \(0, 1 or 2\).*dicom=\{'frame': n\}"):
        VolumeToSlices("axial")(cine)
    assert len(VolumeToSlices(2)(cine)) == SHAPE[2]
    cine.meta["in_patient_space"] = True
    assert len(VolumeToSlices("axial")(cine)) == SHAPE[0]


def test_what_is_refused():
    for plane in ("oblique", 3, -1, True, None, ["axial"]):
        with pytest.raises(ConfigError, match=r"plane must be one of axial, coronal, sagittal, or an array axis"):
            VolumeToSlices(plane)
    with pytest.raises(ConfigError, match="neighbours"):
        VolumeToSlices(neighbours=-1)
    for arguments in (
        {"keep_empty": 1.5, "label_key": "b"},
        {"keep_empty": 0.5},
        {"label_key": "c"},
        {"neighbours": [1]},
    ):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            VolumeToSlicesd(["a", "b"], **arguments)
    with pytest.raises(DataError, match="axial slices need the affine"):
        VolumeToSlices()(torch.zeros(1, 4, 4, 4))
    with pytest.raises(DataError, match="None of the keys"):
        VolumeToSlicesd("a", allow_missing_keys=True)({"b": volume()})
    with pytest.raises(KeyError):
        VolumeToSlicesd("a")({"b": volume()})
    with pytest.raises(DataError, match="'label' is not there"):
        VolumeToSlicesd(["a", "label"], keep_empty=0.1, label_key="label", allow_missing_keys=True)({"a": volume()})
    with pytest.raises(DataError, match="'a' and 'b' do not have one grid"):
        VolumeToSlicesd(["a", "b"])({"a": volume(), "b": volume(shape=(10, 8, 11))})
