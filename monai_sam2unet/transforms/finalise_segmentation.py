# SPDX-License-Identifier: Apache-2.0
"""Probabilities or logits to the segmentation that is stored: classes, without specks and holes, 8 bit."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.class_masks import ACTIVATIONS, above_thresholds, largest_channel
from monai_sam2unet.transforms.components import clean_labels
from monai_sam2unet.transforms.pixel_size import element_size
from monai_sam2unet.transforms.tensors import plain

__all__ = ["UNITS", "FinaliseSegmentation", "FinaliseSegmentationd"]

#: Units of the smallest size, and the spatial dimensions that they are for (None: any).
UNITS: dict[str, int | None] = {"pixels": None, "mm2": 2, "mm3": 3}


def _not_one(prediction: Any) -> str:
    """Why a collection is no prediction, and what to take of it."""
    if not isinstance(prediction, Mapping):
        return (
            f"One prediction at a time is finalised, got a {type(prediction).__name__} of {len(prediction)}: apply it "
            "to each, as after MONAI's decollate_batch; of a network's deep supervision take the first."
        )
    names = ", ".join(map(repr, prediction))
    return (
        f"A prediction is a tensor, got a dictionary with {names}. Of an inferer's result with uncertainty take "
        '["mean"]; in a Compose put MONAI\'s FlattenSubKeysd("pred") before, and finalise the key "mean".'
    )


class FinaliseSegmentation(Transform):
    """Make the final segmentation of a prediction, in this order: classes, largest component, smallest size, holes.

    Classes are numbered as in the result: by ``argmax`` from 0, the background; by ``threshold`` channel 0 holds class
    1, channel 1 class 2 and so on, each a mask of its own. Background is never cleaned. The grid does not change.

    :class:`monai_sam2unet.inferers.SliceWiseInferer` marks what it activated by ``meta["activation"]``. Such values are
    probabilities, and no activation is applied again; or they are classes already (``"argmax"``).

    Args:
        threshold: where a channel's probability is at least this it is 1; above 0 and at most 1, one number, or one a
            channel. None is 0.5 unless ``argmax``.
        argmax: whether the channel with the largest value (probability or logit) is the class, instead of thresholds.
        largest_component: whether of each class only the largest component is kept, or the classes of which it is.
        min_size: smaller components are removed: one size for all classes, or a mapping from class to size.
        unit: of ``min_size``: ``"pixels"`` (voxels in a volume); ``"mm2"`` for pictures and slices, ``"mm3"`` for
            volumes, both by the affine.
        fill_holes: whether background enclosed by one class gets that class, or the classes whose holes are filled.
        connectivity: steps along axes that join two pixels into one component, from 1 to the number of dimensions; None
            for the latter, so corners join.
        squeeze_channel: whether a result of one channel loses it; masks of several channels keep theirs.
        activation: what makes probabilities of the values given, before they are held against thresholds:
            ``"sigmoid"`` or ``"softmax"`` (over the channels) for logits, None for probabilities. The channel that
            ``argmax`` finds is the same for both, so it never applies one.

    Raises:
        ConfigError: When a value is not allowed, or ``threshold`` and ``argmax`` are both given.

    Example:
        >>> FinaliseSegmentation(threshold=0.5)(torch.tensor([[[0.2, 0.5, 0.9]]])).tolist()
        [[0, 1, 1]]
        >>> FinaliseSegmentation(activation="sigmoid")(torch.tensor([[[-1.0, 0.0, 3.0]]])).tolist()
        [[0, 1, 1]]
        >>> FinaliseSegmentation(argmax=True)(torch.tensor([[[0.2, 0.5]], [[0.8, 0.1]]])).tolist()
        [[1, 0]]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(
        self,
        threshold: float | Sequence[float] | None = None,
        argmax: bool = False,
        largest_component: bool | Sequence[int] = False,
        min_size: float | Mapping[int, float] | None = None,
        unit: str = "pixels",
        fill_holes: bool | Sequence[int] = False,
        connectivity: int | None = None,
        squeeze_channel: bool = True,
        activation: str | None = None,
    ) -> None:
        if argmax and threshold is not None:
            raise ConfigError("threshold and argmax are two ways to find the class: give one of them.")
        given = 0.5 if threshold is None else threshold
        values = ensure_tuple(given)
        is_number = [isinstance(t, (int, float)) and not isinstance(t, bool) for t in values]
        self.thresholds = tuple(float(t) for t in values) if all(is_number) else ()
        if not self.thresholds or not all(0 < t <= 1 for t in self.thresholds):
            raise ConfigError(f"threshold is a probability above 0 and at most 1, or one a channel, got {threshold!r}.")
        if unit not in UNITS:
            raise ConfigError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}.")
        if connectivity is not None and connectivity not in (1, 2, 3):
            raise ConfigError(f"connectivity must be 1, 2, 3 or None, got {connectivity!r}.")
        if activation is not None and activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be {', '.join(ACTIVATIONS)} or None, got {activation!r}.")
        sizes = min_size.values() if isinstance(min_size, Mapping) else [0 if min_size is None else min_size]
        if not all(math.isfinite(size) and size >= 0 for size in sizes):
            raise ConfigError(f"min_size must be finite and at least 0, got {min_size!r}.")
        self.argmax = argmax
        self.activation = activation
        self.largest_component = self._classes(largest_component, "largest_component")
        self.fill_holes = self._classes(fill_holes, "fill_holes")
        self.min_size = {int(k): float(v) for k, v in min_size.items()} if isinstance(min_size, Mapping) else min_size
        self._check_values(self.min_size if isinstance(self.min_size, dict) else (), "min_size")
        self.unit = unit
        self.connectivity = connectivity
        self.squeeze_channel = squeeze_channel

    @staticmethod
    def _check_values(classes: Any, name: str) -> None:
        if any(isinstance(c, bool) or not isinstance(c, int) or c < 1 for c in classes):
            raise ConfigError(f"Classes of {name} are whole numbers of at least 1 (0 is background), got {classes!r}.")

    def _classes(self, given: bool | Sequence[int], name: str) -> bool | tuple[int, ...]:
        if isinstance(given, bool):
            return given
        if isinstance(given, int):
            raise ConfigError(f"{name} must be True, False or a list of classes, got {given!r}.")
        self._check_values(given, name)
        return tuple(given)

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Make the segmentation.

        Args:
            img: probabilities or logits (K, H, W) or (K, X, Y, Z).

        Returns:
            uint8 on the input's device, with its affine: class indices (1, ...) of ``argmax``, or masks (K, ...) of 0
            and 1; one channel is squeezed if asked for.

        Raises:
            ConfigError: When the prediction is marked as another activation's than the one that is asked for before
                thresholds.
            DataError: When it is no tensor, or the shape is another; when it holds NaN; when ``argmax`` gets one
                channel or more than 256; when there are more thresholds or classes named than there are; when the unit
                is mm and the spacing is not known, or the unit does not go with the number of dimensions.
        """
        if isinstance(img, (Mapping, list, tuple)):
            raise DataError(_not_one(img))
        x: Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        values = plain(x).detach()
        if values.ndim not in (3, 4) or 0 in values.shape:
            raise DataError(f"Predictions are (K, H, W) or (K, X, Y, Z), got shape {tuple(values.shape)}.")
        found = self._to_classes(values, x.meta.get("activation") if isinstance(x, MetaTensor) else None)
        minimum = self._min_counts(img if isinstance(img, MetaTensor) else values)
        # Of classes that the inferer found it is not known how many there could be.
        classes = len(values) if not self.argmax else len(values) - 1 if len(values) > 1 else 255
        cleaned = self._clean(found, classes, minimum)
        cleaned = cleaned[0] if self.squeeze_channel and len(cleaned) == 1 else cleaned
        if not isinstance(x, MetaTensor):
            return cleaned
        out: MetaTensor = MetaTensor(cleaned).copy_meta_from(x)
        out.meta.pop("activation", None)
        return out

    def _to_classes(self, x: Tensor, done: Any) -> Tensor:
        if self.argmax and done == "argmax":
            if len(x) != 1 or x.dtype != torch.uint8:
                raise DataError(f"Classes are one channel of uint8, got {tuple(x.shape)} of {x.dtype}.")
            return x.clone()
        if self.argmax:
            if not 2 <= len(x) <= 256:
                raise DataError(
                    f"argmax needs 2 to 256 channels, the background first, got shape {tuple(x.shape)}. One channel "
                    "takes a threshold."
                )
            return largest_channel(x)
        if len(self.thresholds) not in (1, len(x)):
            raise DataError(f"{len(self.thresholds)} thresholds for {len(x)} channels: give one, or one a channel.")
        limits = self.thresholds if len(self.thresholds) == len(x) else self.thresholds * len(x)
        return above_thresholds(x, limits, self._still_to_do(done))

    def _still_to_do(self, done: Any) -> str | None:
        if done is None:
            return self.activation
        if done not in (*ACTIVATIONS, "identity"):
            raise DataError(f"meta['activation'] must be {', '.join(ACTIVATIONS)} or identity, got {done!r}.")
        if self.activation is not None and done not in (self.activation, "identity"):
            raise ConfigError(
                f"FinaliseSegmentation was given activation {self.activation!r}, and the prediction is a {done} "
                f"already (meta['activation']). Give both the same, or no activation here."
            )
        return None

    def _min_counts(self, img: Tensor) -> dict[int, float] | float:
        """The smallest sizes in pixels."""
        dims = UNITS[self.unit]
        if self.min_size is None or dims is None:
            return self.min_size or 0
        if img.ndim - 1 != dims:
            right = "mm3" if img.ndim == 4 else "mm2"
            raise DataError(f"min_size in {self.unit} is for {dims}D, got shape {tuple(img.shape)}: use {right}.")
        size = element_size(img)
        if isinstance(self.min_size, dict):
            return {k: v / size for k, v in self.min_size.items()}
        return self.min_size / size

    def _clean(self, found: Tensor, classes: int, minimum: dict[int, float] | float) -> Tensor:
        numbers = range(1, classes + 1)
        largest, holes = (
            set(numbers if given is True else given or ()) for given in (self.largest_component, self.fill_holes)
        )
        counts = minimum if isinstance(minimum, dict) else dict.fromkeys(numbers, minimum)
        unknown = (largest | holes | set(counts)) - set(numbers)
        if unknown:
            raise DataError(f"There is no class {sorted(unknown)} here: the prediction has 1 to {classes}.")
        if not (largest or holes or any(counts.values())):
            return found
        labels = found.cpu().numpy()
        if self.argmax:
            present = set(np.flatnonzero(np.bincount(labels.ravel())).tolist())
            largest, holes = largest & present, holes & present
            counts = {number: count for number, count in counts.items() if number in present}
        cleaned = clean_labels(labels, self.argmax, largest, counts, holes, self.connectivity)
        return torch.from_numpy(cleaned).to(found.device)


class FinaliseSegmentationd(MapTransform):
    """Dictionary version of :class:`FinaliseSegmentation`.

    Args:
        keys: keys of the predictions.
        threshold: as in :class:`FinaliseSegmentation`.
        argmax: as in :class:`FinaliseSegmentation`.
        largest_component: as in :class:`FinaliseSegmentation`.
        min_size: as in :class:`FinaliseSegmentation`.
        unit: as in :class:`FinaliseSegmentation`.
        fill_holes: as in :class:`FinaliseSegmentation`.
        connectivity: as in :class:`FinaliseSegmentation`.
        squeeze_channel: as in :class:`FinaliseSegmentation`.
        activation: as in :class:`FinaliseSegmentation`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: As :class:`FinaliseSegmentation`.
    """

    backend = FinaliseSegmentation.backend

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float | Sequence[float] | None = None,
        argmax: bool = False,
        largest_component: bool | Sequence[int] = False,
        min_size: float | Mapping[int, float] | None = None,
        unit: str = "pixels",
        fill_holes: bool | Sequence[int] = False,
        connectivity: int | None = None,
        squeeze_channel: bool = True,
        activation: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = FinaliseSegmentation(
            threshold, argmax, largest_component, min_size, unit, fill_holes, connectivity, squeeze_channel, activation
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the segmentations under the keys; see :meth:`FinaliseSegmentation.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d
