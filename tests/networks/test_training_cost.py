# SPDX-License-Identifier: Apache-2.0
"""Tests of what training and compiling cost: memory, gradients, graphs; and of what 16 bits do to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from monai_sam2unet.networks import SAM2UNet


def random_image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def saved_bytes(net: nn.Module, image: torch.Tensor) -> int:
    """Memory that a forward pass keeps for the backward pass, without parameters and buffers."""
    own = {value.untyped_storage().data_ptr() for value in (*net.parameters(), *net.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(value: torch.Tensor) -> torch.Tensor:
        kept.setdefault(value.untyped_storage().data_ptr(), value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        outputs = net(image)
    assert len(outputs) == 3
    return sum(value.untyped_storage().nbytes() for pointer, value in kept.items() if pointer not in own)


@pytest.mark.slow
def test_checkpointing_keeps_a_fifth_of_the_activations():
    """The released code keeps as much as this network without checkpointing: 1,090 and 1,097 MiB of a 352x352 image."""
    image = random_image(1, 3, 224, 224)
    plain = saved_bytes(SAM2UNet(size="large", deep_supervision=True).train(), image)
    checkpointed = saved_bytes(SAM2UNet(size="large", deep_supervision=True, use_checkpoint=True).train(), image)
    assert checkpointed < plain / 5


def test_frozen_parameters_cost_no_gradient_and_no_optimiser_state():
    net = SAM2UNet(size="tiny", deep_supervision=True).train()
    optimiser = torch.optim.AdamW(value for value in net.parameters() if value.requires_grad)
    sum(output.mean() for output in net(random_image(2, 3, 64, 64))).backward()
    optimiser.step()
    for name, value in net.named_parameters():
        frozen = name.startswith("encoder.") and ".prompt_learn." not in name
        assert (value.grad is None) == frozen, name
        assert (value not in optimiser.state) == frozen, name


@pytest.mark.slow
@pytest.mark.parametrize(("training", "use_checkpoint"), [(False, False), (True, False), (True, True)])
def test_compiles_to_one_graph_for_all_batch_sizes(training, use_checkpoint):
    """Dynamo's graph, run as it is: what the compiler makes of it afterwards is measured, not tested."""
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch.manual_seed(0)
    net = SAM2UNet(size="tiny", deep_supervision=True, use_checkpoint=use_checkpoint).train(training)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend=count)
    for batch in (2, 3, 5):
        image = random_image(batch, 3, 64, 96)
        torch._dynamo.mark_dynamic(image, 0)
        outputs, expected = compiled(image), net(image)
        torch.testing.assert_close(outputs, expected)
        if training:
            sum(output.mean() for output in outputs).backward()
    assert len(graphs) == 1


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)], ids=str)
def test_autocast_is_finite_and_near(dtype, bound):
    torch.manual_seed(0)
    net = SAM2UNet(size="tiny", deep_supervision=True, weights=None).train()
    image = random_image(2, 3, 96, 96)
    expected = net.eval()(image)
    with torch.autocast("cpu", dtype):
        logits = net(image)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() <= bound * expected.abs().max()

    net.train()
    with torch.autocast("cpu", dtype):
        outputs = net(image)
    sum(output.square().mean() for output in outputs).backward()
    gradients = {name: value.grad for name, value in net.named_parameters() if value.requires_grad}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["encoder.blocks.0.prompt_learn.2.weight"].abs().max() > 0
