# SPDX-License-Identifier: Apache-2.0
"""Makes DICOM files for the tests: single slices and series, written to disk as a scanner would."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DermoscopicPhotographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLEndoscopicImageStorage,
)
from pydicom.uid import generate_uid as new_uid

from monai_sam2unet.dicom import DicomVolume, read_volume
from monai_sam2unet.dicom.derived_object import Algorithm
from monai_sam2unet.dicom.segments import Segment, planned_segments

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


#: Who the patient of the written sources is; nothing of it may stay in what is de-identified.
IDENTITY = {
    "PatientName": "Doe^Johannes", "PatientID": "PID-4711", "PatientBirthDate": "19500203", "PatientSex": "M",
    "IssuerOfPatientID": "ISSUER-X", "PatientAge": "074Y", "PatientWeight": "83.5", "AccessionNumber": "ACC0815",
    "StudyID": "ST99", "StudyDate": "20240506", "StudyTime": "112233.44", "StudyDescription": "Abdomen of Doe",
    "ReferringPhysicianName": "House^Gregory", "InstitutionName": "Princeton Hospital", "Manufacturer": "ACME",
    "StationName": "STATION7", "OperatorsName": "Op^Erator", "SeriesNumber": "4",
    "StudyInstanceUID": "1.3.6.1.4.1.54321.7.11.2024", "SeriesInstanceUID": "1.3.6.1.4.1.54321.7.12.2024",
}  # fmt: skip
#: SOP class, modality, shape of the pixels and further attributes of images without a place in the patient.
PLANAR: dict[str, tuple[str, str, tuple[int, ...], dict[str, Any]]] = {
    "cr": (ComputedRadiographyImageStorage, "CR", (40, 50), {"ImagerPixelSpacing": [0.2, 0.2]}),
    "dx": (DigitalXRayImageStorageForPresentation, "DX", (40, 50), {"PixelSpacing": [0.5, 0.25], "Laterality": "L"}),
    "us": (UltrasoundImageStorage, "US", (40, 50, 3), {}),
    "cine": (UltrasoundMultiFrameImageStorage, "US", (5, 40, 50), {"FrameTime": 40}),
    "endoscopy": (VLEndoscopicImageStorage, "ES", (40, 50, 3), {"LossyImageCompression": "01"}),
    "dermoscopy": (DermoscopicPhotographyImageStorage, "DMS", (40, 50, 3), {}),
    "secondary capture": (SecondaryCaptureImageStorage, "OT", (40, 50), {"ConversionType": "WSD"}),
}
#: Kinds of sources that :func:`source` writes.
SOURCES = ("ct", "mr", "enhanced mr", *PLANAR)
CREATED = datetime(2026, 1, 2, 3, 4, 5)


@pytest.fixture
def source(
    tmp_path: Path, make_series: Callable[..., Any], make_enhanced: Callable[..., Path], make_image: Callable[..., Path]
) -> Callable[..., DicomVolume]:
    """Writes and reads a source of one of the kinds SOURCES, of a patient with IDENTITY: (kind, attributes...)."""

    def make(kind: str, read: Mapping[str, Any] | None = None, **attributes: Any) -> DicomVolume:
        generator, folder = np.random.default_rng(0), tmp_path / "source"
        own = {**IDENTITY, **attributes}
        if kind in PLANAR:
            sop_class, modality, shape, further = PLANAR[kind]
            pixels = generator.integers(0, 255, shape).astype(np.uint8)
            make_image(folder / "a.dcm", pixels, SOPClassUID=sop_class, Modality=modality, **{**further, **own})
        elif kind == "enhanced mr":
            # The file has the frames in another order than space.
            places = [{"PlanePositionSequence": {"ImagePositionPatient": [1, 2, z]}} for z in (6, 2, 4, 0, 8)]
            pixels = generator.integers(0, 255, (5, 40, 50)).astype(np.uint16)
            make_enhanced(folder / "a.dcm", pixels, places, FrameOfReferenceUID="1.3.6.1.4.1.54321.7.13.2024", **own)
        else:
            sop_class = CTImageStorage if kind == "ct" else MRImageStorage
            make_series(
                folder, [0, 2.5, 5, 7.5, 10], orientation=(0.8, 0.6, 0, 0, 0, -1),
                each=lambda index: {"pixels": generator.integers(-500, 500, (40, 50)).astype(np.int16)},
                FrameOfReferenceUID="1.3.6.1.4.1.54321.7.13.2024", SOPClassUID=sop_class, Modality=kind.upper(),
                **{"PixelSpacing": [0.5, 0.75], "SliceThickness": "2.5", **own},
            )  # fmt: skip
        return read_volume(folder, **(read or {}))

    return make


@pytest.fixture(scope="session")
def algorithm() -> Algorithm:
    return Algorithm("Abdominal CT segmentation by SAM2-UNet", "0.1.0", "ab" * 32)


@pytest.fixture(scope="session")
def segments() -> list[Segment]:
    coded = [{"type": "Liver"}, {"type": "Kidney", "modifier": "Left"}, {"type": "Lesion", "region": "Breast"}]
    return planned_segments(["liver", "kidney_left", "lesion"], coded)


@pytest.fixture(scope="session")
def mask_for() -> Callable[[DicomVolume], NDArray[np.uint8]]:
    """Class indices for a volume: class 1 and 2 in most slices, nothing in the first of several, class 3 nowhere."""

    def make(volume: DicomVolume) -> NDArray[np.uint8]:
        slices, rows, columns = volume.pixels.shape[:3]
        mask = np.zeros((slices, rows, columns), np.uint8)
        for number in range(min(1, slices - 1), slices):
            mask[number, rows // 4 : rows // 2 + number, columns // 4 : columns // 2] = 1
            mask[number, rows // 2 + 8 :, columns // 5 : columns // 3 + number] = 2
        return mask

    return make


@pytest.fixture
def errors_of(tmp_path: Path) -> Callable[[Dataset], list[str]]:
    """What dciodvfy has against an object."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")

    def check(dataset: Dataset) -> list[str]:
        path = tmp_path / "checked.dcm"
        dataset.save_as(path)
        done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
        told = (done.stdout + done.stderr).splitlines()
        # It always says something: at least which kind of object it found.
        assert told
        return [line for line in told if line.startswith("Error")]

    return check
