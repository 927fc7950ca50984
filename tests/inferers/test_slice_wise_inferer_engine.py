# SPDX-License-Identifier: Apache-2.0
"""Tests of where results are kept, of memory, of MONAI's engines, and of what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, from_engine
from monai.inferers import SliceInferer
from monai.transforms import AsDiscreted, Compose, FlattenSubKeysd, Flipd, Invertd
from torch import nn

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers import SliceWiseInferer
from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.transforms import HieraInput
from monai_sam2unet.transforms.pixel_size import known_spacing


def volume(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def identity(x):
    return x


# --- where results are kept


@pytest.mark.parametrize(
    ("given", "channels"),
    [
        ({}, 2),
        ({"activation": "softmax", "uncertainty": "entropy"}, 3),
        ({"activation": "sigmoid", "uncertainty": "entropy"}, 4),
        ({"activation": "sigmoid", "uncertainty": "variance", "flips": ["rows"]}, 4),
        ({"output_dtype": torch.float16}, 1),  # two channels of half the size
    ],
)
@pytest.mark.parametrize("stacked", [True, False])
def test_results_that_exceed_the_bound_go_to_the_cpu(given, channels, stacked):
    needed = 3 * 4 * 5 * 6 * channels * 4
    x = volume(3, 2, 4, 5, 6)

    def devices(bound):
        found = SliceWiseInferer(0, device="meta", max_device_bytes=bound, **given)(x if stacked else list(x), identity)
        flat = [found] if stacked else found
        return {t.device.type for one in flat for t in (one.values() if isinstance(one, dict) else [one])}

    assert devices(None) == {"meta"}
    assert devices(needed) == {"meta"}
    assert devices(needed - 1) == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_output_type(dtype):
    x = volume(1, 1, 4, 5, 6)
    found = SliceWiseInferer(2, output_dtype=dtype)(x, identity)
    assert found.dtype == dtype
    assert torch.equal(found, x.to(dtype))


def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's peak memory")
@pytest.mark.parametrize(
    "given",
    [{}, {"roi_size": (64, 64)}, {"flips": ["rows"], "activation": "sigmoid", "uncertainty": "variance"}],
    ids=["whole", "windows", "variance"],
)
def test_memory_does_not_grow_with_slices(given):
    inferer = SliceWiseInferer(2, **given)
    inferer(torch.ones(1, 1, 128, 128, 16), identity)
    x = torch.ones(1, 1, 128, 128, 1500)  # 94 MiB, and the results as much each
    Path("/proc/self/clear_refs").write_text("5")
    before = kib("VmRSS")
    found = inferer(x, identity)
    results = sum(y.numel() * 4 for y in (found.values() if isinstance(found, dict) else [found]))
    assert (kib("VmHWM") - before) * 1024 - results < 25 * 2**20


@pytest.mark.gpu
@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("bound", [None, 0])
@pytest.mark.parametrize(
    "given", [{}, {"roi_size": (24, 24)}, {"flips": ["rows"], "uncertainty": "variance", "neighbours": 1}]
)
def test_network_on_a_gpu(place, bound, given):
    torch.manual_seed(0)
    network = nn.Conv2d(3 if "neighbours" in given else 1, 2, 3, padding=1).eval()
    x = volume(2, 1, 40, 30, 21)
    given = {"spatial_dim": (0, 1, 2), "activation": "softmax", "precision": "fp32", "max_device_bytes": bound, **given}
    expected = SliceWiseInferer(**given)(x, network)
    found = SliceWiseInferer(**given)(x.to(place), network.cuda())
    for name in ("mean", "uncertainty") if "uncertainty" in given else (slice(None),):
        assert found[name].device.type == ("cpu" if bound == 0 else place)
        torch.testing.assert_close(found[name].cpu(), expected[name], rtol=0, atol=1e-4)


# --- what is noted of results


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "identity"])
@pytest.mark.parametrize("form", ["tensor", "list", "batch"])
def test_activated_results_say_so(activation, form):
    affine = torch.diag(torch.tensor([-1.0, 2, 3, 1]))
    cases = [MetaTensor(volume(2, 4, 5, 6, seed=n), affine, {"filename_or_obj": f"{n}.nii"}) for n in range(7)]
    given = {
        "tensor": cases[0][None],
        "list": cases,
        "batch": next(iter(DataLoader(Dataset([{"image": case} for case in cases]), batch_size=7)))["image"],
    }[form]

    def marks(result):
        parts = result if form == "list" else decollate_batch(result) if form == "batch" else [result[0]]
        return {part.meta.get("activation") for part in parts}

    inferer = SliceWiseInferer("axial", activation=activation, flips=["rows"])
    assert marks(inferer(given, identity)) == {activation}
    assert marks(SliceWiseInferer("axial")(given, identity)) == {None}
    assert marks(given) == {None}
    spread = SliceWiseInferer("axial", activation=activation, flips=["rows"], uncertainty="variance")(given, identity)
    means, spreads = (
        [one[name] for one in spread] if form == "list" else spread[name] for name in ("mean", "uncertainty")
    )
    assert marks(means) == {activation}
    assert marks(spreads) == {None}
    # A network that is given what another one found.
    again = SliceWiseInferer("axial")(means, identity)
    assert marks(again) == {None}
    assert type(SliceWiseInferer(0, activation=activation)(volume(1, 2, 4, 5, 6), identity)) is torch.Tensor


# --- in MONAI's engines


def items(count):
    affine = torch.diag(torch.tensor([-1.0, 2, 3, 1]))
    for n in range(count):
        image = MetaTensor(volume(1, 8, 6, 5, seed=n), affine=affine, meta={"filename_or_obj": f"{n}.nii"})
        yield {"image": image, "label": MetaTensor((image.as_tensor() > 0.5).float(), affine=affine)}


class Threshold(nn.Module):
    """Logits above 0 where the image is above 0.5."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(100.0))

    def forward(self, x):
        return (x - 0.5) * self.weight


def evaluate(inferer, postprocessing, transform=None):
    data = Dataset(list(items(3)), transform)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=2),
        network=Threshold(),
        inferer=inferer,
        postprocessing=postprocessing,
        key_val_metric={"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
    )
    outputs = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.extend(engine.state.output))
    evaluator.run()
    return evaluator.state.metrics["dice"], outputs


def test_evaluator_decollates_and_measures():
    dice, outputs = evaluate(SliceWiseInferer("axial", 3), AsDiscreted("pred", threshold=0.0))
    assert dice == 1
    assert [o["pred"].meta["filename_or_obj"] for o in outputs] == ["0.nii", "1.nii", "2.nii"]
    assert all(o["pred"].shape == (1, 8, 6, 5) for o in outputs)


def test_evaluator_with_uncertainty():
    inferer = SliceWiseInferer(["axial", "coronal"], activation="sigmoid", uncertainty="entropy")
    steps = Compose([FlattenSubKeysd("pred", prefix="pred", delete_keys=False), TakeMean()])
    dice, outputs = evaluate(inferer, steps)
    assert dice == 1
    for output in outputs:
        assert output["pred_uncertainty"].shape == (1, 8, 6, 5)
        assert isinstance(output["pred_uncertainty"], MetaTensor)
        assert 0 <= output["pred_uncertainty"].min() <= output["pred_uncertainty"].max() <= 1


class TakeMean:
    def __call__(self, data):
        return {**data, "pred": (data["pred_mean"] > 0.5).float()}


def test_prediction_is_inverted_to_the_source():
    flip = Flipd(["image"], spatial_axis=1)
    steps = Compose([Invertd("pred", flip, orig_keys="image"), AsDiscreted("pred", threshold=0.0)])
    dice, outputs = evaluate(SliceWiseInferer("sagittal"), steps, Compose([flip]))
    assert dice == 1
    assert np.array_equal(outputs[0]["pred"].affine, np.diag([-1.0, 2, 3, 1]))


@torch.no_grad()
def test_the_real_network_equals_slice_inferer():
    torch.manual_seed(0)
    network = SAM2UNet(in_channels=1, out_channels=2, size="tiny").eval()
    x = volume(1, 1, 3, 50, 40)
    expected = SliceInferer(0, (50, 40), 3)(x, network)
    torch.testing.assert_close(SliceWiseInferer(0, 2)(x, network), expected, rtol=0, atol=1e-5)


# --- what is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spatial_dim": "transversal"}, "axial, coronal, sagittal"),
        ({"spatial_dim": 3}, "0, 1 or 2"),
        ({"spatial_dim": -1}, "0, 1 or 2"),
        ({"spatial_dim": True}, "0, 1 or 2"),
        ({"spatial_dim": ()}, "spatial_dim"),
        ({"spatial_dim": None}, "spatial_dim"),
        ({"spatial_dim": (0, 0)}, "twice"),
        ({"spatial_dim": ("axial", 2)}, "all names or all axes"),
        ({"sw_batch_size": 0}, "sw_batch_size must be a whole number of at least 1, got 0"),
        ({"sw_batch_size": 2.5}, "sw_batch_size"),
        ({"roi_size": (4, 4, 4)}, "roi_size must be one number, or one for rows and one for columns"),
        ({"roi_size": 4.5}, "roi_size must be whole numbers"),
        ({"overlap": None}, "overlap must be one number"),
        ({"overlap": 1.0}, r"overlap must lie in \[0, 1\)"),
        ({"overlap": (0.5, -0.1)}, "overlap"),
        ({"mode": "hann"}, "mode must be one of constant, gaussian"),
        ({"sigma_scale": 0}, "sigma_scale"),
        ({"padding_mode": "mirror"}, "padding_mode must be one of"),
        ({"slice_transform": identity}, "forward_batch and inverse_batch"),
        ({"neighbours": -1}, "neighbours"),
        ({"flips": "rows"}, "flips must be a list of rows, columns, both"),
        ({"flips": None}, "flips"),
        ({"flips": ["diagonal"]}, "flips"),
        ({"flips": ["rows", "rows"]}, "once"),
        ({"scales": []}, "scales"),
        ({"scales": 1.5}, "scales"),
        ({"scales": ["1"]}, "scales"),
        ({"scales": [0.5, 0]}, "scales"),
        ({"scales": [1, 1.0]}, "once"),
        ({"activation": "relu"}, "activation must be one of sigmoid, softmax, identity or None"),
        ({"uncertainty": "std"}, "uncertainty must be one of entropy, variance or None"),
        ({"flips": ["rows"]}, "2 predictions are averaged"),
        ({"spatial_dim": (0, 1, 2), "scales": [1, 2]}, "6 predictions are averaged"),
        ({"uncertainty": "variance", "activation": "sigmoid"}, "One prediction has no variance"),
        ({"uncertainty": "entropy"}, "Entropy needs activation sigmoid or softmax, got None"),
        ({"uncertainty": "entropy", "activation": "identity"}, "Entropy needs"),
        ({"precision": "tf32"}, "precision"),
        ({"max_device_bytes": -1}, "max_device_bytes"),
        ({"output_dtype": torch.int16}, "output_dtype must be float32"),
        ({"output_dtype": torch.float16, "spatial_dim": (0, 1), "activation": "sigmoid"}, "too coarse"),
    ],
)
def test_settings_that_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        SliceWiseInferer(**given)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(1, 4, 5, 6), r"\(B, C, X, Y, Z\), got \(1, 4, 5, 6\)"),
        (torch.zeros(0, 1, 4, 5, 6), "no volume"),
        ([], "no volume"),
        ([torch.zeros(4, 5, 6)], r"number 0 has shape \(4, 5, 6\)"),
        ([torch.zeros(1, 4, 5, 6), torch.zeros(2, 1, 4, 5, 6)], r"number 1 has shape \(2, 1, 4, 5, 6\)"),
        ([np.zeros((1, 4, 5, 6))], "number 0 has ndarray"),
        ([torch.zeros(1, 4, 5, 6), torch.zeros(2, 4, 5, 6)], r"same number of channels, got \[1, 2\]"),
        ([torch.zeros(1, 4, 5, 6), torch.zeros(1, 4, 5, 6, device="meta")], "one device, got cpu, meta"),
        (torch.zeros(1, 1, 4, 0, 6), "cannot be sliced"),
        (torch.zeros(1, 1, 4, 5, 6, dtype=torch.complex64), "cannot be sliced"),
    ],
)
def test_inputs_that_are_refused(inputs, message):
    with pytest.raises(DataError, match=message):
        SliceWiseInferer(0)(inputs, identity)


@pytest.mark.parametrize(("mode", "too_large"), [("reflect", 11), ("circular", 13)])
def test_slices_too_small_to_pad_are_refused(mode, too_large):
    x = torch.zeros(1, 1, 2, 4, 40)
    assert SliceWiseInferer(0, roi_size=too_large - 1, padding_mode=mode)(x, identity).shape == x.shape
    with pytest.raises(ConfigError, match=f"padding_mode {mode} cannot"):
        SliceWiseInferer(0, roi_size=too_large, padding_mode=mode)(x, identity)


def test_planes_by_name_need_an_affine():
    with pytest.raises(DataError, match="Volume 0: axial slices need the affine of a MetaTensor"):
        SliceWiseInferer("axial")(torch.zeros(1, 1, 4, 5, 6), identity)
    given = MetaTensor(torch.zeros(2, 1, 4, 5, 6), affine=torch.eye(4).repeat(3, 1, 1))
    with pytest.raises(DataError, match="2 volumes carry 3 affines"):
        SliceWiseInferer("axial")(given, identity)


def unplaced(**meta):
    return MetaTensor(torch.zeros(1, 4, 5, 6), meta=meta)


def test_an_affine_that_was_never_given_does_not_tell_planes():
    inferer = SliceWiseInferer("axial")
    for given in (unplaced()[None], [unplaced()]):
        with pytest.raises(DataError, match="never given one"):
            inferer(given, identity)
    read = unplaced(original_affine=np.eye(4))
    assert inferer(read[None], identity).shape == (1, 1, 4, 5, 6)
    assert SliceWiseInferer(2)(unplaced()[None], identity).shape == (1, 1, 4, 5, 6)
    moved = MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.diag(torch.tensor([1.0, 1, 2, 1])))
    with pytest.raises(DataError, match="Volume 1: axial"):
        inferer([moved, unplaced()], identity)


def test_images_without_a_place_in_the_patient_have_no_planes():
    affine = torch.diag(torch.tensor([0.5, 0.5, 1, 1]))
    given = [
        MetaTensor(torch.zeros(1, 4, 5, 6), affine, {"original_affine": affine, "in_patient_space": inside})
        for inside in (True, False)
    ]
    assert len(SliceWiseInferer("axial")(given[:1], identity)) == 1
    with pytest.raises(DataError, match="Volume 1: axial slices need a place in the patient"):
        SliceWiseInferer("axial")(given, identity)
    assert len(SliceWiseInferer(2)(given, identity)) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_what_is_known_of_an_affine_is_told_case_by_case_in_a_batch(size):
    def batch(**last):
        known = {"original_affine": np.eye(4), "in_patient_space": True, "spacing_source": "positions"}
        items = [unplaced(**(known | (last if n == size - 1 else {}))) for n in range(size)]
        return next(iter(DataLoader(Dataset([{"image": x} for x in items]), batch_size=size)))["image"]

    assert SliceWiseInferer("axial")(batch(), identity).shape == (size, 1, 4, 5, 6)
    with pytest.raises(DataError, match=f"Volume {size - 1}: axial slices need a place"):
        SliceWiseInferer("axial")(batch(in_patient_space=False), identity)


class Spacing:
    """A slice transform that notes what it is told of each batch of slices."""

    def __init__(self):
        self.seen = []

    def forward_batch(self, x):
        self.seen.append((known_spacing(x), len(x)))
        return torch.as_tensor(x), None

    def inverse_batch(self, y, state):
        return y


def test_spacing_that_the_reader_did_not_find_is_not_known_to_the_slice_transform_either():
    affine = torch.diag(torch.tensor([0.5, 0.75, 1, 1]))
    expected = {"positions": (0.5, 0.75), "unknown": (0.5, 0.75), "": None}
    for source, spacing in expected.items():
        meta = {"original_affine": affine, "spacing_source": source}
        given = [{"image": MetaTensor(torch.zeros(1, 4, 5, 6), affine, meta)}] * 2
        transform = Spacing()
        inferer = SliceWiseInferer(2, 4, slice_transform=transform)
        inferer(next(iter(DataLoader(Dataset(given), batch_size=2)))["image"], identity)
        assert {spacing for spacing, _ in transform.seen} == {spacing}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: [x, x, x], r"one tensor, it gave a list of 3. With deep supervision call network.eval\(\)"),
        (lambda x: (x, x), "it gave a tuple of 2"),
        (lambda x: {"out": x}, "it gave a dict of 1"),
        (lambda x: None, "it gave a NoneType"),
        (lambda x: x[..., ::2], r"must give \(4, K, 5, 6\); it gave \(4, 1, 5, 3\)"),
        (lambda x: x[:1], r"it gave \(1, 1, 5, 6\)"),
        (lambda x: x[:, 0], r"it gave \(4, 5, 6\)"),
        (lambda x: x.repeat(1, 5 - len(x), 1, 1), "gave 1 channels at first, and 3 later"),
    ],
)
def test_networks_that_are_refused(network, message):
    with pytest.raises(ConfigError, match=message):
        SliceWiseInferer(0, 4)(torch.zeros(1, 1, 6, 5, 6), network)


def test_a_network_in_training_mode_is_refused():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = volume(1, 1, 4, 5, 6)
    with pytest.raises(ConfigError, match=r"in training mode.* Call network.eval\(\) first"):
        SliceWiseInferer(0)(x, network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    expected = SliceWiseInferer(0)(x, network.eval())
    exported = torch.export.export(network, (torch.zeros(4, 1, 5, 6),)).module()
    assert exported.training  # it says so, and does not
    torch.testing.assert_close(SliceWiseInferer(0)(x, exported), expected)
    scripted = torch.jit.freeze(torch.jit.script(network))
    torch.testing.assert_close(SliceWiseInferer(0)(x, scripted), expected)


def test_evaluators_set_the_mode_themselves():
    class Normalised(Threshold):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1, affine=False)

        def forward(self, x):
            return super().forward(self.norm(x))

    network = Normalised().train()
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), DataLoader(Dataset(list(items(2)))), network, inferer=SliceWiseInferer("axial")
    )
    evaluator.run()
    assert network.training
    assert network.norm.num_batches_tracked == 0


@pytest.mark.parametrize("kind", ["plain", "scripted", "function"])
@pytest.mark.parametrize("given", [{}, {"neighbours": 1}, {"slice_transform": HieraInput((8, 6))}])
def test_another_number_of_channels_is_told(kind, given):
    network = nn.Sequential(nn.ReplicationPad2d(2), nn.Conv2d(4, 2, 3), nn.Conv2d(2, 1, 3)).eval()
    called = {"plain": network, "scripted": torch.jit.script(network), "function": lambda x: network(x)}[kind]
    channels = 3 if given else 1
    found = (
        rf"slices of {channels} channels, \(4, {channels}, \d, 6\), and takes 4.*in_channels={channels}.*in_channels=4"
    )
    with pytest.raises(ConfigError, match=found) as told:
        SliceWiseInferer(0, 4, **given)(torch.zeros(1, 1, 4, 5, 6), called)
    assert "to have 4 channels" in str(told.value.__cause__)


def test_other_errors_of_the_network_are_left_as_they_are():
    def inside(x):
        return nn.Conv2d(4, 1, 1)(x.repeat(1, 2, 1, 1))

    def other(x):
        raise RuntimeError("something else")

    for network, message in ((inside, "expected input[4, 2, 5, 6] to have 4 channels"), (other, "something else")):
        with pytest.raises(RuntimeError, match=re.escape(message)):
            SliceWiseInferer(0, 4)(torch.zeros(1, 1, 4, 5, 6), network)


def test_softmax_of_one_channel_is_refused():
    with pytest.raises(ConfigError, match="Softmax over a single channel"):
        SliceWiseInferer(0, activation="softmax")(torch.zeros(1, 1, 4, 5, 6), identity)


class Transform:
    def __init__(self, forward, inverse):
        self.forward_batch = lambda x: (forward(x), None)
        self.inverse_batch = lambda y, state: inverse(y)


def test_slice_transforms_that_are_refused():
    x = torch.zeros(1, 1, 4, 5, 6)
    with pytest.raises(ConfigError, match=r"forward_batch must give \(4, C, h, w\).*it gave \(2, 1, 5, 6\)"):
        SliceWiseInferer(0, slice_transform=Transform(lambda x: x[:2], identity))(x, identity)
    with pytest.raises(ConfigError, match=r"inverse_batch must give \(4, 1, 5, 6\) here; it gave \(4, 1, 5, 2\)"):
        SliceWiseInferer(0, slice_transform=Transform(identity, lambda y: y[..., :2]))(x, identity)
