# SPDX-License-Identifier: Apache-2.0
"""Tests of predicting volumes by slices, against MONAI's inferers, nibabel's orientations and plain loops."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import nn
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers import SliceWiseInferer, normalised_entropy
from monai_sam2unet.transforms import FinaliseSegmentation, HieraInput, VolumeToSlices

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.3, 0.1) @ np.array([[0, -0.8, 0], [0, 0, 1.1], [2.5, 0, 0]]), [5, -7, 11]
)
RPS = np.array([[0, 1.5, 0, -20], [0, 0, -2.0, 30], [-1, 0, 0, 4], [0, 0, 0, 1.0]])


class Network(nn.Module):
    """Convolutions that see which way is up, and note the shape of every batch."""

    def __init__(self, channels=1, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 5, padding=2), nn.Tanh(), nn.Conv2d(4, classes, 3, padding=1)
        )
        self.seen = []
        self.eval()

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return self.layers(x)


def volume(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(x, function, dim):
    """Each slice (1, C, H, W) of (C, X, Y, Z) through a function, stacked again."""
    return torch.stack([function(part[None])[0] for part in x.unbind(1 + dim)], 1 + dim)


def located(x, affine):
    """A volume whose affine was read from a file."""
    return MetaTensor(x, affine=torch.as_tensor(affine), meta={"original_affine": np.array(affine)})


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=0, atol=atol, check_dtype=False)


# --- against MONAI


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize(("shape", "batch"), [((1, 1, 7, 12, 9), 4), ((2, 2, 5, 6, 8), 3), ((3, 1, 1, 4, 30), 8)])
@torch.no_grad()
def test_whole_slices_equal_slice_inferer(dim, shape, batch):
    x, network = volume(*shape), Network(shape[1])
    size = [n for axis, n in enumerate(shape[2:]) if axis != dim]
    expected = SliceInferer(roi_size=size, spatial_dim=dim, sw_batch_size=batch)(x, network)
    found = SliceWiseInferer(spatial_dim=dim, sw_batch_size=batch)(x, network)
    assert found.shape == expected.shape
    assert found.is_contiguous()
    close(found, expected)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("roi", "overlap"),
    [((8, 8), 0.25), ((8, 6), (0.5, 0.1)), ((16, 5), 0.6), ((30, 8), 0.25), ((30, 40), 0.0), ((-1, 8), 0.9), (9, 0)],
)
@torch.no_grad()
def test_windows_equal_slice_inferer(dim, mode, roi, overlap):
    x, network = volume(2, 1, 13, 17, 15), Network()
    pair = list((roi, roi) if isinstance(roi, int) else roi)
    overlaps = list((overlap, overlap) if isinstance(overlap, (int, float)) else overlap)
    overlaps.insert(dim, 0)
    expected = SliceInferer(dim, pair, 5, overlaps, mode, cval=0.5)(x, network)
    found = SliceWiseInferer(dim, 5, roi, overlap, mode, cval=0.5)(x, network)
    close(found, expected)


@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular"])
@torch.no_grad()
def test_windows_equal_sliding_window_inferer_in_2d(padding):
    x, network = volume(3, 2, 20, 11), Network(2)
    ours = SliceWiseInferer(2, 4, (8, 14), 0.5, sigma_scale=0.3, padding_mode=padding)
    theirs = SlidingWindowInferer((8, 14), 4, 0.5, "gaussian", 0.3, padding)
    close(ours(x[..., None], network)[..., 0], theirs(x, network))


# --- anatomical planes


def displayed(plane, canonical):
    """Slices of a RAS array (X, Y, Z) as pictures: (S, H, W), by hand."""
    if plane == "axial":
        return canonical[::-1, ::-1].transpose(2, 1, 0)
    if plane == "coronal":
        return canonical[::-1, :, ::-1].transpose(1, 2, 0)
    return canonical[:, ::-1, ::-1].transpose(0, 2, 1)


def undisplayed(plane, slices):
    if plane == "axial":
        return slices.transpose(2, 1, 0)[::-1, ::-1]
    if plane == "coronal":
        return slices.transpose(2, 0, 1)[::-1, :, ::-1]
    return slices.transpose(0, 2, 1)[:, ::-1, ::-1]


def through_nibabel(x, affine, plane, network):
    """Prediction of the first class on the source grid, with nibabel's reorientation there and back."""
    there = nib.io_orientation(affine)
    canonical = nib.apply_orientation(x.numpy(), there)
    slices = np.ascontiguousarray(displayed(plane, canonical))
    with torch.no_grad():
        y = network(torch.from_numpy(slices)[:, None])[:, 0].numpy()
    back = nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), there)
    return nib.apply_orientation(undisplayed(plane, y), back)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("affine", [np.diag([-1, -1, 2.0, 1]), np.eye(4), RPS, OBLIQUE], ids=["LPS", "RAS", "RPS", "o"])
def test_planes_equal_nibabels_orientation(plane, affine):
    x, network = volume(9, 7, 11), Network()
    found = SliceWiseInferer(plane, 4)(located(x[None, None], affine), network)
    close(found[0, 0].as_tensor(), through_nibabel(x, affine, plane, network).copy())
    assert isinstance(found, MetaTensor)
    close(found.affine, affine)


def test_real_oblique_and_flipped_volumes(shared_data):
    for path in sorted((shared_data / "sct-spine").rglob("*.nii*"))[:2]:
        image = nib.load(path)
        x = torch.from_numpy(image.get_fdata(dtype=np.float32)[:24, :30, :28].copy()) / 1000
        network = Network()
        found = SliceWiseInferer("sagittal")(MetaTensor(x[None, None], affine=torch.from_numpy(image.affine)), network)
        close(found[0, 0].as_tensor(), through_nibabel(x, image.affine, "sagittal", network).copy(), atol=1e-4)


def test_three_views_are_averaged():
    x, network = volume(9, 7, 11), Network()
    given = MetaTensor(x[None, None], affine=torch.from_numpy(RPS))
    planes = ("axial", "coronal", "sagittal")
    views = [SliceWiseInferer(plane, activation="sigmoid")(given, network) for plane in planes]
    found = SliceWiseInferer(planes, 5, activation="sigmoid", uncertainty="variance")(given, network)
    close(found["mean"].as_tensor(), torch.stack([v.as_tensor() for v in views]).mean(0))
    close(found["uncertainty"].as_tensor(), torch.stack([v.as_tensor() for v in views]).var(0, correction=0))


def test_three_views_of_a_cube_share_batches():
    network = Network()
    SliceWiseInferer((0, 1, 2), 7, activation="softmax")(volume(1, 1, 6, 6, 6), network)
    assert [n for n, *_ in network.seen] == [7, 7, 4]


def test_each_case_of_a_batch_has_its_own_affine():
    x = volume(2, 1, 8, 6, 5)
    affines = [np.eye(4), RPS]
    items = [{"image": located(v, a)} for v, a in zip(x, affines, strict=True)]
    batch = next(iter(DataLoader(Dataset(items), batch_size=2)))["image"]
    found = SliceWiseInferer("axial")(batch, Network())
    for number, affine in enumerate(affines):
        close(found[number, 0].as_tensor(), through_nibabel(x[number, 0], affine, "axial", Network()).copy())
        close(decollate_batch(found)[number].affine, affine)


# --- the stream of batches


@pytest.mark.parametrize(("count", "batch"), [(5, 4), (4, 4), (3, 64), (9, 1)])
def test_slices_of_all_cases_share_full_batches(count, batch):
    network = Network()
    cases = [volume(1, 6, 8, count, seed=n) for n in range(3)]
    found = SliceWiseInferer(2, batch)(cases, network)
    sizes = [n for n, *_ in network.seen]
    assert sum(sizes) == 3 * count
    assert all(n == batch for n in sizes[:-1])
    with torch.no_grad():
        for x, y in zip(cases, found, strict=True):
            close(y, by_hand(x, network, 2))


def test_cases_of_different_sizes_are_grouped_by_size():
    network = Network()
    cases = [volume(1, *size, 3, seed=n) for n, size in enumerate([(6, 8), (10, 4), (6, 8), (10, 4)])]
    found = SliceWiseInferer(2, 4)(cases, network)
    assert [shape[0] for shape in network.seen] == [4, 2, 4, 2]
    with torch.no_grad():
        for x, y in zip(cases, found, strict=True):
            close(y, by_hand(x, network, 2))


def test_windows_of_different_sizes_share_batches():
    network = Network()
    cases = [volume(1, *size, seed=n) for n, size in enumerate([(9, 8, 2), (5, 12, 3), (8, 6, 1)])]
    inferer = SliceWiseInferer(2, 7, (8, 6), 0.25)
    found = inferer(cases, network)
    assert {shape[2:] for shape in network.seen} == {(8, 6)}
    assert {n for n, *_ in network.seen[:-1]} == {7}
    for x, y in zip(cases, found, strict=True):
        close(y, inferer(x[None], network)[0])


def test_forms_of_input_come_back():
    inferer, network = SliceWiseInferer(2), Network(classes=2)
    plain, batched = inferer([volume(1, 4, 5, 3), MetaTensor(volume(1, 1, 4, 5, 2))], network)
    assert type(plain) is torch.Tensor
    assert plain.shape == (2, 4, 5, 3)
    assert isinstance(batched, MetaTensor)
    assert batched.shape == (1, 2, 4, 5, 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float64, torch.bool])
def test_any_type_of_voxel_is_given_as_float32(dtype):
    x = (volume(1, 1, 5, 6, 4) * 3).to(dtype)
    close(SliceWiseInferer(1)(x, Network()), SliceWiseInferer(1)(x.float(), Network()))


@pytest.mark.parametrize("strides", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_input_may_be_a_view_and_is_not_changed(strides):
    x = volume(1, 9, 8, 7).permute(0, *(1 + s for s in strides))
    before = x.clone()
    found = SliceWiseInferer(0)(x[None], lambda y: y.add_(1))
    torch.testing.assert_close(found[0], before + 1)
    assert torch.equal(x, before)


@pytest.mark.parametrize("roi", [None, (3, 2)])
@pytest.mark.parametrize("transform", [None, HieraInput((32, 32), in_channels=1)])
def test_network_is_given_plain_contiguous_tensors(roi, transform):
    def network(x):
        assert type(x) is torch.Tensor
        assert x.is_contiguous()
        assert not torch.is_grad_enabled()
        return x

    inferer = SliceWiseInferer(("axial", "sagittal"), 2, roi, slice_transform=transform, activation="sigmoid")
    inferer(MetaTensor(volume(2, 1, 4, 5, 6), affine=torch.from_numpy(RPS)), network)


def test_arguments_reach_the_network():
    found = SliceWiseInferer(0)(volume(1, 1, 3, 4, 5), lambda x, a, b: x * 0 + a + b, 2, b=3)
    assert torch.equal(found, torch.full((1, 1, 3, 4, 5), 5.0))


def test_no_gradients_are_kept():
    found = SliceWiseInferer(0)(volume(1, 1, 3, 4, 5).requires_grad_(), Network())
    assert not found.requires_grad


def test_progress_counts_slices(capsys):
    SliceWiseInferer(0, progress=True)(volume(1, 1, 3, 4, 5), Network())
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(precision):
    x, network = volume(1, 1, 5, 16, 16), Network()
    found = SliceWiseInferer(0, precision=precision)(x, network)
    assert found.dtype == torch.float32
    expected = SliceWiseInferer(0, precision="fp32")(x, network)
    close(found, expected, atol=0.02)
    assert not torch.equal(found, expected)


# --- 2.5D


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("n", [1, 2])
def test_neighbours_are_channels_in_the_planes_order(channels, n):
    affine = np.diag([-1.0, -1, -2, 1])  # array order runs to the feet, axial slices run to the head
    x = volume(channels, 6, 7, 5)
    seen = []

    def network(slices):
        seen.append(slices)
        return slices[:, : 2 * n + 1]

    SliceWiseInferer("axial", 2, neighbours=n)([MetaTensor(x, affine=torch.from_numpy(affine))], network)
    given = torch.cat(seen)
    assert given.shape == (5, channels * (2 * n + 1), 7, 6)
    for slice_number in range(5):
        numbers = [min(max(slice_number - offset, 0), 4) for offset in range(-n, n + 1)]
        close(given[slice_number], torch.cat([x[..., k].transpose(1, 2) for k in numbers]))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("affine", [RPS, OBLIQUE], ids=["RPS", "oblique"])
def test_network_sees_the_slices_that_it_was_trained_on(plane, affine):
    x = MetaTensor(volume(2, 6, 7, 5), affine=torch.from_numpy(affine))
    trained_on = VolumeToSlices(plane, neighbours=1)(x)
    seen = []

    def network(slices):
        seen.append(slices)
        return slices

    SliceWiseInferer(plane, neighbours=1)([x], network)
    given = list(torch.cat(seen))
    for expected in trained_on:
        assert sum(torch.equal(expected.as_tensor(), one) for one in given) == 1
    assert len(given) == len(trained_on)


def test_neighbours_do_not_reach_into_other_cases():
    cases = [torch.full((1, 4, 4, 3), float(n)) for n in (1, 2)]
    for n, y in zip((1, 2), SliceWiseInferer(2, 4, neighbours=2)(cases, lambda x: x), strict=True):
        assert y.shape == (5, 4, 4, 3)
        assert (y == n).all()


# --- test-time augmentation and uncertainty


def passes_by_hand(x, network, flips, scales):
    """Probabilities (P, K, X, Y, Z) of slices along the last axis, each pass by plain calls."""
    result = []
    for scale in scales:
        for dims in flips:

            def one(part, scale=scale, dims=dims):
                size = part.shape[2:]
                if scale != 1:
                    target = [max(32, round(s * scale / 32) * 32) for s in size]
                    part = F.interpolate(part, target, mode="bilinear", antialias=scale < 1)
                y = network(part.flip(dims)).flip(dims)
                if scale != 1:
                    y = F.interpolate(y, size, mode="bilinear", antialias=scale > 1)
                return y.sigmoid()

            result.append(by_hand(x, one, 2))
    return torch.stack(result)


@pytest.mark.parametrize("uncertainty", [None, "variance", "entropy"])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_flips_and_scales_equal_passes_by_hand(uncertainty, batch):
    x, network = volume(1, 64, 96, 4), Network()
    scales = (1.0, 0.5, 1.5)
    inferer = SliceWiseInferer(
        2, batch, flips=["rows", "columns", "both"], scales=scales, activation="sigmoid", uncertainty=uncertainty
    )
    found = inferer(x[None], network)
    passes = passes_by_hand(x, network, [(), (2,), (3,), (2, 3)], scales).double()
    assert len(passes) == 12
    if uncertainty is None:
        close(found[0], passes.mean(0))
        return
    assert set(found) == {"mean", "uncertainty"}
    close(found["mean"][0], passes.mean(0))
    p = passes.mean(0).numpy()
    expected = passes.numpy().var(0) if uncertainty == "variance" else -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    close(found["uncertainty"][0], expected)


@pytest.mark.parametrize("roi", [(8, 8), (40, 8), (40, 40)])
def test_variance_is_over_passes_of_blended_windows(roi):
    x, network = volume(1, 12, 14, 3), Network()
    given = {"spatial_dim": 2, "sw_batch_size": 5, "roi_size": roi, "activation": "softmax"}
    found = SliceWiseInferer(**given, flips=["rows"], uncertainty="variance")(x[None], network)
    plain = SliceWiseInferer(**given)(x[None], network)
    flipped = SliceWiseInferer(**given)(x[None].flip(2), network).flip(2)
    close(found["mean"], (plain + flipped) / 2)
    close(found["uncertainty"], (plain - flipped).square() / 4)
    close(SliceWiseInferer(**given, flips=["rows"])(x[None], network), (plain + flipped) / 2)


def test_softmax_entropy_has_one_channel():
    x, network = volume(2, 1, 6, 7, 20), Network()
    found = SliceWiseInferer(1, activation="softmax", uncertainty="entropy")(x, network)
    close(found["mean"].sum(1), torch.ones(2, 6, 7, 20))
    p = found["mean"].double().numpy()
    close(found["uncertainty"], -(p * np.log(p)).sum(1, keepdims=True) / np.log(3))


def test_variance_of_a_symmetric_network_is_zero():
    inferer = SliceWiseInferer((0, 1, 2), flips=["both"], activation="sigmoid", uncertainty="variance")
    # Sigmoid may round differently where a loop's vectorised part ends.
    assert inferer(volume(1, 1, 6, 7, 8), lambda x: x)["uncertainty"].max() < 1e-13


def test_a_network_that_writes_on_its_input_does_not_reach_the_next_pass():
    x = volume(1, 1, 4, 5, 6)
    found = SliceWiseInferer(0, flips=["rows", "both"], activation="identity")(x, lambda y: y.add_(1))
    close(found, x + 1)


def test_identity_activation_survives_a_reused_output_buffer():
    kept = torch.empty(2, 1, 5, 6)

    def network(x):
        return kept[: len(x)].copy_(x)

    x = volume(1, 1, 4, 5, 6)
    found = SliceWiseInferer(0, 2, flips=["rows"], activation="identity", uncertainty="variance")(x, network)
    close(found["mean"], x)
    close(found["uncertainty"], torch.zeros_like(x))


def test_uncertainty_of_a_list_is_a_list():
    cases = [volume(1, 4, 5, 6), volume(1, 3, 5, 7)]
    found = SliceWiseInferer(0, activation="sigmoid", uncertainty="entropy")(cases, Network(classes=2))
    for x, y in zip(cases, found, strict=True):
        assert y["mean"].shape == y["uncertainty"].shape == (2, *x.shape[1:])
        close(y["uncertainty"], normalised_entropy(y["mean"], "sigmoid"))


# --- slice transforms


class Doubling:
    """Makes three channels at twice the size, and brings the result back; notes the shapes."""

    def __init__(self):
        self.seen = []

    def forward_batch(self, x):
        self.seen.append(tuple(x.shape))
        x = torch.as_tensor(x)
        return F.interpolate(x, scale_factor=2, mode="nearest").repeat(1, 3, 1, 1), tuple(x.shape[2:])

    def inverse_batch(self, y, state):
        return F.interpolate(y, state, mode="bilinear")


@pytest.mark.parametrize("roi", [None, (6, 4)])
def test_slice_transform_goes_around_the_network(roi):
    network, transform = Network(3), Doubling()
    x = volume(1, 1, 6, 8, 5)
    found = SliceWiseInferer(2, 4, roi, slice_transform=transform)(x, network)
    assert {shape[2:] for shape in network.seen} == {(12, 8 if roi else 16)}

    def one(part):
        y, state = transform.forward_batch(part)
        return transform.inverse_batch(network(y), state)

    with torch.no_grad():
        expected = (
            SlidingWindowInferer((6, 4, 1), 1, 0.25, "gaussian")(x, lambda p: one(p[..., 0])[..., None])
            if roi
            else by_hand(x[0], one, 2)[None]
        )
    close(found, expected)


def test_logits_are_brought_back_and_then_activated():
    x, network, transform = volume(1, 6, 8, 3), Network(3), Doubling()
    found = SliceWiseInferer(2, slice_transform=transform, activation="sigmoid")(x[None], network)
    close(found, SliceWiseInferer(2, slice_transform=transform)(x[None], network).sigmoid())


def test_cases_of_different_sizes_share_batches_after_hiera_input():
    network = Network(3)
    cases = [volume(1, 30, 40, 3), volume(1, 64, 20, 4)]
    transform = HieraInput((32, 32))
    found = SliceWiseInferer(2, 4, slice_transform=transform, scales=(1.0, 2.0), activation="sigmoid")(cases, network)
    assert network.seen == [(4, 3, 32, 32), (4, 3, 64, 64), (3, 3, 32, 32), (3, 3, 64, 64)]
    for x, y in zip(cases, found, strict=True):
        assert y.shape == (3, *x.shape[1:])


@pytest.mark.parametrize("read", [True, False])
def test_slice_transform_learns_the_size_of_pixels(read):
    x = MetaTensor(volume(1, 1, 30, 40, 3), affine=torch.diag(torch.tensor([-0.5, -2.0, 3, 1])))
    network = Network(3)
    SliceWiseInferer("axial", slice_transform=HieraInput((96, 32), pixel_spacing=1.0))(x, network)
    assert network.seen == [(3, 3, 96, 32)]
    unit = MetaTensor(volume(1, 1, 30, 40, 3), meta={"original_affine": np.eye(4)} if read else {})
    inferer = SliceWiseInferer(2, slice_transform=HieraInput((64, 64), pixel_spacing=1.0))
    if read:
        assert inferer(unit, network).shape == (1, 3, 30, 40, 3)
    else:
        with pytest.raises(DataError, match="size of a pixel"):
            inferer(unit, network)


# --- classes


@pytest.mark.parametrize("options", [{}, {"roi_size": (8, 6), "overlap": 0.5}, {"flips": ["rows"], "scales": [1, 0.5]}])
@torch.no_grad()
def test_classes_are_the_largest_channels(options):
    cases, network = [located(volume(1, 32, 40, 5), RPS), located(volume(1, 20, 26, 3), OBLIQUE)], Network(classes=4)
    averages = bool(options)
    options = {"spatial_dim": "axial", "sw_batch_size": 3, "activation": "softmax", **options}
    # The softmax of one prediction rounds: of channels that it makes equal, the logits know the larger one.
    ranked = SliceWiseInferer(**{**options, "activation": "softmax" if averages else None})(cases, network)
    found = SliceWiseInferer(**options, argmax=True)(cases, network)
    for p, classes in zip(ranked, found, strict=True):
        assert (classes.dtype, classes.meta["activation"]) == (torch.uint8, "argmax")
        close(classes, p.as_tensor().argmax(0, keepdim=True), atol=0)
        close(classes.affine, p.affine)
        # What finalises probabilities takes classes as they are, and does not write on them.
        finalise = FinaliseSegmentation(argmax=True, largest_component=True, activation="softmax")
        before = classes.clone()
        close(finalise(classes), finalise(p), atol=0)
        close(classes, before, atol=0)


def test_classes_are_of_one_plane_and_of_numbers():
    for channels in (1, 257):
        with pytest.raises(ConfigError, match=f"2 to 256 channels is a class; the prediction has {channels}"):
            SliceWiseInferer(2, argmax=True)(volume(1, 1, 4, 4, 2), lambda x, n=channels: x.expand(-1, n, -1, -1))
    with pytest.raises(ConfigError, match="argmax keeps the classes of one plane"):
        SliceWiseInferer([0, 1], activation="softmax", argmax=True)
    with pytest.raises(ConfigError, match="argmax keeps the classes of one plane"):
        SliceWiseInferer(0, activation="softmax", uncertainty="entropy", argmax=True)
    with pytest.raises(DataError, match="NaN"):
        SliceWiseInferer(2, argmax=True)(volume(1, 1, 4, 4, 2), lambda x: torch.cat([x, x * torch.nan], 1))
    with pytest.raises(DataError, match="infinite"):
        SliceWiseInferer(2, activation="softmax", argmax=True)(
            volume(1, 1, 4, 4, 2), lambda x: torch.cat([x, x + torch.inf], 1)
        )
