# SPDX-License-Identifier: Apache-2.0
"""Finds volumes with labels in a folder, NIfTI and DICOM, in any layout that is known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_sam2unet.data.image_sets import given_sets
from monai_sam2unet.data.volume_layouts import VOLUME_LAYOUTS, RecognisedVolumes, VolumeLayout, recognise_layout
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["recognise_volumes"]


def _given(root: Path, folders: Mapping[str, Mapping[str, str | Path]], paths: Sequence[str]) -> RecognisedVolumes:
    """Sets whose folders are named; image and label have files of the same names."""
    made = RecognisedVolumes("the folders that are named", {}, {})
    problems: list[str] = []
    remarks: list[str] = []
    for name, pair in given_sets(root, folders).items():
        if not all(folder.is_relative_to(root) for folder in pair):
            raise ConfigError(f"The folders of the set {name} must lie below {root}, got {', '.join(map(str, pair))}.")
        images, labels = (folder.relative_to(root).as_posix() for folder in pair)
        found = recognise_layout(
            VolumeLayout(name, f"{images}/{{stem}}.nii*", (f"{labels}/{{stem}}.nii*",)), root, paths
        )
        if not found.sets and not found.unlabelled:
            found = _dicom(root, paths, (images, labels)) or found
        # They are one set, called as the folder there.
        if items := [item for own in found.sets.values() for item in own]:
            made.sets[name] = items
        if lost := [image for own in found.unlabelled.values() for image in own]:
            made.unlabelled[name] = lost
        problems += found.problems
        remarks += found.remarks
    return RecognisedVolumes(made.layout, made.sets, made.unlabelled, tuple(problems), tuple(remarks))


def _dicom(root: Path, paths: Sequence[str], folders: tuple[str, str] | None = None) -> RecognisedVolumes | None:
    # What only lists files should not wait for torch.
    from monai_sam2unet.data.dicom_layouts import recognise_dicom

    return recognise_dicom(root, paths, folders)


def recognise_volumes(
    dataset_dir: str | Path, folders: Mapping[str, Mapping[str, str | Path]] | None = None
) -> RecognisedVolumes:
    """Find the volumes of a folder, and their labels.

    Known are, of NIfTI, the layouts of the Medical Segmentation Decathlon (``imagesTr/CASE.nii.gz``,
    ``labelsTr/CASE.nii.gz``), nnU-Net (``imagesTr/CASE_0000.nii.gz``), TotalSegmentator (``CASE/ct.nii.gz`` or
    ``mri.nii.gz`` beside ``segmentations/CLASS.nii.gz``, or beside one label map, as ``segmentations.nii.gz``), BTCV
    (``img/img0001.nii.gz``, ``label/label0001.nii.gz``), ACDC (``patient001/patient001_frame01.nii.gz`` beside
    ``..._gt.nii.gz``), and folders ``images`` and ``labels`` of files of the same names. The last three may lie in
    folders below, each a set.

    Where there is none of these, DICOM series are looked for: with DICOM segmentations anywhere, which name the series
    that they segment; or with NIfTI labels, in a folder for each case (``CASE/ct/*.dcm`` or ``CASE/*.dcm`` beside
    ``CASE/label.nii.gz``, or beside ``segmentations/CLASS.nii.gz``), or in folders as ``images/CASE/*.dcm`` and
    ``labels/CASE.nii.gz``. See :func:`monai_sam2unet.data.dicom_layouts.recognise_dicom`.

    Args:
        dataset_dir: the folder.
        folders: for other layouts, ``{set: {"images": FOLDER, "masks": FOLDER}}`` below ``dataset_dir``, with files of
            the same names; DICOM series lie in folders called as their labels, or are named by segmentations. None
            finds the sets.

    Returns:
        The images and their labels. Of a folder that could be several, the layout is taken that leaves the fewest
        images without a label.

    Raises:
        ConfigError: When ``folders`` is not as above, or one does not lie below ``dataset_dir``.
        DataError: When the folder is missing or cannot be searched, or there are no volumes with labels in it.
    """
    root = Path(dataset_dir)
    if not isinstance(dataset_dir, (str, Path)) or not root.is_dir():
        raise DataError(f"There is no folder {dataset_dir}. Check the path (`--dataset_dir` of a bundle).")
    files = (path for depth in ("*", "*/*", "*/*/*", "*/*/*/*") for path in root.glob(depth) if path.is_file())
    # Archives made on a Mac hold a hidden file beside each.
    paths = [path.relative_to(root).as_posix() for path in files]
    paths = sorted(path for path in paths if re.search(r"\.nii(\.gz)?$", path) and not re.search(r"(^|/)\.", path))
    made = (recognise_layout(layout, root, paths) for layout in VOLUME_LAYOUTS)
    known = [_given(root, folders, paths)] if folders is not None else list(made)
    known = [found for found in known if found.sets]
    if not known and folders is None and (dicom := _dicom(root, paths)) is not None:
        known = [dicom]
    if not any(found.sets for found in known):
        told = [line for found in known for line in (*found.problems, *found.remarks)]
        raise DataError(
            f"There are no volumes (NIfTI, DICOM) with labels in {root}. Expected is the layout of the Medical "
            "Segmentation Decathlon, nnU-Net, TotalSegmentator, BTCV or ACDC, folders `images` and `labels` of files "
            "of the same names, DICOM series with DICOM segmentations, or a folder for each series with a NIfTI label "
            f"beside. It holds:\n{listing(told or sorted(p.name for p in root.iterdir()) or ['nothing'])}"
        )
    return min(known, key=lambda found: sum(map(len, found.unlabelled.values())))
