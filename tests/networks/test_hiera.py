# SPDX-License-Identifier: Apache-2.0
"""Tests of the image encoder against the one of transformers, and of what only ours can do."""

from __future__ import annotations

import copy
import math
import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from monai_sam2unet.networks import HIERA_SPECS, Hiera, load_weights

# As published with the checkpoints (sam2_hiera_t.yaml and its like), not as this package has it.
PUBLISHED = {
    "tiny": {
        "hidden_size": 96,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 2, 7, 2],
        "embed_dim_per_stage": [96, 192, 384, 768],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": [5, 7, 9],
        "window_positional_embedding_background_size": [7, 7],
    },
    "small": {
        "hidden_size": 96,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 2, 11, 2],
        "embed_dim_per_stage": [96, 192, 384, 768],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": [7, 10, 13],
        "window_positional_embedding_background_size": [7, 7],
    },
    "base_plus": {
        "hidden_size": 112,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 3, 16, 3],
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 6, 36, 4],
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 16, 8],
        "global_attention_blocks": [23, 33, 43],
        "window_positional_embedding_background_size": [7, 7],
    },
}


@torch.no_grad()
def randomise(module: nn.Module) -> nn.Module:
    """Give every parameter a value that matters: no zero bias, no unit scale, no faint position embedding."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.named_parameters():
        value.normal_(generator=generator)
        if "pos_embed" in name:
            continue
        if value.ndim == 1:
            value.mul_(0.2).add_("norm" in name and name.endswith("weight"))
        else:
            value.div_(math.sqrt(value[0].numel()))
    return module


def random_hiera(size: str, **options: bool) -> Hiera:
    with torch.device("meta"):  # nobody needs the values that it starts from
        net = Hiera(size, **options)
    return randomise(net.to_empty(device="cpu"))


def random_image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tiny() -> Hiera:
    return random_hiera("tiny").eval()


@pytest.fixture(scope="module", params=list(PUBLISHED))
def same_weights(request, tmp_path_factory):
    """Both encoders of one size, ours filled from a file that the other's weights were saved to."""
    peer = pytest.importorskip("transformers.models.sam2.modeling_sam2")
    with torch.device("meta"):
        theirs = peer.Sam2HieraDetModel(peer.Sam2HieraDetConfig(**PUBLISHED[request.param])).eval()
        ours = Hiera(request.param).eval()
    theirs, ours = randomise(theirs.to_empty(device="cpu")), ours.to_empty(device="cpu")
    folder = tmp_path_factory.mktemp(request.param)
    save_file(theirs.state_dict(), folder / "model.safetensors")
    report = load_weights(ours, folder / "model.safetensors")
    shutil.rmtree(folder)
    assert report.layout == "transformers"
    return ours, theirs


def assert_same_features(ours: Hiera, theirs: nn.Module, image: torch.Tensor) -> None:
    with torch.inference_mode():
        features, expected = ours(image), theirs(image).intermediate_hidden_states
    assert len(features) == len(expected) == 4
    for feature, reference in zip(features, expected, strict=True):
        reference = reference.permute(0, 3, 1, 2)
        assert feature.shape == reference.shape
        assert reference.std() > 0.1
        assert (feature - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_sizes_are_the_published_ones():
    assert set(HIERA_SPECS) == set(PUBLISHED)


@pytest.mark.slow
@pytest.mark.parametrize("height_width", [(352, 352), (512, 512), (320, 416)], ids=str)
def test_same_features_as_transformers(same_weights, height_width):
    assert_same_features(*same_weights, random_image(1, 3, *height_width))


@pytest.mark.slow
@pytest.mark.parametrize("same_weights", ["tiny"], indirect=True)
def test_same_features_as_transformers_at_1024(same_weights):
    assert_same_features(*same_weights, random_image(1, 3, 1024, 1024))


@pytest.mark.parametrize("same_weights", ["tiny"], indirect=True)
def test_same_features_as_transformers_for_a_batch(same_weights):
    assert_same_features(*same_weights, random_image(3, 3, 96, 160))


@pytest.mark.parametrize("same_weights", ["tiny"], indirect=True)
def test_same_features_as_transformers_for_faint_tokens(same_weights):
    """Tokens whose variance is about that which layer normalisation adds."""
    ours, theirs = copy.deepcopy(same_weights)
    with torch.no_grad():
        for net in (ours, theirs):
            for value in (net.pos_embed, net.pos_embed_window, *net.patch_embed.parameters()):
                value.mul_(1e-3)
    assert_same_features(ours, theirs, random_image(1, 3, 64, 96))


@pytest.mark.parametrize("size", list(PUBLISHED))
def test_feature_shapes(size):
    with torch.device("meta"):
        net, image = Hiera(size), torch.zeros(2, 3, 64, 96)
    channels = PUBLISHED[size]["embed_dim_per_stage"]
    assert list(net.channels) == channels
    assert [tuple(f.shape) for f in net(image)] == [
        (2, channels[0], 16, 24),
        (2, channels[1], 8, 12),
        (2, channels[2], 4, 6),
        (2, channels[3], 2, 3),
    ]


@pytest.mark.parametrize("in_channels", [1, 5])
def test_takes_other_numbers_of_channels(in_channels):
    with torch.device("meta"):
        features = Hiera("tiny", in_channels)(torch.zeros(1, in_channels, 32, 32))
    assert features[0].shape == (1, 96, 8, 8)


def test_unknown_size_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'huge' is not known; choose one of tiny, small, base_plus, large"):
        Hiera("huge")


@pytest.mark.parametrize("in_channels", [0, -3])
def test_too_few_channels_are_refused(in_channels):
    with pytest.raises(ValueError, match=f"in_channels must be at least 1, got {in_channels}"):
        Hiera("tiny", in_channels)


def test_sides_that_32_does_not_divide_are_refused(tiny):
    with pytest.raises(RuntimeError):
        tiny(torch.zeros(1, 3, 48, 64))


def test_scripted_equals_eager(tiny):
    scripted = torch.jit.script(tiny)
    with torch.inference_mode():
        for shape in [(1, 3, 64, 96), (2, 3, 128, 64)]:
            image = random_image(*shape)
            for ours, expected in zip(scripted(image), tiny(image), strict=True):
                torch.testing.assert_close(ours, expected)


def gradients_and_passes(net: Hiera) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of all parameters, and how often the first block ran until they were there."""
    passes = []
    net.blocks[0].register_forward_pre_hook(lambda *_: passes.append(1))
    image = random_image(1, 3, 64, 64)
    sum(feature.square().mean() for feature in net(image)).backward()
    return {name: value.grad for name, value in net.named_parameters()}, len(passes)


def test_checkpointing_recomputes_and_gives_the_same_gradients():
    plain, stored_passes = gradients_and_passes(random_hiera("tiny").train())
    recomputed, passes = gradients_and_passes(random_hiera("tiny", use_checkpoint=True).train())
    assert (stored_passes, passes) == (1, 2)
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(recomputed[name], gradient, msg=name)


def test_does_not_recompute_in_evaluation():
    assert gradients_and_passes(random_hiera("tiny", use_checkpoint=True).eval())[1] == 1
