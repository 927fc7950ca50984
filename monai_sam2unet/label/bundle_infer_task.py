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

from monai_sam2unet.bundle import load_checkpoint
from monai_sam2unet.bundle.inference_config import parsed_content, read_inference_config
from monai_sam2unet.inferers import AutocastInferer
from monai_sam2unet.networks import optimize_for_inference

__all__ = ["BundleInferTask", "has_weights"]

TRAINED = Path("models", "model.pt")
#: Overlay that takes the weights that come with a bundle.
RELEASED = Path("configs", "released.yaml")


def has_weights(folder: Path) -> bool:
    """Whether a bundle can be run: it was trained, or weights come with it."""
    return any((folder / name).is_file() for name in (TRAINED, RELEASED))


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
        self.folder = folder
        takes_released = not (folder / TRAINED).is_file() and (folder / RELEASED).is_file()
        self.overlay = folder / RELEASED if takes_released else None
        self.settings = {**settings, "bundle_root": str(folder)}
        parser = self._read()
        meta = parser["_meta_"]
        preset = parsed_content(parser, "preset", folder)
        self.checkpoint = Path(parsed_content(parser, "ckpt_path", folder))
        self.precision = parsed_content(parser, "precision", folder)
        self.optimize = parsed_content(parser, "optimize", folder)
        self._preprocessing = parsed_content(parser, "preprocessing", folder)
        self._inferer = parsed_content(parser, "inferer", folder)
        if preset.is_volume:
            restored = Restored(keys="pred", ref_image="image")
            self._postprocessing = [parsed_content(parser, "postprocessing", folder), restored]
        else:
            self._postprocessing = [parsed_content(parser, "post_transforms", folder)]
        classes = meta["network_data_format"]["outputs"]["pred"]["channel_def"]
        # Of one channel there is no background: the mask is 1 where the object is.
        first = 1 if len(classes) == 1 else 0
        super().__init__(
            path=str(self.checkpoint),
            network=None,
            type=InferType.SEGMENTATION,
            labels={name: int(k) + first for k, name in classes.items() if int(k) + first > 0},
            dimension=3 if preset.is_volume else 2,
            description=meta["description"],
            # A mask of a JPEG image is none, and that of a DICOM series needs a name.
            config={"result_extension": ".nii.gz" if preset.is_volume else ".png"},
        )

    def _read(self) -> Any:
        return read_inference_config(self.folder, self.settings, self.overlay)

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
            network = parsed_content(self._read(), "network_def", self.folder).to(device)
            load_checkpoint(network, self.checkpoint)
            if self.optimize:
                dtype = AutocastInferer(self.precision).dtype(next(network.parameters()).device)
                network = optimize_for_inference(network, dtype=dtype)
            kept = self._networks[device] = (network.eval(), written)
        return kept[0]
