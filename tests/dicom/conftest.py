# SPDX-License-Identifier: Apache-2.0
"""Makes DICOM files for the tests: single slices and series, written to disk as a scanner would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
)
from pydicom.uid import generate_uid as new_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def put(dataset: Dataset, attributes: Mapping[str, Any]) -> None:
    """Set attributes; None takes one away."""
    for keyword, value in attributes.items():
        if value is None:
            if keyword in dataset:
                del dataset[keyword]
        else:
            setattr(dataset, keyword, list(value) if isinstance(value, tuple) else value)


def image(pixels: NDArray, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> FileDataset:
    """A gray (rows, columns), colour (rows, columns, 3) or multi-frame (frames, ...) image that holds ``pixels``."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        syntax,
        CTImageStorage,
        new_uid(),
    )
    little = syntax != ExplicitVRBigEndian
    dataset = FileDataset(
        "", {}, b"\0" * 128, meta, is_implicit_VR=syntax == ImplicitVRLittleEndian, is_little_endian=little
    )
    colour = pixels.shape[-1] == 3 and pixels.ndim > 2
    put(
        dataset,
        {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "StudyInstanceUID": "1.2.3",
            "SeriesInstanceUID": "1.2.3.4",
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "Rows": pixels.shape[-3 if colour else -2],
            "Columns": pixels.shape[-2 if colour else -1],
            "SamplesPerPixel": 3 if colour else 1,
            "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
            "BitsAllocated": pixels.dtype.itemsize * 8,
            "BitsStored": pixels.dtype.itemsize * 8,
            "HighBit": pixels.dtype.itemsize * 8 - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
        },
    )
    if colour:
        dataset.PlanarConfiguration = 0
    if pixels.ndim > (3 if colour else 2):
        dataset.NumberOfFrames = len(pixels)
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    put(dataset, attributes)
    return dataset


def save(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def make_image() -> Callable[..., Path]:
    """Writes an image: (path, pixels, syntax=..., compress=UID, edit=function of the dataset, attributes...)."""

    def make(
        path: Path,
        pixels: NDArray,
        compress: str | None = None,
        edit: Callable[[FileDataset], None] | None = None,
        **attributes: Any,
    ) -> Path:
        dataset = image(pixels, **attributes)
        if compress is not None:
            dataset.compress(compress, generate_instance_uid=False)
        if edit is not None:
            edit(dataset)
        return save(dataset, path)

    return make


@pytest.fixture(scope="session")
def make_slice(make_image: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a slice that lies in the patient, axial at the origin with 1 mm pixels unless told otherwise."""

    def make(path: Path, pixels: NDArray | None = None, **attributes: Any) -> Path:
        pixels = np.arange(30, dtype=np.int16).reshape(6, 5) if pixels is None else pixels
        geometry = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": (0, 0, 0), "PixelSpacing": (1, 1)}
        return make_image(path, pixels, **{**geometry, **attributes})

    return make


@pytest.fixture(scope="session")
def make_series(make_slice: Callable[..., Path]) -> Callable[..., list[Path]]:
    """Writes slices at ``positions`` along the normal (or at whole points), each with values that tell it apart."""

    def make(
        folder: Path,
        positions: Sequence[float] | NDArray,
        orientation: Sequence[float] = AXIAL,
        each: Callable[[int], dict[str, Any]] = lambda index: {},
        names: Sequence[str] | None = None,
        **attributes: Any,
    ) -> list[Path]:
        axes = np.asarray(orientation).reshape(2, 3)
        points = np.asarray(positions, dtype=float)
        points = points if points.ndim == 2 else points[:, None] * np.cross(*axes)
        paths = []
        for index, point in enumerate(points):
            pixels = np.random.default_rng(index).integers(-500, 500, (6, 5)).astype(np.int16)
            own = {
                "ImagePositionPatient": [f"{value:.6f}"[:16] for value in point],
                "ImageOrientationPatient": list(orientation),
                "InstanceNumber": index + 1,
                **attributes,
                **each(index),
            }
            name = names[index] if names else f"{index:03d}.dcm"
            paths.append(make_slice(folder / name, own.pop("pixels", pixels), **own))
        return paths

    return make


@pytest.fixture(scope="session")
def make_enhanced() -> Callable[..., Path]:
    """Writes an enhanced MR image; ``groups`` holds, for each frame, keyword of a macro -> its attributes."""

    def make(
        path: Path,
        pixels: NDArray,
        groups: Sequence[Mapping[str, Mapping[str, Any]]],
        shared: Mapping[str, Mapping[str, Any]] | None = None,
        **attributes: Any,
    ) -> Path:
        def items(macros: Mapping[str, Mapping[str, Any]]) -> Dataset:
            dataset = Dataset()
            for macro, values in macros.items():
                item = Dataset()
                put(item, values)
                setattr(dataset, macro, [item])
            return dataset

        dataset = image(pixels, SOPClassUID=EnhancedMRImageStorage, Modality="MR")
        common = {
            "PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.75], "SliceThickness": 2},
            "PlaneOrientationSequence": {"ImageOrientationPatient": list(AXIAL)},
        }
        dataset.NumberOfFrames = len(pixels)
        dataset.SharedFunctionalGroupsSequence = [items(common if shared is None else shared)]
        dataset.PerFrameFunctionalGroupsSequence = [items(group) for group in groups]
        put(dataset, attributes)
        return save(dataset, path)

    return make


@pytest.fixture(scope="session")
def make_cine(make_image: Callable[..., Path]) -> Callable[..., Path]:
    """Writes an ultrasound cine."""

    def make(path: Path, pixels: NDArray, **attributes: Any) -> Path:
        kind = {"SOPClassUID": UltrasoundMultiFrameImageStorage, "Modality": "US", "FrameTime": 40}
        return make_image(path, pixels, **{**kind, **attributes})

    return make


@pytest.fixture(scope="session")
def samples() -> Path:
    """The files that pydicom installs."""
    return Path(pydicom.__file__).parent / "data"
