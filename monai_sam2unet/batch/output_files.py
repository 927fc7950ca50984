# SPDX-License-Identifier: Apache-2.0
"""The kinds of files that are written of each series."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset

from monai_sam2unet.batch.run_report import MEASUREMENTS, PREVIEW
from monai_sam2unet.batch.segmented_series import SegmentedSeries
from monai_sam2unet.dicom.deidentification import deidentified
from monai_sam2unet.dicom.measurement_report import measurement_report
from monai_sam2unet.dicom.secondary_capture import (
    burned_in,
    fullest_slices,
    overlay,
    secondary_captures,
    shown_slice,
    square_pixels,
)
from monai_sam2unet.errors import ConfigError

__all__ = ["DICOM_OUTPUTS", "OUTPUTS", "output_writers"]

OutputWriter = Callable[[SegmentedSeries, Path], None]
#: Longer side of a preview, in pixels.
PREVIEW_SIZE = 512


def _save(made: Dataset, series: SegmentedSeries, path: Path) -> None:
    secret = series.model.secret
    (deidentified(made, secret) if secret else made).save_as(path)


def write_segmentation(series: SegmentedSeries, folder: Path) -> None:
    """``segmentation.dcm``: DICOM Segmentation."""
    _save(series.segmentation, series, folder / "segmentation.dcm")


def write_nifti(series: SegmentedSeries, folder: Path) -> None:
    """``segmentation.nii.gz``: class indices (columns, rows, slices) in the source's geometry.

    Outside the patient's space the affine has the size of the pixels only, and sform_code and qform_code say so by 0.
    """
    image = nib.Nifti1Image(np.ascontiguousarray(series.mask.transpose(2, 1, 0)), series.volume.affine)
    code = int(series.volume.in_patient_space)
    image.set_sform(series.volume.affine, code)
    image.set_qform(series.volume.affine, code)
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / "segmentation.nii.gz")


def write_preview(series: SegmentedSeries, folder: Path) -> None:
    """``preview.png``: the slice with the largest mask, its outlines drawn over it.

    Where it is to be de-identified, and names may be burned into the image, there is none, with a warning.
    """
    slot = fullest_slices(series.mask, series.volume, 1)[0]
    if series.model.secret and burned_in(series.volume.first) != "NO":
        warnings.warn(
            f"{PREVIEW} is left out: it would show the source's pixels, and the source does not say that no name is "
            "burned into them (BurnedInAnnotation NO).",
            stacklevel=2,
        )
        return
    drawn = overlay(shown_slice(series.volume, slot), series.mask[slot], series.model.segments)
    picture = Image.fromarray(square_pixels(drawn, series.volume))
    picture.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
    picture.save(folder / PREVIEW)


def write_report(series: SegmentedSeries, folder: Path) -> None:
    """``report.dcm``: DICOM Comprehensive 3D SR of the measurements, which refers to the segmentation."""
    model = series.model
    report = measurement_report(
        series.measurements, series.segmentation, series.volume, model.segments, model.algorithm, model.created
    )
    _save(report, series, folder / "report.dcm")


def write_captures(series: SegmentedSeries, folder: Path) -> None:
    """``overlay1.dcm`` and so on: DICOM Secondary Capture of the slices with the largest masks."""
    model = series.model
    pictures = secondary_captures(series.mask, series.volume, model.segments, model.algorithm, model.created)
    for number, picture in enumerate(pictures, 1):
        _save(picture, series, folder / f"overlay{number}.dcm")


def write_measurements(series: SegmentedSeries, folder: Path) -> None:
    """``measurements.csv``: a row a segment."""
    pd.DataFrame([asdict(one) for one in series.measurements]).to_csv(folder / MEASUREMENTS, index=False)


#: What can be written, by the word that asks for it.
OUTPUTS: dict[str, OutputWriter] = {
    "seg": write_segmentation,
    "nifti": write_nifti,
    "png": write_preview,
    "sr": write_report,
    "sc": write_captures,
    "csv": write_measurements,
}
#: Those that are DICOM objects.
DICOM_OUTPUTS = ("seg", "sr", "sc")


def output_writers(names: Sequence[str]) -> list[OutputWriter]:
    """The writers that are asked for.

    Args:
        names: keys of :data:`OUTPUTS`.

    Raises:
        ConfigError: When there is none, one is not known, or a report is asked for without what it refers to.
    """
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown or not names:
        raise ConfigError(f"What is written is chosen of {', '.join(OUTPUTS)}; got {', '.join(unknown) or 'none'}.")
    if "sr" in names and "seg" not in names:
        raise ConfigError("A report (sr) refers to the segmentation (seg): write both.")
    return [writer for name, writer in OUTPUTS.items() if name in names]
