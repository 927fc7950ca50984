# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests: the repository, small phantoms, real images where they are at hand, and a real archive."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from filelock import FileLock
from hypothesis import settings
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from monai_sam2unet.data import write_polyp_phantoms

from .warm_python import WarmPython

REPOSITORY = Path(__file__).parents[1]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
#: Files that share exported networks, or a server.
SHARED = {
    "exported": r"tests/export/",
    "folder_server": r"tests/label/test_(active_learning|app|clicks|errors|load|refused)\.py",
    "archive_server": r"tests/label/test_(ohif|orthanc)\.py",
}
# The same examples at each run, however long one takes.
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")

USER, PASSWORD = "reader", "a word that no log may hold"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Of several processes one runs all files that share what is expensive, for each would make its own."""
    from xdist.scheduler import LoadScopeScheduling

    class ByWhatIsShared(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((name for name, pattern in SHARED.items() if re.search(pattern, file)), file)

    return ByWhatIsShared(config, log)


@pytest.fixture(scope="session", autouse=True)
def _root_level() -> int:
    """Level of the root logger, before any other fixture runs."""
    return logging.getLogger().level


@pytest.fixture(autouse=True)
def _logging_stays(_root_level: int) -> Iterator[None]:
    """MONAI's workflows configure logging for the whole process: later tests would find other levels and handlers."""
    root = logging.getLogger()
    root.setLevel(_root_level)
    handlers = root.handlers[:]
    yield
    root.setLevel(_root_level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def python_m() -> Iterator[WarmPython]:
    """Runs ``python -m`` with MONAI imported already."""
    with WarmPython() as run:
        yield run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, which are not part of the repository: SAM2UNET_TEST_DATA, or ../shared/data beside it."""
    folder = Path(os.environ.get("SAM2UNET_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "polyp").is_dir():
        pytest.skip(f"real test images are not at {folder} (set SAM2UNET_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_weights() -> Path:
    """The published SAM 2 Hiera-Tiny, found in its usual place or made by the script beside the real images."""
    path = Path.home() / ".cache" / "monai_sam2unet" / "sam2_hiera_tiny.pt"
    script = REPOSITORY.parent / "shared" / "get_weights.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists() and script.exists():
            subprocess.run([sys.executable, str(script)], check=True)
    if not path.exists():
        pytest.skip(f"the SAM 2 Hiera-Tiny weights are not at {path}")
    return path


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and four test phantoms in PraNet's layout, about 96x128 pixels."""
    return write_polyp_phantoms(tmp_path_factory.mktemp("phantoms"), num_train=12, num_test=4, height=96, width=128)


@pytest.fixture(scope="session")
def heart_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MR of four patients at two times, 24x20x6 voxels of 1.5x2x8 mm: classes 1, 2 and 3 are blocks, ever brighter."""
    folder = tmp_path_factory.mktemp("hearts")
    generator = np.random.default_rng(0)
    affine = np.array([[1.5, 0, 0, -10], [0, 2, 0, 5], [0, 0, 8, 3], [0, 0, 0, 1.0]])
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for patient in range(1, 5):
        for frame in (1, 2):
            label = np.zeros((24, 20, 6), np.uint8)
            for k in (1, 2, 3):
                row, column = generator.integers(1, 4), generator.integers(1, 12)
                label[6 * k - row : 6 * k + 3, column : column + 6, 1:5] = k
            image = (label * 200 + generator.integers(0, 100, label.shape)).astype(np.int16)
            for kind, values in (("images", image), ("labels", label)):
                name = f"patient{patient:03}_frame{frame:02}.nii.gz"
                nib.save(nib.Nifti1Image(values, affine), folder / kind / name)
    return folder


@pytest.fixture(scope="session")
def make_dicom_volume() -> Callable[..., list[Path]]:
    """Writes a CT or MR series: (folder, values (columns, rows, slices), affine to RAS, attributes of all slices)."""

    def make(folder: Path, values: NDArray, affine: NDArray, **attributes: Any) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        common = {
            "SOPClassUID": CTImageStorage,
            "Modality": "CT",
            "PatientID": folder.name,
            "PatientName": "",
            "PatientBirthDate": "",
            "PatientSex": "",
            "StudyInstanceUID": generate_uid(),
            "StudyID": "1",
            "StudyDate": "20200101",
            "StudyTime": "",
            "AccessionNumber": "",
            "ReferringPhysicianName": "",
            "SeriesInstanceUID": generate_uid(),
            "SeriesNumber": 1,
            "FrameOfReferenceUID": generate_uid(),
            "PositionReferenceIndicator": "",
            "Manufacturer": "",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "ImageOrientationPatient": [f"{v:.10f}"[:16] for v in (lps[:3, :2] / spacing[:2]).T.ravel()],
            "PixelSpacing": [float(spacing[1]), float(spacing[0])],
            "SliceThickness": float(spacing[2]),
            "Rows": values.shape[1],
            "Columns": values.shape[0],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
        }
        paths = []
        for index in range(values.shape[2]):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
            dataset = FileDataset("", {}, b"\0" * 128, meta)
            for keyword, value in {**common, **attributes}.items():
                setattr(dataset, keyword, value)
            meta.MediaStorageSOPClassUID, dataset.SOPInstanceUID = dataset.SOPClassUID, meta.MediaStorageSOPInstanceUID
            dataset.InstanceNumber = index + 1
            dataset.ImagePositionPatient = [f"{v:.8f}"[:16] for v in lps[:3, 3] + index * lps[:3, 2]]
            dataset.PixelData = np.ascontiguousarray(values[..., index].T.astype(np.int16)).tobytes()
            # In another order than that of the slices.
            paths.append(folder / f"{values.shape[2] - index:03}.dcm")
            dataset.save_as(paths[-1], enforce_file_format=True)
        return paths

    return make


@pytest.fixture(scope="session")
def make_segmentation() -> Callable[..., Path]:
    """Writes a DICOM segmentation by highdicom: (path, files of the series, {SegmentLabel: mask}, type).

    Masks are (columns, rows, slices), in the order of the files; of FRACTIONAL they hold shares in [0, 1].
    """

    def make(path: Path, files: Sequence[Path], masks: Mapping[str, NDArray], kind: str = "BINARY") -> Path:
        import highdicom as hd
        import pydicom

        path.parent.mkdir(parents=True, exist_ok=True)
        organ = hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")
        algorithm = hd.AlgorithmIdentificationSequence("made", hd.sr.CodedConcept("123110", "DCM", "AI"), "1")
        described = [
            hd.seg.SegmentDescription(number, label, organ, organ, "AUTOMATIC", algorithm)
            for number, label in enumerate(masks, 1)
        ]
        arrays = [np.asarray(mask).transpose(2, 1, 0) for mask in masks.values()]
        if kind == "LABELMAP":
            pixels = np.zeros(arrays[0].shape, np.uint8)
            for number, array in enumerate(arrays, 1):
                pixels[array > 0] = number
        else:
            pixels = np.stack(arrays, -1).astype(np.uint8 if kind == "BINARY" else np.float32)
        made = hd.seg.Segmentation(
            [pydicom.dcmread(file) for file in files], pixels, kind, described,
            series_instance_uid=generate_uid(), series_number=2, sop_instance_uid=generate_uid(), instance_number=1,
            manufacturer="made", manufacturer_model_name="made", software_versions="1", device_serial_number="1",
        )  # fmt: skip
        made.save_as(path)
        return path

    return make


@pytest.fixture
def on_two_processes(tmp_path: Path) -> Callable[..., None]:
    """Runs a script in two processes at once, each given its rank, a file to meet at, and the arguments."""

    def run(script: str, *arguments: object, timeout: float = 120) -> None:
        path = tmp_path / "process.py"
        path.write_text(script, encoding="utf-8")
        words = [str(word) for word in (tmp_path / "rendezvous", *arguments)]
        processes = [
            subprocess.Popen(
                [sys.executable, str(path), str(rank), *words],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            errors = [process.communicate(timeout=timeout)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)

    return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Orthanc:
    http_port: int
    dicom_port: int

    ae_title = "ARCHIVE"

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def ask(self, method: str, path: str, **options) -> requests.Response:
        answer = requests.request(
            method, f"http://127.0.0.1:{self.http_port}/{path}", auth=(USER, PASSWORD), timeout=30, **options
        )
        answer.raise_for_status()
        return answer

    def upload(self, files: Sequence[Path]) -> None:
        for file in files:
            self.ask("POST", "instances", data=file.read_bytes())

    def instance(self, sop_uid: str) -> bytes | None:
        """The file that it keeps of an instance, by its own interface, not DICOMweb."""
        found = self.ask("POST", "tools/lookup", data=sop_uid).json()
        names = [item["ID"] for item in found if item["Type"] == "Instance"]
        return self.ask("GET", f"instances/{names[0]}/file").content if names else None

    def empty(self) -> None:
        for name in self.ask("GET", "patients").json():
            self.ask("DELETE", f"patients/{name}")


@pytest.fixture(scope="session")
def running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.is_file():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (Debian: orthanc, orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("orthanc")
    orthanc = Orthanc(free_port(), free_port())
    settings = {
        "Name": "tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": orthanc.http_port,
        "DicomPort": orthanc.dicom_port,
        "DicomAet": orthanc.ae_title,
        "DicomCheckCalledAet": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "HttpThreadsCount": 4,
        "KeepAlive": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    try:
        for _ in range(200):
            try:
                orthanc.ask("GET", "system")
                break
            except requests.RequestException:
                if process.poll() is not None:
                    break
                time.sleep(0.1)
        else:
            process.kill()
        if process.poll() is not None:
            pytest.fail(f"Orthanc did not start:\n{(folder / 'log.txt').read_text()[-2000:]}")
        yield orthanc
    finally:
        # It would take seconds to close what is thrown away.
        process.kill()
        process.wait(20)


@pytest.fixture
def orthanc(running_orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """An empty archive, and who we are to it."""
    running_orthanc.empty()
    monkeypatch.setenv("SAM2UNET_DICOMWEB_USER", USER)
    monkeypatch.setenv("SAM2UNET_DICOMWEB_PASSWORD", PASSWORD)
    return running_orthanc


@pytest.fixture
def port() -> int:
    """A port of loopback at which nothing listens."""
    return free_port()
