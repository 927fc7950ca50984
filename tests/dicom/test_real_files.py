# SPDX-License-Identifier: Apache-2.0
"""Every real DICOM file at hand is read, or refused with a reason: a table of files and what becomes of them."""

from __future__ import annotations

import warnings
from collections import Counter
from fnmatch import fnmatchcase

import nibabel
import numpy as np
import pytest

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.errors import DataError, UserError

NO_IMAGE = "no image to read: it is "
NO_PIXELS = NO_IMAGE + "an object without pixel data"
LOST_PIXELS = " is an image ({}) without pixel data: it is cut off"
NO_META = "has no File Meta Information"
NOT_DICOM = "is not a DICOM file"
SERIES_13 = "There are 13 series; choose one with series_uid"

#: Pattern of file names -> shape, type and whether it lies in the patient; or a part of the reason for refusing it.
SHARED = {
    "broken/CR-MONO1-10-chest": NO_META,
    "broken/MR_truncated.dcm": "The number of bytes of pixel data is less than expected",
    "broken/badVR.dcm": NO_IMAGE + "a radiotherapy dose",
    "broken/dwv-test_no-number-rows.dcm": "Missing required element: (0028,0010) 'Rows'",
    "broken/meta_missing_tsyntax.dcm": "no TransferSyntaxUID",
    "colour/GH538-jpeg1.dcm": ((1, 434, 636, 3), "uint8", False),
    "colour/JPEGExtended_3s_1f_u_08_08.dcm": ((1, 576, 768, 3), "uint8", False),
    "colour/JPEGwithIcon.dcm": ((1, 600, 600, 3), "uint8", False),
    "colour/OBXXXX1A_rle.dcm": ((1, 600, 800, 3), "uint8", False),
    "colour/OBXXXX1A_rle_2frame.dcm": ((2, 600, 800, 3), "uint8", False),
    "colour/SC_ybr_full_uncompressed.dcm": ((1, 100, 100, 3), "uint8", False),
    "colour/US1_*.dcm": ((1, 480, 640, 3), "uint8", False),
    "colour/color-p[lx].dcm": ((1, 120, 256, 3), "uint8", False),
    "colour/nema-vl2_j2kr.dcm": ((1, 486, 756, 3), "uint8", False),
    "ct_series_j2k_with_seg/ct/CT.*": ((1, 512, 512), "int16", True),
    "enhanced_multiframe/IM-0001-0170-0001.dcm": ((8, 256, 256), "float32", True),
    "enhanced_multiframe/eCT_Supplemental.dcm": ((2, 512, 512), "int32", True),
    "enhanced_multiframe/emri_small*.dcm": ((10, 64, 64), "int16", False),
    "geometry/duplicate_positions/*.dcm": ((1, 512, 512), "int16", True),
    "geometry/gantry_tilt_4slices/*.dcm": ((1, 512, 512), "int16", True),
    "geometry/oblique_38deg_hitachi/*.dcm": ((1, 64, 64), "int16", True),
    "geometry/slice_increment_5_10mm/*.dcm": ((1, 512, 512), "int32", True),
    "htj2k/*.dcm": ((1, 480, 640, 3), "uint8", False),
    "monochrome1/RG3_J2KI.dcm": ((1, 1760, 1760), "int16", False),
    "monochrome1/dx_image.dcm": ((1, 169, 211), "int16", False),
    "monochrome1/gdcm-CR-MONO1-10-chest.dcm": ((1, 440, 440), "int16", False),
    "mr_generic_explicit_vr/*.dcm": ((1, 256, 256), "int16", True),
    "mr_rgb_j2k/*.dcm": ((1, 77, 52, 3), "uint8", True),
    "mr_series_hippocrop/*.dcm": ((1, 50, 34), "int16", True),
    "mr_series_t1post_oblique10deg/*.dcm": ((1, 320, 280), "int16", True),
    "same_volume_by_transfer_syntax/*/*.dcm": ((1, 256, 256), "int16", True),
    "seg/24x38x3/IMG*.dcm": ((1, 38, 24), "int32", True),
    "seg/24x38x3/label.seg": NO_IMAGE + "a segmentation",
    "seg/24x38x3/sparse-labelmap-ppv5.dcm": NO_IMAGE + "a label map segmentation",
    "seg/ct-3slice/*.dcm": ((1, 512, 512), "int32", True),
    "seg/liver.dcm": NO_IMAGE + "a segmentation",
    "seg/partial_overlaps.dcm": NO_IMAGE + "a segmentation",
    "*.nii.gz": NOT_DICOM,
}
PYDICOM = {
    "charset_files/chrJapMulti*.dcm": LOST_PIXELS.format("Computed Radiography Image Storage"),
    "charset_files/chrKoreanMulti.dcm": LOST_PIXELS.format("Computed Radiography Image Storage"),
    "charset_files/chrSQEncoding*.dcm": NO_PIXELS,
    "charset_files/chr[AFGHIRX][!a]*.dcm": ((1, 32, 32), "int16", False),
    "palettes/*.dcm": NO_PIXELS + " (Color Palette Storage)",
    "test_files/693_J2KI.dcm": ((1, 512, 512), "int16", True),
    "test_files/CT_small.dcm": ((1, 128, 128), "int32", True),
    "test_files/ExplVR_BigEnd.dcm": ((1, 60, 80, 3), "uint8", False),
    "test_files/ExplVR_*NoMeta.dcm": NO_META,
    "test_files/GDCMJ2K_TextGBR.dcm": ((1, 400, 400, 3), "uint8", False),
    "test_files/J2K_pixelrep_mismatch.dcm": ((1, 512, 512), "int16", True),
    "test_files/JPEG-lossy.dcm": "(JPEG Extended (Process 2 and 4)) cannot be decoded",
    "test_files/JPEG2000-embedded-sequence-delimiter.dcm": "(JPEG 2000 Image Compression) cannot be decoded",
    "test_files/JPEG2000.dcm": ((1, 1024, 256), "int16", False),
    "test_files/JPGExtended.dcm": ((1, 1024, 256), "int16", False),
    "test_files/JPEGLSNearLossless_08.dcm": ((1, 45, 10), "int16", False),
    "test_files/JPEGLSNearLossless_16.dcm": ((1, 50, 10), "int32", False),
    "test_files/MR_small*.dcm": ((1, 64, 64), "int16", True),
    "test_files/MR_truncated.dcm": "The number of bytes of pixel data is less than expected",
    "test_files/SC_jpeg_no_color_transform*.dcm": ((1, 256, 256, 3), "uint8", False),
    "test_files/SC_rgb_jpeg.dcm": ((1, 256, 256, 3), "uint8", False),
    "test_files/SC_rgb_jpeg_*dcmd.dcm": ((1, 256, 256, 3), "uint8", False),
    "test_files/SC_rgb_jpeg_dcmtk.dcm": ((1, 100, 100, 3), "uint8", False),
    "test_files/SC_rgb_jpeg*_gdcm.dcm": ((1, 100, 100, 3), "uint8", False),
    "test_files/SC_rgb_dcmtk_*.dcm": ((1, 100, 100, 3), "uint8", False),
    "test_files/SC_rgb_gdcm_KY.dcm": ((1, 100, 100, 3), "uint8", False),
    "test_files/SC_rgb_jls_lossy_*.dcm": ((1, 100, 100, 3), "uint8", False),
    "test_files/SC_rgb_rle.dcm": ((1, 100, 100, 3), "uint8", False),
    "test_files/SC_rgb_rle_2frame.dcm": ((2, 100, 100, 3), "uint8", False),
    "test_files/SC_rgb_rle_16bit.dcm": ((1, 100, 100, 3), "uint16", False),
    "test_files/SC_rgb_rle_16bit_2frame.dcm": ((2, 100, 100, 3), "uint16", False),
    "test_files/SC_rgb_rle_32bit.dcm": ((1, 100, 100, 3), "uint32", False),
    "test_files/SC_rgb_rle_32bit_2frame.dcm": ((2, 100, 100, 3), "uint32", False),
    "test_files/SC_rgb_small_odd*.dcm": ((1, 3, 3, 3), "uint8", False),
    "test_files/SC_ybr_full_422_uncompressed.dcm": ((1, 100, 100, 3), "uint8", False),
    "test_files/UN_sequence.dcm": NO_PIXELS,
    "test_files/badVR.dcm": NO_IMAGE + "a radiotherapy dose",
    "test_files/dicomdirtests/77654033/CR*": ((1, 16, 16), "float32", False),
    "test_files/dicomdirtests/77654033/CT2/*": ((1, 16, 16), "int32", True),
    "test_files/dicomdirtests/98892001/*": ((1, 16, 16), "int32", True),
    "test_files/dicomdirtests/98892003/*": ((1, 16, 16), "int16", True),
    "test_files/dicomdirtests/DICOMDIR": SERIES_13,
    "test_files/dicomdirtests/DICOMDIR-bigEnd": SERIES_13,
    "test_files/dicomdirtests/DICOMDIR-implicit": SERIES_13,
    "test_files/dicomdirtests/DICOMDIR-nooffset": SERIES_13,
    "test_files/dicomdirtests/DICOMDIR-reordered": SERIES_13,
    "test_files/dicomdirtests/DICOMDIR-empty.dcm": "names no files",
    "test_files/dicomdirtests/DICOMDIR-nopatient": SERIES_13,
    "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR": LOST_PIXELS.format("CT Image Storage"),
    "test_files/dicomdirtests/TINY_ALPHA/PT*": LOST_PIXELS.format("CT Image Storage"),
    "test_files/dicomdirtests/TINY_ALPHA/README": NOT_DICOM,
    "test_files/empty_charset_LEI.dcm": NO_PIXELS,
    "test_files/examples_jpeg2k.dcm": ((1, 480, 640, 3), "uint8", False),
    "test_files/examples_overlay.dcm": ((1, 300, 484), "int16", True),
    "test_files/examples_palette.dcm": ((1, 350, 800, 3), "uint8", False),
    "test_files/examples_rgb_color.dcm": ((1, 240, 320, 3), "uint8", False),
    "test_files/examples_ybr_color.dcm": ((30, 240, 320, 3), "uint8", False),
    "test_files/image_dfl.dcm": ((1, 512, 512), "int16", False),
    "test_files/liver_*1frame.dcm": NO_IMAGE + "a segmentation",
    "test_files/meta_missing_tsyntax.dcm": "no TransferSyntaxUID",
    "test_files/nested_priv_SQ.dcm": "PhotometricInterpretation None",
    "test_files/no_meta.dcm": NOT_DICOM,
    "test_files/no_meta_group_length.dcm": NO_PIXELS,
    "test_files/priv_SQ.dcm": NO_PIXELS,
    "test_files/reportsi*.dcm": NO_PIXELS + " (Basic Text SR Storage)",
    "test_files/rtdose*.dcm": NO_IMAGE + "a radiotherapy dose",
    "test_files/rtplan*.dcm": NO_PIXELS + " (RT Plan Storage)",
    "test_files/rtstruct.dcm": NO_META,
    "test_files/test-SR.dcm": NO_PIXELS + " (Comprehensive SR Storage)",
    "test_files/waveform_ecg.dcm": NO_PIXELS + " (12-lead ECG Waveform Storage)",
    "test_files/zipMR.gz": NOT_DICOM,
    "*.py": NOT_DICOM,
    "*.txt": NOT_DICOM,
    "*.md": NOT_DICOM,
    "*.json": NOT_DICOM,
    "*.dump": NOT_DICOM,
    "*.icc": NOT_DICOM,
}
#: Folder, options -> shape and type, or a part of the reason.
FOLDERS = [
    ("broken", {}, NO_META),
    ("colour", {}, "There are 8 series"),
    ("ct_series_j2k_with_seg", {}, ((20, 512, 512), "int16")),
    ("enhanced_multiframe", {}, "There are 3 series"),
    ("geometry/duplicate_positions", {}, "The series holds 4 volumes; choose one with stack"),
    ("geometry/duplicate_positions", {"strict": False}, "The series holds 4 volumes; choose one with stack"),
    ("geometry/duplicate_positions", {"stack": 3}, ((1, 512, 512), "int16")),
    ("geometry/gantry_tilt_4slices", {}, "sheared by 14.00 degrees"),
    ("geometry/gantry_tilt_4slices", {"strict": False}, ((4, 512, 512), "int16")),
    ("geometry/oblique_38deg_hitachi", {}, ((4, 64, 64), "int16")),
    ("geometry/slice_increment_5_10mm", {}, "1 slices are missing at a spacing of 5.000 mm"),
    ("geometry/slice_increment_5_10mm", {"strict": False}, "1 slices are missing at a spacing of 5.000 mm"),
    ("geometry/slice_increment_5_10mm", {"fill_gaps": True}, ((5, 512, 512), "int32")),
    ("htj2k", {}, "2 images have no position in the patient"),
    ("monochrome1", {}, "There are 3 series"),
    ("mr_generic_explicit_vr", {}, ((4, 256, 256), "int16")),
    ("mr_rgb_j2k", {}, ((4, 77, 52, 3), "uint8")),
    ("mr_series_hippocrop", {}, ((40, 50, 34), "int16")),
    ("mr_series_t1post_oblique10deg", {}, ((22, 320, 280), "int16")),
    ("seg", {}, "There are 2 series"),
    ("seg/24x38x3", {}, ((3, 38, 24), "int32")),
    ("seg/ct-3slice", {}, ((3, 512, 512), "int32")),
]


def check_table(root, table, closed):
    """Read every file under ``root``: each is in the table and turns out as it says; each line of it is used."""
    used: Counter[str] = Counter()
    wrong = []
    for path in sorted(p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        name = path.relative_to(root).as_posix()
        lines = [pattern for pattern in table if fnmatchcase(name, pattern)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                volume = read_volume(path)
            outcome = (volume.pixels.shape, str(volume.pixels.dtype), volume.in_patient_space)
        except UserError as error:
            outcome = str(error)
        if not lines and not closed:
            continue
        used.update(lines)
        expected = table[lines[0]] if len(lines) == 1 else f"one line of the table, not {lines}"
        matches = expected in outcome if isinstance(expected, str) and isinstance(outcome, str) else expected == outcome
        if not matches:
            wrong.append(f"{name}: {outcome}, not {expected}")
    assert not wrong, "\n".join(wrong)
    if closed:
        assert set(used) == set(table)


@pytest.mark.filterwarnings("ignore")
def test_every_shared_file(shared_data):
    check_table(shared_data / "dicom", SHARED, closed=True)


@pytest.mark.filterwarnings("ignore")
def test_every_file_of_pydicom(samples):
    check_table(samples, PYDICOM, closed=False)


def test_the_table_covers_the_files_of_pydicom_3(samples):
    names = [p.relative_to(samples).as_posix() for p in samples.rglob("*.dcm")]
    assert sum(any(fnmatchcase(name, pattern) for pattern in PYDICOM) for name in names) >= 100


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("folder", "options", "expected"), FOLDERS)
def test_every_folder(shared_data, folder, options, expected):
    path = shared_data / "dicom" / folder
    if isinstance(expected, str):
        with pytest.raises(DataError) as error:
            read_volume(path, **options)
        assert expected in str(error.value)
    else:
        volume = read_volume(path, **options)
        assert (volume.pixels.shape, str(volume.pixels.dtype)) == expected
        assert volume.in_patient_space


def test_no_folder_is_left_out(shared_data):
    root = shared_data / "dicom"
    folders = {p.parent.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    listed = {folder for folder, _, _ in FOLDERS}
    elsewhere = {"geometry", "ct_series_j2k_with_seg/ct", "same_volume_by_transfer_syntax"}
    assert folders - listed - elsewhere == {p for p in folders if p.startswith("same_volume_by_transfer_syntax/")}


def world(affine, shape):
    """RAS of the eight corners (8, 3) of an array (first, second, third index)."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1)
    return (affine @ np.vstack([corners, np.ones(8)]))[:3].T


def by_world(affine, array):
    """The array with its axes turned to R, A, S and the affine that goes with it."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    return image.affine, np.asarray(image.dataobj)


def test_five_transfer_syntaxes_give_one_volume(shared_data):
    root = shared_data / "dicom" / "same_volume_by_transfer_syntax"
    truth = nibabel.load(root / "ground_truth_by_dicom2nifti.nii.gz")
    affine, values = by_world(truth.affine, np.asarray(truth.dataobj))
    folders = sorted(p for p in root.iterdir() if p.is_dir())
    assert len(folders) == 5
    for folder in folders:
        volume = read_volume(folder)
        own_affine, own_values = by_world(volume.affine, volume.pixels.transpose(2, 1, 0))
        np.testing.assert_array_equal(own_values, values, err_msg=folder.name)
        np.testing.assert_allclose(world(own_affine, values.shape), world(affine, values.shape), atol=1e-3)


def test_the_label_map_of_the_ct_lies_on_it(shared_data):
    root = shared_data / "dicom" / "ct_series_j2k_with_seg"
    label = nibabel.load(root / "example_seg_dicom.nii.gz")
    assert "".join(nibabel.aff2axcodes(label.affine)) == "LAS"
    volume = read_volume(root / "ct")
    affine, ct = by_world(volume.affine, volume.pixels.transpose(2, 1, 0))
    label_affine, labels = by_world(label.affine, np.asarray(label.dataobj))
    assert ct.shape == labels.shape
    np.testing.assert_allclose(world(affine, ct.shape), world(label_affine, labels.shape), atol=1e-2)
    # An organ's voxels are alike, more so than those that its label covers in a volume turned the wrong way.
    counts = np.bincount(labels.ravel().astype(int))[1:]
    spread = []
    for turned in (ct, ct[::-1], ct[:, ::-1], ct[:, :, ::-1]):
        inside = np.clip(turned[labels > 0], -150, 300).astype(float)
        organs = labels[labels > 0].astype(int) - 1
        mean = np.bincount(organs, inside) / np.maximum(counts, 1)
        spread.append(np.mean((inside - mean[organs]) ** 2))
    assert spread[0] < 0.7 * min(spread[1:])


def test_an_oblique_series_lies_where_another_converter_puts_it(shared_data):
    root = shared_data / "dicom" / "geometry"
    truth = nibabel.load(root / "oblique_38deg_hitachi_ground_truth_by_dicom2nifti.nii.gz")
    volume = read_volume(root / "oblique_38deg_hitachi")
    affine, values = by_world(volume.affine, volume.pixels.transpose(2, 1, 0))
    truth_affine, truth_values = by_world(truth.affine, np.asarray(truth.dataobj))
    np.testing.assert_array_equal(values, truth_values)
    np.testing.assert_allclose(world(affine, values.shape), world(truth_affine, values.shape), atol=1e-3)
