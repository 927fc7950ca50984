# SPDX-License-Identifier: Apache-2.0
"""Tests of which numbers, or which files, are which class."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import LabelClasses, LoadLabelClassesd, Preset

NAMES = ["spleen", "liver"]
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def save(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values), affine), path)
    return str(path)


@pytest.fixture
def case(tmp_path):
    """An image, and the two classes of its voxels."""
    classes = np.zeros((6, 5, 4), np.uint8)
    classes[1:3, 1:3], classes[4] = 1, 2
    image = save(tmp_path / "s1" / "ct.nii.gz", classes.astype(np.int16) * 100 - 50)
    files = [
        save(tmp_path / "s1" / "segmentations" / f"{name}.nii.gz", (classes == k).astype(np.uint8))
        for k, name in enumerate(NAMES, 1)
    ]
    return image, classes, files


def loaded(image, label, label_ids=None):
    preset = Preset("ct", label_classes=LabelClasses(NAMES, label_ids))
    return preset.volumes()({"image": image, "label": label})["label"]


# ---- numbers


@pytest.mark.parametrize(
    ("label_ids", "values", "classes"),
    [
        (None, [0, 1, 2], [0, 1, 2]),
        ({"spleen": 2, "liver": 1}, [0, 1, 2], [0, 2, 1]),
        ({"spleen": [7, 9], "liver": 1, "background": [2, 3]}, [0, 1, 2, 3, 7, 9], [0, 2, 0, 0, 1, 1]),
        ({"spleen": 3, "liver": 2, "background": "others"}, [0, 1, 2, 3, 255], [0, 0, 2, 1, 0]),
        ({"background": "others"}, [1, 2, 3], [1, 2, 0]),
        ({"background": [5]}, [1, 2, 5], [1, 2, 0]),
        ({"spleen": "Milz", "liver": ["Leber links", "Leber rechts"]}, [1, 2], [1, 2]),
        ({"spleen": ["Milz", 4], "liver": 3}, [0, 3, 4], [0, 2, 1]),
    ],
)
def test_numbers_become_classes(label_ids, values, classes):
    assert LabelClasses(NAMES, label_ids).to_classes(torch.tensor(values)).tolist() == classes


@pytest.mark.parametrize(
    ("label_ids", "values", "told"),
    [
        (None, [0, 1, 3], "x.nii holds the numbers 3, which are no class.*spleen, liver"),
        (None, [0.0, -1.0], "holds the numbers -1"),
        ({"spleen": 4, "liver": 5}, [1, 4], "holds the numbers 1"),
        ({"background": "others"}, [0.5], "broken numbers, 0.5"),
        (None, [float("nan")], "broken numbers, nan"),
        (None, [float("inf")], "broken numbers, inf"),
    ],
)
def test_other_numbers_are_refused(label_ids, values, told):
    with pytest.raises(DataError, match=told):
        LabelClasses(NAMES, label_ids).to_classes(torch.tensor(values), "x.nii")


@pytest.mark.parametrize(
    ("names", "label_ids", "told"),
    [
        (["a", "a"], None, "class_names"),
        ("ab", None, "class_names"),
        ([], None, "class_names"),
        (["background", "a"], None, "class_names"),
        (NAMES, {"spleen": 1}, "lacks some: liver"),
        (NAMES, {"spleen": 1, "liver": 2, "lung": 3}, "wrong names, or lacks some: lung"),
        (NAMES, {"spleen": 1, "liver": 1}, "1 is that of two classes, one of them liver"),
        (NAMES, {"spleen": 0, "liver": 1}, "0 is that of two classes"),
        (NAMES, {"background": [1]}, "1 is that of two classes"),
        (NAMES, {"spleen": "1", "liver": 2}, "spleen must be a whole number"),
        (NAMES, {"spleen": 1.5, "liver": 2}, "spleen must be a whole number"),
        (NAMES, {"spleen": "x", "liver": ["x", "y"]}, "x is that of two classes"),
        (NAMES, {"spleen": "liver", "liver": 2}, "liver is that of two classes"),
        (NAMES, {"spleen": ["x", " "], "liver": 2}, "spleen must be a whole number"),
        (NAMES, {"background": "rest"}, "background must be .* or 'others', got 'rest'"),
    ],
)
def test_settings_that_are_refused(names, label_ids, told):
    with pytest.raises(ConfigError, match=told):
        LabelClasses(names, label_ids)


# ---- files


def test_a_map_of_other_numbers_is_loaded_as_classes(case, tmp_path):
    image, classes, _ = case
    turned = np.diag([-2.0, 2.0, 3.0, 1.0])
    turned[0, 3] = 2 * (classes.shape[0] - 1)
    label = save(tmp_path / "label.nii.gz", np.array([0, 40, 50], np.int16)[classes][::-1], turned)
    found = loaded(image, label, {"spleen": 40, "liver": 50})
    assert torch.equal(found.as_tensor()[0], torch.from_numpy(classes).float())
    with pytest.raises(DataError, match=r"label.nii.gz holds the numbers 40, 50"):
        loaded(image, label)


def test_files_of_classes_are_joined(case):
    image, classes, files = case
    assert torch.equal(loaded(image, files).as_tensor()[0], torch.from_numpy(classes).float())
    assert torch.equal(loaded(image, files[::-1]).as_tensor()[0], torch.from_numpy(classes).float())


def test_files_that_do_not_fit_are_refused(case, tmp_path):
    image, classes, files = case
    with pytest.raises(DataError, match="no file for the classes spleen"):
        loaded(image, files[1:])
    heart = save(tmp_path / "s1" / "segmentations" / "heart.nii.gz", classes)
    with pytest.raises(DataError, match="files that are no class, as heart"):
        loaded(image, [*files, heart])
    assert loaded(image, [*files, heart], {"background": "others"}).max() == 2
    save(tmp_path / "s1" / "segmentations" / "liver.nii.gz", np.ones_like(classes))
    with pytest.raises(DataError, match=r"liver.nii.gz overlaps with another class"):
        loaded(image, files)
    save(tmp_path / "s1" / "segmentations" / "liver.nii.gz", 0 * classes, np.diag([1.0, 2.0, 3.0, 1.0]))
    with pytest.raises(DataError, match="do not have one grid"):
        loaded(image, files)


def test_files_may_be_called_otherwise_and_be_parts_of_a_class(case, tmp_path):
    image, classes, files = case
    left, right = classes == 2, classes == 2
    left[:, :, 2:] = False
    right[:, :, :1] = False  # the two overlap
    parts = [
        save(tmp_path / "s1" / "parts" / f"{name}.nii.gz", mask.astype(np.uint8))
        for name, mask in (("liver_left", left), ("liver_right", right), ("body", classes == 0))
    ]
    ids = {"spleen": 1, "liver": ["liver_left", "liver_right"], "background": ["body"]}
    assert torch.equal(loaded(image, [files[0], *parts], ids).as_tensor()[0], torch.from_numpy(classes).float())
    with pytest.raises(DataError, match=r"files that are no class, as body(.|\n)*spleen, liver_left, liver_right"):
        loaded(image, [files[0], *parts], {**ids, "background": []})


# ---- segments of DICOM


@pytest.fixture
def scan(make_dicom_volume, make_segmentation, tmp_path):
    """A series, and a function that segments it: two classes, called as said."""
    classes = np.zeros((8, 6, 4), np.uint8)
    classes[1:3, 1:3, 1:3], classes[5, :, 2] = 1, 2
    image = [
        str(path) for path in make_dicom_volume(tmp_path / "ct", classes * 100.0 - 50, np.diag([-2.0, -2.0, 3.0, 1.0]))
    ]

    def segment(*names):
        masks = {name: classes == k for k, name in enumerate(names, 1)}
        return str(make_segmentation(tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm", image, masks))

    return image, classes, segment


def test_segments_are_classes_by_their_label(scan):
    image, classes, segment = scan
    for names, ids, numbers in (
        (("spleen", "liver"), None, [0, 1, 2]),
        (("liver", "spleen"), None, [0, 2, 1]),
        (("spleen",), None, [0, 1, 0]),  # a volume need not have all classes
        (("liver", "spleen"), {"spleen": 1, "liver": 2}, [0, 2, 1]),  # numbers are not those of segments
        (("Milz", "Leber"), {"spleen": ["Milz", "x"], "liver": "Leber"}, [0, 1, 2]),
        (("Milz", "Leber"), {"spleen": "Milz", "liver": "y", "background": ["Leber"]}, [0, 1, 0]),
        (("Tumour", "liver"), {"background": "others"}, [0, 0, 2]),
    ):
        found = loaded(image, segment(*names), ids)
        assert found.as_tensor()[0].tolist() == np.array(numbers, np.float32)[classes].tolist(), names


def test_segments_lie_where_the_image_does(scan):
    image, _, segment = scan
    case = Preset("ct", label_classes=LabelClasses(NAMES)).volumes()({"image": image, "label": segment(*NAMES)})
    assert torch.equal(case["label"].affine, case["image"].affine)
    assert case["label"].dtype == case["image"].dtype


def test_segments_that_do_not_fit_are_refused(scan, make_dicom_volume, tmp_path):
    image, _, segment = scan
    with pytest.raises(DataError, match=r"segments that are no class, as Spleen(.|\n)*called spleen, liver"):
        loaded(image, segment("Spleen", "liver"))
    with pytest.raises(DataError, match=r"no segment that is a class. Its segments are Spleen; the classes spleen"):
        loaded(image, segment("Spleen"), {"background": "others"})
    label = segment(*NAMES)
    with pytest.raises(DataError, match="one DICOM segmentation, which holds all classes"):
        loaded(image, [label, label])
    other = [str(path) for path in make_dicom_volume(tmp_path / "x", np.full((8, 6, 4), -9), np.diag([-2.0, -2, 3, 1]))]
    with pytest.raises(DataError, match=r"segments the series .*, not the image's"):
        loaded(other, label)
    with pytest.raises(DataError, match="must be loaded under 'image'"):
        LoadLabelClassesd("label", LabelClasses(NAMES))({"label": label})


def test_classes_of_labels_are_for_volumes():
    with pytest.raises(ConfigError, match="label_classes does not go with endoscopy"):
        Preset("endoscopy", label_classes=LabelClasses(NAMES))
    with pytest.raises(ConfigError, match="label_classes does not go with ct and mask_threshold"):
        Preset("ct", label_classes=LabelClasses(NAMES), mask_threshold=0.5)
