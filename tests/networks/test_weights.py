# SPDX-License-Identifier: Apache-2.0
"""Tests of loading: every layout arrives, and what does not fit changes nothing."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from monai_sam2unet.errors import UserError
from monai_sam2unet.networks import Hiera, SAM2UNet, WeightsError, frozen_sha256, light_state_dict, load_weights

Tensors = dict[str, Tensor]


def random_like(module: nn.Module, seed: int) -> Tensors:
    """A state dict as of the module, with values of our own; exact in half precision, so that none is lost there."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator).half().float()
        if value.is_floating_point()
        else torch.full(value.shape, 7)
        for name, value in module.state_dict().items()
    }


def meta(kind: type[nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return kind(*arguments, **options)


@pytest.fixture(scope="module")
def encoder_tensors() -> Tensors:
    return random_like(meta(Hiera, "tiny"), seed=1)


@pytest.fixture(scope="module")
def network_tensors() -> Tensors:
    return random_like(meta(SAM2UNet, size="tiny"), seed=2)


@pytest.fixture(scope="module")
def _network() -> SAM2UNet:
    return meta(SAM2UNet, size="tiny").to_empty(device="cpu")


@pytest.fixture(scope="module")
def _encoder() -> Hiera:
    return meta(Hiera, "tiny").to_empty(device="cpu")


def filled_with_5(module: nn.Module) -> nn.Module:
    for value in module.state_dict().values():
        value.fill_(5)
    return module


@pytest.fixture
def network(_network) -> nn.Module:
    """A tiny network whose every parameter and buffer is 5."""
    return filled_with_5(_network)


@pytest.fixture
def encoder(_encoder) -> nn.Module:
    """A tiny encoder whose every parameter is 5."""
    return filled_with_5(_encoder)


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """A folder that goes right after the test: some files are 100 MB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def all_are_5(values: dict[str, Tensor]) -> bool:
    return all(bool((value == 5).all()) for value in values.values())


def write(content: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def renamed(tensors: Tensors, *pairs: tuple[str, str]) -> Tensors:
    result = {}
    for name, value in tensors.items():
        for old, new in pairs:
            name = name.replace(old, new)
        result[name] = value
    return result


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def as_meta(tensors: Tensors) -> dict[str, Any]:
    extra = {
        "sam_mask_decoder.iou_token.weight": torch.ones(1, 4),
        "image_encoder.neck.convs.0.conv.bias": torch.ones(4),
    }
    return {"model": {**prefixed(tensors, "image_encoder.trunk."), **extra}}


def as_transformers(tensors: Tensors) -> Tensors:
    names = [
        ("patch_embed.proj.", "patch_embed.projection."),
        (".norm1.", ".layer_norm1."),
        (".norm2.", ".layer_norm2."),
        (".mlp.layers.0.", ".mlp.proj_in."),
        (".mlp.layers.1.", ".mlp.proj_out."),
    ]
    extra = {"mask_decoder.iou_token.weight": torch.ones(1, 4), "vision_encoder.neck.convs.0.bias": torch.ones(4)}
    return {**prefixed(renamed(tensors, *names), "vision_encoder.backbone."), **extra}


def as_timm(tensors: Tensors) -> Tensors:
    names = [(".mlp.layers.0.", ".mlp.fc1."), (".mlp.layers.1.", ".mlp.fc2.")]
    return {**renamed(tensors, *names), "head.fc.weight": torch.ones(2, 4), "head.fc.bias": torch.ones(2)}


ENCODER_FILES = {
    "meta": (as_meta, "sam2_hiera_tiny.pt", "SAM 2", 2),
    "transformers": (as_transformers, "model.safetensors", "transformers", 2),
    "timm": (as_timm, "model.safetensors", "timm", 2),
    "own encoder": (dict, "encoder.safetensors", "Hiera", 0),
    "half precision": (lambda t: {k: v.half() for k, v in t.items()}, "encoder.safetensors", "Hiera", 0),
}

UP4 = {"up4.conv.double_conv.0.weight": torch.ones(2, 2), "up4.conv.double_conv.1.num_batches_tracked": torch.tensor(3)}
NETWORK_FILES = {
    "released code": (lambda t: {**t, **UP4}, "SAM2-UNet.pth", "released SAM2-UNet", 2),
    "own": (dict, "model.pt", "monai_sam2unet", 0),
    "MONAI bundle": (lambda t: {"model": t}, "model.pt", "monai_sam2unet", 0),
    "MONAI checkpoint": (lambda t: {"net": t, "optimizer": {"state": {}}, "epoch": 3}, "c.pt", "monai_sam2unet", 0),
    "DistributedDataParallel": (lambda t: prefixed(t, "module."), "model.pt", "monai_sam2unet", 0),
    "torch.compile": (lambda t: prefixed(t, "_orig_mod."), "model.pt", "monai_sam2unet", 0),
    "compiled, then DDP": (lambda t: {"model": prefixed(t, "module._orig_mod.")}, "model.pt", "monai_sam2unet", 0),
    "DDP, then compiled": (lambda t: {"model": prefixed(t, "_orig_mod.module.")}, "model.pt", "monai_sam2unet", 0),
    "half precision": (
        lambda t: {k: v.half() if v.is_floating_point() else v for k, v in t.items()},
        "model.safetensors",
        "monai_sam2unet",
        0,
    ),
}


def inner_name(name: str) -> str | None:
    """Name inside an encoder of a network's tensor, None where it is adapter, LoRA or decoder."""
    if not name.startswith("encoder.") or ".prompt_learn." in name or ".lora_" in name:
        return None
    return name.removeprefix("encoder.").replace(".block.", ".")


@pytest.mark.parametrize("kind", list(ENCODER_FILES))
def test_encoder_file_into_encoder(encoder, encoder_tensors, folder, kind):
    make, file_name, layout, ignored = ENCODER_FILES[kind]
    path = write(make(encoder_tensors), folder / file_name)
    report = load_weights(encoder, path)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, encoder_tensors[name]), name
    assert (report.path, report.layout, report.part) == (path, layout, "encoder")
    assert set(report.loaded) == set(encoder_tensors)
    assert len(report.ignored) == ignored


@pytest.mark.parametrize("kind", list(ENCODER_FILES))
def test_encoder_file_into_network(network, encoder_tensors, folder, kind):
    make, file_name, layout, ignored = ENCODER_FILES[kind]
    report = load_weights(network, write(make(encoder_tensors), folder / file_name))
    seen = set()
    for name, value in network.state_dict().items():
        inner = inner_name(name)
        seen.add(inner)
        assert torch.equal(value, torch.full_like(value, 5) if inner is None else encoder_tensors[inner]), name
    assert seen == {*encoder_tensors, None}
    assert (report.layout, report.part, len(report.ignored)) == (layout, "encoder", ignored)


@pytest.mark.parametrize("kind", list(NETWORK_FILES))
def test_network_file_into_network(network, network_tensors, folder, kind):
    make, file_name, layout, ignored = NETWORK_FILES[kind]
    report = load_weights(network, write(make(network_tensors), folder / file_name))
    for name, value in network.state_dict().items():
        assert torch.equal(value, network_tensors[name]), name
    assert (report.layout, report.part, len(report.ignored)) == (layout, "network", ignored)
    assert set(report.loaded) == set(network_tensors)


@pytest.mark.parametrize("kind", list(NETWORK_FILES))
def test_network_file_into_encoder(encoder, network_tensors, folder, kind):
    make, file_name, layout, ignored = NETWORK_FILES[kind]
    report = load_weights(encoder, write(make(network_tensors), folder / file_name))
    own = encoder.state_dict()
    for name, value in network_tensors.items():
        if inner_name(name):
            assert torch.equal(own.pop(inner_name(name)), value), name
    assert own == {}
    assert (report.layout, report.part) == (layout, "encoder")
    assert len(report.ignored) == ignored + sum(inner_name(name) is None for name in network_tensors)


def test_report_names_what_was_not_used(encoder, encoder_tensors, folder):
    path = write(as_meta(encoder_tensors), folder / "sam2.pt")
    report = load_weights(encoder, path)
    assert report.ignored == ("sam_mask_decoder.iou_token.weight", "image_encoder.neck.convs.0.conv.bias")
    assert str(report) == f"{path}: SAM 2 weights, 154 tensors loaded into the encoder, 2 of the file not used"


@pytest.mark.parametrize("in_channels", [1, 2, 5])
def test_filters_are_spread_over_other_numbers_of_channels(encoder_tensors, folder, in_channels):
    net = meta(Hiera, "tiny", in_channels).to_empty(device="cpu")
    load_weights(net, write(encoder_tensors, folder / "encoder.pt"))
    filters = net.patch_embed.proj.weight.detach()
    total = encoder_tensors["patch_embed.proj.weight"].sum(1)
    for channel in range(in_channels):
        torch.testing.assert_close(filters[:, channel], total / in_channels)


def test_path_may_be_text_and_start_at_home(encoder, encoder_tensors, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    write(encoder_tensors, folder / "encoder.pt")
    load_weights(encoder, "~/encoder.pt")
    assert torch.equal(encoder.pos_embed, encoder_tensors["pos_embed"])


def test_network_takes_weights_when_it_is_made(network_tensors, folder):
    path = write(network_tensors, folder / "model.pt")
    net = SAM2UNet(size="tiny", weights=str(path))
    assert torch.equal(net.head.weight, network_tensors["head.weight"])
    assert not net.encoder.blocks[0].block.attn.qkv.weight.requires_grad


# What does not fit: how a file is spoilt, and what the error says.


def other_size(tensors: Tensors) -> Tensors:
    return {k: torch.ones(v.shape, dtype=torch.half) for k, v in meta(Hiera, "small").state_dict().items()}


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


def with_(name: str, value: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: value}


NAN_NORM = torch.tensor([1.0, float("nan")]).repeat(48)
SPOILT_ENCODERS = {
    "other size": (other_size, "an encoder of size 'small', the network's is 'tiny'"),
    "missing": (without("blocks.11.mlp.layers.1.bias"), r"missing: blocks\.11\.(block\.)?mlp\.layers\.1\.bias"),
    "missing position embedding": (without("pos_embed"), "missing: pos_embed"),
    "unexpected": (with_("blocks.0.extra", torch.ones(1)), r"unexpected: blocks\.0\.(block\.)?extra"),
    "shape": (
        with_("pos_embed", torch.ones(1, 96, 14, 14)),
        r"pos_embed: \(1, 96, 14, 14\) in the file, \(1, 96, 7, 7\)",
    ),
    "channels": (
        with_("patch_embed.proj.weight", torch.ones(96, 4, 7, 7)),
        r"\(96, 4, 7, 7\) in the file, \(96, 3, 7, 7\)",
    ),
    "NaN": (with_("blocks.0.norm1.weight", NAN_NORM), r"not finite: blocks\.0\.(block\.)?norm1\.weight"),
    "infinite": (with_("pos_embed", torch.full((1, 96, 7, 7), torch.inf)), "not finite: pos_embed"),
}


@pytest.mark.parametrize("target", ["encoder", "network"])
@pytest.mark.parametrize("kind", list(SPOILT_ENCODERS))
def test_encoder_file_that_does_not_fit_changes_nothing(request, encoder_tensors, folder, target, kind):
    spoil, message = SPOILT_ENCODERS[kind]
    module = request.getfixturevalue(target)
    path = write(as_meta(spoil(encoder_tensors)), folder / "sam2.pt")
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(module, path)
    assert str(caught.value).startswith(f"{path} does not fit the network; nothing was loaded.")
    assert all_are_5(module.state_dict())


def other_network(tensors: Tensors) -> Tensors:
    shapes = meta(SAM2UNet, size="small").state_dict()
    return {k: torch.ones(v.shape, dtype=torch.half) for k, v in shapes.items()}


SPOILT_NETWORKS = {
    "other size": (other_network, "an encoder of size 'small', the network's is 'tiny'"),
    "missing": (without("head.bias"), "missing: head.bias"),
    "unexpected": (with_("tail.bias", torch.ones(1)), "unexpected: tail.bias"),
    "classes": (
        with_("head.weight", torch.ones(4, 64, 1, 1)),
        r"head.weight: \(4, 64, 1, 1\) in the file, \(1, 64, 1, 1\)",
    ),
    "NaN": (with_("rfb1.conv_res.bn.running_var", torch.full((64,), torch.nan)), "not finite: rfb1.conv_res"),
}


@pytest.mark.parametrize("kind", list(SPOILT_NETWORKS))
def test_network_file_that_does_not_fit_changes_nothing(network, network_tensors, folder, kind):
    spoil, message = SPOILT_NETWORKS[kind]
    path = write(spoil(network_tensors), folder / "model.pt")
    with pytest.raises(WeightsError, match=message):
        load_weights(network, path)
    assert all_are_5(network.state_dict())


def test_long_lists_are_cut(network, encoder_tensors, folder):
    path = write({"patch_embed.proj.weight": encoder_tensors["patch_embed.proj.weight"]}, folder / "part.pt")
    with pytest.raises(WeightsError, match=r"\.\.\. and 143 more$"):
        load_weights(network, path)


class Touches:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def pickled_object(path: Path) -> None:
    torch.save({"model": Touches(path.with_name("touched"))}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Touches(path.with_name("touched")), protocol=2))


@pytest.mark.parametrize("make", [pickled_object, bare_pickle])
def test_objects_in_a_pickle_are_refused_unseen(network, folder, make):
    make(folder / "model.pt")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_weights(network, folder / "model.pt")
    assert not (folder / "touched").exists()
    assert all_are_5(network.state_dict())
    # The file is what it is meant to be: a reader without protection runs it.
    with (folder / "model.pt").open("rb") as file:
        torch.load(file, weights_only=False) if make is pickled_object else pickle.load(file)
    assert (folder / "touched").exists()


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2", ".ts"])
def test_exported_files_are_no_weights(network, folder, suffix):
    (folder / f"model{suffix}").write_bytes(b"")
    with pytest.raises(WeightsError, match="is an exported file, with the network in it, not weights"):
        load_weights(network, folder / f"model{suffix}")


def test_a_network_rebuilt_for_inference_is_not_loaded(folder):
    net = SAM2UNet(size="tiny")
    torch.save(net.optimize_for_inference(portable=True).state_dict(), folder / "model.pt")
    with pytest.raises(WeightsError, match="rebuilt by optimize_for_inference"):
        load_weights(net, folder / "model.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
def test_truncated_file_is_refused(network, encoder_tensors, folder, suffix, share):
    path = write({"pos_embed": encoder_tensors["pos_embed"]}, folder / f"encoder{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"cannot be read as weights: .+\nIt may be incomplete"):
        load_weights(network, path)
    assert all_are_5(network.state_dict())


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"hello world",
        b"<!DOCTYPE html><title>404</title>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b'{"model": 1}',
        b"PK\x03\x04",
        b"\x80\x02.",
        bytes(range(256)),
    ],
)
def test_what_is_no_checkpoint_is_refused(network, folder, content, suffix):
    path = folder / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_weights(network, path)
    assert all_are_5(network.state_dict())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list, not a dict of tensors"),
        (torch.ones(2), "holds a Tensor, not a dict of tensors"),
        ({"model": {"layer.weight": torch.ones(2)}}, r"no weights of a known layout .*:\n  layer\.weight"),
        ({"epoch": 3}, r"no weights of a known layout .*:\n  epoch"),
        ({}, "no weights of a known layout"),
    ],
)
def test_other_checkpoints_are_refused(network, folder, content, message):
    path = write(content, folder / "model.pt")
    with pytest.raises(WeightsError, match=message):
        load_weights(network, path)
    assert all_are_5(network.state_dict())


@pytest.mark.parametrize("name", ["sam3", "missing.pt", "missing/file.safetensors", "no/such/folder/model"])
def test_unknown_name_is_refused_with_what_may_be_given(network, name):
    with pytest.raises(WeightsError, match=rf"no weights file {name}\. .*sam2, sam2\.1, .*or a repository"):
        load_weights(network, name)
    assert all_are_5(network.state_dict())


def test_folder_is_refused(network, folder):
    with pytest.raises(WeightsError, match="no weights file"):
        load_weights(network, folder)


def test_errors_are_of_the_kind_that_the_command_line_prints(network):
    with pytest.raises(UserError):
        load_weights(network, "sam3")


def test_other_modules_are_a_type_error(network):
    for module in (nn.Linear(2, 2), nn.DataParallel(network)):
        with pytest.raises(TypeError, match="a Hiera or a network with one as `encoder`"):
            load_weights(module, "sam2.1")


# Light checkpoints.


@pytest.fixture
def trained_network(network_tensors) -> nn.Module:
    net = meta(SAM2UNet, size="tiny").to_empty(device="cpu")
    net.load_state_dict(network_tensors)
    return net


def load_frozen(network: nn.Module, tensors: Tensors) -> None:
    frozen = {name: tensors[name] for name, value in network.named_parameters() if not value.requires_grad}
    assert all(inner_name(k) for k in frozen if not k.startswith("side"))
    network.load_state_dict(frozen, strict=False)


def test_light_checkpoint_restores_all_on_the_same_encoder(network, trained_network, network_tensors, folder):
    light = light_state_dict(trained_network)
    assert [k for k in light["state_dict"] if inner_name(k)] == []
    path = write(light, folder / "light.pt")
    assert path.stat().st_size < 12e6
    load_frozen(network, network_tensors)
    report = load_weights(network, path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, network_tensors[name]), name
    assert (report.layout, report.part) == ("light checkpoint", "network")
    assert set(report.loaded) == {k for k in network_tensors if not inner_name(k)}


def test_light_checkpoint_keeps_the_filters_that_were_trained(folder):
    net, other = (meta(SAM2UNet, 5, size="tiny").to_empty(device="cpu") for _ in range(2))
    net.load_state_dict(random_like(net, seed=3))
    other.load_state_dict(net.state_dict())
    other.encoder.patch_embed.proj.weight.data.zero_()
    load_weights(other, write(light_state_dict(net), folder / "light.pt"))
    assert torch.equal(other.encoder.patch_embed.proj.weight, net.encoder.patch_embed.proj.weight)


@pytest.mark.parametrize("name", ["encoder.pos_embed", "encoder.blocks.7.block.mlp.layers.0.weight"])
def test_light_checkpoint_on_other_frozen_weights_is_refused(network, trained_network, network_tensors, folder, name):
    path = write(light_state_dict(trained_network), folder / "light.pt")
    load_frozen(network, network_tensors)
    network.get_parameter(name).data.flatten()[3] += 1e-3
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(WeightsError, match="trained on other frozen encoder weights"):
        load_weights(network, path)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("head.bias"), "missing: head.bias"),
        (without("encoder.blocks.0.prompt_learn.0.bias"), r"missing: encoder.blocks.0.prompt_learn.0.bias"),
        (with_("tail.bias", torch.ones(1)), "unexpected: tail.bias"),
        (with_("head.bias", torch.ones(4)), r"head.bias: \(4,\) in the file, \(1,\) in the network"),
        (with_("head.bias", torch.full((1,), torch.nan)), "not finite: head.bias"),
    ],
)
def test_light_checkpoint_that_does_not_fit_is_refused(
    network, trained_network, network_tensors, folder, spoil, message
):
    light = light_state_dict(trained_network)
    path = write({**light, "state_dict": spoil(light["state_dict"])}, folder / "light.pt")
    load_frozen(network, network_tensors)
    with pytest.raises(WeightsError, match=message):
        load_weights(network, path)
    assert bool((network.head.weight == 5).all())


def test_light_checkpoint_is_refused_by_a_bare_encoder(encoder, trained_network, folder):
    path = write(light_state_dict(trained_network), folder / "light.pt")
    with pytest.raises(WeightsError, match="light checkpoint"):
        load_weights(encoder, path)
    assert all_are_5(encoder.state_dict())


def test_hash_depends_on_names(network):
    names = ["encoder.blocks.0.block.norm1.weight", "encoder.blocks.0.block.norm2.weight"]
    first, second = (frozen_sha256(network, [name]) for name in names)
    assert first != second
    assert frozen_sha256(network, names) == frozen_sha256(network, names[::-1])


def test_hash_depends_on_frozen_values_and_not_on_trained_ones(trained_network):
    first = frozen_sha256(trained_network)
    trained_network.head.weight.data.zero_()
    trained_network.encoder.blocks[0].prompt_learn[0].weight.data.zero_()
    assert frozen_sha256(trained_network) == first
    trained_network.encoder.patch_embed.proj.bias.data[0] += 1e-3
    assert frozen_sha256(trained_network) != first


@pytest.mark.slow
def test_light_checkpoint_of_size_large_is_under_25_mb(folder):
    net = filled_with_5(meta(SAM2UNet, size="large", deep_supervision=True).to_empty(device="cpu"))
    path = write(light_state_dict(net), folder / "light.pt")
    assert path.stat().st_size < 25e6
    other = filled_with_5(meta(SAM2UNet, size="large").to_empty(device="cpu"))
    assert load_weights(other, path).layout == "light checkpoint"


# Other choices of what is trained.

CHOICES = {
    "LoRA": {"adapter_channels": 0, "lora_rank": 4},
    "adapters and LoRA": {"lora_rank": 4},
    "linear probe": {"adapter_channels": 0},
    "full fine-tuning": {"adapter_channels": 0, "freeze_encoder": False},
}


def of_choice(choice: str) -> nn.Module:
    """A tiny network of that choice whose every parameter and buffer is 5."""
    return filled_with_5(meta(SAM2UNet, size="tiny", **CHOICES[choice]).to_empty(device="cpu"))


@pytest.mark.parametrize("choice", list(CHOICES))
def test_encoder_file_into_a_network_of_each_choice(encoder_tensors, folder, choice):
    net = of_choice(choice)
    report = load_weights(net, write(as_meta(encoder_tensors), folder / "sam2.pt"))
    for name, value in net.state_dict().items():
        inner = inner_name(name)
        assert torch.equal(value, torch.full_like(value, 5) if inner is None else encoder_tensors[inner]), name
    assert len(report.loaded) == len(encoder_tensors)


@pytest.mark.parametrize("choice", list(CHOICES))
def test_network_file_of_each_choice(encoder, folder, choice):
    net = of_choice(choice)
    tensors = random_like(net, seed=6)
    path = write(tensors, folder / "model.pt")
    assert load_weights(net, path).part == "network"
    for name, value in net.state_dict().items():
        assert torch.equal(value, tensors[name]), name
    # The encoder has what all choices share.
    assert load_weights(encoder, path).part == "encoder"
    own = encoder.state_dict()
    for name, value in tensors.items():
        if inner_name(name):
            assert torch.equal(own.pop(inner_name(name)), value), name
    assert own == {}


@pytest.mark.parametrize("choice", list(CHOICES))
def test_light_checkpoint_of_each_choice(folder, choice):
    net, other = of_choice(choice), of_choice(choice)
    tensors = random_like(net, seed=6)
    net.load_state_dict(tensors)
    light = light_state_dict(net)
    all_trained = choice == "full fine-tuning"
    assert ([k for k in light["state_dict"] if inner_name(k)] != []) == all_trained
    assert any(".lora_a" in k for k in light["state_dict"]) == ("LoRA" in choice)
    assert any(".prompt_learn." in k for k in light["state_dict"]) == ("adapters" in choice)
    other.load_state_dict({k: v for k, v in tensors.items() if inner_name(k)}, strict=False)
    assert load_weights(other, write(light, folder / "light.pt")).part == "network"
    for name, value in other.state_dict().items():
        assert torch.equal(value, tensors[name]), name


def test_hash_is_that_of_the_same_encoder_whatever_is_trained(network):
    # The value for the default choice is what earlier versions wrote into light checkpoints.
    assert frozen_sha256(network) == "b312fe490873d48e7e4aedffb7b02cb07242e9822d869c26130cb149747bfefc"
    for choice in ("LoRA", "adapters and LoRA", "linear probe"):
        assert frozen_sha256(of_choice(choice)) == frozen_sha256(network)


@pytest.mark.parametrize("light", [False, True], ids=["full", "light"])
@pytest.mark.parametrize(
    ("options", "made_with"),
    [
        ({"adapter_channels": 0}, (0, 0)),
        ({"adapter_channels": 16}, (16, 0)),
        ({"lora_rank": 4}, (32, 4)),
        ({"adapter_channels": 0, "lora_rank": 8}, (0, 8)),
    ],
    ids=str,
)
def test_network_of_another_choice_is_refused_with_what_to_set(network, folder, options, made_with, light):
    net = filled_with_5(meta(SAM2UNet, size="tiny", **options).to_empty(device="cpu"))
    path = write(light_state_dict(net) if light else net.state_dict(), folder / "model.pt")
    channels, rank = made_with
    message = (
        rf"nothing was loaded\. It was trained with adapter_channels {channels} and lora_rank {rank}, "
        rf"the network has 32 and 0\. .*`--adapter_channels {channels} --lora_rank {rank}`"
    )
    with pytest.raises(WeightsError, match=message):
        load_weights(network, path)
    assert all_are_5(network.state_dict())
    load_weights(net, path)


def test_adapters_are_refused_by_a_network_with_lora(folder, network):
    path = write(network.state_dict(), folder / "model.pt")
    with pytest.raises(WeightsError, match="trained with adapter_channels 32 and lora_rank 0, the network has 0 and 4"):
        load_weights(of_choice("LoRA"), path)


# The real weights.


@pytest.mark.slow
def test_real_weights_give_features_of_their_own(tiny_weights, monkeypatch):
    monkeypatch.setenv("SAM2UNET_WEIGHTS", str(tiny_weights.parent))
    torch.manual_seed(0)
    net = Hiera("tiny").eval()
    image = torch.randn(1, 3, 128, 160)
    with torch.inference_mode():
        untrained = net(image)
        report = load_weights(net, "sam2")
        features = net(image)
        inside = SAM2UNet(size="tiny", weights="sam2").eval().encoder(image)
    assert (report.path, report.layout) == (tiny_weights, "SAM 2")
    for feature, other, same in zip(features, untrained, inside, strict=True):
        assert feature.isfinite().all()
        assert feature.std() > 0
        assert (feature - other).abs().mean() > 0.5 * feature.abs().mean()
        torch.testing.assert_close(same, feature)


@pytest.mark.slow
def test_real_weights_in_half_precision_give_nearly_the_same(tiny_weights):
    half = tiny_weights.with_name("sam2_hiera_tiny_fp16.safetensors")
    if not half.is_file():
        pytest.skip(f"no {half}")
    net, other = Hiera("tiny").eval(), Hiera("tiny").eval()
    load_weights(net, tiny_weights)
    load_weights(other, half)
    image = torch.randn(1, 3, 128, 160)
    with torch.inference_mode():
        for feature, rounded in zip(net(image), other(image), strict=True):
            assert 0 < (feature - rounded).norm() < 0.02 * feature.norm()
