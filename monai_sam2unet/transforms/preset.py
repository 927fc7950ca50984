# SPDX-License-Identifier: Apache-2.0
"""How the files of each modality become Hiera inputs, and predictions come back: said here, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.config import PathLike
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, EnsureTyped, MapTransform, Transform

from monai_sam2unet.dicom import DicomVolume, read_volume
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.transforms.check_case import CheckImaged, CheckLabeld
from monai_sam2unet.transforms.finalise_segmentation import FinaliseSegmentationd
from monai_sam2unet.transforms.fit_to_size import FitToSized
from monai_sam2unet.transforms.hiera_input import HieraInput, HieraInputd
from monai_sam2unet.transforms.intensity_percentile import PercentileScaled
from monai_sam2unet.transforms.intensity_window import CTWindowd
from monai_sam2unet.transforms.label_classes import LabelClasses
from monai_sam2unet.transforms.load_any_image import LoadAnyImaged
from monai_sam2unet.transforms.load_label_classes import LoadLabelClassesd
from monai_sam2unet.transforms.match_orientation import MatchOrientationd
from monai_sam2unet.transforms.modality import MODALITIES
from monai_sam2unet.transforms.normalize_as_imagenet import NormalizeAsImageNetd
from monai_sam2unet.transforms.preset_steps import BackToSourced, PresetCompose, ToProbabilitiesd
from monai_sam2unet.transforms.scale_by_bits import ScaleByBitsd
from monai_sam2unet.transforms.volume_grid import volume_grid
from monai_sam2unet.transforms.volume_to_slices import VolumeToSlicesd

__all__ = ["Preset"]


class Preset:
    """The transforms of one modality, for training, evaluation and inference alike.

    Pictures (endoscopy, dermoscopy, fundus, microscopy, ultrasound, X-ray; from PNG, JPEG, TIFF or DICOM) go from a
    file to the network's input in one :class:`Compose`. Volumes (CT, MR; from NIfTI, DICOM, MetaImage, NRRD) are loaded
    on their own grid with values in [0, 1]: :meth:`slices` and :meth:`training` cut and fit them for training; for
    inference ``SliceWiseInferer.from_preset(preset)`` does so batch by batch, and its result lies on the volume's grid
    already.

    Args:
        modality: ``endoscopy``, ``dermoscopy``, ``fundus``, ``microscopy``, ``ultrasound``, ``xray``, ``ct`` or ``mr``.
        spatial_size: height and width of the network's input; an int makes a square. None: pictures keep their own
            resolution, to the pixel, for windows to be drawn from them (MONAI's ``RandCropByPosNegLabeld`` among the
            random transforms, ``SlidingWindowInferer`` in :class:`~monai_sam2unet.inferers.AutocastInferer`); slices of
            volumes, too, and are padded to multiples of 32.
        image_key: key of the image.
        label_key: key of the label.
        in_channels: channels that the network takes; with 3, a gray image is repeated.
        channels: channels of the images' files, where they are not gray or colour (MR sequences side by side).
        keep_aspect: whether slices are padded to the network's size instead of squeezed; None: as the modality has it.
        pixel_spacing: mm to which slices are resampled in their plane before they are padded; None: as they are.
        windows: for CT: the HU windows, one channel each; see :class:`CTWindow`. None: ``"soft_tissue"``.
        percentiles: for MR and X-ray: the percentiles that become 0 and 1. None: 0.5 and 99.5.
        plane: for volumes: ``axial`` (None), ``coronal`` or ``sagittal``, or an array axis.
        neighbours: for volumes: slices on either side that are channels, too (2.5D).
        mask_threshold: label values from this one on are foreground; None: labels hold class indices.
        dicom: options of :class:`monai_sam2unet.dicom.SAM2UNetDICOMReader` for images, as ``{"strict": False}``.
        any_modality: whether DICOM images of another modality are taken, too.
        require_orientation: whether a volume without orientation is an error.
        device: where images and labels go once they are read, so that everything after that is computed there; None:
            the CPU, as worker processes of a ``DataLoader`` need it.
        label_classes: for volumes: which numbers in labels, or which of their files or segments, are which class; None:
            labels hold class indices.

    Raises:
        ConfigError: When the modality is not known, an option does not go with it, or a value is not allowed.
        TypeError: When an option of the DICOM reader is not known.

    Example:
        >>> preset = Preset("endoscopy", spatial_size=64)
        >>> [type(transform).__name__ for transform in preset.inference().transforms]
        ['LoadAnyImaged', 'CheckImaged', 'ScaleByBitsd', 'HieraInputd']
    """

    def __init__(
        self,
        modality: str,
        spatial_size: int | Sequence[int] | None = (352, 352),
        image_key: str = "image",
        label_key: str = "label",
        in_channels: int = 3,
        channels: int | None = None,
        keep_aspect: bool | None = None,
        pixel_spacing: float | Sequence[float] | None = None,
        windows: Any = None,
        percentiles: Sequence[float] | None = None,
        plane: str | int | None = None,
        neighbours: int = 0,
        mask_threshold: float | None = None,
        dicom: Mapping[str, Any] | None = None,
        any_modality: bool = False,
        require_orientation: bool = True,
        device: torch.device | str | None = None,
        label_classes: LabelClasses | None = None,
    ) -> None:
        if modality not in MODALITIES:
            raise ConfigError(f"The modality must be one of {', '.join(MODALITIES)}, got {modality!r}.")
        self.modality = modality
        self.particulars = MODALITIES[modality]
        intensity, is_volume = self.particulars.intensity, self.particulars.is_volume
        for name, value, fits in (
            ("windows", windows, intensity == "window"),
            ("percentiles", percentiles, intensity == "percentile"),
            ("plane", plane, is_volume),
            ("neighbours", neighbours or None, is_volume),
            ("label_classes", label_classes, is_volume and mask_threshold is None),
        ):
            if value is not None and not fits:
                threshold = " and mask_threshold" if name == "label_classes" and is_volume else ""
                raise ConfigError(f"{name} does not go with {modality}{threshold}.")
        if channels is not None and (channels < 1 or not is_volume):
            raise ConfigError(f"channels are those of volumes, at least 1; got {channels} for {modality}.")
        if (dicom or {}).get("voi") is not None and intensity != "percentile":
            raise ConfigError(f"voi gives values in [0, 1] already, which {modality} scales itself; leave voi out.")
        self.image_key, self.label_key = image_key, label_key
        self.in_channels = in_channels
        self.plane: str | int = "axial" if plane is None else plane
        self.neighbours = neighbours
        self.mask_threshold = mask_threshold
        self.label_classes = label_classes
        self.require_orientation = require_orientation
        self.device = None if device is None else torch.device(device)
        self.fit: dict[str, Any] = {
            "spatial_size": spatial_size,
            "keep_aspect": self.particulars.keep_aspect if keep_aspect is None else keep_aspect,
            "pixel_spacing": pixel_spacing,
            "multiple": 32 if is_volume else 1,
        }
        self._intensity = self._make_intensity(windows, percentiles)
        self._to_input = HieraInputd(image_key, in_channels=in_channels, repeat_gray=not neighbours, **self.fit)
        self._load_image = LoadAnyImaged(image_key, self.particulars.picture, dicom, require_orientation)
        # DICOM ultrasound and endoscopy may be gray.
        allowed = (1, 3) if self.particulars.picture == "rgb" else (channels or 1,)
        modalities = None if any_modality else self.particulars.dicom
        self._check_grid = CheckImaged(image_key, is_volume, allowed, modalities)
        self._check_image = CheckImaged(image_key, is_volume, allowed, modalities, intensity == "window")
        self._check_channels(allowed[-1])
        if is_volume:
            self.slices()  # refuses a plane or neighbours that are not allowed

    def _make_intensity(self, windows: Any, percentiles: Sequence[float] | None) -> MapTransform:
        if self.particulars.intensity == "percentile":
            if percentiles is not None and (not isinstance(percentiles, Sequence) or len(percentiles) != 2):
                raise ConfigError(f"percentiles must be two numbers, got {percentiles!r}.")
            lower, upper = (0.5, 99.5) if percentiles is None else percentiles
            return PercentileScaled(self.image_key, lower, upper)
        if self.particulars.intensity == "bits":
            return ScaleByBitsd(self.image_key)
        return CTWindowd(self.image_key, "soft_tissue" if windows is None else windows)

    def _check_channels(self, channels: int) -> None:
        """What is made of an image must be what the network takes."""
        windows = len(self._intensity.transform.windows) if isinstance(self._intensity, CTWindowd) else 1
        made = channels * windows * (2 * self.neighbours + 1)
        if made != self.in_channels and not (made == 1 and self.in_channels == 3):
            raise ConfigError(
                f"{channels} channels, {windows} windows and {2 * self.neighbours + 1} slices make {made} channels; "
                f"the network takes {self.in_channels}. Set in_channels."
            )

    @property
    def is_volume(self) -> bool:
        """Whether a case is a volume that is cut into slices."""
        return self.particulars.is_volume

    @property
    def slice_transform(self) -> HieraInput:
        """What makes the network's input of slices or pictures; ``SliceWiseInferer.from_preset`` hands it over."""
        return self._to_input.transform

    def read_dicom(self, files: Sequence[str | os.PathLike[str]]) -> DicomVolume:
        """Read a DICOM series as the preset's transforms do, for a program that needs its headers, too.

        What it gives may stand in a file's place: ``preset.inference()({"image": volume})``.

        Args:
            files: of one series.

        Raises:
            DataError: As :func:`monai_sam2unet.dicom.read_volume`.
        """
        return read_volume(files, **self._load_image.load.dicom_reader.options)

    def _load(self, labelled: bool = False) -> list[Transform]:
        transforms: list[Transform] = [self._load_image, self._check_image]
        if labelled:
            transforms += self.labels().transforms
        if self.device is not None:
            keys = (self.image_key, self.label_key) if labelled else (self.image_key,)
            transforms.append(EnsureTyped(keys, device=self.device))
        return [*transforms, self._intensity]

    def labels(self) -> Compose:
        """Files of labels to labels on the grid of their image, which is loaded already."""
        transforms: list[Transform] = []
        if self.label_classes is not None:
            transforms.append(
                LoadLabelClassesd(
                    self.label_key, self.label_classes, self.require_orientation, image_key=self.image_key
                )
            )
        else:
            # A palette's indices are classes; where a threshold is asked for, its colours are meant.
            picture = "label" if self.mask_threshold is None else "gray"
            transforms.append(LoadAnyImaged(self.label_key, picture, None, self.require_orientation, union=True))
        if self.is_volume:
            transforms.append(MatchOrientationd(self.label_key, self.image_key))
        transforms.append(CheckLabeld(self.label_key, self.image_key, self.mask_threshold))
        if self.mask_threshold is not None:
            transforms.append(AsDiscreted(self.label_key, threshold=self.mask_threshold))
        return PresetCompose(transforms)

    def grid(self, source: PathLike | Sequence[PathLike]) -> MetaTensor:
        """A volume without values, of which only headers are read, where its values would lie.

        Args:
            source: a file; for DICOM also a folder, a DICOMDIR, or the files of one series.

        Raises:
            DataError: As :func:`monai_sam2unet.transforms.volume_grid`; or when the preset does not take it.
        """
        found = volume_grid(source, self._load_image.load.dicom_reader, self.require_orientation)
        self._check_grid({self.image_key: found})
        return found

    def volumes(self, labelled: bool = True) -> Compose:
        """Files of volumes, image and label, to the volumes on the image's grid with the image in [0, 1].

        Args:
            labelled: whether there is a label.

        Raises:
            ConfigError: When the modality's images are pictures.
        """
        if not self.is_volume:
            raise ConfigError(f"{self.modality} images are pictures, not volumes.")
        return PresetCompose(self._load(labelled))

    def slices(self, keep_empty: float | None = None, seed: int = 0, labelled: bool = True) -> VolumeToSlicesd:
        """What cuts volumes into slices, lazily.

        Args:
            keep_empty: share in [0, 1] of the slices without any label that is kept; None keeps all.
            seed: of the choice among them.
            labelled: whether there is a label.

        Raises:
            ConfigError: When the modality's images are pictures, or the share is outside [0, 1].
        """
        if not self.is_volume:
            raise ConfigError(f"{self.modality} images are pictures; there is nothing to cut.")
        keys = (self.image_key, self.label_key) if labelled else (self.image_key,)
        label_key = self.label_key if labelled else None
        return VolumeToSlicesd(keys, self.plane, self.neighbours, keep_empty, label_key, seed)

    def training(self, random_transforms: Sequence[Transform] = ()) -> Compose:
        """Image and label to the network's input and a label of its size.

        Pictures are loaded from their files; slices come from :meth:`slices`.

        Args:
            random_transforms: augmentation, of images (C, h, w) in [0, 1] and labels (1, h, w) at the network's size.
                Where one of them makes several windows of a case, the result is a list of them.
        """
        both = (self.image_key, self.label_key)
        return PresetCompose(
            [
                *([] if self.is_volume else self._load(labelled=True)),
                FitToSized(both, mode=("bilinear", "nearest"), **self.fit),
                *random_transforms,
                NormalizeAsImageNetd(self.image_key, in_channels=self.in_channels, repeat_gray=not self.neighbours),
                EnsureTyped(both, track_meta=False),
            ]
        )

    def evaluation(self) -> Compose:
        """Files to the network's input (pictures) or to the volume in [0, 1]; the label on the image's own grid."""
        return PresetCompose([*self._load(labelled=True), *([] if self.is_volume else [self._to_input])])

    def inference(self) -> Compose:
        """A file to the network's input (pictures), or to the volume in [0, 1]."""
        return PresetCompose([*self._load(), *([] if self.is_volume else [self._to_input])])

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
            activation: what makes probabilities of it: ``"sigmoid"``, ``"softmax"``, or None where it holds some
                already. What the inferer has activated is known and not activated again.
            squeeze_channel: whether a mask of one channel loses it; metrics want it kept.
            finalise: further options of :class:`FinaliseSegmentation`: threshold or argmax, components, holes.

        Raises:
            ConfigError: When the activation or an option is not allowed.
        """
        final = FinaliseSegmentationd(pred_key, activation=activation, squeeze_channel=squeeze_channel, **finalise)
        return PresetCompose([*self._back(pred_key), final])

    def probabilities(self, pred_key: str = "pred", activation: str | None = "sigmoid") -> Compose:
        """The network's output to probabilities on the source's grid, float32: what an evaluation takes.

        Logits are brought to the source's size before they are activated, as in the released code.

        Args:
            pred_key: key of the output, as in :meth:`postprocessing`.
            activation: as in :meth:`postprocessing`.

        Raises:
            ConfigError: When the activation is not allowed.
        """
        return PresetCompose([*self._back(pred_key), ToProbabilitiesd(pred_key, activation)])

    def _back(self, pred_key: str) -> list[Transform]:
        return [] if self.is_volume else [BackToSourced(pred_key, self.image_key, self._to_input.transform)]
