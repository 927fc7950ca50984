# SPDX-License-Identifier: Apache-2.0
"""Tests of the DICOM series of a folder and their labels: paired by UID, or with NIfTI labels by folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from monai_sam2unet.bundle.labelled_cases import recognised_volumes
from monai_sam2unet.data import recognise_volumes
from monai_sam2unet.errors import DataError

SHAPE = (10, 8, 4)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])
MASK = np.zeros(SHAPE, bool)
MASK[2:5, 2:6, 1:3] = True


@pytest.fixture
def series(make_dicom_volume):
    return lambda folder, **attributes: make_dicom_volume(folder, np.full(SHAPE, -200), AFFINE, **attributes)


@pytest.fixture
def segment(make_segmentation):
    return lambda path, files: make_segmentation(path, files, {"Liver": MASK})


def nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(MASK.astype(np.uint8), AFFINE), path)
    return path


def files_of(item) -> set[str]:
    return set(item["image"])


def strings(paths) -> set[str]:
    return {str(path) for path in paths}


# ---- DICOM segmentations


def test_pairs_are_made_by_uid_whatever_names_and_folders(series, segment, tmp_path):
    root = tmp_path / "data"
    one = series(root / "a" / "b" / "scan", PatientID="p1")
    two = series(root / "x", PatientID="p2")
    labels = [segment(root / "x" / "z.dcm", one), segment(root / "all" / "no_suffix", two)]
    found = recognise_volumes(root)
    assert found.layout == "DICOM series with DICOM segmentations"
    assert (found.unlabelled, found.problems, found.remarks) == ({}, (), ())
    first, second = found.sets["data"]
    assert (files_of(first), first["label"], first["patient"], first["case"]) == (
        strings(one), str(labels[0]), "p1", "a/b/scan",
    )  # fmt: skip
    assert (files_of(second), second["label"], second["patient"], second["case"]) == (
        strings(two), str(labels[1]), "p2", "x",
    )  # fmt: skip
    assert first["filename_or_obj"] == str(root / "a" / "b" / "scan.dcm")


def test_series_of_one_folder_are_told_apart(series, segment, tmp_path):
    made = [series(tmp_path / f"s{n}") for n in range(2)]
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, files in enumerate(made):
        segment(flat / f"seg{number}.dcm", files)
        for file in files:
            shutil.move(file, flat / f"{number}_{file.name}")
    items = recognise_volumes(flat).sets["flat"]
    uids = [pydicom.dcmread(item["image"][0]).SeriesInstanceUID for item in items]
    assert [item["case"] for item in items] == uids
    assert len({item["filename_or_obj"] for item in items}) == 2
    assert all(len(item["image"]) == SHAPE[2] for item in items)


def test_folders_called_as_parts_are_sets(series, segment, tmp_path):
    for part in ("training", "testing"):
        segment(tmp_path / part / "seg.dcm", series(tmp_path / part / "p1" / "ct"))
    assert list(recognise_volumes(tmp_path).sets) == ["testing", "training"]
    (tmp_path / "testing").rename(tmp_path / "patient")
    assert list(recognise_volumes(tmp_path).sets) == [tmp_path.name]


def test_segmentations_without_their_series_and_several_of_one(series, segment, tmp_path):
    root = tmp_path / "data"
    kept, lost = series(root / "a"), series(tmp_path / "elsewhere")
    segment(root / "1.dcm", kept)
    segment(root / "2.dcm", kept)
    segment(root / "3.dcm", lost)
    found = recognise_volumes(root)
    uid = pydicom.dcmread(lost[0]).SeriesInstanceUID
    assert found.problems == (
        f"{root / '3.dcm'}: it segments the series {uid}, which is not here",
        f"{root / 'a.dcm'}: 2 segmentations of this series, {root / '1.dcm'}, {root / '2.dcm'}; leave one, or make one "
        "of them that has all segments",
    )


def test_what_has_no_label_is_told(series, segment, tmp_path):
    root = tmp_path / "data"
    study = {"StudyInstanceUID": "1.2.3"}
    segment(root / "p1" / "seg.dcm", series(root / "p1" / "portal", **study))
    series(root / "p1" / "native", **study)
    series(root / "p1" / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **study)
    series(root / "p2" / "portal")
    nifti(root / "p1" / "other.nii.gz")
    (root / "p1" / "broken.dcm").write_bytes(b"no DICOM")
    found = recognise_volumes(root)
    assert found.unlabelled == {"data": [str(root / "p2" / "portal.dcm")]}
    assert found.remarks == (
        "left out: 1 series without a label, of studies of which another series has one",
        "left out: 1 NIfTI files, for labels are taken from DICOM segmentations here",
        "left out: 4 DICOM files, each a localizer",
    )
    assert [line.split(" ")[0] for line in found.problems] == [str(root / "p1" / "broken.dcm")]


# ---- NIfTI labels


@pytest.mark.parametrize(
    ("images", "labels", "sets"),
    [
        (["p1", "p2"], ["p1/label.nii.gz", "p2/label.nii.gz"], ["data"]),
        (["p1/ct", "p2/deep/ct"], ["p1/any.nii", "p2/name.nii.gz"], ["data"]),
        (["train/p1/ct", "test/p2/ct"], ["train/p1/x.nii.gz", "test/p2/x.nii.gz"], ["test", "train"]),
        (["images/p1", "images/p2"], ["labels/p1.nii.gz", "labels/p2.nii.gz"], ["data"]),
        (["imagesTr/p1/ct", "imagesTs/p2"], ["labelsTr/p1.nii.gz", "labelsTs/p2.nii"], ["Tr", "Ts"]),
        (["A/images/p1", "B/images/p2"], ["A/labels/p1.nii.gz", "B/labels/p2.nii"], ["A", "B"]),
    ],
)
def test_labels_in_folders(series, tmp_path, images, labels, sets):
    root = tmp_path / "data"
    files = {
        str(nifti(root / label)): strings(series(root / image)) for image, label in zip(images, labels, strict=True)
    }
    found = recognise_volumes(root)
    assert sorted(found.sets) == sets
    assert {item["label"]: files_of(item) for items in found.sets.values() for item in items} == files
    assert (found.unlabelled, found.problems, found.remarks) == ({}, (), ())
    assert {Path(item["stem"]).name for items in found.sets.values() for item in items} == {"p1", "p2"}


def test_the_folder_of_one_case_and_a_file_for_each_class(series, tmp_path):
    series(tmp_path / "p1" / "dicom")
    labels = [str(nifti(tmp_path / "p1" / "segmentations" / f"{name}.nii.gz")) for name in ("liver", "spleen")]
    for root in (tmp_path, tmp_path / "p1"):
        (items,) = recognise_volumes(root).sets.values()
        assert [item["label"] for item in items] == [labels]


def test_labels_without_one_series(series, tmp_path):
    root = tmp_path / "data"
    for name in ("p1/a", "p1/b", "p2/ct", "p4/ct"):
        series(root / name)
    for name in ("p1/x", "p2/x", "p2/y", "p3/x"):
        nifti(root / f"{name}.nii.gz")
    found = recognise_volumes(root)
    told = "\n".join(found.problems)
    assert f"{root / 'p2' / 'y.nii.gz'}: x.nii.gz is a label of the same image; leave one" in told
    assert f"{root / 'p3' / 'x.nii.gz'}: there is no image of this label" in told
    assert f"{root / 'p1'}: 2 series, " in told
    assert len(found.problems) == 3
    assert str(root / "p4" / "ct.dcm") in found.unlabelled["data"]


def test_real_ones(shared_data):
    (item,) = recognise_volumes(shared_data / "dicom" / "ct_series_j2k_with_seg").sets["ct_series_j2k_with_seg"]
    assert len(item["image"]) == 20
    assert Path(item["label"]).name == "example_seg_dicom.nii.gz"


# ---- what is named


def test_folders_that_are_named(series, segment, tmp_path):
    for name in ("p1", "p2"):
        series(tmp_path / "scans" / name)
        nifti(tmp_path / "truth" / f"{name}.nii.gz")
    files = series(tmp_path / "more" / "p3")
    segment(tmp_path / "segs" / "x.dcm", files)
    folders = {"X": {"images": "scans", "masks": "truth"}, "Y": {"images": "more", "masks": "segs"}}
    found = recognise_volumes(tmp_path, folders)
    assert {name: [item["case"] for item in items] for name, items in found.sets.items()} == {
        "X": ["scans/p1", "scans/p2"],
        "Y": ["more/p3"],
    }


def test_a_datalist_names_folders(series, segment, tmp_path):
    segment(tmp_path / "seg.dcm", files := series(tmp_path / "p1", PatientID="one"))
    series(tmp_path / "two" / "a")
    series(tmp_path / "two" / "b")
    datalist = tmp_path / "list.json"
    datalist.write_text(json.dumps({"training": [{"image": "p1", "label": "seg.dcm"}]}))
    (item,) = recognised_volumes(datalist).sets["training"]
    assert (files_of(item), item["patient"]) == (strings(files), "one")
    datalist.write_text(json.dumps({"training": [{"image": "two", "label": "seg.dcm"}]}))
    with pytest.raises(DataError, match="two does not hold one DICOM series"):
        recognised_volumes(datalist)


def test_folders_without_labels_are_refused(series, segment, tmp_path):
    series(tmp_path / "a" / "p1")
    with pytest.raises(DataError, match=r"no volumes(.|\n)*1 series without a label:\n(.|\n)*p1\.dcm"):
        recognise_volumes(tmp_path / "a")
    segment(tmp_path / "b" / "seg.dcm", series(tmp_path / "c"))
    with pytest.raises(DataError, match=r"seg\.dcm: the series that it segments is not here"):
        recognise_volumes(tmp_path / "b")
