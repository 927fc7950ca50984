# SPDX-License-Identifier: Apache-2.0
"""Devices that are not there are told at once."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet.bundle.present_device import present_device
from monai_sam2unet.errors import ConfigError


def test_devices_that_are_there(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cpu:0", "cuda", "cuda:1"):
        assert present_device(name) == torch.device(name)
    with pytest.raises(ConfigError, match=r"no device 'cuda:2' here\. Choose of: cpu, cuda:0, cuda:1\."):
        present_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "cpu:7"])
def test_devices_that_are_not(monkeypatch, name) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=rf"no device '{name}' here\. Choose of: cpu\."):
        present_device(name)


def test_what_is_no_device_is_told() -> None:
    with pytest.raises(ConfigError, match="cpu, cuda or cuda:NUMBER, got 'tpu9'"):
        present_device("tpu9")
