# SPDX-License-Identifier: Apache-2.0
"""OHIF, as it comes with MONAI Label, in a browser: a study from the archive, and a model's mask over it."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
from PIL import Image

pytestmark = [pytest.mark.label, pytest.mark.orthanc, pytest.mark.browser]
Infer = Callable[..., requests.Response]
CARDIAC = "cardiac_mr_segmentation"
#: The last two are for WebGL without a GPU.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
LABELMAP = "services.segmentationService.getLabelmapVolume('1')"
#: What the viewer shows: the voxels of the image and of the mask, and the mask's segments.
SHOWN = f"""() => {{
    const mask = {LABELMAP};
    const image = cornerstone.cache.getVolumes().find(one => one.volumeId.startsWith('cornerstoneStreaming'));
    const segments = Object.values(services.segmentationService.getSegmentations()[0].config.segments);
    return {{
        size: mask.dimensions,
        image: Array.from(image.voxelManager.getCompleteScalarDataArray()),
        mask: Array.from(mask.voxelManager.getCompleteScalarDataArray()),
        segments: Object.fromEntries(segments.map(one => [one.label, one.segmentIndex])),
    }};
}}"""


@pytest.fixture(scope="module")
def page(archive_server: str) -> Iterator[Any]:
    """A page of a browser that is connected with the server only."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed (Debian: chromium)")

    def only_ours(route: Any) -> None:
        ours = route.request.url.startswith((archive_server, "data:", "blob:"))
        route.continue_() if ours else route.abort()

    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(120_000)
        page.route("**/*", only_ours)
        yield page
        browser.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: the folder SAM2UNET_TEST_ARTEFACTS, so that they stay."""
    folder = Path(os.environ.get("SAM2UNET_TEST_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def coloured(screenshot: bytes) -> int:
    """How many pixels of the viewports, which are gray, have a colour."""
    values = np.asarray(Image.open(io.BytesIO(screenshot)).convert("RGB")).astype(int)[270:490, 290:990]
    return int((values.max(-1) - values.min(-1) > 60).sum())


def voxels(content: bytes, folder: Path) -> np.ndarray:
    (folder / "volume.nii.gz").write_bytes(content)
    return np.asarray(nib.load(folder / "volume.nii.gz").dataobj)


def test_a_mask_in_ohif(
    page: Any, archive_server: str, infer: Infer, phantom_series: Path, pictures: Path, tmp_path: Path
) -> None:
    header = pydicom.dcmread(next(phantom_series.iterdir()), stop_before_pixels=True)
    page.goto(f"{archive_server}/ohif/monai-label?StudyInstanceUIDs={header.StudyInstanceUID}")
    page.get_by_text("Confirm and Hide").click()
    page.locator("#monailabelServerURL").fill(f"{archive_server}/")
    # It makes an empty mask of the volume in the viewport when it connects.
    page.wait_for_function("cornerstone.cache.getVolumes().some(one => one.loadStatus?.loaded)")
    page.locator(".settingsTable .actionButton").click()
    run = page.get_by_title("Run Segmentation", exact=True)
    run.wait_for()
    page.wait_for_function(f"{LABELMAP} != null")
    before = page.screenshot()
    run.click()
    page.wait_for_function(f"{LABELMAP}.voxelManager.getCompleteScalarDataArray().some(Boolean)")
    page.get_by_text("Running Segmentation - Successful").wait_for()
    page.wait_for_timeout(1000)
    after = page.screenshot(path=pictures / "ohif.png")
    assert coloured(after) > coloured(before) + 5000

    shown = page.evaluate(SHOWN)
    image, mask = (np.array(shown[key]).reshape(shown["size"][::-1]).T for key in ("image", "mask"))
    uid = header.SeriesInstanceUID
    sent = requests.get(f"{archive_server}/datastore/image", params={"image": uid}, timeout=60).content
    np.testing.assert_array_equal(image, voxels(sent, tmp_path))
    segments = np.array([0, *(shown["segments"][name] for name in ("RV", "MYO", "LV"))])
    np.testing.assert_array_equal(mask, segments[voxels(infer(archive_server, CARDIAC, uid).content, tmp_path)])
