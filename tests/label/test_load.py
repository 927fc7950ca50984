# SPDX-License-Identifier: Apache-2.0
"""Many requests at once, a client that goes away, and others that do not wait for a slow one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests

pytestmark = pytest.mark.label
Infer = Callable[..., requests.Response]
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"
IMAGES = ((CARDIAC, "heart1"), (POLYP, "frame1"), (CARDIAC, "heart2"), (POLYP, "frame2"))


def process_of(server: str) -> psutil.Process:
    port = urlsplit(server).port
    return next(
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid
    )


def test_fifty_requests_of_eight_clients(folder_server: str, infer: Infer) -> None:
    single = {}
    for model, image in IMAGES:
        answer = infer(folder_server, model, image)
        assert answer.headers["Server-Timing"].startswith("total;dur=")
        single[image] = answer.content
    process = process_of(folder_server)

    def ask(asked: tuple[str, str]) -> tuple[str, int, bytes]:
        answer = infer(folder_server, *asked)
        return asked[1], answer.status_code, answer.content

    with ThreadPoolExecutor(8) as clients:
        # Each of the server's threads keeps memory of its own from its first request on.
        list(clients.map(ask, islice(cycle(IMAGES), 16)))
        before = process.memory_info().rss
        found = list(clients.map(ask, islice(cycle(IMAGES), 50)))
    assert len(found) == 50
    for image, status, content in found:
        assert status == 200, content
        assert mask_of(content) == mask_of(single[image])
    assert process.memory_info().rss - before < 100 * 2**20


def mask_of(content: bytes) -> bytes:
    """Of a picture its file; of a volume, whose gzip has the time in it, what is packed."""
    import gzip

    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def test_a_client_that_goes_away(folder_server: str, infer: Infer, studies: Path) -> None:
    """Before its answer, and in the middle of an upload."""
    where = urlsplit(folder_server)
    asked = f"POST /infer/{CARDIAC}?image=heart1&output=image HTTP/1.1\r\nHost: {where.netloc}\r\n"
    for rest in (
        "Content-Length: 0\r\n\r\n",
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 99999\r\n\r\n--b\r\n",
    ):
        for _ in range(4):
            with socket.create_connection((where.hostname, where.port)) as connection:
                connection.sendall((asked + rest).encode())
    answer = infer(folder_server, CARDIAC, "heart1")
    assert answer.status_code == 200
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{folder_server}/infer/{CARDIAC}", params={"image": "heart2"}, timeout=0.01)
    assert mask_of(infer(folder_server, CARDIAC, "heart1").content) == mask_of(answer.content)


def test_a_slow_request_keeps_nobody_waiting(folder_server: str, own_studies: Path) -> None:
    shape = (64, 64, 96)
    values = np.random.default_rng(0).integers(0, 200, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([1, 1, 4, 1.0])), own_studies / "long.nii.gz")
    took: list[float] = []
    statuses: list[int] = []

    def slow() -> None:
        begin = time.monotonic()
        asked = {"image": "long", "output": "json"}
        statuses.append(requests.post(f"{folder_server}/infer/{CARDIAC}", params=asked, timeout=300).status_code)
        took.append(time.monotonic() - begin)

    def wait_until_listed() -> None:
        while "long" not in requests.get(f"{folder_server}/datastore/?output=all", timeout=60).json()["objects"]:
            time.sleep(0.1)

    wait_until_listed()
    thread = threading.Thread(target=slow)
    thread.start()
    waits = []
    try:
        time.sleep(0.2)
        while thread.is_alive():
            begin = time.monotonic()
            requests.get(f"{folder_server}/info/", timeout=300)
            waits.append(time.monotonic() - begin)
    finally:
        thread.join()
        (own_studies / "long.nii.gz").unlink()
    assert statuses == [200]
    # Several answers came while it ran, none of which took as long.
    assert len(waits) > 3
    assert max(waits) < took[0] / 2
