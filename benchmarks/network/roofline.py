# SPDX-License-Identifier: Apache-2.0
"""What the device can do at best: its measured rate of multiplying matrices, and of copying memory.

    python -m benchmarks.network.roofline --device cpu

A rate is the best of several sizes and, on a CPU, of two libraries: torch's matmul, and convolution by one pixel, which
is the same product by another library. int8 is left out: torch has no product of int8 matrices that runs at full rate.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import in_turns

__all__ = ["roofline"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIDES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
COPIED = {"cpu": 256 * 2**20, "cuda": 2 * 2**30}


def _products(device: torch.device, dtype: torch.dtype, side: int) -> dict[str, Callable[[], Tensor]]:
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    calls: dict[str, Callable[[], Tensor]] = {f"matmul {side}": lambda: a @ b}
    if device.type == "cpu":
        rows = side // 64
        image = a.view(1, rows, 64, side).permute(0, 3, 1, 2)
        filters = b.t().contiguous().view(side, side, 1, 1).to(memory_format=torch.channels_last)
        calls[f"convolution {side}"] = lambda: F.conv2d(image, filters)
    return calls


@torch.inference_mode()
def roofline(device: torch.device, rounds: int = 5) -> dict[str, Any]:
    """Measure a device with the threads that torch uses now.

    Args:
        device: ``cpu`` or ``cuda``.
        rounds: times each product and copy is timed; the median counts.

    Returns:
        ``gflop_per_s``: precision -> rate in 1e9 floating-point operations a second, a multiplication and an addition
        counting two; ``by``: precision -> which product gave it; ``copy_gb_per_s``: bytes read and written in 1e9 a
        second; ``int8``: why it is not there.
    """
    rates, by = {}, {}
    for precision, dtype in DTYPES.items():
        calls: dict[str, Callable[[], Tensor]] = {}
        for side in SIDES[device.type]:
            calls |= _products(device, dtype, side)
        medians = {n: statistics.median(t) for n, t in in_turns(calls, rounds, device, warm_ups=2).items()}
        all_rates = {name: 2 * int(name.split()[1]) ** 3 / s / 1e9 for name, s in medians.items()}
        by[precision] = max(all_rates, key=lambda name: all_rates[name])
        rates[precision] = all_rates[by[precision]]
    source = torch.ones(COPIED[device.type] // 4, device=device)
    target = torch.empty_like(source)
    times = in_turns({"copy": lambda: target.copy_(source)}, rounds, device, warm_ups=2)["copy"]
    return {
        "gflop_per_s": rates,
        "by": by,
        "copy_gb_per_s": 2 * COPIED[device.type] / statistics.median(times) / 1e9,
        "int8": "not measured: torch has no product of int8 matrices that runs at full rate",
    }


def main(device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu") -> None:
    """Print the rates of a device."""
    typer.echo(json.dumps({"threads": torch.get_num_threads(), **roofline(torch.device(device))}, indent=2))


if __name__ == "__main__":
    typer.run(main)
