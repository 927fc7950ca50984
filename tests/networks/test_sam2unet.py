# SPDX-License-Identifier: Apache-2.0
"""Tests of the whole network: sizes, channels, what is trained, deep supervision, names, scripting, DDP."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from monai_sam2unet.networks import Hiera, SAM2UNet, load_weights

OFFICIAL_NAMES = [
    r"encoder\.(pos_embed|pos_embed_window)",
    r"encoder\.patch_embed\.proj\.(weight|bias)",
    r"encoder\.blocks\.\d+\.block\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.layers\.[01])\.(weight|bias)",
    r"encoder\.blocks\.(1|3|10)\.block\.proj\.(weight|bias)",
    r"encoder\.blocks\.\d+\.prompt_learn\.[02]\.(weight|bias)",
    r"rfb[1-4]\.branch0\.0\.(conv\.weight|bn\.\w+)",
    r"rfb[1-4]\.branch[123]\.[0-3]\.(conv\.weight|bn\.\w+)",
    r"rfb[1-4]\.(conv_cat|conv_res)\.(conv\.weight|bn\.\w+)",
    r"up[123]\.conv\.double_conv\.([03]\.weight|[14]\.\w+)",
    r"(side1|side2|head)\.(weight|bias)",
]


def random_image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def trained(net: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in net.named_parameters() if value.requires_grad}


def snapshot(values: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in values}


@torch.no_grad()
def randomise_adapters(net: SAM2UNet) -> None:
    """As after training: they start at zero, which hides them."""
    generator = torch.Generator().manual_seed(2)
    for name, value in net.named_parameters():
        if ".prompt_learn." in name or ".lora_" in name:
            value.normal_(std=0.05, generator=generator)


def train(net: nn.Module, image: torch.Tensor, label: torch.Tensor, steps: int, rate: float = 1e-3) -> list[float]:
    """A few optimiser steps on one batch; the losses before each."""
    optimiser = torch.optim.AdamW(trained(net).values(), rate)
    net.train()
    losses = []
    for _ in range(steps):
        outputs = net(image)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        loss = sum(
            F.binary_cross_entropy_with_logits(x, label.float()) if x.shape[1] == 1 else F.cross_entropy(x, label[:, 0])
            for x in outputs
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="module")
def net() -> SAM2UNet:
    """A network that no test changes."""
    torch.manual_seed(0)
    net = SAM2UNet(size="tiny").eval()
    randomise_adapters(net)
    return net


@pytest.fixture
def supervised() -> SAM2UNet:
    torch.manual_seed(0)
    return SAM2UNet(out_channels=2, size="tiny", deep_supervision=True)


@pytest.mark.parametrize("height_width", [(300, 400), (350, 350), (33, 32), (353, 351), (32, 32)], ids=str)
def test_result_has_the_size_of_the_input(net, height_width):
    with torch.inference_mode():
        logits = net(random_image(1, 3, *height_width))
    assert logits.shape == (1, 1, *height_width)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(94, 94), (33, 64), (64, 65)])
def test_input_is_continued_by_its_edge(net, height, width):
    image = random_image(1, 3, height, width)
    rest = [(0, 0), (0, 0), (0, -height % 32), (0, -width % 32)]
    padded = torch.from_numpy(np.pad(image.numpy(), rest, mode="edge"))
    with torch.inference_mode():
        assert torch.equal(net(image), net(padded)[:, :, :height, :width])


def test_350_equals_the_crop_of_352(net):
    image = random_image(1, 3, 350, 350)
    padded = torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), (0, 2), (0, 2)], mode="edge"))
    with torch.inference_mode():
        assert torch.equal(net(image), net(padded)[:, :, :350, :350])


class Reference:
    """The decoder as the paper has it, written a second time: plain functions over a state dict."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def conv_bn(self, x: torch.Tensor, conv: str, bn: str, padding=0, dilation=1) -> torch.Tensor:
        x = F.conv2d(x, self.state[f"{conv}.weight"], padding=padding, dilation=dilation)
        mean, var, weight, bias = (self.state[f"{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    def rfb(self, x: torch.Tensor, name: str) -> torch.Tensor:
        def layer(x, part, **options):
            return self.conv_bn(x, f"{name}.{part}.conv", f"{name}.{part}.bn", **options)

        branches = [layer(x, "branch0.0")]
        for branch, size in enumerate((3, 5, 7), start=1):
            y = layer(x, f"branch{branch}.0")
            y = layer(y, f"branch{branch}.1", padding=(0, size // 2))
            y = layer(y, f"branch{branch}.2", padding=(size // 2, 0))
            branches.append(layer(y, f"branch{branch}.3", padding=size, dilation=size))
        return F.relu(layer(torch.cat(branches, 1), "conv_cat", padding=1) + layer(x, "conv_res"))

    def up(self, coarse: torch.Tensor, fine: torch.Tensor, name: str) -> torch.Tensor:
        x = torch.cat([fine, F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)], 1)
        for conv, bn in ((0, 1), (3, 4)):
            prefix = f"{name}.conv.double_conv"
            x = F.relu(self.conv_bn(x, f"{prefix}.{conv}", f"{prefix}.{bn}", padding=1))
        return x

    def output(self, x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        logits = F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])
        return F.interpolate(logits, scale_factor=stride, mode="bilinear")

    def __call__(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = [self.rfb(feature, f"rfb{i}") for i, feature in enumerate(features, start=1)]
        x3 = self.up(maps[3], maps[2], "up1")
        x2 = self.up(x3, maps[1], "up2")
        x1 = self.up(x2, maps[0], "up3")
        return [self.output(x1, "head", 4), self.output(x2, "side2", 8), self.output(x3, "side1", 16)]


@torch.no_grad()
def test_same_logits_as_a_second_implementation(supervised):
    generator = torch.Generator().manual_seed(3)
    for name, value in supervised.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    for name, value in supervised.named_parameters():
        if value.ndim == 1 and not name.startswith("encoder."):
            value.copy_(torch.rand(value.shape, generator=generator))
    image = random_image(1, 3, 96, 128)
    # In training mode, for the side outputs, but with the statistics of evaluation.
    supervised.eval().training = True
    expected = Reference(supervised.state_dict())(supervised.encoder(image))
    for logits, reference in zip(supervised(image), expected, strict=True):
        assert reference.std() > 1e-3
        torch.testing.assert_close(logits, reference)


@pytest.mark.parametrize("in_channels", [1, 3, 5])
@pytest.mark.parametrize("out_channels", [1, 4])
def test_trains_with_any_number_of_channels(in_channels, out_channels):
    torch.manual_seed(0)
    net = SAM2UNet(in_channels, out_channels, "tiny")
    label = torch.randint(0, max(out_channels, 2), (2, 1, 64, 64))
    filters = net.encoder.patch_embed.proj.weight.detach().clone()
    image = random_image(2, in_channels, 64, 64)
    losses = train(net, image, label, steps=5)
    assert net.eval()(image).shape == (2, out_channels, 64, 64)
    assert losses[-1] < 0.97 * losses[0]
    # Only filters that the published ones cannot give are trained.
    assert torch.equal(net.encoder.patch_embed.proj.weight, filters) == (in_channels != 5)


@pytest.mark.parametrize("in_channels", [1, 5])
def test_equal_channels_give_what_three_give(net, tmp_path, in_channels):
    encoder = Hiera("tiny")
    file = tmp_path / "encoder.safetensors"
    save_file(encoder.state_dict(), file)
    other = SAM2UNet(in_channels, size="tiny").eval()
    three = SAM2UNet(3, size="tiny").eval()
    # Adapters and decoder are the same in both, the encoder comes from the file.
    kept = {k: v for k, v in net.state_dict().items() if not k.startswith("encoder.patch_embed.")}
    for target in (other, three):
        target.load_state_dict(kept, strict=False)
        load_weights(target, file)
    shutil.rmtree(tmp_path)
    gray = random_image(1, 1, 64, 64)
    with torch.inference_mode():
        expected = three(gray.expand(-1, 3, -1, -1))
        result = other(gray.expand(-1, in_channels, -1, -1))
    assert expected.std() > 1e-3
    assert (result - expected).abs().max() < 1e-4 * expected.abs().max()


def test_deep_supervision_returns_three_full_size_outputs_only_in_training(supervised):
    image = random_image(2, 3, 70, 50)
    outputs = supervised.train()(image)
    assert isinstance(outputs, list)
    assert [tuple(x.shape) for x in outputs] == [(2, 2, 70, 50)] * 3
    assert supervised.eval()(image).shape == (2, 2, 70, 50)


def test_without_deep_supervision_training_returns_one_tensor():
    assert SAM2UNet(size="tiny").train()(random_image(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_side_outputs_come_finest_first(supervised):
    """The finer an output, the more of the encoder's maps it sees."""
    image = random_image(2, 3, 64, 64)
    supervised.train()
    with torch.no_grad():
        before = supervised(image)
        supervised.rfb1.conv_res.bn.bias.add_(1)  # the finest map, at stride 4
        after = supervised(image)
        changed_by_finest = [not torch.equal(x, y) for x, y in zip(before, after, strict=True)]
        supervised.rfb2.conv_res.bn.bias.add_(1)  # at stride 8
        changed_by_second = [not torch.equal(x, y) for x, y in zip(after, supervised(image), strict=True)]
    assert changed_by_finest == [True, False, False]
    assert changed_by_second == [True, True, False]


@torch.no_grad()
def test_outputs_come_from_head_side2_side1(supervised):
    for value, layer in enumerate([supervised.head, supervised.side2, supervised.side1]):
        layer.weight.zero_()
        layer.bias.fill_(value)
    outputs = supervised.train()(random_image(2, 3, 64, 64))
    assert [x.unique().tolist() for x in outputs] == [[0.0], [1.0], [2.0]]


def test_trains_with_the_deep_supervision_loss_of_monai(supervised):
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))
    label = torch.randint(0, 2, (2, 1, 64, 64))
    value = loss(supervised.train()(random_image(2, 3, 64, 64)), label)
    value.backward()
    assert value.isfinite()
    for layer in (supervised.head, supervised.side2, supervised.side1):
        assert layer.weight.grad.abs().max() > 0


@pytest.mark.parametrize("freeze_encoder", [True, False])
@pytest.mark.parametrize("deep_supervision", [True, False])
def test_every_trained_parameter_gets_a_gradient(deep_supervision, freeze_encoder):
    net = SAM2UNet(size="tiny", deep_supervision=deep_supervision, freeze_encoder=freeze_encoder).train()
    train(net, random_image(2, 3, 64, 64), torch.ones(2, 1, 64, 64), steps=1)
    assert [name for name, value in trained(net).items() if value.grad is None] == []
    assert [name for name, value in net.named_parameters() if not value.requires_grad and value.grad is not None] == []


def test_frozen_encoder_stays_while_the_rest_learns(supervised):
    before = snapshot(supervised.named_parameters())
    train(supervised, random_image(2, 3, 64, 64), torch.randint(0, 2, (2, 1, 64, 64)), steps=3)
    for name, value in supervised.named_parameters():
        is_frozen = name.startswith("encoder.") and ".prompt_learn." not in name
        assert torch.equal(value, before[name]) == is_frozen, name


def test_unfrozen_encoder_learns():
    net = SAM2UNet(out_channels=2, size="tiny", deep_supervision=True, freeze_encoder=False)
    assert len(trained(net)) == len(list(net.parameters()))
    before = snapshot(net.encoder.named_parameters())
    train(net, random_image(2, 3, 64, 64), torch.randint(0, 2, (2, 1, 64, 64)), steps=2)
    assert [name for name, value in net.encoder.named_parameters() if torch.equal(value, before[name])] == []


@pytest.mark.parametrize(("stages", "first"), [(0, 12), (1, 10), (2, 3), (3, 1), (4, 0)])
def test_stages_are_unfrozen_from_the_last(stages, first):
    with torch.device("meta"):
        net = SAM2UNet(size="tiny", unfrozen_stages=stages)
    own = {name for name, _ in net.encoder.named_parameters() if ".prompt_learn." not in name}
    expected = {name for name in own if name.startswith("blocks.") and int(name.split(".")[1]) >= first}
    assert {name.removeprefix("encoder.") for name in trained(net)} & own == expected


def test_adapters_as_the_released_code_has_them_start_at_random_values():
    torch.manual_seed(0)
    net = SAM2UNet(size="tiny", zero_init_adapters=False)
    for block in net.encoder.blocks:
        for layer in (block.prompt_learn[0], block.prompt_learn[2]):
            # torch's own: uniform up to one over the root of the inputs
            bound = layer.in_features**-0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert 0 < layer.bias.abs().max() <= bound


def test_adapters_change_nothing_at_the_start():
    net, plain = SAM2UNet(size="tiny").eval(), Hiera("tiny").eval()
    state = {k.replace(".block.", "."): v for k, v in net.encoder.state_dict().items() if ".prompt_learn." not in k}
    plain.load_state_dict(state)
    image = random_image(1, 3, 64, 96)
    with torch.inference_mode():
        at_start = net.encoder(image)
        for feature, expected in zip(at_start, plain(image), strict=True):
            torch.testing.assert_close(feature, expected)
        randomise_adapters(net)
        for feature, expected in zip(net.encoder(image), at_start, strict=True):
            assert not torch.allclose(feature, expected)


CHOICES = {
    "LoRA": {"adapter_channels": 0, "lora_rank": 4, "lora_alpha": 8.0},
    "adapters and LoRA": {"lora_rank": 4},
    "linear probe": {"adapter_channels": 0},
    "full fine-tuning": {"adapter_channels": 0, "freeze_encoder": False},
}
ADDED = {"LoRA": {"lora"}, "adapters and LoRA": {"lora", "prompt_learn"}}


@pytest.fixture(scope="module", params=list(CHOICES))
def choice(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def chosen(choice) -> SAM2UNet:
    """A network of a choice, as after training; no test changes it."""
    torch.manual_seed(0)
    net = SAM2UNet(size="tiny", **CHOICES[choice]).eval()
    randomise_adapters(net)
    return net


def added_part(name: str) -> str | None:
    """What an encoder's parameter belongs to, if it is none that is published."""
    return next((part for part in ("prompt_learn", "lora") if f".{part}" in name), None)


def test_each_choice_adds_only_its_own_parts(net, choice, chosen):
    published = {name for name in net.state_dict() if name.startswith("encoder.") and added_part(name) is None}
    names = {name for name in chosen.state_dict() if name.startswith("encoder.")}
    assert {name for name in names if added_part(name) is None} == published
    added = names - published
    assert {added_part(name) for name in added} == ADDED.get(choice, set())
    for number in range(12):
        for part in ADDED.get(choice, ()):
            assert any(f".{number}." in name and part in name for name in added)


def test_each_choice_trains_its_own_parts_and_the_decoder(choice, chosen):
    # A step changes values: this is a copy, of another number of classes.
    net = SAM2UNet(out_channels=2, size="tiny", deep_supervision=True, **CHOICES[choice]).train()
    assert set(trained(net)) - {k for k in trained(net) if k.startswith("side")} == set(trained(chosen))
    before = snapshot(net.named_parameters())
    train(net, random_image(2, 3, 64, 64), torch.randint(0, 2, (2, 1, 64, 64)), steps=2)
    for name, value in net.named_parameters():
        is_trained = choice == "full fine-tuning" or not name.startswith("encoder.") or added_part(name) is not None
        assert value.requires_grad == is_trained, name
        assert torch.equal(value, before[name]) != is_trained, name


def test_no_choice_changes_the_encoder_at_the_start(choice):
    torch.manual_seed(0)
    net = SAM2UNet(size="tiny", **CHOICES[choice]).eval()
    plain = Hiera("tiny").eval()
    state = {k.replace(".block.", "."): v for k, v in net.encoder.state_dict().items() if added_part(k) is None}
    plain.load_state_dict(state)
    image = random_image(1, 3, 64, 96)
    with torch.inference_mode():
        for feature, expected in zip(net.encoder(image), plain(image), strict=True):
            torch.testing.assert_close(feature, expected)


@torch.inference_mode()
def test_lora_is_a_change_of_the_weights_of_queries_keys_and_values():
    """The function is that of the plain network whose weights have B A added, scaled by alpha over rank."""
    torch.manual_seed(0)
    net = SAM2UNet(size="tiny", **CHOICES["LoRA"]).eval()
    randomise_adapters(net)
    state = net.state_dict()
    for number in range(12):
        qkv = f"encoder.blocks.{number}.block.attn.qkv"
        state[f"{qkv}.weight"] = state[f"{qkv}.weight"] + 2 * state[f"{qkv}.lora_b"] @ state[f"{qkv}.lora_a"]
    plain = SAM2UNet(size="tiny", adapter_channels=0).eval()
    plain.load_state_dict({k: v for k, v in state.items() if ".lora_" not in k})
    image = random_image(1, 3, 64, 96)
    expected = plain(image)
    assert (net(image) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_each_choice_scripts_and_copies(chosen):
    image = random_image(2, 3, 64, 90)
    with torch.inference_mode():
        expected = chosen(image)
        torch.testing.assert_close(torch.jit.script(chosen)(image), expected)
        torch.testing.assert_close(copy.deepcopy(chosen)(image), expected)


def test_each_choice_trains_with_recomputed_activations(choice):
    gradients = []
    for use_checkpoint in (False, True):
        torch.manual_seed(0)
        net = SAM2UNet(size="tiny", use_checkpoint=use_checkpoint, **CHOICES[choice]).train()
        net(random_image(2, 3, 64, 64)).square().mean().backward()
        gradients.append({name: value.grad for name, value in trained(net).items()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)


@pytest.mark.slow
def test_adapters_and_lora_export():
    torch.manual_seed(0)
    net = SAM2UNet(size="tiny", **CHOICES["adapters and LoRA"]).eval()
    randomise_adapters(net)
    with torch.inference_mode():
        exported = torch.export.export(net, (random_image(2, 3, 64, 96),)).module()
        image = random_image(2, 3, 64, 96) + 1
        torch.testing.assert_close(exported(image), net(image))


@pytest.mark.parametrize(
    ("options", "trained_count", "count"),
    [
        ({"size": "large"}, 4_269_617, 216_419_043),
        ({"size": "large", "deep_supervision": True}, 4_269_617 + 2 * 65, 216_419_043),
        ({"size": "tiny"}, 2_587_265, 29_436_867),
        ({"size": "tiny", "in_channels": 5}, 2_587_265 + 96 * (5 * 49 + 1), 29_436_867 + 96 * 2 * 49),
        ({"size": "tiny", "freeze_encoder": False}, 29_436_867 - 2 * 65, 29_436_867),
        ({"size": "tiny", "unfrozen_stages": 1}, 2_587_265 + 13_585_920, 29_436_867),
    ],
    ids=str,
)
def test_number_of_parameters(options, trained_count, count):
    with torch.device("meta"):
        net = SAM2UNet(**options)
    assert sum(value.numel() for value in net.parameters()) == count
    assert sum(value.numel() for value in trained(net).values()) == trained_count


def test_widths_are_those_given():
    with torch.device("meta"):
        net = SAM2UNet(size="tiny", adapter_channels=8, decoder_channels=16)
    assert net.encoder.blocks[0].prompt_learn[0].weight.shape == (8, 96)
    assert net.head.weight.shape == (1, 16, 1, 1)
    assert net.rfb4.conv_res.conv.weight.shape == (16, 768, 1, 1)


def test_names_are_those_of_the_released_code(net):
    names = set(net.state_dict())
    by_pattern = [{name for name in names if re.fullmatch(pattern, name)} for pattern in OFFICIAL_NAMES]
    assert all(by_pattern)
    assert names - set.union(*by_pattern) == set()
    for part in [*(f"rfb{i}" for i in range(1, 5)), "up1", "up2", "up3", "side1", "side2", "head"]:
        assert any(name.startswith(f"{part}.") for name in names), part
    for number in range(12):
        assert f"encoder.blocks.{number}.prompt_learn.0.weight" in names
        assert f"encoder.blocks.{number}.block.attn.qkv.weight" in names


@pytest.mark.parametrize("height_width", [(64, 64), (90, 61)], ids=str)
def test_scripted_equals_eager(net, height_width):
    image = random_image(2, 3, *height_width)
    with torch.inference_mode():
        torch.testing.assert_close(torch.jit.script(net)(image), net(image))


def test_scripting_leaves_out_the_side_outputs(supervised):
    scripted = torch.jit.script(supervised.train())
    assert scripted(random_image(2, 3, 64, 64)).shape == (2, 2, 64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "giant"}, "size 'giant' is not known; choose one of tiny, small, base_plus, large"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": 0}, "out_channels must be a whole number of at least 1, got 0"),
        ({"adapter_channels": -1}, "adapter_channels must be a whole number of at least 0, got -1"),
        ({"adapter_channels": 8.5}, "adapter_channels must be a whole number of at least 0, got 8.5"),
        ({"lora_rank": -1}, "lora_rank must be a whole number of at least 0, got -1"),
        ({"lora_rank": 97}, "between 1 and 96, got 97"),
        ({"lora_rank": 4, "lora_alpha": 0.0}, "above 0, got 0.0"),
        ({"lora_alpha": 8.0}, "lora_alpha 8.0 has no effect without LoRA"),
        ({"decoder_channels": 0}, "decoder_channels must be a whole number of at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must lie in \[0, 1\), got -0.1"),
        ({"unfrozen_stages": 5}, r"unfrozen_stages must be a whole number in 0..4.* got 5"),
        ({"unfrozen_stages": 1.0}, r"unfrozen_stages must be a whole number in 0..4.* got 1.0"),
        ({"unfrozen_stages": 1, "freeze_encoder": False}, "0 with freeze_encoder False"),
        ({"weights": "no_such_file"}, "There is no weights file no_such_file"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        SAM2UNet(**{"size": "tiny", **options})


def test_random_weights_are_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        assert isinstance(SAM2UNet(size="tiny", weights="random"), SAM2UNet)


def test_dropout_acts_in_training_only(net):
    dropping = SAM2UNet(size="tiny", dropout=0.5)
    dropping.load_state_dict(net.state_dict())
    image = random_image(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(dropping.eval()(image), net(image))
        dropping.train()
        assert not torch.equal(dropping(image), dropping(image))
        dropping.dropout.p = 0.0
        assert torch.equal(dropping(image), dropping(image))


TRAINS_ON_TWO_PROCESSES = """
import os
import sys
import torch
from torch import distributed
from monai_sam2unet.networks import SAM2UNet

rank, rendezvous, supervised = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
torch.manual_seed(rank)
net = SAM2UNet(size="tiny", deep_supervision=supervised, adapter_channels=4, decoder_channels=8).train()
ddp = torch.nn.parallel.DistributedDataParallel(net)
optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-3)
start = net.head.weight.detach().clone()
for _ in range(2):
    outputs = ddp(torch.randn(2, 3, 64, 64))
    loss = sum(x.square().mean() for x in (outputs if supervised else [outputs]))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
assert not torch.equal(net.head.weight, start)
mine = torch.cat([p.detach().flatten() for p in net.parameters() if p.requires_grad])
both = [torch.empty_like(mine) for _ in range(2)]
distributed.all_gather(both, mine)
assert torch.equal(*both)
distributed.barrier()
os._exit(0)  # an ordinary end now and then aborts, on threads of torch's that are still running
"""


@pytest.mark.slow
@pytest.mark.parametrize("deep_supervision", [True, False])
def test_trains_on_two_processes_without_looking_for_unused_parameters(on_two_processes, deep_supervision):
    on_two_processes(TRAINS_ON_TWO_PROCESSES, deep_supervision, timeout=240)
