# SPDX-License-Identifier: Apache-2.0
"""Tests of running an engine with the network rebuilt for inference."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer

from monai_sam2unet.bundle import optimize_network
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import MeanNetwork, SAM2UNet
from monai_sam2unet.networks.inference_network import FoldedRFB


@pytest.fixture
def evaluator() -> SupervisedEvaluator:
    torch.manual_seed(0)
    data = [{"image": torch.randn(1, 3, 64, 64), "label": torch.zeros(1, 1, 64, 64)}]
    network = SAM2UNet(size="tiny", deep_supervision=True)
    return SupervisedEvaluator(torch.device("cpu"), data, network, inferer=SimpleInferer(), decollate=False)


def logits(evaluator: SupervisedEvaluator) -> torch.Tensor:
    evaluator.run()
    return evaluator.state.output["pred"]


def test_same_results(evaluator):
    expected = logits(evaluator)
    network = evaluator.network
    optimize_network(evaluator)
    assert evaluator.network is not network
    torch.testing.assert_close(logits(evaluator), expected, rtol=1e-4, atol=1e-5)


def test_each_network_of_a_mean_is_rebuilt(evaluator):
    evaluator.network = MeanNetwork([evaluator.network, SAM2UNet(size="tiny")])
    expected = logits(evaluator)
    optimize_network(evaluator)
    assert all(isinstance(network.rfb1, FoldedRFB) for network in evaluator.network.networks)
    torch.testing.assert_close(logits(evaluator), expected, rtol=1e-4, atol=1e-5)


def test_stores_the_weights_in_the_precision(evaluator):
    expected = logits(evaluator)
    optimize_network(evaluator, precision="bf16")
    assert evaluator.network.head.weight.dtype == torch.bfloat16
    assert (logits(evaluator) - expected).abs().max() < 0.03 * expected.abs().max()


def test_a_precision_that_is_not_known(evaluator):
    with pytest.raises(ConfigError, match="precision must be one of auto, fp32, bf16, fp16, got 'half'"):
        optimize_network(evaluator, precision="half")


def test_can_be_left_out(evaluator):
    network = evaluator.network
    optimize_network(evaluator, enabled=False)
    assert evaluator.network is network
