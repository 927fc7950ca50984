# SPDX-License-Identifier: Apache-2.0
"""How the files of each modality become Hiera inputs, and predictions come back: said here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureTyped,
    Invertd,
    MapTransform,
    NormalizeIntensityd,
    Transform,
)

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.transforms.finalise_segmentation import FinaliseSegmentationd
from monai_sam2unet.transforms.fit_to_size import FitToSized
from monai_sam2unet.transforms.hiera_input import HieraInput, HieraInputd
from monai_sam2unet.transforms.intensity_percentile import PercentileScaled
from monai_sam2unet.transforms.intensity_window import CTWindowd
from monai_sam2unet.transforms.load_any_image import LoadAnyImaged
from monai_sam2unet.transforms.match_orientation import MatchOrientationd
from monai_sam2unet.transforms.scale_by_bits import ScaleByBitsd
from monai_sam2unet.transforms.three_channels import ThreeChannelsd
from monai_sam2unet.transforms.volume_to_slices import VolumeToSlicesd

__all__ = ["MODALITIES", "Preset"]


@dataclass(frozen=True)
class Modality:
    """What is particular to one modality.

    Args:
        is_volume: whether a case is a volume that is cut into slices; else a picture.
        picture: how picture files are read: ``"rgb"`` or ``"gray"``.
        intensity: how values become [0, 1]: ``"bits"``, ``"window"`` or ``"percentile"``.
        keep_aspect: whether pictures keep their aspect when fitted to the network's size.
    """

    is_volume: bool
    picture: str
    intensity: str
    keep_aspect: bool


#: The modalities by name. Photographs are squeezed to the network's size, as SAM2-UNet and the works it compares with
#: do; where sizes and angles in the image are those of the anatomy, the aspect is kept.
MODALITIES = {
    "endoscopy": Modality(is_volume=False, picture="rgb", intensity="bits", keep_aspect=False),
    "dermoscopy": Modality(is_volume=False, picture="rgb", intensity="bits", keep_aspect=False),
    "ultrasound": Modality(is_volume=False, picture="rgb", intensity="bits", keep_aspect=False),
    "xray": Modality(is_volume=False, picture="gray", intensity="percentile", keep_aspect=True),
    "ct": Modality(is_volume=True, picture="gray", intensity="window", keep_aspect=True),
    "mr": Modality(is_volume=True, picture="gray", intensity="percentile", keep_aspect=True),
}


class Preset:
    """The transforms of one modality, for training, evaluation and inference alike.

    Pictures (endoscopy, dermoscopy, ultrasound, X-ray; from PNG, JPEG, TIFF or DICOM) go from a file to the network's
    input in one :class:`Compose`. Volumes (CT, MR; from NIfTI or DICOM) are loaded on their own grid with values in
    [0, 1]: :meth:`slices` and :meth:`training` cut and fit them for training; for inference
    :class:`monai_sam2unet.inferers.SliceWiseInferer` does so batch by batch with :attr:`slice_transform`, and its
    result lies on the volume's grid already.

    Args:
        modality: ``endoscopy``, ``dermoscopy``, ``ultrasound``, ``xray``, ``ct`` or ``mr``.
        spatial_size: height and width of the network's input; an int makes a square.
        image_key: key of the image.
        label_key: key of the label.
        in_channels: channels that the network takes; 3 repeats a gray image.
        keep_aspect: whether slices are padded to the network's size instead of squeezed; None: as the modality has it.
        pixel_spacing: mm to which slices are resampled in their plane before they are padded; None: as they are.
        windows: for CT: the HU windows, one channel each; see :class:`CTWindow`.
        percentiles: for MR and X-ray: what becomes 0 and 1.
        plane: for volumes: ``axial``, ``coronal`` or ``sagittal``, or an array axis.
        neighbours: for volumes: slices on either side that are channels, too.
        mask_threshold: label values from this one on are foreground; None leaves labels as they are (class indices).
        dicom: options of :class:`monai_sam2unet.dicom.SAM2UNetDICOMReader`, as ``{"strict": False}``.
        require_orientation: whether a NIfTI file without orientation is an error.

    Raises:
        ConfigError: When the modality is not known, an option does not go with it, or a value is not allowed.
        TypeError: When an option of the DICOM reader is not known.

    Example:
        >>> preset = Preset("endoscopy", spatial_size=64)
        >>> [type(transform).__name__ for transform in preset.inference().transforms]
        ['LoadAnyImaged', 'ScaleByBitsd', 'HieraInputd']
    """

    def __init__(
        self,
        modality: str,
        spatial_size: int | Sequence[int] = (352, 352),
        image_key: str = "image",
        label_key: str = "label",
        in_channels: int = 3,
        keep_aspect: bool | None = None,
        pixel_spacing: float | Sequence[float] | None = None,
        windows: Any = "soft_tissue",
        percentiles: Sequence[float] = (0.5, 99.5),
        plane: str | int = "axial",
        neighbours: int = 0,
        mask_threshold: float | None = None,
        dicom: Mapping[str, Any] | None = None,
        require_orientation: bool = True,
    ) -> None:
        if modality not in MODALITIES:
            raise ConfigError(f"The modality must be one of {', '.join(MODALITIES)}, got {modality!r}.")
        self.modality = modality
        self.particulars = MODALITIES[modality]
        if neighbours and not self.particulars.is_volume:
            raise ConfigError(f"neighbours are slices of a volume; {modality} images are pictures.")
        self.image_key, self.label_key = image_key, label_key
        self.in_channels = in_channels
        self.plane, self.neighbours = plane, neighbours
        self.mask_threshold = mask_threshold
        self.dicom, self.require_orientation = dicom, require_orientation
        self.fit: dict[str, Any] = {
            "spatial_size": spatial_size,
            "keep_aspect": self.particulars.keep_aspect if keep_aspect is None else keep_aspect,
            "pixel_spacing": pixel_spacing,
        }
        self._intensity = self._make_intensity(windows, percentiles)
        self._to_input = HieraInputd(image_key, in_channels=in_channels, **self.fit)

    @property
    def is_volume(self) -> bool:
        """Whether a case is a volume that is cut into slices."""
        return self.particulars.is_volume

    @property
    def slice_transform(self) -> HieraInput:
        """What makes the network's input of slices, for :class:`monai_sam2unet.inferers.SliceWiseInferer`."""
        return self._to_input.transform

    def _make_intensity(self, windows: Any, percentiles: Sequence[float]) -> MapTransform:
        if self.particulars.intensity == "percentile":
            lower, upper = percentiles
            return PercentileScaled(self.image_key, lower, upper)
        if self.particulars.intensity == "bits":
            return ScaleByBitsd(self.image_key)
        window = CTWindowd(self.image_key, windows)
        channels = len(window.transform.windows) * (2 * self.neighbours + 1)
        if channels not in (self.in_channels, 1 if self.in_channels == 3 else self.in_channels):
            raise ConfigError(
                f"{len(window.transform.windows)} windows of {2 * self.neighbours + 1} slices are {channels} channels; "
                f"the network takes {self.in_channels}. Set in_channels."
            )
        return window

    def _load(self, labelled: bool = False) -> list[Transform]:
        transforms: list[Transform] = [
            LoadAnyImaged(self.image_key, self.particulars.picture, self.dicom, self.require_orientation)
        ]
        if labelled:
            # Strict settings are the images'; a label that is DICOM must be regular.
            transforms.append(LoadAnyImaged(self.label_key, "gray", None, self.require_orientation))
            if self.is_volume:
                transforms.append(MatchOrientationd(self.label_key, self.image_key))
            if self.mask_threshold is not None:
                transforms.append(AsDiscreted(self.label_key, threshold=self.mask_threshold))
        return [*transforms, self._intensity]

    def volumes(self, labelled: bool = True) -> Compose:
        """Files of volumes, image and label, to the volumes on their own grid with the image in [0, 1].

        Args:
            labelled: whether there is a label.

        Raises:
            ConfigError: When the modality's images are pictures.
        """
        if not self.is_volume:
            raise ConfigError(f"{self.modality} images are pictures, not volumes.")
        return Compose(self._load(labelled))

    def slices(self, drop_empty: float | None = None, seed: int = 0) -> VolumeToSlicesd:
        """What cuts volumes into slices, lazily.

        Args:
            drop_empty: share in [0, 1] of the slices without any label that is kept; None keeps all.
            seed: of the choice among them.

        Raises:
            ConfigError: When the modality's images are pictures, or the share is outside [0, 1].
        """
        if not self.is_volume:
            raise ConfigError(f"{self.modality} images are pictures; there is nothing to cut.")
        keys = (self.image_key, self.label_key)
        return VolumeToSlicesd(keys, self.plane, self.neighbours, drop_empty, self.label_key, seed)

    def training(self, random_transforms: Sequence[Transform] = ()) -> Compose:
        """Image and label to the network's input and a label of its size.

        Pictures are loaded from their files; slices come from :meth:`slices`.

        Args:
            random_transforms: augmentation, of images (C, h, w) in [0, 1] and labels (1, h, w) at the network's size.
        """
        both = (self.image_key, self.label_key)
        return Compose(
            [
                *([] if self.is_volume else self._load(labelled=True)),
                FitToSized(both, mode=("bilinear", "nearest"), **self.fit),
                *random_transforms,
                *([ThreeChannelsd(self.image_key)] if self.in_channels == 3 else []),
                self._normalise(),
                EnsureTyped(both, track_meta=False),
            ]
        )

    def _normalise(self) -> NormalizeIntensityd:
        hiera = self.slice_transform
        mean, std = (
            np.resize(np.asarray(values, dtype=np.float32), self.in_channels)
            for values in (hiera.mean or (0.0,), hiera.std or (1.0,))
        )
        return NormalizeIntensityd(self.image_key, subtrahend=mean, divisor=std, channel_wise=True)

    def evaluation(self) -> Compose:
        """Files to the network's input (pictures) or to the volume in [0, 1]; the label stays as its file has it."""
        return Compose([*self._load(labelled=True), *([] if self.is_volume else [self._to_input])])

    def inference(self) -> Compose:
        """A file to the network's input (pictures), or to the volume in [0, 1]."""
        return Compose([*self._load(), *([] if self.is_volume else [self._to_input])])

    def postprocessing(
        self,
        pred_key: str = "pred",
        activation: str | None = "sigmoid",
        squeeze_channel: bool = False,
        **finalise: Any,
    ) -> Compose:
        """The network's output to a mask on the source's grid, uint8.

        Args:
            pred_key: key of the output: logits (K, h, w) of a picture; for a volume what the inferer gave.
            activation: ``"sigmoid"``, ``"softmax"``, or None for an output that is a probability already.
            squeeze_channel: whether a mask of one channel loses it; metrics want it kept.
            finalise: further options of :class:`FinaliseSegmentation`: threshold or argmax, components, holes.

        Raises:
            ConfigError: When the activation or an option is not allowed.
        """
        if activation not in (None, "sigmoid", "softmax"):
            raise ConfigError(f"activation must be sigmoid, softmax or None, got {activation!r}.")
        transforms: list[Transform] = []
        if not self.is_volume:
            invertible = Compose([self._to_input])
            transforms.append(Invertd(pred_key, invertible, self.image_key, nearest_interp=False, to_tensor=True))
        if activation is not None:
            transforms.append(Activationsd(pred_key, sigmoid=activation == "sigmoid", softmax=activation == "softmax"))
        return Compose([*transforms, FinaliseSegmentationd(pred_key, squeeze_channel=squeeze_channel, **finalise)])
