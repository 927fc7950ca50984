# SPDX-License-Identifier: Apache-2.0
"""A real MONAI Label server on loopback, and bundles with small networks and images for it."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
import torch
from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from monai.bundle import ConfigParser, create_workflow
from PIL import Image
from pydicom.uid import MRImageStorage

from monai_sam2unet.data import make_polyp_phantom

Serve = Callable[..., contextlib.AbstractContextManager[str]]
Start = Callable[..., contextlib.AbstractContextManager[str]]
USER, PASSWORD = "reader", "a word that no log may hold"
ACCOUNT = {"MONAI_LABEL_DICOMWEB_USERNAME": USER, "MONAI_LABEL_DICOMWEB_PASSWORD": PASSWORD}
SMALL = {"encoder_size: large": "encoder_size: tiny", "spatial_size: [352, 352]": "spatial_size: [64, 64]"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("monailabel") is None:
        skip = pytest.mark.skip(reason="MONAI Label is not installed here: make test-label")
        for item in items:
            if item.get_closest_marker("label"):
                item.add_marker(skip)


def _write_weights(bundle: Path) -> None:
    """Random weights, shifted so that each class is the likeliest of some pixels, and a state to resume from."""
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.yaml")
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        network.head.bias -= network(torch.randn(4, 3, 64, 64)).median(0).values.flatten(1).median(1).values
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    torch.save({"network": {}, "optimizer": {}, "epoch": 1}, bundle / "models" / "last.pt")


def _small_bundle(repository: Path, name: str, folder: Path) -> None:
    """A bundle as it is, but for the size of its network; with random weights."""
    shutil.copytree(repository / "bundles" / name, folder / name)
    for config in (folder / name / "configs").glob("*.yaml"):
        text = config.read_text()
        for old, new in SMALL.items():
            text = text.replace(old, new)
        config.write_text(text)
    _write_weights(folder / name)


@pytest.fixture(scope="session")
def small_bundles(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small bundles."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("cardiac_mr_segmentation", "polyp_segmentation"):
        _small_bundle(repository, name, folder)
    return folder


@pytest.fixture(scope="session")
def volume_bundles(repository: Path, small_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small bundles of volumes, MR and CT, that may be trained."""
    folder, heart = tmp_path_factory.mktemp("volume_bundles"), "cardiac_mr_segmentation"
    shutil.copytree(small_bundles / heart, folder / heart)
    _small_bundle(repository, "abdominal_ct_segmentation", folder)
    return folder


@pytest.fixture(scope="session")
def studies(heart_volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two oblique volumes (NIfTI), and two pictures, PNG and JPEG, that are not square."""
    folder = tmp_path_factory.mktemp("studies")
    for number in (1, 2):
        image = nib.load(heart_volumes / "images" / f"patient{number:03}_frame01.nii.gz")
        angle = 0.1 * number
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine), folder / f"heart{number}.nii.gz")
    for number, name in enumerate(("frame1.png", "frame2.jpg")):
        Image.fromarray(make_polyp_phantom(number, 72, 104)[0]).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def predicted(small_bundles: Path, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the bundles' own inference writes of the studies."""
    folder = tmp_path_factory.mktemp("predicted")
    for name, pattern in (("cardiac_mr_segmentation", "*.nii.gz"), ("polyp_segmentation", "frame*")):
        data = folder / f"{name}_data"
        data.mkdir()
        for file in studies.glob(pattern):
            shutil.copy(file, data)
        workflow = create_workflow(
            "ConfigWorkflow", config_file=str(small_bundles / name / "configs" / "inference.yaml"),
            workflow_type="inference", bundle_root=str(small_bundles / name), dataset_dir=str(data),
            output_dir=str(folder), num_workers=0, device="cpu",
        )  # fmt: skip
        workflow.run()
        workflow.finalize()
    return folder


@pytest.fixture(scope="session")
def infer() -> Callable[..., requests.Response]:
    """What asks a server for masks."""

    def ask(server: str, model: str, image: str, output: str = "image", **params: object) -> requests.Response:
        asked, given = {"image": image, "output": output}, {"params": json.dumps(params)}
        return requests.post(f"{server}/infer/{model}", params=asked, data=given, timeout=120)

    return ask


@pytest.fixture(scope="session")
def save_label() -> Callable[..., requests.Response]:
    """What sends a label, as viewers do: (server, image, file or content of NIfTI, tag, what the viewer says of it)."""

    def send(server: str, image: str, label: Path | bytes, tag: str = "final", **info: object) -> requests.Response:
        name, content = ("label.nii.gz", label) if isinstance(label, bytes) else (label.name, label.read_bytes())
        return requests.put(
            f"{server}/datastore/label", params={"image": image, "tag": tag}, data={"params": json.dumps(info)},
            files={"label": (name, content)}, timeout=120,
        )  # fmt: skip

    return send


@pytest.fixture(scope="session")
def read_mask() -> Callable[[requests.Response], np.ndarray]:
    """What reads the PNG or NIfTI of an answer."""

    def read(response: requests.Response) -> np.ndarray:
        assert response.status_code == 200, response.text
        if response.content.startswith(b"\x1f\x8b"):
            return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(response.content)).dataobj)
        return np.asarray(Image.open(io.BytesIO(response.content)))

    return read


@pytest.fixture(scope="session")
def own_mask(predicted: Path) -> Callable[[str], np.ndarray]:
    """What reads the bundle's own mask of one of the studies."""

    def read(name: str) -> np.ndarray:
        volume = predicted / f"{name}.nii.gz"
        if volume.is_file():
            return np.asarray(nib.load(volume).dataobj)
        return np.asarray(Image.open(predicted / "masks" / f"{name}.png")) // 255

    return read


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path, seconds: int = 120) -> None:
    for _ in range(5 * seconds):
        if process.poll() is not None:
            break
        with contextlib.suppress(requests.ConnectionError):
            answer = requests.get(f"{url}/info/", timeout=60)
            # It may ask for a token.
            if answer.status_code != HTTPStatus.UNAUTHORIZED:
                answer.raise_for_status()
            return
        time.sleep(0.2)
    raise RuntimeError(f"MONAI Label did not start:\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """What starts a server by a command that takes ``--port``, waits for it, gives its URL, and ends it."""

    @contextlib.contextmanager
    def start(*command: object, **variables: str) -> Iterator[str]:
        port = _free_port()
        log = tmp_path_factory.mktemp("server") / "log.txt"
        words = [sys.executable, "-m", *map(str, command), "--port", str(port)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        environment |= variables
        with log.open("wb") as file, subprocess.Popen(words, stdout=file, stderr=file, env=environment) as process:
            try:
                _wait(f"http://127.0.0.1:{port}", process, log)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()

    return start


@pytest.fixture(scope="session")
def own_bundles(small_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles of :func:`folder_server`."""
    return Path(shutil.copytree(small_bundles, tmp_path_factory.mktemp("own") / "bundles"))


@pytest.fixture(scope="session")
def own_studies(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The studies of :func:`folder_server`: those of ``studies``, and a volume that cannot be read."""
    folder = tmp_path_factory.mktemp("images")
    for file in studies.glob("*.*"):
        shutil.copy(file, folder)
    (folder / "spoilt.nii.gz").write_bytes((studies / "heart1.nii.gz").read_bytes()[:300])
    return folder


@pytest.fixture(scope="session")
def folder_server(
    serve: Serve,
    own_bundles: Path,
    own_studies: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A server of the two small bundles and a folder of studies, for tests that put back what they change."""
    app = tmp_path_factory.mktemp("app")
    with serve("monai_sam2unet", "label", "--studies", own_studies, "--bundles", own_bundles, "--app", app) as url:
        yield url


@pytest.fixture(scope="session")
def other_bias(own_bundles: Path) -> Callable[[str, list[float]], contextlib.AbstractContextManager[None]]:
    """What gives a model of :func:`folder_server` another bias for a while: new weights, that find what one wants."""

    @contextlib.contextmanager
    def replaced(model: str, bias: list[float]) -> Iterator[None]:
        path = own_bundles / model / "models" / "model.pt"
        before = path.read_bytes()
        torch.save({**torch.load(path, weights_only=True), "head.bias": torch.tensor(bias)}, path)
        try:
            yield
        finally:
            path.write_bytes(before)

    return replaced


@pytest.fixture(scope="session")
def phantom_series(make_dicom_volume: Callable[..., list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an oblique MR series of a phantom of a heart: two bright cavities, a wall, a body, and noise."""
    x, y, z = np.meshgrid(np.arange(72), np.arange(64), np.arange(10), indexing="ij")
    shrink = 1 - ((z - 4) / 9) ** 2
    distance = np.hypot(x - 41, y - 35)
    values = 60.0 * (((x - 36) / 31) ** 2 + ((y - 32) / 23) ** 2 < 1)
    values[distance < 14 * shrink] = 140
    values[distance < 9 * shrink] = 330
    values[(((x - 24) / 8) ** 2 + ((y - 33) / 11) ** 2 < shrink) & (distance >= 14 * shrink)] = 300
    values += np.random.default_rng(0).normal(0, 12, values.shape)
    angle = 0.2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-2.5, -2.5, 8.0]), (90, 80, -40)
    folder = tmp_path_factory.mktemp("series") / "phantom"
    named = {"PatientName": "Phantom^Heart", "StudyDescription": "Short axis", "SeriesDescription": "Phantom"}
    shown = {"WindowCenter": 180, "WindowWidth": 400}
    make_dicom_volume(folder, values, affine, Modality="MR", SOPClassUID=MRImageStorage, **named, **shown)
    return folder


@pytest.fixture(scope="session")
def archived_series(phantom_series: Path) -> dict[str, Path]:
    """Folders of the series in the archive: made on the spot, and real where they are at hand."""
    name = "mr_series_t1post_oblique10deg"
    data = Path(os.environ.get("SAM2UNET_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    real = data / "dicom" / name
    return {"phantom": phantom_series} | ({name: real} if real.is_dir() else {})


class Cable(ThreadingTCPServer):
    """The way to the archive, which may be cut."""

    daemon_threads = True
    cut = False

    def __init__(self, port: int) -> None:
        class Both(BaseRequestHandler):
            def handle(self) -> None:
                if not cable.cut:
                    with socket.create_connection(("127.0.0.1", port)) as archive:
                        back = threading.Thread(target=pass_on, args=(archive, self.request))
                        back.start()
                        pass_on(self.request, archive)
                        back.join()

        cable = self
        super().__init__(("127.0.0.1", 0), Both)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="session")
def cable(running_orthanc) -> Iterator[Cable]:
    with Cable(running_orthanc.http_port) as cable:
        yield cable
        cable.shutdown()


@pytest.fixture(scope="session")
def archive(running_orthanc, archived_series: dict[str, Path], cable: Cable) -> str:
    """Address of an Orthanc that holds the series."""
    running_orthanc.empty()
    client = DICOMwebClient(running_orthanc.dicomweb, session=create_session_from_user_pass(USER, PASSWORD))
    for folder in archived_series.values():
        client.store_instances([pydicom.dcmread(file) for file in sorted(folder.iterdir())])
    return f"http://127.0.0.1:{cable.server_address[1]}/dicom-web"


@pytest.fixture(scope="session")
def start_for_archive(
    serve: Serve,
    archive: str,
    small_bundles: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Start:
    """What starts a server for the archive; unless told otherwise one for MR, which has fetched nothing yet."""

    def begin(
        bundles: Path = small_bundles, modality: str = "MR", cache: Path | None = None
    ) -> contextlib.AbstractContextManager[str]:
        listed = {"MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": modality})}
        kept = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(cache or tmp_path_factory.mktemp("cache"))}
        given = ["--studies", archive, "--bundles", bundles, "--app", tmp_path_factory.mktemp("app")]
        return serve("monai_sam2unet", "label", *given, **ACCOUNT, **listed, **kept)

    return begin


@pytest.fixture(scope="session")
def archive_server(start_for_archive: Start) -> Iterator[str]:
    with start_for_archive() as url:
        yield url
