# SPDX-License-Identifier: Apache-2.0
"""A bundle's trained network and what its inference config puts round it, for programs that predict case by case."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from monai_sam2unet.bundle.bundle_config import BundleConfig
from monai_sam2unet.bundle.checkpoint import load_checkpoint
from monai_sam2unet.bundle.inference_form import inference_form
from monai_sam2unet.bundle.known_settings import warn_of_other_settings
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers import SliceWiseInferer
from monai_sam2unet.transforms import Preset

__all__ = ["BundlePredictor", "trained_network"]

Case = Mapping[str, Any]


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained_network(config: BundleConfig, device: torch.device | str) -> nn.Module:
    """A bundle's network with its trained weights, in the form that its config asks for, ready for inference.

    A warning says where the weights were trained on images of another size.

    Args:
        config: of the bundle; its ``network_def`` is made here, and used up.
        device: where the network goes.

    Raises:
        ConfigError: When it cannot be made.
        CheckpointError: When there is no checkpoint.
        WeightsError: When it does not fit the network.
    """
    network: nn.Module = config.build("network_def").to(device)
    path = Path(config.build("ckpt_path"))
    load_checkpoint(network, path)
    warn_of_other_settings(path, **config.input_settings)
    form = inference_form(network, config.build("precision")) if config.build("optimize") else network
    return form.eval()


class BundlePredictor:
    """Predicts as ``configs/inference.yaml`` of a bundle does, with the weights loaded once.

    Args:
        folder: of the bundle.
        settings: for keys of its inference config, as ``{"ckpt_path": "model.pt", "encoder_size": "tiny"}``.

    Attributes:
        config: the bundle's inference config and metadata.
        preset: reads images.
        network: with the trained weights, ready for inference.
        batch_size: slices, or pictures, in a batch.
        weights_sha256: of the checkpoint's file.

    Raises:
        ConfigError: When the folder is no bundle, or a part cannot be made with these settings.
        CheckpointError: When there is no checkpoint.
        WeightsError: When it does not fit the network.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        self.config = BundleConfig.for_inference(folder, settings)
        self.preset: Preset = self.config.build("preset")
        if not isinstance(self.preset, Preset):
            raise ConfigError(f"The preset of {self.config.path} is a {type(self.preset).__name__}, not a Preset.")
        self._preprocessing = self.config.build("preprocessing")
        self._postprocessing = self.config.build("postprocessing")
        self._inferer = self.config.build("inferer")
        self.batch_size = int(self.config.build("batch_size"))
        self.network = trained_network(self.config, self.config.build("device"))
        self.weights_sha256 = _file_sha256(Path(self.config.build("ckpt_path")))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> None:
        """Move the network.

        Args:
            device: where to.
        """
        self.network.to(device)

    def load(self, image: Any) -> dict[str, Any]:
        """Read one image.

        Args:
            image: a file, or what else the bundle's ``preprocessing`` takes under the image's key.

        Returns:
            A case for :meth:`predict`.

        Raises:
            DataError: When it cannot be read, or is no image for this bundle.
        """
        found: dict[str, Any] = self._preprocessing({self.preset.image_key: image})
        return found

    @torch.no_grad()
    def predict(self, cases: Sequence[Case]) -> list[Tensor]:
        """Predict several cases; their slices, or pictures of one size, share batches.

        Args:
            cases: as :meth:`load` gives them.

        Returns:
            What the bundle's inferer gives for each, for :meth:`mask` or :meth:`probabilities`; on the CPU.
        """
        images: list[MetaTensor] = [case[self.preset.image_key] for case in cases]
        if isinstance(self._inferer, SliceWiseInferer):
            self._inferer.settings.sw_batch_size = self.batch_size
            found: list[Tensor] = self._inferer(images, self.network)
            return [prediction.cpu() for prediction in found]
        results: dict[int, Tensor] = {}
        by_size = sorted(range(len(images)), key=lambda number: tuple(images[number].shape))
        for _, same in groupby(by_size, key=lambda number: tuple(images[number].shape)):
            numbers = list(same)
            for first in range(0, len(numbers), self.batch_size):
                batch = numbers[first : first + self.batch_size]
                x = torch.stack([images[number].as_tensor() for number in batch]).to(self.device)
                results.update(zip(batch, self._inferer(x, self.network).cpu(), strict=True))
        return [results[number] for number in range(len(images))]

    def mask(self, case: Case, prediction: Tensor) -> Tensor:
        """The final mask on the grid of the image.

        Args:
            case: what was predicted.
            prediction: what :meth:`predict` gave for it.

        Returns:
            (1, H, W) or (1, X, Y, Z), uint8: class indices; of one class 0 and 1.

        Raises:
            DataError: When the prediction holds NaN.
        """
        found: Tensor = self._postprocessing({**case, "pred": prediction})["pred"]
        return found

    def probabilities(self, case: Case, prediction: Tensor) -> Tensor:
        """Probabilities on the grid of the image.

        Args:
            case: what was predicted.
            prediction: what :meth:`predict` gave for it; of volumes only where the inferer keeps all channels, with
                the setting ``{"inferer::argmax": False}``.

        Returns:
            (K, H, W) or (K, X, Y, Z), float32, of each channel of the network.
        """
        activation = "softmax" if len(self.config.class_names) > 1 else "sigmoid"
        found: Tensor = self.preset.probabilities(activation=activation)({**case, "pred": prediction})["pred"]
        return found
