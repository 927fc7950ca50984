# SPDX-License-Identifier: Apache-2.0
"""Tests of bringing the network's output to probabilities on the picture's grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import Preset
from monai_sam2unet.transforms.preset_steps import ToProbabilitiesd


def test_logits_are_resized_before_the_sigmoid(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    preset = Preset("endoscopy", spatial_size=32)
    item = preset.inference()({"image": str(tmp_path / "image.png")})
    logits = 6 * torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = preset.probabilities()({**item, "pred": logits})["pred"]
    released = F.interpolate(logits[None], (50, 70), mode="bilinear", align_corners=False).sigmoid()[0]
    torch.testing.assert_close(found.as_tensor(), released)
    mask = preset.postprocessing(threshold=0.3)({**item, "pred": logits})["pred"]
    assert torch.equal(mask.as_tensor().bool(), released >= 0.3)


def test_activations():
    logits = torch.randn(3, 4, 5)
    for name, expected in (("sigmoid", logits.sigmoid()), ("softmax", logits.softmax(0)), (None, logits)):
        found = ToProbabilitiesd("pred", name)({"pred": logits, "other": 1})
        torch.testing.assert_close(found["pred"], expected)
        assert found["other"] == 1
    assert ToProbabilitiesd("pred")({"pred": logits.bfloat16()})["pred"].dtype == torch.float32


@pytest.mark.parametrize("done", ["sigmoid", "identity"])
def test_what_the_inferer_activated_is_not_activated_again(done):
    values = MetaTensor(torch.rand(1, 4, 5), meta={"activation": done})
    found = Preset("mr").probabilities()({"pred": values})["pred"]
    torch.testing.assert_close(found.as_tensor(), values.as_tensor())
    assert found.meta["activation"] == done


def test_what_is_refused():
    with pytest.raises(ConfigError, match="activation"):
        ToProbabilitiesd("pred", "tanh")
    with pytest.raises(DataError, match="must be a prediction"):
        ToProbabilitiesd("pred")({"pred": [torch.zeros(1, 2, 2)]})
    values = MetaTensor(torch.rand(1, 4, 5), meta={"activation": "softmax"})
    with pytest.raises(ConfigError, match="is a softmax already"):
        ToProbabilitiesd("pred")({"pred": values})
