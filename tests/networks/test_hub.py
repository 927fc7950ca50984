# SPDX-License-Identifier: Apache-2.0
"""Tests of finding weights: by path, by name in a folder, and on a hub that a local server plays."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monai_sam2unet.errors import WeightsError
from monai_sam2unet.networks.hub import WEIGHTS_VARIABLE, find_weights, hub_id, weights_folder

REPO = "facebook/sam2.1-hiera-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Hub(ThreadingHTTPServer):
    """Plays the Hugging Face endpoint for one repository.

    Attributes:
        files: content by name.
        requests: method, file and Range header of each request for a file.
        breaks: how the next transfers end in the middle: "closed" or "reset"; those after are whole.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = files
        self.requests: list[tuple[str, str, str | None]] = []
        self.breaks: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Say nothing of clients that went away."""


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.respond(with_body=False)

    def do_GET(self) -> None:
        self.respond(with_body=True)

    def do_CONNECT(self) -> None:
        """As a proxy that wants a password."""
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass

    def respond(self, with_body: bool) -> None:
        match = re.fullmatch(rf"/{re.escape(REPO)}/resolve/(main|{COMMIT})/(.+)", self.path)
        wanted = self.headers.get("Range")
        if match:
            self.server.requests.append((self.command, match[2], wanted))
        content = self.server.files.get(match[2]) if match else None
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if match else "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not with_body:
            return
        if not self.server.breaks:
            self.wfile.write(content[start:])
            return
        self.wfile.write(content[start : start + len(content) // 2])
        self.wfile.flush()
        self.close_connection = True
        if self.server.breaks.pop(0) == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({"model.safetensors": CONTENT}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def download(tmp_path):
    """Run the command that fetches weights, with a hub and a cache of its own."""

    def run(endpoint: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {
            k: v for k, v in os.environ.items() if not k.lower().startswith(("hf_", "http_", "https_", "all_"))
        }
        own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1", **variables}
        command = [sys.executable, "-m", "monai_sam2unet", "weights", "download", "tiny"]
        return subprocess.run(command, env={**inherited, **own}, capture_output=True, text=True, timeout=300)

    return run


def downloaded(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[0])
    assert path.is_file()
    return path


def assert_short_error(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    assert message.startswith(f"error: The weights {REPO} could not be fetched from the Hugging Face hub (")
    assert WEIGHTS_VARIABLE in message
    assert len(message.splitlines()) <= 5


def test_download_prints_the_path_and_the_next_call_uses_the_cache(hub, download, tmp_path):
    done = download(hub.url)
    path = downloaded(done)
    assert path.read_bytes() == CONTENT
    assert path.name == "model.safetensors"
    assert path.is_relative_to(tmp_path / "hf")
    assert done.stdout.splitlines()[1] == "Use it as: --weights sam2.1 --encoder_size tiny"
    assert [method for method, _, _ in hub.requests].count("GET") == 1

    assert downloaded(download(hub.url)) == path
    assert [method for method, _, _ in hub.requests].count("GET") == 1
    assert downloaded(download(hub.url, HF_HUB_OFFLINE="1")) == path


def test_connection_that_closes_early_is_taken_up_where_it_broke(hub, download):
    hub.files = {"model.safetensors": 24 * CONTENT}  # the client keeps what it got in pieces of 10 MiB
    hub.breaks = ["closed"]
    assert downloaded(download(hub.url)).read_bytes() == 24 * CONTENT
    first, second = (wanted for method, _, wanted in hub.requests if method == "GET")
    assert first is None
    assert 0 < int(re.fullmatch(r"bytes=(\d+)-", second)[1]) <= 12 * len(CONTENT)


def test_connection_that_is_reset_leaves_nothing_half(hub, download, tmp_path):
    hub.breaks = ["reset"]
    assert_short_error(download(hub.url))
    assert list(tmp_path.rglob("model.safetensors")) == []
    assert downloaded(download(hub.url)).read_bytes() == CONTENT


def test_repository_without_safetensors_gives_its_checkpoint(hub, download):
    hub.files = {"sam2.1_hiera_tiny.pt": CONTENT}
    path = downloaded(download(hub.url))
    assert path.name == "sam2.1_hiera_tiny.pt"
    assert path.read_bytes() == CONTENT
    assert downloaded(download(hub.url, HF_HUB_OFFLINE="1")) == path


def test_repository_without_weights_is_a_short_error(hub, download):
    hub.files = {}
    assert_short_error(download(hub.url))


@pytest.mark.slow
def test_unreachable_hub_is_a_short_error(download):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        done = download(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert_short_error(done)


def test_offline_without_a_cache_is_a_short_error(hub, download):
    assert_short_error(download(hub.url, HF_HUB_OFFLINE="1"))
    assert hub.requests == []


def test_proxy_that_refuses_is_a_short_error(hub, download):
    assert_short_error(download("https://hub.invalid", HTTPS_PROXY=hub.url))


# Finding, without a network.


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home, and no variable that names weights."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
def test_name_is_found_in_the_folder_of_the_variable(home, monkeypatch, version, suffix):
    file = touch(home / "weights" / f"{version}_hiera_base_plus{suffix}")
    touch(file.with_name(f"{version}_hiera_large{suffix}"))
    touch(file.with_name(f"{'sam2' if version == 'sam2.1' else 'sam2.1'}_hiera_base_plus.pt"))
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(home / "weights"))
    assert find_weights(version, "base_plus") == file


def test_name_is_found_in_the_cache_folder(home):
    file = touch(home / ".cache" / "monai_sam2unet" / "sam2_hiera_tiny.pt")
    assert find_weights("sam2", "tiny") == file
    assert weights_folder() == file.parent


def test_variable_comes_before_the_cache_folder(home, monkeypatch):
    touch(home / ".cache" / "monai_sam2unet" / "sam2_hiera_tiny.pt")
    file = touch(home / "mine" / "sam2_hiera_tiny.pt")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(file.parent))
    assert find_weights("sam2", "tiny") == file


@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
def test_variable_may_name_the_file_itself(home, monkeypatch, version):
    file = touch(home / "some.pt")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(file))
    assert find_weights(version, "large") == file


def test_variable_that_names_nothing_is_an_error(home, monkeypatch):
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(home / "nowhere"))
    with pytest.raises(WeightsError, match="nowhere, which does not exist"):
        find_weights("sam2", "tiny")


def test_variable_may_start_at_home(home, monkeypatch):
    file = touch(home / "mine" / "sam2_hiera_tiny.pt")
    monkeypatch.setenv(WEIGHTS_VARIABLE, "~/mine")
    assert find_weights("sam2", "tiny") == file


@pytest.mark.parametrize("source", ["weights/my.pt", "~/weights/my.pt"])
def test_path_is_found(home, source):
    file = touch(home / "weights" / "my.pt")
    assert find_weights(source, "tiny").resolve() == file.resolve()
    assert find_weights(file, "tiny") == file


def test_missing_path_is_refused_and_not_looked_for_on_the_hub(home):
    with pytest.raises(WeightsError, match=r"no weights file owner/name\.pt"):
        find_weights("owner/name.pt", "tiny")


@pytest.mark.parametrize(
    ("size", "version", "name"),
    [
        ("tiny", "sam2", "facebook/sam2-hiera-tiny"),
        ("small", "sam2.1", "facebook/sam2.1-hiera-small"),
        ("base_plus", "sam2", "facebook/sam2-hiera-base-plus"),
        ("large", "sam2.1", "facebook/sam2.1-hiera-large"),
    ],
)
def test_hub_id(size, version, name):
    assert hub_id(size, version) == name


def test_hub_id_refuses_unknown_sizes_and_versions():
    with pytest.raises(WeightsError, match="no weights of size 'huge'; choose one of tiny, small, base_plus, large"):
        hub_id("huge")
    with pytest.raises(WeightsError, match=r"no weights of version 'sam3'; choose one of sam2, sam2\.1"):
        hub_id("tiny", "sam3")
