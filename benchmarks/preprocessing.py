# SPDX-License-Identifier: Apache-2.0
"""Slices per second from a CT volume in HU to the network's input, beside the same chain of MONAI's own transforms.

    python -m benchmarks.preprocessing --output docs/results/preprocessing_cpu.json
    python -m benchmarks.preprocessing --device cuda --output docs/results/preprocessing_gpu.json

Both window the volume, cut it into slices, resize them to the network's size without aliasing, make three channels,
normalise as ImageNet and make batches. They are timed in turns within one run, and the ratio of each turn is taken.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import monai
import numpy as np
import torch
import typer
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensity, Orientation, RepeatChannel, Resize, ScaleIntensityRange
from torch import Tensor

from benchmarks.timing import in_turns, lowest_to_highest
from monai_sam2unet.transforms import CT_WINDOWS, IMAGENET_MEAN, IMAGENET_STD, CTWindow, HieraInput, VolumeToSlices

BATCH = 8


def volume(slices: int, device: torch.device) -> MetaTensor:
    """A smooth volume (1, 512, 512, slices) in HU, with the axes of a CT: to the left, to the back, to the head."""
    coarse = torch.rand((1, 1, 32, 32, 8), generator=torch.Generator().manual_seed(0)) * 3000 - 1024
    values = torch.nn.functional.interpolate(coarse, (512, 512, slices), mode="trilinear")[0]
    affine = torch.diag(torch.tensor([-0.7, -0.7, 1.5, 1.0], dtype=torch.float64))
    return MetaTensor(values.to(torch.int16).to(device), affine=affine)


def ours(image: MetaTensor, size: int) -> Iterator[Tensor]:
    """Window the volume, cut it, and fit batch by batch."""
    cut = VolumeToSlices("axial")(CTWindow("soft_tissue")(image))
    fit = HieraInput(size)
    for start in range(0, len(cut), BATCH):
        slices = [cut[index].as_tensor() for index in range(start, min(start + BATCH, len(cut)))]
        yield fit.forward_batch(torch.stack(slices))[0]


def stock(image: MetaTensor, size: int) -> Iterator[Tensor]:
    """MONAI's transforms, slice by slice."""
    level, width = CT_WINDOWS["soft_tissue"]
    window = ScaleIntensityRange(level - width / 2, level + width / 2, 0, 1, clip=True)
    whole = Compose([window, Orientation("PLS", labels=(("L", "R"), ("P", "A"), ("I", "S")))])(image)
    each = Compose(
        [
            Resize((size, size), mode="bilinear", anti_aliasing=True),
            RepeatChannel(3),
            NormalizeIntensity(np.array(IMAGENET_MEAN), np.array(IMAGENET_STD), channel_wise=True),
        ]
    )
    for start in range(0, whole.shape[-1], BATCH):
        slices = [each(whole[..., index]) for index in range(start, min(start + BATCH, whole.shape[-1]))]
        yield torch.stack([piece.as_tensor() for piece in slices])


def run_through(chain: Callable[[MetaTensor, int], Iterator[Tensor]], image: MetaTensor, size: int) -> None:
    """Make every batch."""
    for _ in chain(image, size):
        pass


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    slices: Annotated[int, typer.Option(help="Slices of 512x512 in the volume.")] = 64,
    size: Annotated[int, typer.Option(help="Height and width of the network's input.")] = 352,
    rounds: Annotated[int, typer.Option(help="Turns.")] = 9,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Time both chains and print their slices per second."""
    target = torch.device(device)
    image = volume(slices, target)
    chains = {"monai_sam2unet": ours, "MONAI's transforms": stock}
    calls = {name: partial(run_through, chain, image, size) for name, chain in chains.items()}
    times = in_turns(calls, rounds, target)
    first, second = times.values()
    name = f"CPU, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(target)
    apart = max(float((a - b).abs().mean()) for a, b in zip(ours(image, size), stock(image, size), strict=True))
    result = {
        "command": f"python -m benchmarks.preprocessing --device {device} --slices {slices} --size {size}",
        "machine": {
            "device": name,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "monai": monai.__version__,
        },
        "slices_per_second": {name: lowest_to_highest([slices / t for t in values]) for name, values in times.items()},
        "times_as_fast": lowest_to_highest([b / a for a, b in zip(first, second, strict=True)]),
        "mean_difference_of_the_inputs": apart,
    }
    print(json.dumps(result, indent=1))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(typer.run(main))
