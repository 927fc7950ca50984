# SPDX-License-Identifier: Apache-2.0
"""Finds the volumes of a folder that are to be predicted: NIfTI and other files, and DICOM series."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from monai_sam2unet.dicom.series import find_series, may_be_dicom, read_header, why_no_image
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.transforms import Preset

__all__ = ["volume_inference_datalist"]

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
Image = str | list[str]


def _series(files: Sequence[Path]) -> tuple[list[Image], list[str]]:
    """The DICOM series of one folder, each a list of files, and what cannot be taken."""
    try:
        # Whether a file without File Meta Information is taken is the preset's to say, when it reads it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = [file for file in files if why_no_image(read_header(file, strict=False), file) is None]
            series = find_series(images, strict=False) if images else []
    except DataError as error:
        return [], [" ".join(str(error).split())]
    found = [sorted({str(frame.path) for frame in one.frames}) for one in series]
    if len(found) == 1:
        return [found[0] if len(found[0]) > 1 else found[0][0]], []
    several = [f"{files[0].parent}: series {one}; put each series in a folder of its own" for one in series]
    return (
        [names[0] for names in found if len(names) == 1],
        [line for names, line in zip(found, several, strict=True) if len(names) > 1],
    )


def _folders(root: Path, left_out: Path | None) -> Iterator[list[Path]]:
    """The files of each folder, at any depth, hidden ones left out."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(parent, f).resolve() != left_out)
        yield [Path(parent, name) for name in sorted(names) if not name.startswith(".")]


def _find(root: Path, left_out: Path | None) -> tuple[list[Image], list[str]]:
    images: list[Image] = []
    rejected: list[str] = []
    for files in _folders(root, left_out):
        volumes = [file for file in files if file.name.lower().endswith(VOLUME_SUFFIXES)]
        images += [str(file) for file in volumes]
        try:
            dicom = [file for file in files if file not in volumes and file.is_file() and may_be_dicom(file)]
        except OSError as error:
            rejected.append(f"{error.filename}: {error.strerror}")
            continue
        if dicom:
            found, refused = _series(dicom)
            images += found
            rejected += refused
    return images, rejected


def _written_as(name: str) -> str:
    """What MONAI's SaveImage cuts a file's name down to."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (as SaveImage does)
    return os.path.splitext(stem)[0] if suffix == ".gz" else stem  # noqa: PTH122


def volume_inference_datalist(
    dataset_dir: str | Path, preset: Preset, output_dir: str | Path | None = None
) -> dict[str, Any]:
    """Volumes to predict: all below a folder, or a single one.

    Each volume is read once, to see whether the preset takes it. The DICOM files of one folder that belong to one
    series are a volume, which is called as the folder; of several series in a folder only those of one file are taken.

    Args:
        dataset_dir: a folder, searched at any depth (linked folders are not entered), or a file: NIfTI, MetaImage,
            NRRD, DICOM.
        preset: which reads them.
        output_dir: where predictions are written; what lies there is left out.

    Returns:
        ``{"cases": [{"image": path or paths}, ...], "rejected": [line, ...], "root": folder}``; the lines name what
        cannot be read and say why; predictions are named by the path below the root.

    Raises:
        DataError: When there is no volume, or none that can be read; two would be written to one file, or one over
            itself.
    """
    if not isinstance(dataset_dir, (str, Path)) or not Path(dataset_dir).exists():
        raise DataError(f"There is no file or folder {dataset_dir}. Check the path (`--dataset_dir` of a bundle).")
    path = Path(dataset_dir).absolute()  # a series in "." has a name, too
    left_out = None if output_dir is None else Path(output_dir).resolve()
    images, rejected = _find(path, left_out) if path.is_dir() else ([str(path)], [])
    load, cases = preset.inference(), []
    names: dict[str, str] = {}
    for image in images:
        try:
            name = _written_as(str(load({preset.image_key: image})[preset.image_key].meta["filename_or_obj"]))
        except DataError as error:
            name, told = str(ensure_tuple(image)[0]), " ".join(str(error).split())
            rejected.append(told if name in told else f"{name}: {told}")
            continue
        if name in names:
            raise DataError(f"{names[name]} and {ensure_tuple(image)[0]} would be written to one file; rename one.")
        names[name] = str(ensure_tuple(image)[0])
        cases.append({preset.image_key: image})
    if not cases:
        nothing = rejected or ["there is no NIfTI, MetaImage, NRRD or DICOM file"]
        raise DataError(f"There is no volume in {path} that can be read:\n{listing(nothing)}")
    # A series that lies in the folder itself is called as the folder.
    root = path.parent if str(path) in names or path.is_file() else path
    over = [own for name, own in names.items() if left_out == root.resolve() and not Path(own).is_relative_to(name)]
    if over:
        raise DataError(f"Predictions in {output_dir} would be written over the volumes; name another folder.")
    return {"cases": cases, "rejected": rejected, "root": str(root)}
