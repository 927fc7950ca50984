# SPDX-License-Identifier: Apache-2.0
"""Tests of slices: their order and turn against nibabel, their place in the world, their way back, their memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import PLANES, AnatomicalPlane, SliceItem, SliceSequence
from monai_sam2unet.transforms.pixel_size import in_plane_spacing

shapes = st.tuples(*[st.integers(1, 9)] * 3)
planes = st.sampled_from(sorted(PLANES))


@st.composite
def affines(draw):
    """Axes in any order and direction, turned by up to 40 degrees, of any spacing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    affine = np.eye(4)
    turn = Rotation.from_rotvec(rng.uniform(-1, 1, 3) / np.sqrt(3) * np.deg2rad(40)).as_matrix()
    order = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine[:3, :3] = turn @ order @ np.diag(rng.uniform(0.3, 8, 3))
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def volume_of(shape=(5, 6, 7), affine=None, channels=1, dtype=torch.float32):
    values = torch.arange(channels * int(np.prod(shape))).reshape(channels, *shape).to(dtype)
    return MetaTensor(values, affine=np.eye(4) if affine is None else affine, meta={"filename_or_obj": "v.nii"})


def sequence_of(volume, plane="axial", neighbours=0):
    return SliceSequence(volume, AnatomicalPlane.from_affine(plane, volume.affine), neighbours)


def as_radiologists_see_it(volume, plane):
    """All slices (S, H, W) of a plane, by way of nibabel's closest canonical orientation (RAS)."""
    image = nib.as_closest_canonical(nib.Nifti1Image(volume[0].numpy(), volume.affine.numpy()))
    ras = np.asarray(image.dataobj)
    if plane == "axial":  # feet first; rows from anterior, columns from the patient's right
        return ras[::-1, ::-1, :].transpose(2, 1, 0)
    if plane == "coronal":  # anterior first; rows from the head, columns from the patient's right
        return ras[::-1, ::-1, ::-1].transpose(1, 2, 0)
    return ras[::-1, ::-1, ::-1].transpose(0, 2, 1)  # right first; rows from the head, columns from anterior


@given(shape=shapes, affine=affines(), plane=planes)
def test_slices_are_those_of_the_canonical_volume(shape, affine, plane):
    volume = volume_of(shape, affine)
    slices = sequence_of(volume, plane)
    expected = as_radiologists_see_it(volume, plane)
    np.testing.assert_array_equal(np.stack([s[0].numpy() for s in slices]), expected)


@given(shape=shapes, affine=affines(), plane=planes)
def test_pixels_keep_their_place_in_the_world(shape, affine, plane):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    places = np.einsum("ij,jxyz->ixyz", affine[:3, :3], index) + affine[:3, 3, None, None, None]
    volume = MetaTensor(torch.from_numpy(places), affine=affine)
    for piece in sequence_of(volume, plane):
        rows, columns = np.meshgrid(*map(np.arange, piece.shape[1:]), indexing="ij")
        pixels = np.stack([rows, columns, 0 * rows, 0 * rows + 1])
        said = np.einsum("ij,jhw->ihw", piece.affine.numpy(), pixels)[:3]
        np.testing.assert_allclose(piece.numpy(), said, atol=1e-9)


@given(shape=shapes, affine=affines(), plane=planes, channels=st.integers(1, 3))
def test_the_inverse_is_exact(shape, affine, plane, channels):
    volume = volume_of(shape, affine, channels)
    slices = sequence_of(volume, plane)
    for given_slices in (slices, list(slices), torch.stack([s.as_tensor() for s in slices])):
        back = slices.inverse(given_slices)
        assert torch.equal(back.as_tensor(), volume.as_tensor())
        assert torch.equal(back.affine, volume.affine)
        assert back.meta["filename_or_obj"] == "v.nii"
        assert "plane" not in back.meta


@given(shape=shapes, affine=affines(), plane=planes, neighbours=st.integers(1, 4))
def test_neighbours_are_channels(shape, affine, plane, neighbours):
    volume = volume_of(shape, affine, channels=2)
    single = [s.as_tensor() for s in sequence_of(volume, plane)]
    wide = sequence_of(volume, plane, neighbours)
    assert len(wide) == len(single)
    for i, piece in enumerate(wide):
        around = [single[min(max(j, 0), len(single) - 1)] for j in range(i - neighbours, i + neighbours + 1)]
        assert torch.equal(piece.as_tensor(), torch.cat(around))
        np.testing.assert_array_equal(piece.affine, sequence_of(volume, plane)[i].affine)


def test_predictions_may_differ_in_channels_and_type():
    volume = volume_of(affine=np.diag([-1.0, 1.0, 2.0, 1.0]))
    slices = sequence_of(volume, "sagittal")
    back = slices.inverse(torch.ones(5, 3, 7, 6, dtype=torch.uint8))
    assert back.shape == (3, 5, 6, 7)
    assert back.dtype == torch.uint8


def test_it_is_a_sequence():
    slices = sequence_of(volume_of())
    assert len(slices) == 7
    assert torch.equal(slices[-1], slices[6])
    assert [s.meta["slice_index"] for s in slices[1:6:2]] == [1, 3, 5]
    assert len(list(slices)) == 7
    for index in (7, -8):
        with pytest.raises(IndexError, match="of 7"):
            slices[index]


def test_meta_of_a_slice():
    volume = volume_of()
    volume.meta["pixdim"] = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])
    volume.affine = torch.diag(torch.tensor([-2.0, -3, 5, 1]))
    piece = sequence_of(volume, "coronal")[2]
    assert piece.meta["filename_or_obj"] == "v.nii"
    assert (piece.meta["plane"], piece.meta["slice_index"]) == ("coronal", 2)
    np.testing.assert_array_equal(piece.meta["pixdim"][1:4], [5, 2, 3])
    assert in_plane_spacing(piece) == (5, 2)
    assert volume.meta["pixdim"][1] == 1
    assert "plane" not in volume.meta


@pytest.mark.parametrize(
    ("plane", "signs"), [("axial", (-1, -1, 1)), ("coronal", (-1, -1, -1)), ("sagittal", (-1, -1, -1))]
)
def test_slices_are_views_where_nothing_is_flipped(plane, signs):
    volume = volume_of(affine=np.diag([*signs, 1.0]))
    storage = volume.as_tensor().untyped_storage().data_ptr()
    for piece in sequence_of(volume, plane):
        assert piece.as_tensor().untyped_storage().data_ptr() == storage
    flipped = sequence_of(volume_of(affine=np.eye(4)), plane)[0]
    assert flipped.as_tensor().untyped_storage().nbytes() == flipped.numel() * 4


MEMORY = """
import resource, torch
from monai.data import MetaTensor
from monai_sam2unet.transforms import VolumeToSlicesd
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
affine = torch.diag(torch.tensor([1.0, 1.0, 2.0, 1.0]))
volume = MetaTensor(torch.ones(1, 512, 512, 200, dtype=torch.int16), affine=affine)  # 100 MiB
small = MetaTensor(torch.ones(1, 512, 512, 3, dtype=torch.int16), affine=affine)
for item in VolumeToSlicesd(["a", "b"], "coronal", neighbours=[1, 0])({"a": small, "b": small}):
    item["a"].sum(), item["b"].sum()
before = peak()
for plane in ("axial", "coronal", "sagittal"):
    for item in VolumeToSlicesd(["a", "b"], plane, neighbours=[1, 0])({"a": volume, "b": volume})[::8]:
        item["a"], item["b"]
print(peak() - before)
"""


def test_cutting_costs_no_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    # A slice with its neighbours is 1.5 MiB; a copy of the volume would be 100.
    assert float(done.stdout.split()[-1]) < 8


@pytest.mark.parametrize("copy", [lambda x: pickle.loads(pickle.dumps(x)), deepcopy])
def test_copies_hold_the_volume_once(copy):
    volume = volume_of((30, 40, 50), np.diag([1.0, 2, 3, 1]))
    slices = sequence_of(volume, "coronal", neighbours=1)
    item = SliceItem({"image": slices}, {"name": "a"}, 3)
    size = volume.numel() * volume.element_size()
    assert len(pickle.dumps(slices)) < 1.2 * size
    assert len(pickle.dumps([item, item])) < 1.2 * size
    assert torch.equal(copy(slices)[7], slices[7])
    assert torch.equal(copy(slices)[7].affine, slices[7].affine)
    assert torch.equal(copy(item)["image"], item["image"])


def test_items_make_slices_when_read():
    volume = volume_of()
    item = SliceItem({"image": sequence_of(volume)}, {"name": "a"}, 3)
    assert set(item) == {"image", "name"}
    assert len(item) == 2
    assert dict(item)["image"].meta["slice_index"] == 3
    assert item["name"] == "a"
    assert item["image"] is not item["image"]
    with pytest.raises(KeyError):
        item["label"]


def test_what_is_refused():
    volume = volume_of()
    slices = sequence_of(volume)
    with pytest.raises(DataError, match=r"\(C, X, Y, Z\) with no empty axis"):
        SliceSequence(volume[0], slices.plane)
    with pytest.raises(DataError, match="no empty axis"):
        SliceSequence(MetaTensor(torch.zeros(1, 4, 0, 4)), slices.plane)
    for neighbours in (-1, 1.5, True):
        with pytest.raises(ConfigError, match="neighbours"):
            SliceSequence(volume, slices.plane, neighbours)
    with pytest.raises(DataError, match="has 7 axial slices, got 6"):
        slices.inverse(torch.zeros(6, 1, 6, 5))
    with pytest.raises(DataError, match=r"Slice 0 has shape \(1, 5, 6\), the volume needs \(1, 6, 5\)"):
        slices.inverse(torch.zeros(7, 1, 5, 6))
    with pytest.raises(DataError, match="Slice 1 has shape"):
        slices.inverse([slices[0], *[torch.zeros(2, 6, 5)] * 6])
