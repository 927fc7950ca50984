from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from monai_sam2unet.batch.identity import discreet, discreet_refusal, hashed_uid
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.run_log import about, run_log
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.dicom import read_volume
from monai_sam2unet.dicom.pixels import PixelReader
from monai_sam2unet.errors import DataError

UID = "1.2.826.0.1.3680043.8.498.12"
ARCHIVE = Path("/scans/DOE.zip")
FILES = (
    Path("/scans/DOE JANE/1/1.dcm"),
    Path("/scans/DOE JANE/1/2.dcm"),
    ARCHIVE / "DOE JANE" / "3.dcm",
    Path("/scans/DOE\x07.dcm"),
)
JOB = SeriesJob(UID, UID, UID + ".1", "CT", "", FILES, 2, 10, archives=(ARCHIVE,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{FILES[1]} is cut off.", "file 2 of 4 is cut off."),
        (f"{FILES[0].parent} holds two series.", "its folder holds two series."),
        (f"There is no series {UID}.", f"There is no series {hashed_uid(UID)}."),
        ("/out/unpacked-1/DOE JANE/3.dcm is cut off.", "/out/unpacked-1/file 3 of 4 is cut off."),
        ("/scans/DOE.zip is damaged.", "its archive is damaged."),
        ("/scans/DOE\\x07.dcm is no image.", "file 4 of 4 is no image."),
        (f"{UID}.dcm", f"{hashed_uid(UID)}.dcm"),
        (f"CT.{UID}.dcm", f"CT.{hashed_uid(UID)}.dcm"),
        ("torch 2.8.0 at 127.0.0.1", "torch 2.8.0 at 127.0.0.1"),
    ],
)
def test_discreet(text: str, expected: str) -> None:
    assert discreet(text, JOB) == expected


@pytest.mark.parametrize(
    ("source", "reason", "expected"),
    [
        ("/s/DOE JANE/I/1", "/s/DOE JANE/DICOMDIR names /s/DOE JANE/I/1, which", "its folder/DICOMDIR names it, which"),
        ("/x/1", "/x/1, named in line 3 of /s/DOE JANE/list.txt, is not there.", "it, named in line 3 of (a path), is"),
        ("/x/1", "[Errno 2] No such file: '/s/DOE JANE/a b.dcm'", "[Errno 2] No such file: (a path)"),
        ("/x/1", "Values in HU/mm and 1/2 at http://host/dicom-web.", "Values in HU/mm and 1/2 at http://host/dicom"),
    ],
)
def test_refusals_hold_no_paths(source: str, reason: str, expected: str) -> None:
    assert discreet_refusal(Refused(source, reason)).startswith(expected)


def test_hashes_tell_series_apart() -> None:
    assert hashed_uid(UID) != hashed_uid(UID + "3")


@pytest.mark.parametrize("show_identity", [False, True])
def test_log_of_a_fault(tmp_path: Path, show_identity: bool) -> None:
    def read() -> None:
        value = "DOE^JOHN"
        raise ValueError(value)

    try:
        try:
            read()
        except ValueError as error:
            raise DataError(f"{FILES[0]} cannot be read.") from error
    except DataError as error:
        with run_log(tmp_path / "log", show_identity):
            logging.getLogger("monai_sam2unet.batch.x").error("In %s", UID, exc_info=error, extra={"job": JOB})
    log = (tmp_path / "log").read_text()
    assert ("DOE" in log.replace('"DOE^JOHN"', "")) is show_identity
    assert (UID in log) is show_identity
    assert "in read" in log
    assert "ValueError" in log


@pytest.mark.parametrize("show_identity", [False, True])
def test_warnings_of_libraries_quote_no_values(tmp_path: Path, monkeypatch, show_identity: bool) -> None:
    # As libraries do.
    monkeypatch.setattr(warnings, "formatwarning", lambda message, *_, **__: str(message))
    with run_log(tmp_path / "log", show_identity), warnings.catch_warnings():
        warnings.simplefilter("always")
        pydicom.Dataset().PatientBirthDate = "O'NEIL"
        pydicom.Dataset().PatientBirthDate = "12.03.1961"
    log = (tmp_path / "log").read_text()
    assert log.count("Invalid value for VR DA") == 2
    assert ("NEIL" in log) is ("1961" in log) is show_identity


def test_threads_that_decode_warn_about_the_series(real_series, tmp_path: Path, monkeypatch) -> None:
    files = real_series("ct_series_j2k_with_seg/ct")
    values = PixelReader.values

    def warn(self, frame):
        warnings.warn(f"{frame.path} is odd.", stacklevel=1)
        return values(self, frame)

    monkeypatch.setattr(PixelReader, "values", warn)
    job = replace(JOB, files=tuple(files), archives=())
    with run_log(tmp_path / "log"), warnings.catch_warnings(), about(job):
        warnings.simplefilter("always")
        read_volume(files, num_workers=2)
    log = (tmp_path / "log").read_text()
    assert f"file 3 of {len(files)} is odd." in log
    assert str(files[0].parent) not in log
