# SPDX-License-Identifier: Apache-2.0
"""The reader in MONAI: found by name, never replaced by another reader on DICOM, and its metadata."""

from __future__ import annotations

import pickle
import subprocess
import sys

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.data import DataLoader, Dataset, ImageReader, MetaTensor
from monai.transforms import Compose as Chain
from monai.transforms import EnsureChannelFirstd, LoadImage, LoadImaged, Orientationd
from monai.transforms.io.array import SUPPORTED_READERS
from PIL import Image

from monai_sam2unet.dicom import SAM2UNetDICOMReader, read_volume
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import VOIWindow

OBLIQUE = (0.8, 0.6, 0, 0, 0, -1)


@pytest.fixture
def series(tmp_path, make_series):
    make_series(
        tmp_path / "ct",
        np.arange(4) * 2.5,
        OBLIQUE,
        RescaleSlope="1",
        RescaleIntercept="-1024",
        WindowCenter=[40, 400],
        WindowWidth=[350, 1500],
        SeriesInstanceUID="1.2.7",
        PixelSpacing=[0.5, 0.75],
    )
    return tmp_path / "ct"


@pytest.mark.parametrize(
    "reader",
    ["SAM2UNetDICOMReader", SAM2UNetDICOMReader, SAM2UNetDICOMReader(), "monai_sam2unet.dicom.SAM2UNetDICOMReader"],
)
def test_load_image_finds_the_reader(series, reader):
    image = LoadImage(reader=reader)(series)
    volume = read_volume(series)
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.numpy(), volume.pixels.transpose(2, 1, 0))
    np.testing.assert_array_equal(image.affine.numpy(), volume.affine)
    assert image.meta["space"] == "RAS"


def test_options_are_given_by_name(series):
    image = LoadImaged(keys="image", reader="SAM2UNetDICOMReader", voi=1)({"image": str(series)})["image"]
    np.testing.assert_array_equal(image.numpy(), read_volume(series, voi=1).pixels.transpose(2, 1, 0))
    image = LoadImage(reader=SAM2UNetDICOMReader, series_uid="1.2.7")(series)
    assert image.meta["series_uid"] == "1.2.7"


def test_metadata(series):
    image = LoadImage(reader="SAM2UNetDICOMReader")(series)
    expected = {
        "modality": "CT",
        "series_uid": "1.2.7",
        "bits_stored": 16,
        "in_patient_space": True,
        "shear_deg": 0,
        "spacing_source": "positions",
        "filled_slices": 0,
        "window_center": 40,
        "window_width": 350,
        "voi_lut_function": "LINEAR",
    }
    assert {key: image.meta[key] for key in expected} == pytest.approx(expected)
    assert image.meta["spatial_shape"].tolist() == [5, 6, 4]
    np.testing.assert_array_equal(image.meta["original_affine"], image.affine)
    assert image.meta["filename_or_obj"] == str(series)


def test_windows_that_are_not_there_are_nan(tmp_path, make_slice):
    meta = LoadImage(reader="SAM2UNetDICOMReader")(make_slice(tmp_path / "a.dcm")).meta
    assert np.isnan([meta["window_center"], meta["window_width"]]).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_window_is_that_of_the_values(tmp_path, make_image, photometric, function):
    """Windowed by their metadata, they are what the reader gives when it windows by itself."""
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    window = {"WindowCenter": 1000, "WindowWidth": 500, "VOILUTFunction": function}
    stored = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": "2", "RescaleIntercept": "-10"}
    path = make_image(tmp_path / "a.dcm", pixels, PhotometricInterpretation=photometric, **window, **stored)
    by_meta = VOIWindow()(LoadImage(reader=SAM2UNetDICOMReader(), ensure_channel_first=True)(path))
    by_reader = LoadImage(reader=SAM2UNetDICOMReader(voi=0), ensure_channel_first=True)(path)
    torch.testing.assert_close(by_meta.as_tensor(), by_reader.as_tensor(), atol=2e-5, rtol=0)
    assert np.isnan([by_reader.meta["window_center"], by_reader.meta["window_width"]]).all()


def test_a_damaged_window_does_not_lose_the_image(tmp_path, make_slice):
    path = make_slice(tmp_path / "a.dcm", WindowCenter="11.5", WindowWidth="100")
    path.write_bytes(path.read_bytes().replace(b"11.5", b"11,5"))
    with pytest.warns(UserWarning, match="The metadata have no window: .*a.dcm"):
        image = LoadImage(reader=SAM2UNetDICOMReader())(path)
    assert np.isnan(image.meta["window_center"])
    assert image.shape == (5, 6, 1)


def test_filled_slices_and_shear_are_flagged(tmp_path, make_series):
    points = np.array([0, 1, 3])[:, None] * np.array([0, 0.25, 1])
    make_series(tmp_path, points)
    with pytest.warns(UserWarning, match="sheared|missing"):
        meta = LoadImage(reader=SAM2UNetDICOMReader(strict=False, fill_gaps=True))(tmp_path).meta
    assert meta["filled_slices"] == 1
    assert meta["shear_deg"] == pytest.approx(14.036, abs=1e-3)


def test_rows_first(series):
    """The same voxels at the same places, whichever index comes first."""
    columns_first = LoadImage(reader=SAM2UNetDICOMReader())(series)
    rows_first = LoadImage(reader=SAM2UNetDICOMReader(swap_ij=False))(series)
    np.testing.assert_array_equal(rows_first.numpy(), columns_first.numpy().transpose(1, 0, 2))
    for index in ([0, 0, 0], [4, 5, 3], [2, 1, 1]):
        other = [index[1], index[0], index[2]]
        assert columns_first[tuple(index)] == rows_first[tuple(other)]
        place = columns_first.affine.numpy() @ [*index, 1]
        np.testing.assert_allclose(rows_first.affine.numpy() @ [*other, 1], place, atol=1e-12)


def test_a_file_written_as_nifti_keeps_its_place(series, tmp_path):
    """Through Orientation and another library: nibabel's world is the DICOM header's, turned from LPS to RAS."""
    image = Chain(
        [
            LoadImaged("image", reader="SAM2UNetDICOMReader"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
        ]
    )({"image": series})["image"]
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(image[0].numpy(), image.affine.numpy()), path)
    saved = nibabel.load(path)
    header = pydicom.dcmread(series / "002.dcm")
    axes = np.array(OBLIQUE).reshape(2, 3)
    point = np.array(header.ImagePositionPatient, float) + 3 * 0.75 * axes[0] + 4 * 0.5 * axes[1]
    index = np.linalg.solve(saved.affine, [-point[0], -point[1], point[2], 1])[:3]
    np.testing.assert_allclose(index, np.round(index), atol=1e-3)
    value = saved.get_fdata()[tuple(np.round(index).astype(int))]
    assert value == int(header.pixel_array[4, 3]) - 1024


@pytest.mark.parametrize("kind", ["gap", "tilt", "two series", "pixels", "header", "no meta", "closed"])
def test_what_is_refused_is_read_by_no_other_reader(tmp_path, make_series, kind):
    folder = tmp_path / "ct"
    if kind == "gap":
        make_series(folder, [0, 1, 3])
    elif kind == "tilt":
        make_series(folder, np.arange(3)[:, None] * np.array([0, 0.5, 1]))
    elif kind == "two series":
        make_series(folder, range(3), each=lambda i: {"SeriesInstanceUID": f"1.{i}"})
    else:
        paths = make_series(folder, range(3))
        data = paths[2].read_bytes()
        if kind == "pixels":
            paths[2].write_bytes(data[:-20])
        elif kind == "header":
            paths[2].write_bytes(data[:200])
        elif kind == "no meta":
            paths[2].unlink()
            (folder / "bare").write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
        else:
            (folder / "link").symlink_to("gone")
    for source in (folder, sorted(folder.iterdir())):
        with pytest.raises(DataError):
            LoadImage(reader="SAM2UNetDICOMReader")(source)


@pytest.mark.parametrize("name", ["nothing.dcm", "empty.dcm"])
def test_files_called_dicom_are_read_by_no_other_reader(tmp_path, name):
    (tmp_path / "empty.dcm").touch()
    with pytest.raises(DataError):
        LoadImage(reader="SAM2UNetDICOMReader")(tmp_path / name)


def test_wrong_options_are_errors(series):
    with pytest.raises(ConfigError):
        LoadImage(reader=SAM2UNetDICOMReader(stack=3))(series)


def test_other_files_go_to_other_readers(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (8, 9), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    nibabel.save(nibabel.Nifti1Image(picture.astype(np.int16)[..., None], np.diag([2, 3, 4, 1])), tmp_path / "a.nii.gz")
    for reader in ("SAM2UNetDICOMReader", ["PILReader", "SAM2UNetDICOMReader"]):
        load = LoadImage(reader=reader)
        np.testing.assert_array_equal(load(tmp_path / "a.png").numpy(), picture.T)
        nifti = load(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(nifti.numpy()[..., 0], picture)
        assert nifti.affine[2, 2] == 4


def test_read_refuses_what_is_not_dicom(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    reader = SAM2UNetDICOMReader()
    assert isinstance(reader, ImageReader)
    assert not reader.verify_suffix(tmp_path / "a.txt")
    assert not reader.verify_suffix(tmp_path)
    with pytest.raises(DataError, match="There is no DICOM image in"):
        reader.read(tmp_path / "a.txt")


def test_a_plain_load_image_stays_as_it_was(tmp_path, make_slice, monkeypatch):
    """The same readers are chosen for each kind of file with and without this one registered."""
    make_slice(tmp_path / "a.dcm", np.zeros((8, 9), np.int16))
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "a.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), tmp_path / "a.nii.gz")
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))

    def chosen():
        load = LoadImage()
        paths = [(str(path),) for path in [*sorted(tmp_path.iterdir()), tmp_path]]
        return [next(type(r) for r in load.readers[::-1] if r.verify_suffix(path)) for path in paths]

    registered = chosen()
    assert next(iter(SUPPORTED_READERS)) == "sam2unetdicomreader"
    monkeypatch.delitem(SUPPORTED_READERS, "sam2unetdicomreader")
    assert registered == chosen()
    assert SAM2UNetDICOMReader not in registered


@pytest.mark.slow
def test_the_import_alone_registers_the_reader():
    code = (
        "from monai_sam2unet.dicom import SAM2UNetDICOMReader; import monai.transforms as t; "
        "print(type(t.LoadImage(reader='SAM2UNetDICOMReader').readers[-1]).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == "SAM2UNetDICOMReader"


def test_files_are_looked_through_without_monai():
    code = "import sys, monai_sam2unet.dicom; print({'monai', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_a_list_with_a_stray_file_goes_to_no_other_reader(tmp_path, make_series):
    paths = make_series(tmp_path, range(3))
    (tmp_path / "stray").write_bytes(b"text")
    with pytest.raises(DataError, match="stray"):
        LoadImage(reader="SAM2UNetDICOMReader")([*paths, tmp_path / "stray"])


@pytest.mark.parametrize(("frames", "shape"), [(1, (7, 6, 3)), (4, (7, 6, 4, 3))])
def test_colour_channels(tmp_path, make_image, make_cine, frames, shape):
    pixels = np.random.default_rng(0).integers(0, 255, (frames, 6, 7, 3)).astype(np.uint8)
    make = make_image if frames == 1 else make_cine
    path = make(tmp_path / "a.dcm", pixels[0] if frames == 1 else pixels)
    load = Chain([LoadImaged("image", reader="SAM2UNetDICOMReader"), EnsureChannelFirstd("image")])
    raw = LoadImage(reader="SAM2UNetDICOMReader")(path)
    assert tuple(raw.shape) == shape
    first = load({"image": path})["image"]
    assert tuple(first.shape) == (3, *shape[:-1])
    expected = pixels.transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(first.numpy().reshape(3, 7, 6, frames), expected)


@pytest.mark.parametrize(("place", "shape"), [(True, (1, 5, 6, 1)), (False, (1, 5, 6))])
def test_gray_images_get_one_channel(tmp_path, make_slice, make_image, place, shape):
    pixels = np.arange(30, dtype=np.int16).reshape(6, 5)
    path = (make_slice if place else make_image)(tmp_path / "a.dcm", pixels)
    image = LoadImage(reader="SAM2UNetDICOMReader", ensure_channel_first=True)(path)
    assert tuple(image.shape) == shape
    np.testing.assert_array_equal(image.numpy().reshape(5, 6), pixels.T)


def test_a_list_of_files_is_one_volume_not_channels(series):
    paths = sorted(series.iterdir())[::-1]
    image = LoadImage(reader="SAM2UNetDICOMReader", ensure_channel_first=True)(paths)
    assert tuple(image.shape) == (1, 5, 6, 4)


@pytest.mark.parametrize("context", [None, "fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_batches_in_a_data_loader(tmp_path, make_series, context):
    """The metadata collate, and the transform and what it gives can be sent between processes."""
    for number in range(4):
        make_series(tmp_path / str(number), range(3), SeriesInstanceUID=f"1.2.{number}")
    load = Chain([LoadImaged("image", reader=SAM2UNetDICOMReader()), EnsureChannelFirstd("image")])
    data = Dataset([{"image": str(tmp_path / str(n))} for n in range(4)], load)
    workers = {"num_workers": 0} if context is None else {"num_workers": 2, "multiprocessing_context": context}
    batches = list(DataLoader(data, batch_size=2, **workers))
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 1, 5, 6, 3)] * 2
    assert batches[1]["image"].meta["series_uid"] == ["1.2.2", "1.2.3"]
    np.testing.assert_array_equal(batches[0]["image"].affine[1], read_volume(tmp_path / "1").affine)


def test_the_reader_and_its_results_can_be_pickled(series):
    reader = pickle.loads(pickle.dumps(SAM2UNetDICOMReader(voi=1, strict=False)))
    assert reader.options["voi"] == 1
    image = LoadImage(reader=reader)(series)
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.numpy(), image.numpy())
    assert again.meta["modality"] == "CT"


@pytest.mark.parametrize("name", ["mr_series_t1post_oblique10deg", "ct_series_j2k_with_seg/ct"])
def test_real_series_through_monai(shared_data, name):
    folder = shared_data / "dicom" / name
    image = LoadImaged("image", reader="SAM2UNetDICOMReader")({"image": folder})["image"]
    volume = read_volume(folder)
    np.testing.assert_array_equal(image.affine.numpy(), volume.affine)
    np.testing.assert_array_equal(image.numpy(), volume.pixels.transpose(2, 1, 0))
