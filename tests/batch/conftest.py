# SPDX-License-Identifier: Apache-2.0
"""Real series, servers that fail, and small disks, for runs over many series."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pydicom
import pytest

from monai_sam2unet.batch.batch_runner import BatchRunner
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import SeriesJob


@pytest.fixture(scope="session")
def real_series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """The files of a real series by the name of its folder; UIDs that were taken out of them are put in."""
    made: dict[str, list[Path]] = {}

    def files(name: str) -> list[Path]:
        if name not in made:
            paths = sorted(path for path in (shared_data / "dicom" / name).iterdir() if path.is_file())
            made[name] = [with_uids(path, tmp_path_factory) for path in paths]
        return made[name]

    study, series = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()

    def with_uids(path: Path, factory: pytest.TempPathFactory) -> Path:
        image = pydicom.dcmread(path)
        if image.get("SOPInstanceUID"):
            return path
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID
        image.SOPClassUID, image.PatientID = image.file_meta.MediaStorageSOPClassUID, "1"
        image.save_as(written := factory.mktemp("images") / path.name)
        return written

    return files


@dataclass
class ScriptedServer:
    """An HTTP server that gives the answers it was told, one after the other, the last one for ever."""

    url: str
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def answer(self, status: int, body: bytes | list | dict = b"", **headers: str) -> None:
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/dicom+json", **headers}
        self.answers.append((status, headers, body))


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[ScriptedServer]:
    """The server on loopback, with TLS where there is a certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size + 2)[:size]
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.reply(body)

        def reply(self, body: bytes) -> None:
            told.asked.append((self.path, dict(self.headers), body))
            status, headers, content = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            # An answer that is shorter than it says is a connection that breaks.
            self.close_connection = "Content-Length" in headers

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    told = ScriptedServer(f"{scheme}://127.0.0.1:{server.server_address[1]}/dicom-web")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[ScriptedServer, Path]]:
    """A server with TLS, and its certificate, which is its own authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key, certificate, both = (tmp_path / f"{name}.pem" for name in ("key", "certificate", "both"))
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *names]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    with serving(both) as server:
        yield server, certificate


@pytest.fixture
def two_radiographs(shared_data: Path, tmp_path: Path) -> list[Path]:
    """Two radiographs of one series, which make no volume."""
    files = []
    for number in (1, 2):
        image = pydicom.dcmread(shared_data / "dicom" / "monochrome1" / "dx_image.dcm")
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = "1.2", "1.2.3", f"1.2.3.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(path := tmp_path / f"radiograph{number}.dcm")
        files.append(path)
    return files


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A disk of 2 MB, and what gives it another size; root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=True)

    try:
        mount("size=2m")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small disk can be mounted: {error}")
    yield folder, lambda size: mount(f"remount,size={size}")
    subprocess.run(["umount", str(folder)], check=True)


class CountingProcessor:
    """Writes how many files a series has."""

    def __init__(self, work_folder: Path) -> None:
        self.work_folder = work_folder

    def read(self, job: SeriesJob) -> int:
        with job.opened(self.work_folder) as files:
            return len({pydicom.dcmread(file).SOPInstanceUID for file in files})

    def predict(self, cases: list[int]) -> list[int]:
        return cases

    def write(self, job: SeriesJob, result: int, folder: Path) -> None:
        (folder / "count.txt").write_text(f"{job.series_uid} {result}")


@pytest.fixture
def count_run(tmp_path: Path) -> Callable[[Iterable[SeriesJob | Refused]], dict[str, int]]:
    """Runs jobs to a folder; gives how many files each series had, by its UID and the key."""

    def run(jobs: Iterable[SeriesJob | Refused]) -> dict[str, int]:
        summary = BatchRunner(jobs, CountingProcessor(tmp_path / "work"), tmp_path / "run").run()
        assert (summary.progress.failed, summary.left) == (0, 0)
        assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())
        words = [path.read_text().split() for path in (tmp_path / "run").glob("*/count.txt")]
        return {f"{uid} {count}": int(count) for uid, count in words}

    return run


@pytest.fixture(scope="session")
def checkpoint(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes random weights of a bundle's network whose masks are not empty."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str) -> str:
        import torch

        from monai_sam2unet.bundle import BundleConfig

        path = folder / f"{name}.pt"
        if not path.exists():
            torch.manual_seed(0)
            network = BundleConfig(repository / "bundles" / name, {"encoder_size": "tiny"}).build("network_def")
            torch.save({"model": network.state_dict()}, path)
        return str(path)

    return make
