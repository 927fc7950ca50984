# SPDX-License-Identifier: Apache-2.0
"""Slices and pictures to the network's size and back, with their affine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.data.utils import to_affine_nd
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_tensor, ensure_tuple_rep
from monai.utils.enums import TraceKeys, TransformBackends
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.fit_geometry import MODES, FitPlan, FitRule
from monai_sam2unet.transforms.pixel_size import in_plane_spacing, known_spacing, set_affine
from monai_sam2unet.transforms.tensors import own_memory, plain

__all__ = ["FitToSize", "FitToSized"]


class FitToSize(InvertibleTransform):
    """Resize or pad a slice or picture to the network's size, and bring what belongs to it back.

    The outer edges of the pixels stay in place, and the affine follows: a point keeps its place in the world. The
    inverse gives exactly the source's height, width and affine; pixels that were not resized come back bit by bit.

    - By default both sides are stretched to ``spatial_size``.
    - With ``keep_aspect`` the anatomy keeps its aspect: both are scaled by one factor until the longer one fits, and
      the rest is padded. The factor is one of mm where the spacing of rows and columns is known, so that pixels become
      square: a coronal slice of pixels of 8 x 1.5 mm is stretched along its rows. Where it is not known (photographs,
      plain tensors) pixels count as square.
    - With ``pixel_spacing`` the slice is resampled to that spacing (to the nearest whole number of pixels, so within
      half a pixel over the whole slice), then padded. A slice that is then larger than ``spatial_size`` is an error:
      neither cropping nor another spacing than the one asked for would be right.
    - With ``enlarge_or_shrink=False`` it is padded only.

    Padding is centred and 0.

    Args:
        spatial_size: height and width, or one number for both. None: as large as each slice needs, in multiples of
            ``multiple``, so nothing is resized unless ``pixel_spacing`` is given.
        keep_aspect: whether both sides are scaled by one factor.
        pixel_spacing: mm between rows and between columns, or one number for both.
        mode: ``"bilinear"`` for images and probabilities, ``"nearest"`` for labels. The inverse uses it too, unless
            ``Invertd(nearest_interp=True)`` says otherwise.
        anti_aliasing: whether bilinear shrinking averages over the pixels that it merges.
        enlarge_or_shrink: whether the slice may be resized.
        multiple: what divides the size where ``spatial_size`` is None; the network's stride is 32.

    Raises:
        ConfigError: When a value is not allowed.

    Example:
        >>> fit = FitToSize((64, 64), keep_aspect=True)
        >>> small = fit(MetaTensor(torch.rand(1, 100, 50)))
        >>> tuple(small.shape), tuple(fit.inverse(small).shape)
        ((1, 64, 64), (1, 100, 50))
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = (352, 352),
        keep_aspect: bool = False,
        pixel_spacing: float | Sequence[float] | None = None,
        mode: str = "bilinear",
        anti_aliasing: bool = True,
        enlarge_or_shrink: bool = True,
        multiple: int = 32,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"mode must be one of {', '.join(MODES)}, got {mode!r}.")
        self.rule = FitRule(spatial_size, keep_aspect, pixel_spacing, enlarge_or_shrink, multiple)
        self.mode = mode
        self.anti_aliasing = anti_aliasing

    def plan(self, img: Tensor, spacing: Sequence[float] | None = None) -> FitPlan:
        """Where these slices lie in the network's grid.

        Args:
            img: (..., H, W).
            spacing: mm between rows and columns, for ``pixel_spacing`` and ``keep_aspect``; read from the affine of a
                MetaTensor if not given.

        Raises:
            DataError: When the slice is empty, its spacing is needed and not known, or it does not fit.
        """
        if spacing is None and self.rule.pixel_spacing is not None:
            spacing = in_plane_spacing(img)
        elif spacing is None and self.rule.keep_aspect:
            spacing = known_spacing(img)
        return self.rule.plan(int(img.shape[-2]), int(img.shape[-1]), spacing)

    def __call__(self, img: NdarrayOrTensor, spacing: Sequence[float] | None = None) -> Tensor:
        """Bring a slice or picture to the network's size.

        Args:
            img: (C, H, W) of any dtype.
            spacing: as in :meth:`plan`.

        Returns:
            (C, h, w) with the affine of its new pixels and a trace for the inverse; dtype as in :func:`resize`. Its
            memory is never the source's, so what follows may write in place.

        Raises:
            DataError: When the image is not (C, H, W), its spacing is needed and not known, or it does not fit.
        """
        x: Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        if x.ndim != 3:
            raise DataError(f"Slices and pictures are (C, H, W), got shape {tuple(x.shape)}. Volumes: VolumeToSlices.")
        plan = self.plan(x, spacing)
        values = plain(x)
        fitted = own_memory(plan.forward(values[None], self.mode, self.anti_aliasing)[0], values)
        if not isinstance(x, MetaTensor):
            return fitted
        out: MetaTensor = MetaTensor(fitted).copy_meta_from(x)
        moved = to_affine_nd(len(x.affine) - 1, plan.to_source(), dtype=torch.float64)
        set_affine(out, x.affine @ moved)
        extra = {
            "mode": self.mode,
            "affine": x.affine.clone(),
            "source": plan.source,
            "resized": plan.resized,
            "size": plan.size,
        }
        return self.push_transform(out, orig_size=plan.source, extra_info=extra)

    def inverse(self, data: Tensor) -> MetaTensor:
        """Bring a fitted slice, or a prediction that carries its trace, to the source's grid.

        Args:
            data: MetaTensor (K, h, w).

        Returns:
            (K, H, W) with the source's affine, of its own memory.

        Raises:
            DataError: When it is no MetaTensor, or not of the size that the network was given.
        """
        if not isinstance(data, MetaTensor):
            raise DataError("Only a MetaTensor knows its source: give the prediction the image's meta, or use Invertd.")
        # The trace is popped from a copy: the data given stay as they are.
        out: MetaTensor = MetaTensor(torch.empty(0)).copy_meta_from(data)
        extra = self.pop_transform(out)[TraceKeys.EXTRA_INFO]
        source, resized, size = ((int(h), int(w)) for h, w in (extra["source"], extra["resized"], extra["size"]))
        mode = "nearest" if str(extra["mode"]).startswith("nearest") else "bilinear"
        values = data.as_tensor()
        restored = own_memory(FitPlan(source, resized, size).inverse(values[None], mode)[0], values)
        out = MetaTensor(restored).copy_meta_from(out)
        set_affine(out, extra["affine"])
        return out


class FitToSized(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`FitToSize`; use ``mode=["bilinear", "nearest"]`` for an image and its label.

    A label that does not know its spacing, as a PNG beside a DICOM picture, takes that of the first key that does and
    has the same height and width: the two stay pixel on pixel.

    Args:
        keys: keys of the slices or pictures.
        spatial_size: as in :class:`FitToSize`.
        keep_aspect: as in :class:`FitToSize`.
        pixel_spacing: as in :class:`FitToSize`.
        mode: as in :class:`FitToSize`, one for all keys or one a key.
        anti_aliasing: as in :class:`FitToSize`.
        enlarge_or_shrink: as in :class:`FitToSize`.
        multiple: as in :class:`FitToSize`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: When a value is not allowed.
    """

    backend = FitToSize.backend

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: int | Sequence[int] | None = (352, 352),
        keep_aspect: bool = False,
        pixel_spacing: float | Sequence[float] | None = None,
        mode: str | Sequence[str] = "bilinear",
        anti_aliasing: bool = True,
        enlarge_or_shrink: bool = True,
        multiple: int = 32,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if not isinstance(mode, str) and len(mode) != len(self.keys):
            raise ConfigError(f"mode must be one for all keys or one a key: {len(self.keys)} keys, {len(mode)} modes.")
        self.fits = tuple(
            FitToSize(spatial_size, keep_aspect, pixel_spacing, m, anti_aliasing, enlarge_or_shrink, multiple)
            for m in ensure_tuple_rep(mode, len(self.keys))
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring what is under the keys to the network's size; see :meth:`FitToSize.__call__`."""
        d = dict(data)
        spacings: dict[tuple[int, ...], tuple[float, float]] = {}
        for key in self.key_iterator(d):
            known = known_spacing(d[key])
            if known is not None:
                spacings.setdefault(tuple(d[key].shape[-2:]), known)
        for key, fit in self.key_iterator(d, self.fits):
            d[key] = fit(d[key], known_spacing(d[key]) or spacings.get(tuple(d[key].shape[-2:])))
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring what is under the keys to the source's grid; see :meth:`FitToSize.inverse`."""
        d = dict(data)
        for key, fit in self.key_iterator(d, self.fits):
            d[key] = fit.inverse(d[key])
        return d
