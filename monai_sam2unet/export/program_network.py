# SPDX-License-Identifier: Apache-2.0
"""A program of torch.export as a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_sam2unet.errors import WeightsError
from monai_sam2unet.export.exported_network import ExportedNetwork, existing_file

__all__ = ["ProgramNetwork"]


class ProgramNetwork(ExportedNetwork):
    """A program of ``torch.export``, run by torch on the CPU.

    Args:
        path: file from :func:`~monai_sam2unet.export.export_program`.

    Raises:
        WeightsError: When the file is not there or cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        path = existing_file(path, ".pt2")
        try:
            program = torch.export.load(path)
        except Exception as error:  # any, on bytes that are no program
            raise WeightsError(f"{path} cannot be read as a program of torch.export: {error}") from error
        (image,) = (
            node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs
        )
        super().__init__(path, [size if isinstance(size, int) else None for size in image.shape])
        # In a tuple, since eval() and train() of a module within a module are refused by torch.
        self.program = (program.module(),)

    def _run(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits: np.ndarray[Any, Any] = self.program[0](torch.from_numpy(image)).numpy()
        return logits
