# SPDX-License-Identifier: Apache-2.0
"""Which files are looked at, how they are grouped by series, and how little of them is held in memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from monai_sam2unet.dicom import find_series, is_dicom, read_volume, select_series
from monai_sam2unet.errors import DataError


def held_bytes(frame):
    """Bytes of pixel data that a frame's dataset holds."""
    value = frame.dataset.get_item("PixelData", keep_deferred=True).value
    return 0 if value is None else len(value)


def three_series(folder, make_series):
    for number, name in enumerate(("head", "neck", "chest")):
        make_series(
            folder,
            np.arange(2 + number),
            names=[f"{name}{i}.dcm" for i in range(2 + number)],
            SeriesInstanceUID=f"1.2.{number}",
            SeriesDescription=name,
            each=lambda index: {"pixels": np.full((128, 128), index, np.int16)},
        )
    return folder


def test_several_series_are_listed(tmp_path, make_series):
    three_series(tmp_path, make_series)
    with pytest.raises(DataError, match="There are 3 series; choose one with series_uid") as error:
        read_volume(tmp_path)
    text = str(error.value)
    for part in ("1.2.0  CT  head  2 images", "1.2.1  CT  neck  3 images", "1.2.2  CT  chest  4 images"):
        assert part in text


def test_a_series_is_chosen_by_uid(tmp_path, make_series):
    three_series(tmp_path, make_series)
    assert len(read_volume(tmp_path, series_uid="1.2.1").pixels) == 3
    with pytest.raises(DataError, match=r"There is no series 1\.2\.9") as error:
        read_volume(tmp_path, series_uid="1.2.9")
    assert "1.2.2  CT  chest" in str(error.value)


def test_only_the_chosen_series_pixels_are_read_and_none_are_kept(tmp_path, make_series, monkeypatch):
    three_series(tmp_path, make_series)
    series = find_series(tmp_path)
    assert [held_bytes(frame) for item in series for frame in item.frames] == [0] * 9
    read: list[Path] = []
    original = pydicom.filereader.read_deferred_data_element

    def counted(kind, filename, timestamp, element):
        read.append(Path(filename).name)
        return original(kind, filename, timestamp, element)

    monkeypatch.setattr("pydicom.dataset.read_deferred_data_element", counted, raising=False)
    monkeypatch.setattr("pydicom.filereader.read_deferred_data_element", counted)
    volume = read_volume(tmp_path, series_uid="1.2.1")
    assert sorted(read) == ["neck0.dcm", "neck1.dcm", "neck2.dcm"]
    assert [held_bytes(frame) for frame in volume.frames] == [0, 0, 0]


@pytest.mark.parametrize("compress", [None, JPEG2000Lossless])
def test_duplicates_and_frames_are_not_kept_either(tmp_path, make_series, make_cine, compress):
    noise = np.random.default_rng(0).integers(0, 999, (128, 128)).astype(np.int16)
    paths = make_series(tmp_path / "a", [0, 1], pixels=noise, compress=compress)
    shutil.copy(paths[0], tmp_path / "a" / "again.dcm")
    with pytest.warns(UserWarning, match="more than once"):
        volume = read_volume(tmp_path / "a", strict=False)
    assert [held_bytes(frame) for frame in volume.frames] == [0, 0]
    cine = make_cine(tmp_path / "cine.dcm", np.stack([noise] * 3), compress=compress)
    assert [held_bytes(frame) for frame in read_volume(cine).frames] == [0, 0, 0]


def test_each_header_is_read_once(tmp_path, make_series, monkeypatch):
    paths = make_series(tmp_path, range(5))
    read = []
    original = pydicom.dcmread
    monkeypatch.setattr(
        pydicom, "dcmread", lambda file, **options: read.append(Path(file.name)) or original(file, **options)
    )
    read_volume(tmp_path)
    assert sorted(read) == sorted(paths)


def test_other_files_are_passed_over(tmp_path, make_series, samples):
    make_series(tmp_path / "study" / "série 1 Köpfe 头", range(3))
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "study" / "label.nii.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "study" / "._000.dcm").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("test-SR.dcm", "rtdose.dcm", "liver_1frame.dcm", "rtplan.dcm"):
        shutil.copy(samples / "test_files" / name, tmp_path / "study" / name)
    shutil.copy(samples / "test_files" / "dicomdirtests" / "DICOMDIR", tmp_path)
    volume = read_volume(tmp_path)
    assert len(volume.pixels) == 3
    assert "série" in str(volume.first.path)


def test_the_real_series_beside_their_segmentations(shared_data):
    for name in ("24x38x3", "ct-3slice"):
        (series,) = find_series(shared_data / "dicom" / "seg" / name)
        assert len(series.frames) == 3


def test_a_folder_of_nothing_but_others_says_what_they_are(tmp_path, samples):
    shutil.copy(samples / "test_files" / "test-SR.dcm", tmp_path)
    with pytest.raises(DataError, match="There is no DICOM image in") as error:
        read_volume(tmp_path)
    assert "test-SR.dcm: an object without pixel data (Comprehensive SR Storage)" in str(error.value)


@pytest.mark.parametrize("name", ["009.dcm", "009.DCM", "scan.ima"])
@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"not DICOM"])
def test_a_slice_that_was_lost_in_transfer_is_not_passed_over(tmp_path, make_series, name, content):
    make_series(tmp_path, range(3))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_volume(tmp_path)


def without_meta(path):
    """The same data set without preamble and File Meta Information."""
    dataset = pydicom.dcmread(path)
    target = path.with_suffix("")
    pydicom.dcmwrite(target, pydicom.Dataset(dataset), implicit_vr=False, little_endian=True)
    path.unlink()
    return target


def test_slices_without_meta_are_not_passed_over(tmp_path, make_series):
    paths = make_series(tmp_path, range(4))
    bare = without_meta(paths[3])
    assert not is_dicom(bare)
    with pytest.raises(DataError, match="has no File Meta Information") as error:
        read_volume(tmp_path)
    assert str(bare) in str(error.value)
    with pytest.warns(UserWarning, match="It is taken as uncompressed"):
        volume = read_volume(tmp_path, strict=False)
    assert len(volume.pixels) == 4


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_without_meta_the_encoding_is_found(tmp_path, make_slice, syntax):
    pixels = np.arange(30, dtype=np.int16).reshape(6, 5) * 300
    pixels = pixels.astype(">i2" if syntax == ExplicitVRBigEndian else "<i2")
    path = make_slice(tmp_path / "a.dcm", pixels, syntax=syntax)
    bare = tmp_path / "bare"
    data = path.read_bytes()
    bare.write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
    with pytest.warns(UserWarning, match="taken as uncompressed"):
        volume = read_volume(bare, strict=False)
    np.testing.assert_array_equal(volume.pixels[0], pixels)


def test_a_link_that_leads_nowhere(tmp_path, make_series):
    paths = make_series(tmp_path, range(3))
    (tmp_path / "003").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="003 is a link to a file that is not there"):
        read_volume(tmp_path)
    (tmp_path / "003").unlink()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(read_volume(tmp_path).pixels) == len(paths)


def test_linked_files_are_followed(tmp_path, make_series):
    paths = make_series(tmp_path / "store", range(3))
    (tmp_path / "case").mkdir()
    for path in paths:
        (tmp_path / "case" / path.stem).symlink_to(path)
    assert len(read_volume(tmp_path / "case").pixels) == 3


def test_a_file_that_may_not_be_read(tmp_path, make_series, monkeypatch):
    paths = make_series(tmp_path, range(3), names=["a", "b", "c"])
    original = Path.open

    def denied(self, *args, **kwargs):
        if self == paths[2]:
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"c cannot be read.*Permission denied"):
        read_volume(tmp_path)


def test_a_folder_that_may_not_be_read(tmp_path, make_series, monkeypatch):
    make_series(tmp_path, range(3))
    (tmp_path / "closed").mkdir()
    original = os.scandir

    def denied(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match="closed cannot be read: Permission denied"):
        read_volume(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path, make_series):
    make_series(tmp_path, range(3))
    os.mkfifo(tmp_path / "pipe")
    assert len(read_volume(tmp_path).pixels) == 3


def test_a_folder_of_many_other_files(tmp_path, make_series):
    make_series(tmp_path, range(3))
    for number in range(2000):
        (tmp_path / f"{number}.txt").touch()
    assert len(read_volume(tmp_path).pixels) == 3


@pytest.mark.parametrize("source", ["nothing", "nothing.dcm"])
def test_files_that_are_not_there(tmp_path, source):
    with pytest.raises(DataError, match=f"There is no file or folder .*{source}"):
        read_volume(tmp_path / source)


def test_an_empty_list_and_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="No DICOM file is given"):
        read_volume([])
    with pytest.raises(DataError, match="There is no DICOM image in"):
        read_volume(tmp_path)


def test_a_list_with_a_file_that_is_no_image(tmp_path, make_series, samples):
    paths = make_series(tmp_path, range(3))
    with pytest.raises(DataError, match=r"test-SR.dcm is no image to read"):
        read_volume([*paths, samples / "test_files" / "test-SR.dcm"])
    with pytest.raises(DataError, match=r"no file or folder .*004.dcm"):
        read_volume([*paths, tmp_path / "004.dcm"])


def test_lists_may_mix_text_paths_files_and_folders(tmp_path, make_series):
    paths = make_series(tmp_path / "a", range(3))
    more = make_series(tmp_path / "b", [3, 4])
    assert len(read_volume([str(paths[0]), *paths[1:], tmp_path / "b"]).pixels) == 5
    assert len(read_volume(path for path in [*paths, *more]).pixels) == 5
    assert len(read_volume(str(tmp_path)).pixels) == 5


def test_a_file_that_is_named_twice_is_read_once(tmp_path, make_series):
    paths = make_series(tmp_path, range(3))
    assert len(read_volume([*paths, paths[0]]).pixels) == 3
    assert len(read_volume([tmp_path, paths[0]]).pixels) == 3


@pytest.mark.parametrize("uid", [None, ""])
def test_files_without_a_series_uid_are_grouped_by_folder(tmp_path, make_series, uid):
    make_series(tmp_path / "a", range(3), SeriesInstanceUID=uid)
    make_series(tmp_path / "b", range(4), SeriesInstanceUID=uid)
    assert len(read_volume(tmp_path / "a").pixels) == 3
    with pytest.raises(DataError, match="There are 2 series") as error:
        read_volume(tmp_path)
    assert f"(no SeriesInstanceUID) {tmp_path / 'b'}" in str(error.value)


def test_select_series(tmp_path, make_series):
    three_series(tmp_path, make_series)
    series = find_series(tmp_path)
    assert [item.description for item in series] == ["chest", "head", "neck"]
    assert select_series(series, "1.2.0").description == "head"
    assert select_series(series[:1]) is series[0]


@pytest.mark.parametrize("name", ["DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-reordered"])
@pytest.mark.filterwarnings("ignore")
def test_dicomdirs(samples, name):
    path = samples / "test_files" / "dicomdirtests" / name
    series = find_series(path)
    assert len(series) == 13
    folders = [{frame.path.parent for frame in item.frames} for item in series]
    assert sum(len(item.frames) for item in series) == 31
    assert all(len(names) == 1 for names in folders)
    (chosen,) = [item for item in series if item.frames[0].path.parent.name == "MR700"]
    assert {frame.path for frame in chosen.frames} == set((path.parent / "98892003" / "MR700").iterdir())


def dicomdir(folder, paths):
    """A DICOMDIR of the images ``paths``, copied into ``folder``."""
    files = FileSet()
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword in ("PatientID", "PatientName", "StudyDate", "StudyTime", "StudyID", "SeriesNumber"):
            setattr(dataset, keyword, "1")
        dataset.StudyDate, dataset.StudyTime = "20240101", "101112"
        files.add(dataset)
    files.write(folder)
    return folder / "DICOMDIR"


@pytest.mark.filterwarnings("ignore")
def test_a_series_of_a_dicomdir_is_read(tmp_path, make_series):
    path = dicomdir(tmp_path / "disc", make_series(tmp_path / "files", [4, 2, 0, 6]))
    volume, truth = read_volume(path), read_volume(tmp_path / "files")
    np.testing.assert_array_equal(volume.pixels, truth.pixels)
    np.testing.assert_array_equal(volume.affine, truth.affine)
    assert len(read_volume(path.parent).pixels) == 4


@pytest.mark.filterwarnings("ignore")
def test_a_dicomdir_of_which_one_file_is_gone(tmp_path, make_series):
    """The last slice leaves no gap, so nothing else would tell."""
    path = dicomdir(tmp_path / "disc", make_series(tmp_path / "files", range(4)))
    gone = read_volume(path).frames[-1].path
    gone.unlink()
    with pytest.raises(DataError, match="names 1 files that are not there") as error:
        read_volume(path)
    assert str(gone) in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_a_dicomdir_whose_files_are_gone(samples, tmp_path):
    shutil.copy(samples / "test_files" / "dicomdirtests" / "DICOMDIR", tmp_path)
    with pytest.raises(DataError, match="names 31 files that are not there"):
        read_volume(tmp_path / "DICOMDIR")


def test_is_dicom(samples, tmp_path):
    assert is_dicom(samples / "test_files" / "CT_small.dcm")
    assert not is_dicom(samples / "test_files" / "no_meta.dcm")
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "nothing")
