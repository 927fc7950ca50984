# SPDX-License-Identifier: Apache-2.0
"""Each fault that is worked round is still there upstream, and gone here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from monai_sam2unet.label import compat

pytestmark = pytest.mark.label
MENDED = "mended upstream: remove what works round it from monai_sam2unet/label/compat.py"


@pytest.mark.parametrize(
    ("package", "fault"),
    [
        ("pydicom_seg", "No module named 'pydicom._storage_sopclass_uids'"),
        ("torchvision", "operator torchvision::nms does not exist"),
    ],
)
def test_packages_cannot_be_imported_without(package: str, fault: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, text=True)
    assert done.returncode != 0, MENDED
    assert fault in done.stderr


def test_what_is_missing_in_other_versions_is_not_declared_again() -> None:
    compat.apply()
    compat.apply()
    import pydicom_seg
    from torchvision.utils import make_grid

    assert callable(make_grid)
    assert pydicom_seg.MultiClassWriter


def test_the_best_weights_are_run_not_those_with_the_shortest_name(small_bundles: Path) -> None:
    compat.apply()
    from monailabel.tasks.infer.bundle import BundleInferTask

    def first(init: object) -> str:
        task = object.__new__(BundleInferTask)
        init(task, str(small_bundles / "polyp_segmentation"), {})
        return task.config()["model_filename"][0]

    assert first(BundleInferTask.__init__.__wrapped__) == "last.pt", MENDED
    assert first(BundleInferTask.__init__) == "model.pt"
