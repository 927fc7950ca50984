# SPDX-License-Identifier: Apache-2.0
"""Tests of fitting slices to the network's size: their place in the world, their way back, MONAI's conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch, set_track_meta
from monai.transforms import Compose, Invertd, NormalizeIntensity
from monai.utils.enums import TraceKeys
from scipy.spatial.transform import Rotation

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import FitToSize, FitToSized, VolumeToSlices
from monai_sam2unet.transforms.pixel_size import in_plane_spacing

sides = st.integers(1, 60)


@st.composite
def affines(draw):
    """Oblique, flipped, sheared, of any spacing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    affine = np.eye(4)
    shear = np.eye(3)
    shear[0, 2] = rng.uniform(-0.2, 0.2)
    affine[:3, :3] = Rotation.random(random_state=rng).as_matrix() @ shear @ np.diag(rng.uniform(0.3, 8, 3))
    affine[:3, :3] *= rng.choice([-1, 1], 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return torch.from_numpy(affine)


def slice_of(height=50, width=40, affine=None, **meta):
    affine = torch.diag(torch.tensor([0.8, 0.5, 5, 1])) if affine is None else affine
    return MetaTensor(torch.rand(2, height, width), affine=affine, meta={"filename_or_obj": "a.nii", **meta})


def indices(shape):
    """Homogeneous (row, column, 0, 1) of all pixels (4, H, W)."""
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows), torch.ones_like(rows)])


@given(affine=affines(), size=st.tuples(sides, sides), target=st.tuples(sides, sides), keep=st.booleans())
def test_a_point_keeps_its_place_in_the_world(affine, size, target, keep):
    # Each pixel holds its own place in mm, so the fitted slice says where its affine should put its pixels.
    places = torch.einsum("ij,jhw->ihw", affine, indices(size))[:3]
    fitted = FitToSize(target, keep_aspect=keep, anti_aliasing=False)(MetaTensor(places, affine=affine))
    said = torch.einsum("ij,jhw->ihw", fitted.affine, indices(target))
    sources = torch.einsum("ij,jhw->ihw", torch.linalg.inv(affine), said)[:2]
    limits = torch.tensor(size, dtype=torch.float64)[:, None, None] - 1
    inside = ((sources >= 0) & (sources <= limits)).all(0)
    np.testing.assert_allclose(fitted.as_tensor()[:, inside].numpy(), said[:3][:, inside].numpy(), atol=1e-5)


@given(
    affine=affines(),
    size=st.tuples(sides, sides),
    target=st.tuples(sides, sides),
    keep=st.booleans(),
    mode=st.sampled_from(["bilinear", "nearest"]),
)
def test_the_inverse_lands_on_the_source_grid(affine, size, target, keep, mode):
    image = slice_of(*size, affine=affine)
    fit = FitToSize(target, keep_aspect=keep, mode=mode)
    fitted = fit(image)
    assert fitted.shape == (2, *target)
    back = fit.inverse(fitted)
    assert back.shape == image.shape
    assert torch.equal(back.affine, image.affine)
    assert back.applied_operations == []
    assert len(fitted.applied_operations) == 1
    if size == target and not keep:
        assert torch.equal(back, image)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 33), (64, 64)])
def test_padding_alone_is_pixel_exact(mode, height, width):
    image = slice_of(height, width)
    for fit in (FitToSize(None, mode=mode), FitToSize(64, enlarge_or_shrink=False, mode=mode)):
        back = fit.inverse(fit(image))
        assert torch.equal(back.as_tensor(), image.as_tensor())
        assert torch.equal(back.affine, image.affine)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("options", [{"spatial_size": (48, 64)}, {"enlarge_or_shrink": False}, {"spatial_size": 32}])
def test_memory_is_never_shared(mode, options):
    source = slice_of(48, 64)
    for image in (source, source.as_tensor(), source.numpy(), MetaTensor(torch.rand(2, 64, 48).transpose(1, 2))):
        before = torch.as_tensor(image).clone()
        fit = FitToSize(mode=mode, **options)
        fitted = fit(image)
        fitted += 1
        assert torch.equal(torch.as_tensor(image), before)
        copy = fitted.clone()
        back = fit.inverse(fitted)
        back += 1
        assert torch.equal(fitted, copy)


def test_volumes_are_not_normalised_again_at_each_epoch():
    volume = MetaTensor(torch.rand(3, 32, 32, 4), affine=torch.diag(torch.tensor([-1.0, -1, 1, 1])))
    before = volume.clone()
    slices = VolumeToSlices("axial")(volume)
    training = Compose([FitToSize(32), NormalizeIntensity([0.5] * 3, [0.1] * 3, channel_wise=True)])
    for piece in slices:
        first = training(piece)
        assert torch.equal(first, training(piece))
    assert torch.equal(volume, before)


def test_keep_aspect_is_that_of_the_anatomy_where_the_affine_is_known():
    fit = FitToSize(64, keep_aspect=True)
    volume = MetaTensor(torch.rand(1, 20, 8, 4), affine=torch.diag(torch.tensor([1.5, 1.5, 8.0, 1.0])))
    piece = VolumeToSlices("coronal")(volume)[3]  # 4 rows of 8 mm, 20 columns of 1.5 mm
    fitted = fit(piece)
    np.testing.assert_allclose(in_plane_spacing(fitted), (32 / 64, 30 / 60), rtol=1e-9)
    assert fitted.applied_operations[-1][TraceKeys.EXTRA_INFO]["resized"] == (64, 60)
    back = fit.inverse(fitted)
    assert back.shape == piece.shape
    assert torch.equal(back.affine, piece.affine)
    # A photograph has square pixels, and so has what is not known.
    for unknown in (MetaTensor(piece.as_tensor()), piece.as_tensor()):
        assert fit.plan(unknown).resized == (13, 64)
        assert fit(unknown, spacing=(8, 1.5)).applied_operations[-1][TraceKeys.EXTRA_INFO]["resized"] == (64, 60)


@pytest.mark.parametrize("options", [{"keep_aspect": True}, {"pixel_spacing": 0.5}])
def test_a_label_without_spacing_stays_on_its_image(options):
    image = slice_of(50, 40)  # 0.8 x 0.5 mm
    mask = (image[:1] > 0.5).as_tensor()
    for label in (MetaTensor(mask), mask, MetaTensor(mask, affine=image.affine)):
        item = FitToSized(["label", "image"], 96, mode=["nearest", "bilinear"], **options)(
            {"label": label, "image": image}
        )
        plans = [item[key].applied_operations[0][TraceKeys.EXTRA_INFO]["resized"] for key in ("label", "image")]
        assert plans[0] == plans[1] == ((96, 48) if "keep_aspect" in options else (80, 40))


def test_the_size_itself_changes_nothing():
    image = slice_of(48, 64)
    fitted = FitToSize((48, 64))(image)
    assert torch.equal(fitted.as_tensor(), image.as_tensor())
    assert torch.equal(fitted.affine, image.affine)


def test_smooth_images_come_back_nearly():
    y, x = torch.meshgrid(torch.linspace(0, 3, 90), torch.linspace(0, 2, 70), indexing="ij")
    image = MetaTensor((torch.sin(y) * torch.cos(x))[None])
    fit = FitToSize((352, 300))
    assert (fit.inverse(fit(image)) - image).abs().max() < 1e-2


def test_source_is_left_alone_and_meta_follows():
    image = slice_of(pixdim=np.array([1, 0.8, 0.5, 5, 0, 0, 0, 0], dtype=np.float32))
    before, meta = image.clone(), image.meta["pixdim"].copy()
    fit = FitToSize((100, 160))
    fitted = fit(image)
    np.testing.assert_allclose(fitted.meta["pixdim"][1:4], [0.4, 0.125, 5], rtol=1e-6)
    np.testing.assert_allclose(fitted.pixdim.numpy(), [0.4, 0.125], rtol=1e-6)
    assert fitted.meta["filename_or_obj"] == "a.nii"
    back = fit.inverse(fitted)
    np.testing.assert_array_equal(back.meta["pixdim"], meta)
    np.testing.assert_array_equal(image.meta["pixdim"], meta)
    assert torch.equal(image, before)
    assert torch.equal(image.affine, before.affine)
    assert image.applied_operations == []


def test_trace():
    (entry,) = FitToSize((64, 64), keep_aspect=True)(slice_of()).applied_operations
    assert entry[TraceKeys.CLASS_NAME] == "FitToSize"
    assert tuple(entry[TraceKeys.ORIG_SIZE]) == (50, 40)
    extra = entry[TraceKeys.EXTRA_INFO]
    assert {k: extra[k] for k in ("mode", "source", "resized", "size")} == {
        "mode": "bilinear",
        "source": (50, 40),
        "resized": (64, 32),
        "size": (64, 64),
    }


def test_pictures_with_an_affine_of_two_dimensions():
    image = MetaTensor(torch.rand(1, 10, 20), affine=torch.tensor([[0.5, 0, 3], [0, 0.25, 4], [0, 0, 1]]))
    fit = FitToSize((20, 10), pixel_spacing=None)
    fitted = fit(image)
    np.testing.assert_allclose(fitted.affine.numpy(), [[0.25, 0, 2.875], [0, 0.5, 4.125], [0, 0, 1]])
    assert torch.equal(fit.inverse(fitted).affine, image.affine)


@given(affine=affines(), size=st.tuples(st.integers(20, 60), st.integers(20, 60)))
def test_pixel_spacing_is_reached(affine, size):
    fitted = FitToSize(None, pixel_spacing=(1.5, 2.0))(slice_of(*size, affine=affine))
    resized = fitted.applied_operations[0][TraceKeys.EXTRA_INFO]["resized"]
    extent = affine[:3, :3].norm(dim=0)[:2] * torch.tensor(size)
    spacing = fitted.affine[:3, :3].norm(dim=0)[:2]
    np.testing.assert_allclose((spacing * torch.tensor(resized)).numpy(), extent.numpy(), rtol=1e-9)
    # Within half a pixel over the slice; a slice narrower than that still has one.
    wanted = torch.tensor([1.5, 2.0])
    assert ((extent - wanted * torch.tensor(resized)).abs() <= wanted / 2 + 1e-6).all() or min(resized) == 1
    assert fitted.shape[1] % 32 == fitted.shape[2] % 32 == 0


def test_plain_tensors_and_arrays_become_metatensors():
    for image in (torch.rand(1, 9, 9), np.random.rand(1, 9, 9)):
        fitted = FitToSize(32)(image)
        assert isinstance(fitted, MetaTensor)
        assert fitted.shape == (1, 32, 32)


def test_without_tracking_there_is_a_plain_tensor():
    set_track_meta(False)
    try:
        fitted = FitToSize(32)(torch.rand(1, 9, 9))
    finally:
        set_track_meta(True)
    assert not isinstance(fitted, MetaTensor)
    assert fitted.shape == (1, 32, 32)


def batch_of_predictions(transform, sizes, label_values=3):
    items = [
        {"image": slice_of(*size), "label": MetaTensor(torch.randint(0, label_values, (1, *size)))} for size in sizes
    ]
    batch = next(iter(DataLoader(Dataset(items, transform), batch_size=len(sizes))))
    batch["pred"] = MetaTensor(batch["label"].as_tensor().clone()).copy_meta_from(batch["image"])
    return items, batch


@pytest.mark.parametrize("keep", [True, False])
def test_invertd_through_a_batch(keep):
    transform = Compose([FitToSized(["image", "label"], (96, 128), keep_aspect=keep, mode=["bilinear", "nearest"])])
    sizes = [(50, 40), (31, 77), (96, 128)]
    items, batch = batch_of_predictions(transform, sizes)
    assert batch["image"].shape == (3, 2, 96, 128)
    for nearest in (True, False):
        invert = Invertd("pred", transform, orig_keys="image", nearest_interp=nearest)
        for item, one in zip(items, decollate_batch(dict(batch)), strict=True):
            pred = invert(one)["pred"]
            assert pred.shape == item["label"].shape
            assert torch.equal(pred.affine, item["image"].affine)
            assert (set(pred.unique().tolist()) <= {0, 1, 2}) == (nearest or (pred.shape[1:] == (96, 128) and not keep))
            if nearest and not keep:
                assert (pred == item["label"]).float().mean() > 0.9


def test_compose_inverse_restores_both_keys():
    transform = Compose([FitToSized(["image", "label"], 128, mode=["bilinear", "nearest"])])
    item = {"image": slice_of(64, 32), "label": MetaTensor(torch.randint(0, 4, (1, 64, 32))), "name": "a"}
    back = transform.inverse(transform(item))
    assert torch.equal(back["label"].as_tensor(), item["label"].as_tensor())
    assert back["label"].dtype == torch.int64
    assert torch.equal(back["image"].affine, item["image"].affine)
    assert back["name"] == "a"


def test_dictionary_version_passes_over_missing_keys():
    assert set(FitToSized(["a", "b"], 32, allow_missing_keys=True)({"a": slice_of()})) == {"a"}
    with pytest.raises(KeyError, match="b"):
        FitToSized(["a", "b"], 32)({"a": slice_of()})


def test_what_is_refused():
    with pytest.raises(ConfigError, match="mode must be one of bilinear, nearest, got 'bicubic'"):
        FitToSize(mode="bicubic")
    with pytest.raises(ConfigError, match="2 keys, 1 modes"):
        FitToSized(["a", "b"], mode=["nearest"])
    with pytest.raises(DataError, match=r"\(C, H, W\), got shape \(1, 4, 4, 4\)"):
        FitToSize()(torch.zeros(1, 4, 4, 4))
    with pytest.raises(DataError, match="has none"):
        FitToSize(pixel_spacing=1.0)(torch.zeros(1, 4, 4))
    with pytest.raises(DataError, match="Invertd"):
        FitToSize().inverse(torch.zeros(1, 352, 352))
    fitted = FitToSize(32)(slice_of())
    with pytest.raises(DataError, match="network's height and width 32x32"):
        FitToSize(32).inverse(MetaTensor(torch.zeros(1, 16, 16)).copy_meta_from(without_id(fitted)))


def without_id(image):
    for entry in image.applied_operations:
        entry[TraceKeys.ID] = TraceKeys.NONE
    return image
