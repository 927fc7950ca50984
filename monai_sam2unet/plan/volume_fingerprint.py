# SPDX-License-Identifier: Apache-2.0
"""What a volume and its label are like, in the numbers that a plan follows from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import ensure_tuple
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from monai_sam2unet.data import case_name
from monai_sam2unet.dicom import DicomSegmentation, is_dicom
from monai_sam2unet.dicom.series import read_header
from monai_sam2unet.errors import DataError
from monai_sam2unet.plan.picture_fingerprint import measure_objects, percentiles_of
from monai_sam2unet.transforms import LoadAnyImage

__all__ = ["VolumeFingerprint", "fingerprint_volume", "nifti_of"]

#: Slices this many times as far apart as pixels are what was acquired.
ANISOTROPY = 1.9
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class VolumeFingerprint:
    """What one volume and its label are like.

    Attributes:
        image: its file, or what its series is called.
        shape: (X, Y, Z), voxels.
        spacing: mm along each axis.
        axis: of the file, or of a DICOM series (columns, rows, slices), along which its slices lie: that of the largest
            spacing, where it is far larger; else the axial one.
        plane: the anatomical plane nearest to them.
        is_anisotropic: whether the spacing told.
        modality: of a DICOM series; empty of a file that does not say it.
        lowest: value of the volume.
        values: number of voxels of each label, by number; or by name, where each class has a file or segment.
        labelled_slices: slices with a label.
        objects: of each object, a connected part of one label in a slice, the label.
        areas: of each object its area, as a share of the square of the slice's longer side.
        thickness: of each object its thickness, as a share of the slice's longer side.
        inside: percentiles of the values where there is a label; None without.
        outside: the same where there is none.
    """

    image: str
    shape: list[int]
    spacing: list[float]
    axis: int
    plane: str
    is_anisotropic: bool
    modality: str
    lowest: float
    values: dict[str, int]
    labelled_slices: int
    objects: list[str]
    areas: list[float]
    thickness: list[float]
    inside: list[float] | None
    outside: list[float] | None


def _stem(path: str) -> str:
    return Path(path).name.removesuffix(".gz").removesuffix(".nii")


def _is_nifti(path: str) -> bool:
    return path.endswith((".nii", ".nii.gz"))


def nifti_of(image: str | Sequence[str]) -> Any:
    """An image as NIfTI: a file as it is, a DICOM series in memory.

    Args:
        image: a file, or those of a DICOM series.

    Raises:
        DataError: When DICOM cannot be read as a volume.
    """
    if isinstance(image, str) and _is_nifti(image):
        return nib.load(image)
    found = LoadAnyImage("gray")(image)
    if len(found) != 1 or found.ndim != 4 or not found.meta.get("in_patient_space", True):
        raise DataError(f"the shape is {tuple(found.shape)}, which is no gray volume")
    values = found.numpy()[0]
    limits = np.iinfo(np.int16)
    if limits.min <= values.min() and values.max() <= limits.max and (values == np.rint(values)).all():
        values = values.astype(np.int16)
    made = nib.Nifti1Image(values, found.affine.numpy())
    made.header.set_xyzt_units("mm")
    return made


def _canonical(path: str) -> Any:
    """A file whose axes run to the right, to the front and up: image and label may lie otherwise, each in its way."""
    return nib.as_closest_canonical(nib.squeeze_image(nib.load(path)))


def _segments_of(path: str, image: Any) -> dict[str, NDArray]:
    """The mask of each segment of a DICOM segmentation, by its label."""
    segmentation = DicomSegmentation(path)
    labels = {segment.number: segment.label for segment in segmentation.segments.values() if not segment.is_background}
    numbers = {label: index for index, label in enumerate(dict.fromkeys(labels.values()), 1)}
    classes = {number: numbers[label] for number, label in labels.items()}
    values = segmentation.to_classes(classes, image.affine, image.shape)
    label = np.asarray(nib.as_closest_canonical(nib.Nifti1Image(values, image.affine)).dataobj)
    return {name: label == number for name, number in numbers.items()}


def _labels_of(paths: tuple[str, ...], image: Any, is_file_a_class: bool) -> dict[str, NDArray]:
    """The mask of each label."""
    if is_dicom(paths[0]):
        return _segments_of(paths[0], image)
    if is_file_a_class:
        return {_stem(path): np.asarray(_canonical(path).dataobj) > 0 for path in paths}
    label = np.asarray(_canonical(paths[0]).dataobj)
    if (label != np.round(label)).any():
        raise ValueError("the label holds values that are no integers")
    if label.min() < 0:
        raise ValueError(f"the label holds the value {label.min():g}; classes have numbers from 1 on")
    return {str(int(value)): label == value for value in np.unique(label[label != 0])}


def _modality_of(image: str | Sequence[str]) -> str:
    first = Path(ensure_tuple(image)[0])
    return str(read_header(first).get("Modality") or "") if is_dicom(first) else ""


def fingerprint_volume(item: Mapping[str, Any]) -> VolumeFingerprint | str:
    """Measure a volume and its label.

    Args:
        item: ``{"image": path, "label": path}`` of NIfTI files; where each class has a file ``label`` is their list. Of
            a DICOM series ``image`` is the list of its files; the label of such may be a DICOM segmentation.

    Returns:
        What they are like; or a line that says why they cannot be measured.
    """
    path, paths = case_name(item), tuple(map(str, ensure_tuple(item["label"])))
    try:
        file: Any = nib.squeeze_image(nifti_of(item["image"]))
        image = np.asarray(nib.as_closest_canonical(file).dataobj, dtype=np.float32)
        modality = _modality_of(item["image"])
        labels = _labels_of(paths, file, is_file_a_class=not isinstance(item["label"], str))
    except DataError as error:
        return f"{path}: {' '.join(str(error).split())}"
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        return f"{path} or its label cannot be measured ({str(error).splitlines()[0]})"
    if image.ndim != 3 or any(mask.shape != image.shape for mask in labels.values()):
        shapes = {mask.shape for mask in labels.values()} - {image.shape}
        return f"{path} has the shape {image.shape}, its label {', '.join(map(str, shapes)) or image.shape}"
    if not np.isfinite(image).all():
        return f"{path} holds values that are no numbers"
    spacing = [float(v) for v in file.header.get_zooms()[:3]]
    # Of each axis of the file, the one that it becomes.
    canonical = [int(axis) for axis in nib.io_orientation(file.affine)[:, 0]]
    is_anisotropic = max(spacing) >= ANISOTROPY * sorted(spacing)[1]
    file_axis = int(np.argmax(spacing)) if is_anisotropic else canonical.index(2)
    axis = canonical[file_axis]
    side = max(length for number, length in enumerate(image.shape) if number != axis)
    objects, areas, thickness = [], [], []
    foreground = np.zeros(image.shape, bool)
    for name, mask in labels.items():
        foreground |= mask
        slices = np.moveaxis(mask, axis, 0)
        for number in np.flatnonzero(slices.any((1, 2))):
            _, own_areas, own_thickness = measure_objects(slices[number])
            objects += [name] * len(own_areas)
            areas += [round(area / side**2, 7) for area in own_areas]
            thickness += [round(value / side, 5) for value in own_thickness]
    return VolumeFingerprint(
        image=path,
        shape=list(file.shape),
        spacing=[round(v, 4) for v in spacing],
        axis=file_axis,
        plane=PLANES[axis],
        is_anisotropic=is_anisotropic,
        modality=modality,
        lowest=float(image.min()),
        values={name: int(mask.sum()) for name, mask in labels.items()},
        labelled_slices=int(foreground.any(tuple(number for number in range(3) if number != axis)).sum()),
        objects=objects,
        areas=areas,
        thickness=thickness,
        inside=percentiles_of(image[foreground]),
        outside=percentiles_of(image[~foreground]),
    )
