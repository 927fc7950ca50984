# SPDX-License-Identifier: Apache-2.0
"""Tests of whole runs between real peers: a PACS, and a program that sends images."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

BUNDLE = "hippocampus_mr_segmentation"
SMALL = ["--encoder_size", "tiny", "--spatial_size", "[64,64]"]
CROP = "mr_series_hippocrop"


@pytest.fixture
def command(repository, checkpoint, tmp_path):
    words = [
        "--bundle",
        repository / "bundles" / BUNDLE,
        "--output",
        tmp_path / "out",
        "--ckpt_path",
        checkpoint(BUNDLE),
    ]
    start = [sys.executable, "-m", "monai_sam2unet", "dicom", *map(str, words), *SMALL]
    # Tests may be run by a program that ignores Ctrl-C, which children inherit.
    environment = {**os.environ, "PYTHONPATH": str(repository)}

    def run(*more: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*start, *map(str, more)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    return run


@pytest.mark.orthanc
@pytest.mark.slow
def test_from_a_pacs_and_back(orthanc, real_series, command, tmp_path) -> None:
    files = real_series(CROP)
    orthanc.upload(files)
    pacs = f"dicomweb:{orthanc.dicomweb}"
    done = command("--input", pacs, "--where", "Modality=MR", "--write", "seg,sr,nifti", "--send", pacs)
    told = done.communicate(timeout=300)[1]
    assert done.returncode == 0, told
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir() and not path.name.startswith("."))
    for name in ("segmentation.dcm", "report.dcm"):
        written = pydicom.dcmread(folder / name)
        kept = orthanc.instance(written.SOPInstanceUID)
        assert kept is not None
        assert pydicom.dcmread(BytesIO(kept)) == written
    stored = highdicom.seg.segread(folder / "segmentation.dcm")
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]
    planes = stored.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    mask = np.asarray(nib.load(folder / "segmentation.nii.gz").dataobj)
    assert np.array_equal(np.bincount(planes.ravel(), minlength=3), np.bincount(mask.ravel(), minlength=3))
    # Nothing of the fetched images is left, and neither what is said nor the log names the series.
    assert not list((tmp_path / "out" / ".work").glob("*"))
    series = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    assert series not in told + (tmp_path / "out" / "batch.log").read_text()


@pytest.mark.slow
def test_what_is_sent_is_segmented(real_series, port, command, tmp_path) -> None:
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("storescu is not installed (Debian: dcmtk)")
    listener = command("--listen", port, "--quiet-seconds", 1, "--caller", "SCANNER", "--write", "nifti")
    assert listener.stderr is not None
    files = [str(file) for file in real_series(CROP)]
    try:
        assert "Listening" in listener.stderr.readline()
        send = [program, "-aet", "SCANNER", "127.0.0.1", str(port), *files]
        subprocess.run(send, check=True, capture_output=True, timeout=60)
        stranger = [program, "-aet", "STRANGER", "127.0.0.1", str(port), files[0]]
        assert subprocess.run(stranger, capture_output=True, timeout=60).returncode != 0
        found: list[Path] = []
        deadline = time.monotonic() + 240
        while not found and time.monotonic() < deadline:
            found = list((tmp_path / "out").glob("[!.]*/segmentation.nii.gz"))
            time.sleep(0.2)
        listener.send_signal(signal.SIGINT)
        told = listener.communicate(timeout=120)[1]
    finally:
        listener.kill()
    assert found, told
    assert nib.load(found[0]).shape[2] == len(files)
    assert listener.returncode == 0, told
    assert "1 series done" in told
