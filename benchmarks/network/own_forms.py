# SPDX-License-Identifier: Apache-2.0
"""The released network and ours, in the forms that PyTorch runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.network.forms import Built, Form, Run, Unavailable, Workbench, autocast
from benchmarks.network.official import copy_weights, load_released
from monai_sam2unet.networks.inference_network import optimize_for_inference

__all__ = ["OWN_FORMS", "RELEASED_FORMS", "optimised", "released"]


class MainOutput(nn.Module):
    """The released network without its side outputs, which it always gives."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Main logits (B, 1, H, W) of images (B, 3, H, W)."""
        logits: torch.Tensor = self.network(x)[0]
        return logits


def released(bench: Workbench) -> nn.Module:
    """The network of the user's clone, with our weights.

    Raises:
        Unavailable: When no clone is given.
    """
    if bench.setting.official is None:
        raise Unavailable("give a clone of the released code: --official FOLDER")
    network = load_released(Path(bench.setting.official), bench.setting.size)
    copy_weights(bench.plain, network)
    return network.to(bench.device)


def _released(bench: Workbench, batch: int) -> Built:
    network = MainOutput(released(bench)).eval()
    return Built(network, network)


def _released_bf16(bench: Workbench, batch: int) -> Built:
    network = MainOutput(released(bench)).eval()
    return Built(autocast(network, bench.device), network)


def optimised(bench: Workbench, **options: Any) -> nn.Module:
    """Our network's copy for inference."""
    return optimize_for_inference(bench.plain, **options)


def _in(dtype: torch.dtype, network: Run) -> Run:
    """A network whose weights are stored in another type, with float32 results."""
    return lambda x: network(x.to(dtype)).float()


def _compiled(bench: Workbench, dtype: torch.dtype | None, mode: str | None = None) -> Built:
    """For this one shape: a graph for any shape takes minutes to compile, and is slower."""
    if not bench.setting.compiled:
        raise Unavailable("takes a minute or more to compile: --compiled")
    on_gpu = bench.device.type == "cuda"
    if mode is not None and not on_gpu:
        raise Unavailable(f"mode {mode} is for GPUs")
    # On a CPU the compiler packs the weights itself, once it may take them for constants.
    network = optimised(bench, dtype=dtype, portable=not on_gpu)
    options: dict[str, Any] = {"mode": mode or "reduce-overhead"} if on_gpu else {"options": {"freezing": True}}
    compiled = torch.compile(network, dynamic=False, **options)
    return Built(compiled if dtype is None else _in(dtype, compiled))


RELEASED_FORMS = (
    Form("released", "released code, fp32", "released", "fp32", _released),
    Form("released-bf16", "released code, bf16 autocast", "released", "bf16", _released_bf16),
)

OWN_FORMS = (
    Form("plain", "plain", "ours", "fp32", lambda bench, batch: Built(bench.plain)),
    Form("optimised", "optimised", "ours", "fp32", lambda bench, batch: Built(optimised(bench))),
    Form("bf16", "bf16 autocast", "ours", "bf16", lambda bench, batch: Built(autocast(bench.plain, bench.device))),
    Form(
        "optimised-bf16",
        "optimised, bf16",
        "ours",
        "bf16",
        lambda bench, batch: Built(_in(torch.bfloat16, optimised(bench, dtype=torch.bfloat16))),
    ),
    Form("compiled", "compiled", "ours", "fp32", lambda bench, batch: _compiled(bench, None)),
    Form("compiled-bf16", "compiled, bf16", "ours", "bf16", lambda bench, batch: _compiled(bench, torch.bfloat16)),
    Form(
        "compiled-bf16-autotuned",
        "compiled with max-autotune, bf16",
        "ours",
        "bf16",
        lambda bench, batch: _compiled(bench, torch.bfloat16, "max-autotune-no-cudagraphs"),
        by_default=False,
    ),
)
