# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's batch inference with a bundle, for `benchmarks.dicom_batch`; needs what `make label` installs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_sam2unet.dicom.volume import read_volume

__all__ = ["label_batch"]


def label_batch(bundle: Path, data: Path, work: Path, settings: Mapping[str, Any], device: str) -> Callable[[], None]:
    """A call that predicts all volumes and writes their masks, one after the other, with the network loaded before.

    MONAI Label's own store of files takes no DICOM series, so it is given the same volumes as NIfTI.

    Args:
        bundle: folder of the bundle, with its weights.
        data: folder of a folder for each series.
        work: new folder for the NIfTI files, and what MONAI Label writes.
        settings: for keys of the bundle's inference config.
        device: where the network runs.
    """
    from monai_sam2unet.label import compat

    compat.apply()
    from monai_sam2unet.label.app import SAM2UNetApp

    studies, app_dir = work / "studies", work / "app"
    studies.mkdir(parents=True)
    app_dir.mkdir()
    for series in sorted(data.iterdir()):
        volume = read_volume(series)
        values = np.asarray(volume.pixels, np.int16).transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(values, volume.affine), studies / f"{series.name}.nii")
    given = {key: str(value) for key, value in settings.items()}
    conf = {"bundles": str(bundle.parent), "models": bundle.name, **given}
    app = SAM2UNetApp(str(app_dir), str(studies), conf)
    request = {"model": bundle.name, "images": "all", "device": device, "multi_gpu": False, "max_workers": 1}

    def predict() -> None:
        done = app.batch_infer(dict(request))
        failed = sorted(name for name, result in done.items() if not result or "error" in result)
        if failed:
            raise RuntimeError(f"MONAI Label failed for {', '.join(failed)}; its log says why.")

    return predict
