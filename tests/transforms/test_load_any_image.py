# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import SaveImage
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import LoadAnyImage, LoadAnyImaged, Preset


def test_a_photograph_is_rows_by_columns_with_three_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = LoadAnyImage()(tmp_path / "a.png")
    assert image.dtype == torch.float32
    assert np.array_equal(image.numpy(), pixels.transpose(2, 0, 1))


def test_gray_pictures_of_8_and_16_bits(tmp_path):
    rng = np.random.default_rng(0)
    for name, dtype, top in (("a.png", np.uint8, 255), ("b.png", np.uint16, 65535), ("c.tif", np.uint16, 65535)):
        pixels = rng.integers(0, top, (20, 30)).astype(dtype)
        pixels[0, 0] = top
        Image.fromarray(pixels).save(tmp_path / name)
        assert np.array_equal(LoadAnyImage("gray")(tmp_path / name).numpy(), pixels[None].astype(np.float32))
    with pytest.raises(DataError, match="8 bits"):
        LoadAnyImage("rgb")(tmp_path / "b.png")


def test_a_volume_keeps_its_affine(tmp_path):
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
    data = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    for name in ("a.nii", "a.nii.gz"):
        nib.save(nib.Nifti1Image(data, affine), tmp_path / name)
        image = LoadAnyImage()(tmp_path / name)
        assert np.array_equal(image.numpy(), data[None])
        assert np.allclose(image.affine, affine)


def test_a_volume_without_orientation_is_an_error_unless_allowed(tmp_path):
    nifti = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4))
    nifti.set_sform(None, 0)
    nifti.set_qform(None, 0)
    nib.save(nifti, tmp_path / "a.nii")
    with pytest.raises(DataError, match="require_orientation"):
        LoadAnyImage()(tmp_path / "a.nii")
    assert LoadAnyImage(require_orientation=False)(tmp_path / "a.nii").shape == (1, 4, 5, 6)


def test_dicom_pictures_are_rows_by_columns(shared_data):
    pydicom = pytest.importorskip("pydicom")
    path = shared_data / "dicom" / "colour" / "US1_UNCR.dcm"
    image = LoadAnyImage()(path)
    assert np.array_equal(image.numpy(), pydicom.dcmread(path).pixel_array.transpose(2, 0, 1))
    radiograph = LoadAnyImage("gray")(shared_data / "dicom" / "monochrome1" / "dx_image.dcm")
    stored = pydicom.dcmread(shared_data / "dicom" / "monochrome1" / "dx_image.dcm")
    assert radiograph.shape == (1, stored.Rows, stored.Columns)
    assert np.array_equal(radiograph[0].numpy(), 255.0 - stored.pixel_array)
    rows, columns = (float(value) for value in stored.PixelSpacing)
    assert np.allclose(radiograph.affine[:, 0], [0, rows, 0, 0])
    assert np.allclose(radiograph.affine[:, 1], [columns, 0, 0, 0])


def test_a_dicom_folder_is_a_volume(shared_data):
    folder = shared_data / "dicom" / "same_volume_by_transfer_syntax"
    dicom = LoadAnyImage()(folder / "compressed_jpegls")
    nifti = LoadAnyImage()(folder / "ground_truth_by_dicom2nifti.nii.gz")
    assert dicom.shape == (1, 256, 256, 4)
    assert sorted(dicom.unique().tolist()) == sorted(nifti.unique().tolist())
    as_files = LoadAnyImage()(sorted((folder / "compressed_jpegls").iterdir()))
    assert torch.equal(as_files, dicom)
    assert torch.equal(as_files.affine, dicom.affine)


def test_no_other_reader_is_tried(shared_data):
    tilted = shared_data / "dicom" / "geometry" / "gantry_tilt_4slices"
    with pytest.raises(DataError, match="gantry tilt"):
        LoadAnyImage()(tilted)
    with pytest.warns(UserWarning, match="sheared"):
        image = LoadAnyImage(dicom={"strict": False})(tilted)
    assert image.meta["shear_deg"] == pytest.approx(14.0, abs=0.1)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.nii.gz", "a.dcm", "a.jpg"])
def test_damaged_files_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        LoadAnyImage()(tmp_path / name)


def test_what_is_missing_or_no_image_is_told(tmp_path):
    with pytest.raises(DataError, match="no file or folder"):
        LoadAnyImage()(tmp_path / "none.png")
    with pytest.raises(DataError, match="no DICOM image"):
        LoadAnyImage()(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(DataError, match="one image only in DICOM"):
        LoadAnyImage()([tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(ConfigError, match="swap_ij is no option here"):
        LoadAnyImage(dicom={"swap_ij": False})
    with pytest.raises(ConfigError, match="picture must be"):
        LoadAnyImage("cmyk")
    with pytest.raises(TypeError, match="strikt"):
        LoadAnyImage(dicom={"strikt": False})


def test_dictionaries(tmp_path):
    Image.new("RGB", (4, 6), (1, 2, 3)).save(tmp_path / "a.png")
    item = LoadAnyImaged(["image", "other"], allow_missing_keys=True)({"image": tmp_path / "a.png", "id": 7})
    assert item["image"].shape == (3, 6, 4)
    assert item["id"] == 7
    with pytest.raises(KeyError):
        LoadAnyImaged(["image", "other"])({"image": tmp_path / "a.png"})


def test_labels_of_a_palette_are_its_indices_and_pictures_its_colours(tmp_path):
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    palette = Image.fromarray(indices).convert("P")
    palette.putdata(indices.ravel().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "label.png")
    assert np.array_equal(LoadAnyImage("label")(tmp_path / "label.png")[0].numpy(), indices)
    red = LoadAnyImage("rgb")(tmp_path / "label.png")[0].numpy()
    assert np.array_equal(red, np.where(indices == 1, 255, 0))


def test_colours_become_gray_as_pillow_has_it(tmp_path, shared_data):
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    assert np.array_equal(LoadAnyImage("gray")(tmp_path / "a.png")[0].numpy(), Image.fromarray(colours).convert("L"))
    path = shared_data / "dicom" / "colour" / "US1_UNCR.dcm"
    pixels = pytest.importorskip("pydicom").dcmread(path).pixel_array
    gray = LoadAnyImage("gray")(path)
    assert gray.shape == (1, *pixels.shape[:2])
    assert np.abs(gray[0].numpy() - np.asarray(Image.fromarray(pixels).convert("L"))).max() <= 1


def test_metaimage_and_nrrd_equal_nifti(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32))
    image.SetSpacing((0.5, 0.7, 2.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    loaded = []
    for name in ("a.nii.gz", "a.mha", "a.nrrd"):
        sitk.WriteImage(image, str(tmp_path / name))
        loaded.append(LoadAnyImage()(tmp_path / name))
    for other in loaded[1:]:
        assert torch.equal(other.as_tensor(), loaded[0].as_tensor())
        assert torch.allclose(other.affine, loaded[0].affine, atol=1e-4)


def test_frames_of_a_cine_are_rows_by_columns():
    pydicom = pytest.importorskip("pydicom")
    path = pydicom.examples.get_path("ybr_color")
    pixels = pydicom.dcmread(path).pixel_array
    cine = LoadAnyImage()(path)
    assert cine.shape == (3, 240, 320, 30)
    one = LoadAnyImage(dicom={"frame": 7})(path)
    assert torch.equal(cine[..., 7].as_tensor(), one.as_tensor())
    assert np.abs(one.numpy() - pixels[7].transpose(2, 0, 1)).max() <= 1


def test_what_holds_more_than_one_image_is_refused(tmp_path):
    pages = [Image.new("L", (4, 4), value) for value in (1, 2, 3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    for picture in ("rgb", "gray", "label"):
        with pytest.raises(DataError, match=r"a\.tif.*3 pages"):
            LoadAnyImage(picture)(tmp_path / "a.tif")
    nib.save(nib.Nifti1Image(np.zeros((4, 5), np.float32), np.eye(4)), tmp_path / "flat.nii")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 1, 3), np.float32), np.eye(4)), tmp_path / "five.nii")
    for name in ("flat.nii", "five.nii"):
        with pytest.raises(DataError, match="three dimensions"):
            LoadAnyImage()(tmp_path / name)


def test_loading_is_quiet(tmp_path, caplog, recwarn):
    Image.new("RGB", (4, 6)).save(tmp_path / "a.png")
    with caplog.at_level("INFO"):
        LoadAnyImage()(tmp_path / "a.png")
    assert not caplog.records
    # What is said of files that earlier tests left to the garbage collector comes when that runs.
    assert not [str(warning) for warning in recwarn if not issubclass(warning.category, ResourceWarning)]


def test_volumes_that_do_not_say_how_they_lie_are_refused(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.AnalyzeImage(values, np.eye(4)), tmp_path / "a.img")
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header + values.tobytes())
    for name in ("a.img", "a.nrrd"):
        with pytest.raises(DataError, match="does not say how it lies"):
            LoadAnyImage()(tmp_path / name)
        assert LoadAnyImage(require_orientation=False)(tmp_path / name).shape == (1, 2, 3, 4)


def test_volumes_in_metres_are_refused(tmp_path):
    nifti = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.diag([1e-3, 1e-3, 1e-3, 1]))
    nifti.header.set_xyzt_units("meter")
    nib.save(nifti, tmp_path / "a.nii")
    with pytest.raises(DataError, match="metres"):
        LoadAnyImage()(tmp_path / "a.nii")


def test_each_dicom_image_has_a_name_of_its_own_to_save_under(shared_data, tmp_path):
    source = sorted((shared_data / "dicom" / "same_volume_by_transfer_syntax" / "compressed_rle").iterdir())
    names = []
    for folder in ("1.2.840.11", "1.2.840.12"):
        (tmp_path / folder).mkdir()
        for file in source:
            (tmp_path / folder / file.name).symlink_to(file)
        image = LoadAnyImage()(tmp_path / folder)
        names.append(image.meta["filename_or_obj"])
        SaveImage(tmp_path / "out", "seg", separate_folder=False, print_log=False)(image)
    assert names == [str(tmp_path / f"1.2.840.{n}.dcm") for n in (11, 12)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"1.2.840.{n}_seg.nii.gz" for n in (11, 12)]
    pydicom = pytest.importorskip("pydicom")
    cine = pydicom.examples.get_path("ybr_color")
    assert LoadAnyImage(dicom={"frame": 7})(cine).meta["filename_or_obj"] == f"{cine}_frame7.dcm"


def test_parts_of_a_mask_are_united(tmp_path):
    parts = np.zeros((3, 6, 8), np.uint8)
    parts[0, :2], parts[1, 1:4, 3], parts[2, 5] = 255, 128, 1
    paths = []
    for number, part in enumerate(parts):
        Image.fromarray(part).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    united = LoadAnyImage("gray", union=True)
    found = united(paths)
    np.testing.assert_array_equal(found[0], parts.max(0))
    assert found.meta["filename_or_obj"] == str(paths[0])
    np.testing.assert_array_equal(united(paths[1])[0], parts[1])
    np.testing.assert_array_equal(LoadAnyImaged("label", "gray", union=True)({"label": paths})["label"], found)
    with pytest.raises(DataError, match="Several files are one image only in DICOM"):
        LoadAnyImage("gray")(paths)
    Image.fromarray(parts[0, :3]).save(paths[2])
    with pytest.raises(DataError, match=r"parts of one mask differ in size: .*0.png \(6, 8\).*2.png \(3, 8\)"):
        united(paths)


@pytest.mark.parametrize(
    ("modality", "name"),
    [
        ("mr", "mr_series_t1post_oblique10deg"),
        ("endoscopy", "colour/US1_UNCR.dcm"),
        ("xray", "monochrome1/dx_image.dcm"),
    ],
)
def test_what_was_read_before_takes_a_files_place(shared_data, modality, name):
    preset = Preset(modality, spatial_size=64, any_modality=True)
    path = shared_data / "dicom" / name
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    volume = preset.read_dicom(files)
    loaded, expected = (preset.inference()({"image": image})["image"] for image in (volume, path))
    assert torch.equal(loaded.as_tensor(), expected.as_tensor())
    assert torch.equal(loaded.affine, expected.affine)
    assert loaded.meta["filename_or_obj"] == str(volume.first.path)
