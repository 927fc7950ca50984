# SPDX-License-Identifier: Apache-2.0
"""Tests of how the processes of a distributed training find each other."""

from __future__ import annotations

import sys

import pytest
import torch

from monai_sam2unet.bundle import start_distributed


@pytest.mark.parametrize(
    ("device", "backend"),
    [
        ("cpu", "gloo"),
        (torch.device("cpu"), "gloo"),
        ("cuda", "nccl"),
        (torch.device("cuda:1"), "nccl"),
        (None, "nccl"),
    ],
)
def test_the_backend_is_that_of_the_device(
    monkeypatch: pytest.MonkeyPatch, device: torch.device | str | None, backend: str
) -> None:
    """On a machine with GPUs, on which a training may still be one on CPUs."""
    chosen: list[object] = []
    monkeypatch.setattr(sys, "argv", ["test"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", chosen.append)
    start_distributed(device=device)
    assert chosen == ([torch.device("cuda:1")] if backend == "nccl" else []) + [backend]
