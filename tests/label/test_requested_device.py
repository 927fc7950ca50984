# SPDX-License-Identifier: Apache-2.0
"""Devices are those that there are: none is taken in the place of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.label import compat

pytestmark = pytest.mark.label


def device_of(given: Any, gpus: int, monkeypatch: pytest.MonkeyPatch) -> str:
    compat.apply()
    from monai_sam2unet.label.requested_device import requested_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA H200")
    return requested_device(given)


@pytest.mark.parametrize(
    ("given", "gpus", "device"),
    [
        (None, 0, "cpu"),
        ("", 0, "cpu"),
        ([], 1, "cuda"),
        (None, 1, "cuda"),
        ("cpu", 1, "cpu"),
        (["cpu"], 0, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
        ("NVIDIA H200", 1, "cuda"),
        (["NVIDIA H200:1"], 2, "cuda:1"),
        (["cuda:1", "cpu"], 2, "cuda:1"),
    ],
)
def test_devices_that_there_are(given: Any, gpus: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of(given, gpus, monkeypatch) == device


@pytest.mark.parametrize(
    ("given", "gpus", "told"),
    [
        ("cuda", 0, "The server has no device 'cuda'; it has cpu. Leave device out, or give one of these."),
        ("cuda:2", 2, "no device 'cuda:2'; it has cpu, cuda:0, cuda:1"),
        ("mps", 0, "no device 'mps'; it has cpu"),
        ("tpu9", 1, "device must be cpu, cuda, cuda:NUMBER or a GPU's name, got 'tpu9'"),
        ("NVIDIA A100", 1, "device must be cpu, cuda, cuda:NUMBER or a GPU's name, got 'NVIDIA A100'"),
        (1, 1, "or a GPU's name, got 1"),
        ({"cuda": 0}, 1, "or a GPU's name, got"),
        ("cpu:7", 0, "The server has no device 'cpu:7'; it has cpu."),
        ("cpu:0", 1, "no device 'cpu:0'; it has cpu, cuda:0"),
        (["cpu", "cuda:9"], 1, "no device 'cuda:9'"),
        (["cpu", "tpu9"], 0, "got 'tpu9'"),
        (["cpu", ""], 0, "or a GPU's name, got ''"),
    ],
)
def test_devices_that_are_not_there(given: Any, gpus: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=told):
        device_of(given, gpus, monkeypatch)
