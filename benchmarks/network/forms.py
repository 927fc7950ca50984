# SPDX-License-Identifier: Apache-2.0
"""What is measured: a form of a network, how it is built for a batch, and what all forms of one run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_sam2unet.networks import SAM2UNet, load_weights

__all__ = ["Built", "Form", "Run", "Setting", "Unavailable", "Workbench", "autocast", "first_line"]

Run = Callable[[Tensor], Tensor]


class Unavailable(Exception):
    """A form cannot run here; the text says why, and becomes its row."""


@dataclass(frozen=True)
class Setting:
    """What the forms of one run have in common.

    Attributes:
        size: size of the encoder.
        pixels: height and width of the images.
        device: ``"cpu"`` or ``"cuda"``.
        scratch: folder for exported files, shared with the processes that measure memory.
        weights: encoder weights, or None for random ones.
        checkpoint: weights of the whole network, or None.
        official: a clone of the released code, or None.
        calibration: folder of images that the int8 form is calibrated on, or None.
        compiled: whether compiled forms are measured; on a CPU each takes a minute or more to compile, for each batch.
    """

    size: str
    pixels: int
    device: str
    scratch: str
    weights: str | None = None
    checkpoint: str | None = None
    official: str | None = None
    calibration: str | None = None
    compiled: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)


@dataclass(frozen=True)
class Built:
    """A form that is ready to run.

    Attributes:
        run: float32 images (B, 3, pixels, pixels) on the device to float32 logits (B, 1, pixels, pixels) there.
        network: what parameters and arithmetic are counted of; None where they are those of our plain network.
    """

    run: Run
    network: nn.Module | None = None


@dataclass(frozen=True)
class Form:
    """One row of the table.

    Attributes:
        key: its name on the command line.
        label: its name in the table.
        group: ``"released"``, ``"ours"`` or ``"peers"``; the first two compute the same function.
        precision: of most of its arithmetic: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        build: makes it for one batch size; raises :class:`Unavailable` where that cannot be.
        by_default: whether it is measured when no forms are named.
    """

    key: str
    label: str
    group: str
    precision: str
    build: Callable[[Workbench, int], Built]
    by_default: bool = True

    @property
    def same_function(self) -> bool:
        """Whether it computes what our plain network does, so that the two can be compared."""
        return self.group != "peers" or self.key == "transformers"


@dataclass
class Workbench:
    """Our plain network, made once, and the files exported of it."""

    setting: Setting

    @property
    def device(self) -> torch.device:
        """What is computed on."""
        return torch.device(self.setting.device)

    @cached_property
    def plain(self) -> SAM2UNet:
        """Our network as it is, for inference."""
        return self.trainable().eval()

    def trainable(self, **options: Any) -> SAM2UNet:
        """Our network with the run's weights.

        Args:
            options: given on to :class:`SAM2UNet`.
        """
        torch.manual_seed(0)
        network = SAM2UNet(size=self.setting.size, weights=self.setting.weights, **options)
        if self.setting.checkpoint is not None:
            load_weights(network, self.setting.checkpoint)
        return network.to(self.device)

    def images(self, batch: int) -> Tensor:
        """Images of noise, (batch, 3, pixels, pixels)."""
        generator = torch.Generator().manual_seed(1)
        shape = (batch, 3, self.setting.pixels, self.setting.pixels)
        return torch.randn(shape, generator=generator).to(self.device)

    def file(self, name: str) -> Path:
        """Place of an exported file."""
        return Path(self.setting.scratch) / name


def autocast(network: nn.Module, device: torch.device) -> Run:
    """A network under bf16 autocast, with float32 results."""

    def run(x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            result: Tensor = network(x)
        return result.float()

    return run


def first_line(error: BaseException) -> str:
    """What went wrong, for a cell of a table."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
