# SPDX-License-Identifier: Apache-2.0
"""What can be exported, and what becomes of the network that was given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.export.tracing import exportable
from monai_sam2unet.networks import SAM2UNet, optimize_for_inference

from .conftest import random_images, relative_difference


def test_the_network_stays_as_it_is() -> None:
    net = SAM2UNet(size="tiny").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    form = exportable(net)
    assert net.training
    assert not form.training
    after = net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    shared = {value.data_ptr() for value in form.parameters()} & {value.data_ptr() for value in net.parameters()}
    assert not shared


def test_the_portable_form_is_taken_as_it_is(network) -> None:
    images = random_images((1, 64, 64))
    form = exportable(optimize_for_inference(network, portable=True))
    with torch.no_grad():
        assert relative_difference(form(images), network, images) < 1e-5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda net: nn.Conv2d(3, 1, 1), "SAM2UNet, got Conv2d"),
        (lambda net: net.bfloat16(), "must be float32 to be exported, got torch.bfloat16"),
        (optimize_for_inference, "laid out for this machine's CPU"),
    ],
)
def test_what_is_refused(change, told) -> None:
    with pytest.raises(ConfigError, match=told):
        exportable(change(SAM2UNet(size="tiny")))
