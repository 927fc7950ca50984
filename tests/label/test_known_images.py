# SPDX-License-Identifier: Apache-2.0
"""Probabilities of images are kept within a bound, and not longer than their files are as they were."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from monai_sam2unet.inferers import InteractiveRefiner
from monai_sam2unet.label.known_images import KnownImage, KnownImages, file_version

pytestmark = pytest.mark.label


def known(size: int) -> KnownImage:
    zeros = np.zeros((size, size))
    return KnownImage(InteractiveRefiner(zeros[None].astype(np.float32), zeros.astype(np.uint8), zeros[None]), {})


def test_what_was_used_longest_ago_is_forgotten() -> None:
    images = KnownImages(max_bytes=2 * known(32).refiner.nbytes)
    for name in "ab":
        images.add(name, known(32))
    assert images.get("a") is not None
    images.add("c", known(32))
    assert [images.get(name) is not None for name in "abc"] == [True, False, True]
    images.add("large", known(400))
    assert [images.get(name) is not None for name in ("a", "c", "large")] == [False, False, True]


def test_files_that_change_are_others(tmp_path: Path) -> None:
    file = tmp_path / "slice.dcm"
    file.write_bytes(b"1")
    one, folder = file_version(str(file)), file_version(str(tmp_path))
    assert file_version(str(file)) == one
    os.utime(file, ns=(1, 1))
    assert file_version(str(file)) != one
    assert file_version(str(tmp_path)) != folder
