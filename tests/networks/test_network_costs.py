# SPDX-License-Identifier: Apache-2.0
"""Tests of the counts against formulae, written from the papers' descriptions of the network."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet.networks import SAM2UNet, light_state_dict
from monai_sam2unet.networks.network_costs import count_inference, count_training, training_choices

# Channels and blocks of the stages, windows, global blocks: as published with the checkpoints.
SIZES = {
    "tiny": (96, (1, 2, 7, 2), (8, 4, 14, 7), (5, 7, 9)),
    "small": (96, (1, 2, 11, 2), (8, 4, 14, 7), (7, 10, 13)),
    "base_plus": (112, (2, 3, 16, 3), (8, 4, 14, 7), (12, 16, 20)),
    "large": (144, (2, 6, 36, 4), (8, 4, 16, 8), (23, 33, 43)),
}


def blocks(size: str) -> list[tuple[int, int, int, int]]:
    """Of each block: input stage, output stage, input channels, output channels."""
    width, stages, _, _ = SIZES[size]
    of_stages = [stage for stage, depth in enumerate(stages) for _ in range(depth)]
    before = [of_stages[0], *of_stages[:-1]]
    return [(i, o, width * 2**i, width * 2**o) for i, o in zip(before, of_stages, strict=True)]


def adapters(size: str, channels: int) -> int:
    return sum(2 * dim * channels + channels + dim for _, _, dim, _ in blocks(size))


def lora(size: str, rank: int) -> int:
    return sum(rank * (dim + 3 * dim_out) for _, _, dim, dim_out in blocks(size))


def decoder(size: str, classes: int, d: int = 64) -> int:
    """Parameters of four RFBs, three decoder stages and the output; the side outputs are not trained."""
    norm = 2 * d
    total = classes * (d + 1) + 3 * (9 * 2 * d * d + norm + 9 * d * d + norm)
    for stage in range(4):
        entry = SIZES[size][0] * 2**stage * d + norm
        total += 5 * entry + (9 * 4 * d * d + norm)
        total += sum(2 * (kernel * d * d + norm) + (9 * d * d + norm) for kernel in (3, 5, 7))
    return total


def network(size: str, classes: int = 1, **options: object) -> SAM2UNet:
    with torch.device("meta"):
        return SAM2UNet(3, classes, size, **options).eval()


@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize(("channels", "rank", "classes"), [(32, 8, 1), (16, 4, 3)])
def test_trained_parameters_of_each_choice(size, channels, rank, classes):
    found = {
        name: count_training(network(size, classes, **options))
        for name, options in training_choices(channels, rank).items()
    }
    base, d = decoder(size, classes), 64
    assert {name: costs.trained for name, costs in found.items() if name != "full fine-tuning"} == {
        "adapters": base + adapters(size, channels),
        "LoRA": base + lora(size, rank),
        "adapters and LoRA": base + adapters(size, channels) + lora(size, rank),
        "linear probe": base,
    }
    untrained = 2 * classes * (d + 1)  # the side outputs
    full = found["full fine-tuning"]
    assert full.trained == full.parameters - untrained
    assert found["linear probe"].parameters == full.parameters
    for costs in found.values():
        assert costs.parameters - costs.trained == (untrained if costs is full else full.trained - base + untrained)
        assert costs.optimizer_bytes == 8 * costs.trained


@pytest.mark.parametrize("choice", ["adapters", "LoRA", "linear probe"])
def test_the_light_checkpoint_has_the_size_that_is_told(choice, tmp_path):
    options = training_choices()[choice]
    torch.save(light_state_dict(SAM2UNet(size="tiny", **options)), tmp_path / "light.pt")
    told = count_training(network("tiny", **options)).light_checkpoint_bytes
    assert told < (tmp_path / "light.pt").stat().st_size < 1.03 * told


@pytest.mark.parametrize("size", list(SIZES))
def test_operations_of_the_encoder(size):
    """At a size that the windows divide, so that none of the encoder's ways with padding matters."""
    width, _, windows, global_blocks = SIZES[size]
    side = 512 if size == "large" else 448
    count = 2 * (side // 4) ** 2 * 49 * 3 * width
    for number, (stage_in, stage_out, dim, dim_out) in enumerate(blocks(size)):
        tokens_in, tokens_out = (side // 4 // 2**stage_in) ** 2, (side // 4 // 2**stage_out) ** 2
        keys = tokens_in if number in global_blocks else windows[stage_in] ** 2
        count += 2 * tokens_in * dim * 3 * dim_out + 2 * tokens_out * 9 * dim_out**2  # qkv; projection and MLP
        count += 2 * 2 * tokens_out * keys * dim_out
        count += 2 * tokens_in * dim * dim_out if dim != dim_out else 0
        count += 2 * 2 * tokens_in * dim * 32
    found = count_inference(network(size), 3, side, side)
    assert found.encoder == pytest.approx(count, rel=2e-3)
    assert found.network > found.encoder


def test_any_image_size_is_counted_as_padded():
    found = [count_inference(network("tiny"), 3, *size) for size in ((352, 320), (350, 300))]
    assert found[0] == found[1]
