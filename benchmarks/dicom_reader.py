# SPDX-License-Identifier: Apache-2.0
"""Times the DICOM reader against SimpleITK and MONAI's readers on one series, all in one run, taking turns.

python -m benchmarks.dicom_reader --output docs/results/dicom_reader_cpu.json
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import pydicom
import SimpleITK as sitk
import typer
from monai.transforms import LoadImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

from monai_sam2unet.dicom import SAM2UNetDICOMReader, read_volume

SYNTAXES = {"plain": ExplicitVRLittleEndian, "rle": RLELossless, "j2k": JPEG2000Lossless}
OURS = "read_volume"
PEER = "SimpleITK ImageSeriesReader"
#: Elements of a header, as many as a CT scanner writes.
ELEMENTS = 120


def phantom(number: int, slices: int, size: int) -> NDArray[np.int16]:
    """A slice through an ellipsoid of water with bone in it, and a scanner's noise, in stored values."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    z = 2 * number / max(slices - 1, 1) - 1
    noise = np.random.default_rng(number).normal(0, 12, (size, size))
    body = np.where(x**2 / 0.7 + y**2 / 0.4 + z**2 / 2 < 1, 1024 + noise, 24 + noise / 4)
    bone = x**2 + (y - 0.3) ** 2 < 0.01
    return (body + 900 * bone).clip(0, 4095).astype(np.int16)


def write_series(folder: Path, slices: int, size: int, syntax: str) -> None:
    """Write an axial CT with shuffled names, headers of about 120 elements among them."""
    names = np.random.default_rng(0).permutation(slices)
    private = Dataset()
    private.CodeValue, private.CodingSchemeDesignator, private.CodeMeaning = "T-D4000", "SRT", "Abdomen"
    for number in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        image = FileDataset("", {}, b"\0" * 128, meta)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
        image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.PatientID, image.PatientName, image.SeriesDescription = "1", "Phantom", "Abdomen 1.0"
        image.InstanceNumber, image.SeriesNumber, image.AcquisitionNumber = number + 1, 2, 1
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-200, -200, number - 100.5]
        image.PixelSpacing, image.SliceThickness = [0.78125, 0.78125], 1
        image.AnatomicRegionSequence = [private]
        image.Rows = image.Columns = size
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept, image.WindowCenter, image.WindowWidth = "1", "-1024", 40, 350
        block = image.private_block(0x0019, "BENCHMARK", create=True)
        for element in range(ELEMENTS - len(image)):
            block.add_new(element, ("DS", "LO", "IS", "US")[element % 4], ("1.25", "text", "42", 7)[element % 4])
        image.PixelData = phantom(number, slices, size).tobytes()
        image["PixelData"].VR = "OW"
        if SYNTAXES[syntax] != ExplicitVRLittleEndian:
            image.compress(SYNTAXES[syntax], generate_instance_uid=False)
        image.save_as(folder / f"{names[number]:04d}.dcm", enforce_file_format=True)


def with_simpleitk(folder: Path) -> NDArray:
    """Series in the order of their positions, as an array (slices, rows, columns)."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def readers() -> dict[str, Callable[[Path], NDArray]]:
    """Name -> what reads a folder into (slices, rows, columns)."""

    def monai(reader: object) -> Callable[[Path], NDArray]:
        load = LoadImage(reader=reader)
        return lambda folder: load(folder).numpy().transpose(2, 1, 0)

    return {
        OURS: lambda folder: read_volume(folder).pixels,
        "LoadImage SAM2UNetDICOMReader": monai(SAM2UNetDICOMReader()),
        PEER: with_simpleitk,
        "LoadImage ITKReader": monai("ITKReader"),
        "LoadImage PydicomReader": monai("PydicomReader"),
    }


def time_all(folder: Path, repeats: int) -> dict[str, dict[str, object]]:
    """Time each reader ``repeats`` times after one turn that is not counted, and compare what they read."""
    seconds: dict[str, list[float]] = {name: [] for name in readers()}
    truth = read_volume(folder).pixels
    same: dict[str, bool] = {}
    for turn in range(repeats + 1):
        for name, read in readers().items():
            start = time.perf_counter()
            values = read(folder)
            if turn:
                seconds[name].append(time.perf_counter() - start)
            else:
                # MONAI's readers may begin with the other end of the stack.
                same[name] = bool(np.array_equal(values, truth) or np.array_equal(values[::-1], truth))
            del values
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        name: {
            "median_s": round(medians[name], 4),
            "min_s": round(min(times), 4),
            "max_s": round(max(times), 4),
            "ratio_to_simpleitk": round(medians[name] / medians[PEER], 3),
            "same_values": same[name],
        }
        for name, times in seconds.items()
    }


def main(
    output: Annotated[Path | None, typer.Option(help="JSON file to write; printed only if left out.")] = None,
    slices: Annotated[int, typer.Option(help="Slices of the series.", min=2)] = 200,
    size: Annotated[int, typer.Option(help="Rows and columns.", min=16)] = 512,
    syntaxes: Annotated[str, typer.Option(help="plain, rle, j2k; several with commas.")] = "plain",
    repeats: Annotated[int, typer.Option(help="Turns that are counted.", min=1)] = 7,
) -> None:
    """Write a series, read it in turns by each reader, and report medians, spread and ratios."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    packages = ("pydicom", "SimpleITK", "monai", "itk-io", "numpy", "pylibjpeg-openjpeg", "pylibjpeg-rle")
    results: dict[str, object] = {
        "command": f"python -m benchmarks.dicom_reader {' '.join(sys.argv[1:])}",
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in packages},
        "series": {"slices": slices, "size": size, "elements": ELEMENTS, "repeats": repeats},
    }
    for syntax in syntaxes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            write_series(Path(folder), slices, size, syntax)
            elements = len(pydicom.dcmread(next(Path(folder).iterdir()), stop_before_pixels=True))
            typer.echo(f"{syntax}: {slices} slices of {size}x{size}, {elements} elements")
            results[syntax] = timed = time_all(Path(folder), repeats)
        for name, row in timed.items():
            typer.echo(f"  {name:32} {row}")
    if output is not None:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
