# SPDX-License-Identifier: Apache-2.0
"""Writes labelled pictures or volumes for nnU-Net v2, to compare with it on the same data and folds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from monai_sam2unet.bundle.labelled_cases import labelled_cases, labelled_volumes
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.plan.nnunet_dataset import write_dataset
from monai_sam2unet.plan.picture_survey import PictureSurvey
from monai_sam2unet.plan.plan_pictures import classes_of
from monai_sam2unet.plan.plan_report import refuse_problems
from monai_sam2unet.plan.plan_volumes import with_names
from monai_sam2unet.plan.volume_fingerprint import nifti_of
from monai_sam2unet.plan.volume_survey import VolumeSurvey
from monai_sam2unet.transforms import LabelClasses, LoadAnyImage, LoadLabelClassesd, MatchOrientation

__all__ = ["export_pictures", "export_volumes"]


def _write_picture(
    item: Mapping[str, Any],
    image_file: Path,
    label_file: Path,
    picture: str,
    mask_threshold: float | None,
    num_classes: int,
) -> None:
    image = LoadAnyImage(picture)(item["image"])
    label = LoadAnyImage("label" if mask_threshold is None else "gray", union=True)(item["label"])
    if image.shape[1:] != label.shape[1:]:
        sizes = (f"{shape[2]}x{shape[1]}" for shape in (label.shape, image.shape))
        raise DataError("{}: the mask is {} pixels, its image {}".format(item["label"], *sizes))
    values, mask = image.numpy().transpose(1, 2, 0), label.numpy()[0]
    if values.min() < 0 or values.max() > 65535 or (values != values.round()).any():
        raise DataError(f"{item['image']} holds values that PNG cannot: it has whole numbers from 0 to 65535.")
    mask = mask if mask_threshold is None else mask >= mask_threshold
    if mask.max() > num_classes:
        raise DataError(f"{item['label']} holds the value {mask.max():g}; there are {num_classes} classes.")
    pixels = values.astype(np.uint8 if values.max() <= 255 else np.uint16)
    Image.fromarray(pixels if picture == "rgb" else pixels[..., 0]).save(image_file)
    Image.fromarray(mask.astype(np.uint8)).save(label_file)


def export_pictures(
    survey: PictureSurvey,
    data: str | Path,
    folder: str | Path,
    modality: str | None = None,
    marked: str = "object",
    class_names: Sequence[str] | None = None,
    group_pattern: str | None = None,
) -> Path:
    """Write the pictures and masks of a folder as PNG, in a raw dataset of nnU-Net v2 with five folds.

    Those for training are taken, where the folder has others for tests. Coloured pictures are written as RGB in one
    file, gray ones, of 8 or 16 bits, in one channel; masks hold class indices from 0 on.

    Args:
        survey: what is in the folder.
        data: the folder.
        folder: nnU-Net's ``nnUNet_raw``; a folder ``DatasetXXX_NAME`` is made in it, of the next free number.
        modality: what gray pictures are; nnU-Net has it as the name of their channel.
        marked: what the masks of one class show, as ``wound``.
        class_names: names of the classes, where masks hold class indices.
        group_pattern: as :func:`monai_sam2unet.bundle.folds.leave_out_fold` takes it.

    Returns:
        The dataset's folder, with ``dataset.json``, ``imagesTr``, ``labelsTr`` and ``splits_final.json``: the folds of
        :func:`~monai_sam2unet.bundle.folds.leave_out_fold`, which belong into nnU-Net's
        ``nnUNet_preprocessed/DatasetXXX_NAME``.

    Raises:
        ConfigError: When the dataset exists; names of classes are not different, not as many as the masks have, or
            nnU-Net's own.
        DataError: When there are problems with the data, or files cannot be written as PNG (all are told at once);
            names cannot be told apart; or there are fewer patients than folds. Nothing is written then.
    """
    refuse_problems(survey.problems, data)
    classes = classes_of(survey, class_names) or (marked,)
    channels = ("R", "G", "B") if survey.is_colour else (modality or "gray",)
    write = partial(
        _write_picture,
        picture="rgb" if survey.is_colour else "gray",
        mask_threshold=survey.mask_threshold,
        num_classes=len(classes),
    )
    items = labelled_cases(data, "TrainDataset")
    return write_dataset(items, folder, Path(data).resolve().name, ".png", channels, classes, group_pattern, write)


def _write_volume(item: Mapping[str, Any], image_file: Path, label_file: Path, classes: LabelClasses) -> None:
    image = LoadAnyImage("gray")(item["image"])
    label = LoadLabelClassesd("label", classes)({"image": image, "label": item["label"]})["label"]
    values = MatchOrientation()(label, image).numpy()[0].astype(np.uint8)
    source = nifti_of(item["image"])
    if source.ndim == 3 and str(item["image"]).endswith(".nii.gz"):
        shutil.copyfile(item["image"], image_file)
    else:
        nib.save(nib.squeeze_image(source), image_file)
    nib.save(nib.Nifti1Image(values, source.affine, source.header, dtype=np.uint8), label_file)


def export_volumes(
    survey: VolumeSurvey,
    data: str | Path,
    folder: str | Path,
    modality: str | None = None,
    class_names: Sequence[str] | None = None,
    group_pattern: str | None = None,
) -> Path:
    """Write the volumes (NIfTI, DICOM) of a folder and their labels in a raw dataset of nnU-Net v2 with five folds.

    Those for training are taken, where the folder has others for tests. Images are copied as they are, or compressed
    where they are not; DICOM series become NIfTI. Labels are written anew, with class indices from 0 on, on the grid
    of their image.

    Args:
        survey: what is in the folder.
        data: the folder.
        folder: as in :func:`export_pictures`.
        modality: ``"ct"`` or ``"mr"``, told by the values if None; nnU-Net normalises CT by those of the whole dataset.
        class_names: names of the classes, in the order of their numbers; None: as the set has them.
        group_pattern: as in :func:`export_pictures`.

    Returns:
        The dataset's folder, as there.

    Raises:
        ConfigError: When the dataset exists; the modality is another; or names of classes are not different, not as
            many as the labels, or nnU-Net's own.
        DataError: When there are problems with the data (all are told at once); names cannot be told apart; or there
            are fewer patients than folds. Nothing is written then.
    """
    refuse_problems(survey.problems, data)
    modality = modality or ("ct" if survey.is_ct else "mr")
    if modality not in ("ct", "mr"):
        raise ConfigError(f"The modality of volumes must be ct or mr (`--modality`), got {modality}.")
    named = with_names(survey, class_names)
    items, problems = labelled_volumes(data, "TrainDataset")
    refuse_problems(problems, data)
    write = partial(_write_volume, classes=LabelClasses(named.class_names, named.label_ids))
    name = Path(data).resolve().name
    return write_dataset(items, folder, name, ".nii.gz", [modality.upper()], named.class_names, group_pattern, write)
