# SPDX-License-Identifier: Apache-2.0
"""Runs a bundle for MONAI Label: its preprocessing, network, inferer and postprocessing, as its own inference does."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from monai.inferers import Inferer
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask
from monailabel.transform.post import Restored
from torch import nn

from monai_sam2unet.bundle import BundleConfig, load_checkpoint
from monai_sam2unet.bundle.bundle_config import TRAINED
from monai_sam2unet.bundle.bundle_predictor import trained_network
from monai_sam2unet.dicom.segmentation_writer import segmentation
from monai_sam2unet.errors import CheckpointError, DataError
from monai_sam2unet.label.dicom_images import dicom_files, slices_first
from monai_sam2unet.label.model_classes import ModelClasses
from monai_sam2unet.label.requested_device import requested_device

__all__ = ["KEPT", "MARKED", "BundleInferTask"]

#: Key of a request that says whether its mask is saved as a label.
KEPT = "kept"
#: Key of a request's data that says whether the annotator had a hand in the mask.
MARKED = "marked"


class BundleInferTask(BasicInferTask):
    """Masks of one bundle, the same as its own inference writes.

    The weights are loaded at the first request and kept; when their file is replaced they are loaded anew. Requests
    are answered one at a time. DICOM images are read with their headers, so that ``{"result_extension": ".dcm"}`` gives
    their DICOM SEG.

    Args:
        folder: of the bundle.
        settings: for keys of its inference config, as ``{"encoder_size": "tiny"}``.
        preload: whether the weights are loaded at once.

    Raises:
        ConfigError: When the folder is no bundle, or a part cannot be made with these settings.
        UserError: With ``preload``: when there are no weights, or they do not fit.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], preload: bool = False) -> None:
        self.folder, self.settings = folder, settings
        config = self._read()
        self._use(config)
        self.classes = ModelClasses.of(folder, settings)
        self._turn = threading.Lock()
        # Each thread that runs a network keeps memory for itself.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=folder.name)
        super().__init__(
            path=str(self.checkpoint),
            network=None,
            type=InferType.SEGMENTATION,
            labels=self.classes.ids,
            dimension=3 if self.preset.is_volume else 2,
            description=config.metadata["description"],
            # A mask of a JPEG image is none, and that of a DICOM series needs a name.
            config={"result_extension": ".nii.gz" if self.preset.is_volume else ".png"},
            preload=preload,
        )

    def _read(self) -> BundleConfig:
        return BundleConfig.for_inference(self.folder, self.settings)

    def _use(self, config: BundleConfig) -> None:
        """Make the parts of a config, which belong to its weights."""
        self.preset = config.build("preset")
        self.checkpoint = Path(config.build("ckpt_path"))
        self._preprocessing = config.build("preprocessing")
        self._inferer = config.build("inferer")
        if self.preset.is_volume:
            restored = Restored(keys="pred", ref_image="image")
            self._postprocessing = [config.build("postprocessing"), restored]
        else:
            self._postprocessing = [config.build("post_transforms")]

    def came_with_bundle(self) -> bool:
        """Whether the weights in use are those that came with the bundle, which stay as they are."""
        return self._read().came_with_bundle

    def get_path(self, validate: bool = True) -> str | None:
        """The file of the weights, for MONAI Label's ``/model/`` addresses.

        Args:
            validate: whether it must be there; else it is where new weights are written to, which is not in the place
                of those that came with the bundle.
        """
        config = self._read()
        path = Path(config.build("ckpt_path"))
        if not validate and config.came_with_bundle:
            path = self.folder / TRAINED
        return str(path) if path.is_file() or not validate else None

    def check_weights(self, path: Path) -> None:
        """Look whether a file holds weights that could take the place that :meth:`get_path` names for new ones.

        Args:
            path: the file.

        Raises:
            ConfigError: When the network that they would be of cannot be made.
            CheckpointError: When they are no network's.
            WeightsError: When they cannot be read, or do not fit the network.
        """
        # In the place of weights that came with the bundle others have the settings of the bundle's own trainings.
        config = self._read()
        if config.came_with_bundle:
            config = BundleConfig(self.folder, {**self.settings, "bundle_root": str(self.folder)})
        load_checkpoint(config.build("network_def"), path)

    def is_valid(self) -> bool:
        """Whether there are weights."""
        return self.get_path() is not None

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Wait for those who came before, for a network is for one thread; and look which weights there are now.

        Raises:
            CheckpointError: When there are none.
        """
        with self._turn:
            config = self._read()
            path = Path(config.build("ckpt_path"))
            if not path.is_file():
                raise CheckpointError(
                    f"The weights of {self.folder.name} are gone: there is no {path}. Put them back, or train the "
                    "bundle."
                )
            if path != self.checkpoint:
                self._use(config)
            yield

    def __call__(self, request: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Answer a request.

        Args:
            request: as MONAI Label has it; ``device`` as :func:`requested_device` knows it.
            args: as MONAI Label has them.
            kwargs: as MONAI Label has them.

        Raises:
            UserError: When there is no such device, there are no weights that fit, or the image cannot be read.
        """
        asked = {**request, "device": requested_device(request.get("device"))}
        return self._worker.submit(self._answer, asked, *args, **kwargs).result()

    def _answer(self, *args: Any, **kwargs: Any) -> Any:
        with self.in_turn():
            return super().__call__(*args, **kwargs)

    def pre_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """The bundle's preprocessing, which keeps what was read of DICOM files."""
        return [self._prepared]

    def _prepared(self, data: Mapping[str, Any]) -> dict[str, Any]:
        files = dicom_files(data["image"]) if isinstance(data["image"], str) else []
        if not files:
            return dict(self._preprocessing(data))
        volume = self.preset.read_dicom(files)
        return {**self._preprocessing({**data, "image": volume}), "volume": volume}

    def inferer(self, data: Mapping[str, Any] | None = None) -> Inferer:
        """The bundle's inferer."""
        return self._inferer

    def post_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """The bundle's postprocessing, and for volumes their geometry."""
        return self._postprocessing

    def writer(self, data: dict[str, Any], extension: str | None = None, dtype: Any = None) -> tuple[Any, Any]:
        """Write the mask in the format that is asked for."""
        if (extension or data.get("result_extension")) != ".dcm":
            return super().writer(data, extension, dtype)
        image = Path(str(data.get("image_path")))
        volume, files = data.get("volume"), dicom_files(image)
        if volume is None and not files:
            raise DataError(
                f"A DICOM SEG is made of DICOM images only, and {image.name} is none. Ask for output=image."
            )
        volume = volume or self.preset.read_dicom(files)
        mask = slices_first(np.asarray(data["pred"])).astype(np.uint8)
        now = datetime.now().astimezone()
        how = "SEMIAUTOMATIC" if data.get(MARKED) else "AUTOMATIC"
        made = segmentation(mask, volume, self.classes.segments, self.classes.algorithm, now, algorithm_type=how)
        with tempfile.NamedTemporaryFile(suffix=".dcm", delete=False) as file:
            made.save_as(file)
        return file.name, {}

    def _get_network(self, device: str, data: Mapping[str, Any] | None) -> nn.Module:
        written = self.checkpoint.stat().st_mtime_ns
        kept = self._networks.get(device)
        if kept is None or kept[1] != written:
            kept = self._networks[device] = (trained_network(self._read(), device), written)
        return kept[0]
