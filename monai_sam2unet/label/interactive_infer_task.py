# SPDX-License-Identifier: Apache-2.0
"""Runs a bundle for MONAI Label, and lets its mask follow clicks and scribbles."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.transform.post import Restored

from monai_sam2unet.bundle import BundleConfig
from monai_sam2unet.errors import DataError
from monai_sam2unet.inferers import InteractiveRefiner, refiner_of_case
from monai_sam2unet.label.bundle_infer_task import KEPT, MARKED, BundleInferTask
from monai_sam2unet.label.known_images import KnownImage, KnownImages, file_version
from monai_sam2unet.label.label_numbers import BACKGROUND
from monai_sam2unet.label.requested_marks import click_marks, scribble_marks
from monai_sam2unet.label.single_slice import as_picture
from monai_sam2unet.transforms import LoadAnyImage
from monai_sam2unet.transforms.check_case import CheckLabeld

__all__ = ["InteractiveInferTask"]

KEY, KNOWN = "known_image_key", "known_image"


class InteractiveInferTask(BundleInferTask):
    """A bundle's mask that follows the annotator's marks: without any it is the bundle's own.

    The network runs once for an image and its weights; the probabilities are kept, so that further marks are answered
    at once. The mask is made anew of them and of all marks that a request has: see
    :class:`~monai_sam2unet.inferers.InteractiveRefiner`.

    Args:
        bundle: what runs the same bundle without marks; the network is shared with it.
        known: where probabilities are kept; shared between the tasks of one bundle.
        type: ``DEEPEDIT``: clicks, as :func:`~monai_sam2unet.label.requested_marks.click_marks` reads them, to a mask
            of all labels. ``SCRIBBLES``: a label image with scribbles for one label, to a
            mask of this one, 1 where it is.

    Raises:
        ConfigError: As the bundle's task.
    """

    def __init__(self, bundle: BundleInferTask, known: KnownImages, type: InferType) -> None:
        super().__init__(bundle.folder, bundle.settings)
        self._networks, self._turn, self._worker = bundle._networks, bundle._turn, bundle._worker
        self._known = known
        self.type = type
        if type == InferType.DEEPEDIT:
            self.labels = {**self.classes.ids, BACKGROUND: 0}
        how = "clicks" if type == InferType.DEEPEDIT else "scribbles"
        self.description = f"{bundle.description} The mask follows {how}."

    def _use(self, config: BundleConfig) -> None:
        super()._use(config)
        one_class = len(config.class_names) == 1
        self._finalise = config.build("postprocessing")
        self._probabilities = self.preset.probabilities(activation="sigmoid" if one_class else "softmax")
        self._threshold = config.build("threshold") if one_class else 0.5
        # Of volumes the bundle keeps the classes only, which clicks cannot change.
        if self.preset.is_volume:
            whole = {**self.settings, "inferer::argmax": False}
            self._inferer = BundleConfig.for_inference(self.folder, whole).build("inferer")

    def pre_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """The bundle's preprocessing, unless the image is known."""
        return [self._prepare]

    def _version(self, image: str) -> Hashable:
        return file_version(image), file_version(str(self.checkpoint))

    def _prepare(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(data["image"], str):
            raise DataError("Clicks and scribbles need an image of the studies, or an uploaded file.")
        key = self._version(data["image"])
        known = self._known.get(key)
        if known is not None:
            return {**data, **known.case, KNOWN: known}
        # The preprocessing would read a label that comes with the image.
        return {**data, **self._prepared({"image": data["image"]}), KEY: key}

    def run_inferer(self, data: dict[str, Any], convert_to_batch: bool = True, device: str = "cuda") -> dict[str, Any]:
        """The bundle's probabilities, unless the image is known."""
        if KNOWN in data:
            return data
        data = super().run_inferer(data, convert_to_batch, device)
        case = {"image": data["image"], "pred": data["pred"]}
        labels = self._finalise(dict(case))["pred"]
        probabilities = self._probabilities(dict(case))["pred"]
        image = data["image"]
        refiner = refiner_of_case(self.preset, image, probabilities, labels, self._threshold)
        # The network's input of a picture is not needed again.
        known = KnownImage(refiner, {"image": image} if self.preset.is_volume else {})
        self._known.add(data[KEY], known)
        return {**data, KNOWN: known}

    def post_transforms(self, data: Mapping[str, Any] | None = None) -> Sequence[Callable[..., Any]]:
        """The marks, then the mask's geometry as the writer wants it."""
        if self.preset.is_volume:
            return [self._refine, Restored(keys="pred", ref_image="image")]
        return [self._refine]

    def _refine(self, data: Mapping[str, Any]) -> dict[str, Any]:
        refiner: InteractiveRefiner = data[KNOWN].refiner
        shape = refiner.labels.shape
        if self.type == InferType.DEEPEDIT:
            marks = click_marks(data, self.classes.ids, shape)
            mask = refiner(marks)
        else:
            name, marks = scribble_marks(data, self.classes.ids, self._drawn(data))
            number = self.classes.ids[name]
            # What is kept has the classes' ids; a viewer takes the answer for the label that it asked for.
            kept_as = number if data.get(KEPT) or data.get("result_extension") == ".dcm" else 1
            mask = ((refiner(marks) == number) * kept_as).astype(np.uint8)
            self._cut(mask, data.get("roi"))
        # A volume has a channel until it is restored; the writer's pictures are (column, row).
        pred = torch.from_numpy(mask)[None] if self.preset.is_volume else torch.from_numpy(mask.T.copy())
        found = MetaTensor(pred)
        if self.preset.is_volume:
            found.copy_meta_from(data["image"])
        kept = {key: value for key, value in data.items() if key not in (KNOWN, KEY)}
        return {**kept, "pred": found, MARKED: bool(marks)}

    def _drawn(self, data: Mapping[str, Any]) -> np.ndarray:
        """The label image of a request, on the image's grid."""
        file = data.get("label")
        if not isinstance(file, str) or not file:
            raise DataError("Scribbles come as a label image, in the form's field 'label'; there is none.")
        refiner: InteractiveRefiner = data[KNOWN].refiner
        image_key, label_key = self.preset.image_key, self.preset.label_key
        if self.preset.is_volume:
            found = self.preset.labels()({image_key: data["image"], label_key: file})
        else:
            drawn = as_picture(LoadAnyImage("label", require_orientation=False)(file))
            image = MetaTensor(torch.from_numpy(refiner.image))
            found = CheckLabeld(label_key, image_key, None)({image_key: image, label_key: drawn})
        return np.asarray(found[label_key][0].cpu())

    def _cut(self, mask: np.ndarray, roi: Any) -> None:
        """Empty what lies outside of the box that viewers send as first and last i, j and k."""
        if not roi:
            return
        if not (
            isinstance(roi, list)
            and len(roi) == 6
            and all(type(value) in (int, float) and math.isfinite(value) for value in roi)
        ):
            raise DataError(f"roi must be six numbers, the first and last i, j and k; got {roi!r}.")
        sides = [sorted(roi[axis : axis + 2]) for axis in (0, 2, 4)]
        if mask.ndim == 2:
            sides = sides[1::-1]
        inside = tuple(slice(max(round(low), 0), max(round(high), 0)) for low, high in sides)
        kept = mask[inside].copy()
        mask[...] = 0
        mask[inside] = kept
