from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monai_sam2unet.batch.identity import discreet, hashed_uid
from monai_sam2unet.batch.run_log import run_log
from monai_sam2unet.batch.series_job import SeriesJob
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
        ("torch 2.8.0 at 127.0.0.1", "torch 2.8.0 at 127.0.0.1"),
    ],
)
def test_discreet(text: str, expected: str) -> None:
    assert discreet(text, JOB) == expected


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
