# SPDX-License-Identifier: Apache-2.0
"""Runs a bundle for MONAI Label: its preprocessing, network, inferer and postprocessing, as its own inference does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.inferers import Inferer
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask
from monailabel.transform.post import Restored
from torch import nn

from monai_sam2unet.bundle import BundleConfig
from monai_sam2unet.bundle.bundle_predictor import trained_network

__all__ = ["BundleInferTask"]


class BundleInferTask(BasicInferTask):
    """Masks of one bundle, the same as its own inference writes.

    The weights are loaded at the first request and kept; when their file is replaced they are loaded anew.

    Args:
        folder: of the bundle.
        settings: for keys of its inference config, as ``{"encoder_size": "tiny"}``.

    Raises:
        ConfigError: When the folder is no bundle, or a part cannot be made with these settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        config = self._parts = self._read()
        preset = config.build("preset")
        self.checkpoint = Path(config.build("ckpt_path"))
        self._preprocessing = config.build("preprocessing")
        self._inferer = config.build("inferer")
        if preset.is_volume:
            restored = Restored(keys="pred", ref_image="image")
            self._postprocessing = [config.build("postprocessing"), restored]
        else:
            self._postprocessing = [config.build("post_transforms")]
        # Of one channel there is no background: the mask is 1 where the object is.
        classes = config.class_names[1:] or config.class_names
        super().__init__(
            path=str(self.checkpoint),
            network=None,
            type=InferType.SEGMENTATION,
            labels={name: number for number, name in enumerate(classes, 1)},
            dimension=3 if preset.is_volume else 2,
            description=config.metadata["description"],
            # A mask of a JPEG image is none, and that of a DICOM series needs a name.
            config={"result_extension": ".nii.gz" if preset.is_volume else ".png"},
        )

    def _read(self) -> BundleConfig:
        return BundleConfig.for_inference(self.folder, self.settings)

    def is_valid(self) -> bool:
        """Whether there are weights."""
        return self.checkpoint.is_file()

    def pre_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """The bundle's preprocessing."""
        return [self._preprocessing]

    def inferer(self, data: Mapping[str, Any] | None = None) -> Inferer:
        """The bundle's inferer."""
        return self._inferer

    def post_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """The bundle's postprocessing, and for volumes their geometry."""
        return self._postprocessing

    def _get_network(self, device: str, data: Mapping[str, Any] | None) -> nn.Module:
        written = self.checkpoint.stat().st_mtime_ns
        kept = self._networks.get(device)
        if kept is None or kept[1] != written:
            kept = self._networks[device] = (trained_network(self._read(), device), written)
        return kept[0]
