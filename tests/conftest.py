# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests: the repository, small phantoms, and real images where they are at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_sam2unet.data import write_polyp_phantoms

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


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
