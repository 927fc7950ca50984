# SPDX-License-Identifier: Apache-2.0
"""Measures SliceWiseInferer beside MONAI's SliceInferer: own cost, slices per second, and memory against slices.

    python -m benchmarks.slice_inferer --output docs/results/slice_inferer_cpu.json
    python -m benchmarks.slice_inferer --device cuda --output docs/results/slice_inferer_gpu.json

Both are timed in turns within one run, and the ratio of each turn is taken, so that a machine's ups and downs meet
both. Memory is the process's peak above what it held before the call, less the results; each in its own process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import monai
import torch
import typer
from monai.inferers import SliceInferer

from benchmarks.device_name import device_name
from benchmarks.timing import in_turns, lowest_to_highest
from monai_sam2unet.inferers import SliceWiseInferer
from monai_sam2unet.networks import SAM2UNet

BATCH = 8
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # where results are put; decides what memory costs
LAYOUTS = {"slices first (64, 512, 512)": (0, (64, 512, 512)), "slices last (512, 512, 64)": (2, (512, 512, 64))}

# Linux forgets a process's peak when 5 is written to clear_refs; a warm-up before takes what is taken once.
MEMORY_PROBE = """
import sys
from pathlib import Path
import torch
from monai.inferers import SliceInferer
from monai_sam2unet.inferers import SliceWiseInferer

def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

who, slices = sys.argv[1], int(sys.argv[2])
three = dict(spatial_dim=(0, 1, 2), flips=["rows"], activation="softmax", uncertainty="variance")
inferer = {
    "SliceWiseInferer": lambda: SliceWiseInferer(spatial_dim=2, sw_batch_size=8),
    "SliceWiseInferer, three views, flips, variance": lambda: SliceWiseInferer(sw_batch_size=8, **three),
    "SliceInferer": lambda: SliceInferer(roi_size=(256, 256), sw_batch_size=8, spatial_dim=2),
}[who]()
network = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
with torch.no_grad():
    inferer(torch.ones(1, 1, 256, 256, 16), network)
    volume = torch.ones(1, 1, 256, 256, slices)
    Path("/proc/self/clear_refs").write_text("5")
    before = kib("VmRSS")
    result = inferer(volume, network)
results = result.values() if isinstance(result, dict) else [result]
print((kib("VmHWM") - before) * 1024 - sum(r.numel() * r.element_size() for r in results))
"""


def identity(x: torch.Tensor) -> torch.Tensor:
    """A network that costs nothing."""
    return x


def compared(calls: dict[str, Callable[[], Any]], rounds: int, device: torch.device, slices: int) -> dict[str, Any]:
    """Time the calls in turns; the first is compared with the second."""
    times = in_turns(calls, rounds, device)
    ours, theirs = times.values()
    result: dict[str, Any] = {f"{name}_ms": lowest_to_highest([1000 * t for t in ts]) for name, ts in times.items()}
    result |= {f"{name}_slices_per_second": slices / statistics.median(ts) for name, ts in times.items()}
    result["time_ratio"] = lowest_to_highest([a / b for a, b in zip(ours, theirs, strict=True)])
    return result


def pair(dim: int, size: tuple[int, int], volume: torch.Tensor, network: Any) -> dict[str, Callable[[], Any]]:
    """Both inferers on one volume, in full precision."""
    ours = SliceWiseInferer(spatial_dim=dim, sw_batch_size=BATCH, precision="fp32")
    theirs = SliceInferer(roi_size=size, spatial_dim=dim, sw_batch_size=BATCH)
    return {"SliceWiseInferer": lambda: ours(volume, network), "SliceInferer": lambda: theirs(volume, network)}


def own_cost(device: torch.device, rounds: int) -> dict[str, Any]:
    """64 slices of 512x512 with a network that costs nothing, along both layouts."""
    results = {}
    for name, (dim, shape) in LAYOUTS.items():
        volume = torch.rand(1, 1, *shape, device=device)
        results[name] = compared(pair(dim, (512, 512), volume, identity), rounds, device, 64)
    return results


def with_network(device: torch.device, rounds: int, size: str, pixels: int, slices: int) -> dict[str, Any]:
    """SAM2UNet of random weights on slices along the last axis; on a GPU the inferer's own bf16 too."""
    network = SAM2UNet(in_channels=1, size=size).to(device).eval()
    volume = torch.rand(1, 1, pixels, pixels, slices)
    results = {}
    for place in ("cpu",) if device.type == "cpu" else ("cuda", "cpu"):
        calls = pair(2, (pixels, pixels), volume.to(place), network)
        if place != device.type:  # the input and the result on the CPU, the network on the GPU
            theirs = SliceInferer(2, (pixels, pixels), BATCH, sw_device=device, device="cpu")
            calls["SliceInferer"] = lambda inferer=theirs: inferer(volume, network)  # type: ignore[misc]
        results[f"fp32, volume on {place}"] = compared(calls, rounds, device, slices)
        if device.type == "cuda":
            theirs_fp32 = calls["SliceInferer"]
            given = volume.to(place)
            ours = SliceWiseInferer(spatial_dim=2, sw_batch_size=BATCH, precision="bf16")

            def under_autocast(call: Callable[[], Any] = theirs_fp32) -> Any:
                with torch.autocast("cuda", torch.bfloat16):
                    return call()

            calls = {"SliceWiseInferer": lambda i=ours, g=given: i(g, network), "SliceInferer": under_autocast}  # type: ignore[misc]
            results[f"bf16, volume on {place}"] = compared(calls, rounds, device, slices)
    return {"network": f"SAM2UNet {size}", "slices": slices, "pixels": pixels, "batch": BATCH, **results}


def memory() -> dict[str, Any]:
    """Peak memory beyond input and output, in MiB, for 256x256 slices of two channels out.

    Seen from the side, slices are as wide as there are axial ones: in three views a batch grows with the volume.
    """
    results: dict[str, Any] = {}
    for who in ("SliceWiseInferer", "SliceWiseInferer, three views, flips, variance", "SliceInferer"):
        results[who] = {}
        for slices in (64, 256, 512):
            words = [sys.executable, "-c", MEMORY_PROBE, who, str(slices)]
            output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            results[who][f"{slices} slices"] = round(int(output) / 2**20, 1)
    return results


def main(
    output: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="Turns of each timing.")] = 15,
) -> None:
    """Measure and print; with --output write a JSON file too."""
    chosen = torch.device(device)
    on_gpu = chosen.type == "cuda"
    size, pixels, slices = ("large", 352, 64) if on_gpu else ("tiny", 96, 32)
    with torch.no_grad():
        results = {
            "command": f"python -m benchmarks.slice_inferer --device {device} --rounds {rounds}",
            "machine": device_name(torch.device("cuda" if on_gpu else "cpu")),
            "threads": torch.get_num_threads(),
            "transparent_hugepage": HUGE_PAGES.read_text().strip() if HUGE_PAGES.exists() else None,
            "torch": torch.__version__,
            "monai": monai.__version__,
            "own_cost": own_cost(chosen, rounds),
            "with_network": with_network(chosen, max(rounds // 3, 3), size, pixels, slices),
            "memory_beyond_input_and_output_mib": memory(),
        }
    text = json.dumps(results, indent=2)
    typer.echo(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n")


if __name__ == "__main__":
    typer.run(main)
