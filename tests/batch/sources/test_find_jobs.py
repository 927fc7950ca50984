# SPDX-License-Identifier: Apache-2.0
"""Every series of a source becomes a job, or is refused with its reason; what is no image is counted."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from monai_sam2unet.batch.identity import discreet_refusal
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.series_rules import SeriesRules
from monai_sam2unet.batch.sources import find_jobs
from monai_sam2unet.dicom import find_series, read_volume
from monai_sam2unet.errors import ConfigError, DataError

# The package has a function of this name.
find_jobs_module = sys.modules[find_jobs.__module__]
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def found(source, **options):
    """Jobs by key, refusals by the last part of their source, and what was passed over."""
    passed = Counter()
    items = list(find_jobs(source, passed_over=passed, **options))
    jobs = {item.key: item for item in items if isinstance(item, SeriesJob)}
    refused = {Path(item.source).name: item for item in items if isinstance(item, Refused)}
    assert len(jobs) + len(refused) == len(items)
    return jobs, refused, dict(passed)


def read_all(jobs, folder):
    shapes = {}
    for key, job in jobs.items():
        with job.opened(folder) as files:
            shapes[key] = read_volume(files).pixels.shape
    return shapes


def test_a_tree_of_any_shape(tmp_path, make_series, make_cine, samples):
    make_series(tmp_path / "b" / "thorax 1", range(4), SeriesInstanceUID="1.1", SeriesDescription="thorax")
    make_series(tmp_path / "b" / "thorax 2", [4, 5], SeriesInstanceUID="1.1", names=["x", "y"])
    make_series(tmp_path / "a", range(3), SeriesInstanceUID="1.2", names=["0", "1", "2"], orientation=CORONAL)
    make_series(tmp_path / "a", range(3), SeriesInstanceUID="1.3", names=["A", "B", "C"], orientation=SAGITTAL)
    make_cine(tmp_path / "a" / "cine", np.zeros((5, 6, 7), np.uint8), SeriesInstanceUID="1.4")
    (tmp_path / "a" / "notes.txt").write_text("notes")
    (tmp_path / "empty").touch()
    shutil.copy(samples / "test_files" / "test-SR.dcm", tmp_path)
    shutil.copy(samples / "test_files" / "liver_1frame.dcm", tmp_path / "b")
    shutil.copy(samples / "test_files" / "dicomdirtests" / "DICOMDIR", tmp_path)
    jobs, refused, passed = found(tmp_path)
    assert not refused
    assert {key[:3]: (job.slices, job.orientation, job.modality) for key, job in jobs.items()} == {
        "1.1": (6, "axial", "CT"),
        "1.2": (3, "coronal", "CT"),
        "1.3": (3, "sagittal", "CT"),
        "1.4": (5, "", "US"),
    }
    assert jobs["1.1"].description == "thorax"
    assert jobs["1.1"].image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert jobs["1.1"].size_bytes == sum(path.stat().st_size for path in jobs["1.1"].files)
    assert passed == {
        "not DICOM": 2,
        "an object without pixel data (Comprehensive SR Storage)": 1,
        "a segmentation": 1,
        "a DICOMDIR": 1,
    }
    assert sorted(read_all(jobs, tmp_path / "work").values()) == [(3, 6, 5), (3, 6, 5), (5, 6, 7), (6, 6, 5)]
    assert pickle.loads(pickle.dumps(jobs["1.1"])) == jobs["1.1"]


def test_the_real_files_are_found_as_the_reader_finds_them(shared_data):
    """The same images, by series, as the reader's own search finds in each folder without bad files."""
    for folder in sorted((shared_data / "dicom").iterdir()):
        if folder.name == "broken":
            continue
        jobs, refused, passed = found(folder)
        assert not refused, refused
        mine = {file for job in jobs.values() for file in job.files}
        theirs = {frame.path for series in find_series(folder) for frame in series.frames}
        assert mine <= theirs
        assert len(theirs) == len(mine) + passed.get("a copy of an image", 0)


def test_broken_real_files(shared_data):
    jobs, refused, _ = found(shared_data / "dicom" / "broken")
    assert not jobs
    for name, reason in (
        ("MR_truncated.dcm", "cut off: 62 bytes of its pixel data are missing"),
        ("meta_missing_tsyntax.dcm", "no TransferSyntaxUID"),
        ("dwv-test_no-number-rows.dcm", "Rows"),
        ("CR-MONO1-10-chest", "has no File Meta Information"),
    ):
        assert any(name in item.source + item.reason and reason in item.reason for item in refused.values()), name


@pytest.mark.parametrize("number", [2, 5])
def test_images_without_a_place_are_jobs_of_their_own(tmp_path, make_image, number):
    for index in range(number):
        make_image(tmp_path / f"{index}", np.zeros((8, 8), np.uint8), Modality="CR", SOPInstanceUID=f"9.{index}")
    jobs, refused, _ = found(tmp_path)
    assert not refused
    assert len(jobs) == number
    assert {job.series_uid for job in jobs.values()} == {"1.2.3.4"}
    assert all(key.startswith("1.2.3.4-") and job.orientation == "" for key, job in jobs.items())
    assert set(read_all(jobs, tmp_path / "work").values()) == {(1, 8, 8)}
    again, _, _ = found(tmp_path)
    assert list(again) == list(jobs)


def test_one_uid_for_images_that_differ(tmp_path, make_image):
    for index in range(3):
        make_image(tmp_path / f"{index}", np.zeros((8, 8 + index), np.uint8), SOPInstanceUID="9.1")
    assert len(found(tmp_path)[0]) == 3


def test_enhanced_images_and_mixed_orientation(tmp_path, make_series, make_enhanced):
    groups = [{"PlanePositionSequence": {"ImagePositionPatient": [0, 0, z]}} for z in range(4)]
    make_enhanced(tmp_path / "e", np.zeros((4, 6, 5), np.int16), groups, SeriesInstanceUID="1.1")
    make_series(tmp_path / "m", range(2), SeriesInstanceUID="1.2")
    make_series(tmp_path / "m", range(2), orientation=CORONAL, names=["c", "d"], SeriesInstanceUID="1.2")
    oblique = (0.8, 0.6, 0, 0, 0, -1)
    make_series(tmp_path / "o", range(2), orientation=oblique, SeriesInstanceUID="1.3")
    jobs, _, _ = found(tmp_path)
    assert {key: (job.slices, job.orientation) for key, job in jobs.items()} == {
        "1.1": (4, "axial"),
        "1.2": (4, "mixed"),
        "1.3": (2, "oblique"),
    }


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_transfer_syntaxes(tmp_path, make_series, syntax):
    make_series(tmp_path, range(3), syntax=syntax)
    jobs, refused, _ = found(tmp_path)
    assert not refused
    assert jobs["1.2.3.4"].slices == 3


def test_compressed_pixels(tmp_path, make_series):
    make_series(tmp_path, range(3), compress=RLELossless)
    assert found(tmp_path)[0]["1.2.3.4"].slices == 3


def two_series(folder, make_series):
    good = make_series(folder, range(3), SeriesInstanceUID="1.1", names=["a0", "a1", "a2"])
    bad = make_series(folder, range(3), SeriesInstanceUID="1.2", names=["b0", "b1", "b2"])
    make_series(folder / "other", range(3), SeriesInstanceUID="1.3")
    return good, bad


def test_a_file_that_is_cut_off_takes_its_own_series_alone(tmp_path, make_series):
    _, bad = two_series(tmp_path, make_series)
    bad[2].write_bytes(bad[2].read_bytes()[:-7])
    jobs, refused, _ = found(tmp_path)
    assert set(jobs) == {"1.1", "1.3"}
    (item,) = refused.values()
    assert item.series_uid == "1.2"
    assert "1 of its files cannot be read" in item.reason
    assert "b2 is cut off: 7 bytes of its pixel data are missing" in item.reason


def test_a_file_that_lost_all_its_pixels_is_no_other_object(tmp_path, make_series):
    """Cut off before the pixel data, the last slice would be missed by nobody."""
    _, bad = two_series(tmp_path, make_series)
    data = bad[2].read_bytes()
    for length in (data.index(b"\xe0\x7f\x10\x00"), data.index(b"\xe0\x7f\x10\x00") + 4):
        bad[2].write_bytes(data[:length])
        jobs, refused, _ = found(tmp_path)
        assert set(jobs) == {"1.1", "1.3"}
        (item,) = refused.values()
        assert "b2 is an image (CT Image Storage) without pixel data: it is cut off" in item.reason
        assert discreet_refusal(item).endswith(
            "Of the first one: it is an image (CT Image Storage) without pixel data: it is cut off, or they were "
            "taken out."
        )
        with pytest.raises(DataError, match="b2 is an image"):
            find_series(tmp_path)


def test_compressed_pixels_that_are_cut_off(tmp_path, shared_data):
    files = sorted((shared_data / "dicom" / "ct_series_j2k_with_seg" / "ct").iterdir())
    for file in files:
        shutil.copy(file, tmp_path)
    assert not found(tmp_path)[1]
    cut = tmp_path / files[-1].name
    data = cut.read_bytes()
    for length in (len(data) // 2, len(data) - 4):
        cut.write_bytes(data[:length])
        jobs, refused, _ = found(tmp_path)
        assert not jobs
        (item,) = refused.values()
        assert f"{cut.name} is cut off: " in item.reason


@pytest.mark.parametrize(("name", "lost"), [("a1x.dcm", {"1.1"}), ("a9.dcm", {"1.1", "1.2"}), ("b9.dcm", {"1.2"})])
def test_a_file_that_says_nothing_takes_the_series_beside_it(tmp_path, make_series, name, lost):
    two_series(tmp_path, make_series)
    (tmp_path / name).write_bytes(b"")
    jobs, refused, _ = found(tmp_path)
    assert set(jobs) == {"1.1", "1.2", "1.3"} - lost
    assert {item.series_uid for item in refused.values()} == lost
    assert all(name in item.reason for item in refused.values())


def test_a_bad_file_alone_in_its_folder(tmp_path, make_series):
    two_series(tmp_path, make_series)
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "a.dcm").write_bytes(b"\0" * 300)
    jobs, refused, _ = found(tmp_path)
    assert len(jobs) == 3
    assert list(refused) == ["a.dcm"]


def test_a_bad_picture_loses_no_other(tmp_path, make_image):
    for index in range(3):
        make_image(tmp_path / f"{index}", np.zeros((8, 8), np.uint8), Modality="CR")
    data = (tmp_path / "1").read_bytes()
    (tmp_path / "1").write_bytes(data[:-9])
    jobs, refused, _ = found(tmp_path)
    assert len(jobs) == 2
    assert list(refused) == ["1"]


def test_a_series_that_no_file_of_can_be_read(tmp_path, make_series):
    for path in make_series(tmp_path, range(3)):
        path.write_bytes(path.read_bytes()[:-1])
    jobs, refused, _ = found(tmp_path)
    assert not jobs
    assert len(refused) == 3


def test_copies_are_read_once(tmp_path, make_series):
    make_series(tmp_path / "a", range(3), SeriesInstanceUID="1.1")
    shutil.copytree(tmp_path / "a", tmp_path / "backup" / "a")
    jobs, _, passed = found(tmp_path)
    assert jobs["1.1"].slices == 3
    assert passed == {"a copy of an image": 3}
    jobs, refused, passed = found(tmp_path, lookahead=1)
    assert (jobs["1.1"].slices, len(refused), passed) == (3, 0, {"a copy of an image": 3})


def test_the_first_jobs_come_early(tmp_path, make_series):
    for number in range(30):
        make_series(tmp_path / f"{number:02}", range(10), SeriesInstanceUID=f"1.{number}")
    source = find_jobs(tmp_path, lookahead=40, num_workers=1)
    first = next(source)
    assert first.key == "1.0"
    shutil.rmtree(tmp_path / "29")
    later = [item for item in source if isinstance(item, SeriesJob)]
    # Were all files looked at before the first job, this series would be among them.
    assert [job.key for job in later] == [f"1.{number}" for number in range(1, 29)]


def test_a_tree_that_spreads_series_is_looked_through_first(tmp_path, make_series):
    for z in range(8):
        for number in range(5):
            folder = tmp_path / f"{(z * 7 + number * 3) % 8}" / f"{number}"
            make_series(folder, [z], SeriesInstanceUID=f"1.{number}", names=[f"{z}.dcm"])
    jobs, refused, _ = found(tmp_path, lookahead=10)
    assert not refused
    assert {job.slices for job in jobs.values()} == {8}


def test_a_part_that_comes_too_late_is_told(tmp_path, make_series):
    make_series(tmp_path / "a", range(3), SeriesInstanceUID="1.1")
    make_series(tmp_path / "b", range(20), SeriesInstanceUID="1.2")
    make_series(tmp_path / "c", [3, 4], SeriesInstanceUID="1.1")
    jobs, refused, _ = found(tmp_path, lookahead=5)
    assert jobs["1.1"].slices == 3
    (item,) = refused.values()
    assert item.series_uid == "1.1"
    assert item.kind is RefusalKind.LOST
    assert "lookahead=None" in item.reason
    jobs, refused, _ = found(tmp_path, lookahead=None)
    assert (jobs["1.1"].slices, refused) == (5, {})


@pytest.mark.parametrize("name", ["000scout.dcm", "zz.dcm"])
def test_a_localizer_among_slices_is_set_apart(tmp_path, make_series, name):
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "orientation": CORONAL, "SeriesInstanceUID": "1.1"}
    make_series(tmp_path, range(4), SeriesInstanceUID="1.1")
    make_series(tmp_path, [9], names=[name], **scout)
    jobs, refused, _ = found(tmp_path)
    volume = jobs.pop("1.1")
    (localizer,) = jobs.values()
    assert (volume.slices, volume.orientation, volume.image_type[2]) == (4, "axial", "AXIAL")
    assert (localizer.slices, localizer.orientation, localizer.image_type[2]) == (1, "coronal", "LOCALIZER")
    assert (refused, list(read_all({"": volume}, tmp_path / "work").values())) == ({}, [(4, 6, 5)])
    rules = SeriesRules.for_modalities(["CT"])
    assert rules.decide(volume).take
    assert not rules.decide(localizer).take


def test_a_series_of_localizers_is_one_job(tmp_path, make_series):
    make_series(tmp_path, range(3), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (job,) = found(tmp_path)[0].values()
    assert (job.slices, job.image_type[2]) == (3, "LOCALIZER")


def test_a_fault_in_one_file_does_not_end_the_search(tmp_path, make_series, monkeypatch):
    two_series(tmp_path, make_series)
    original = find_jobs_module.read_brief

    def faulty(file, path, *rest):
        if path.name == "b1":
            raise ZeroDivisionError("of a kind that nobody has foreseen")
        return original(file, path, *rest)

    monkeypatch.setattr(find_jobs_module, "read_brief", faulty)
    jobs, refused, _ = found(tmp_path)
    assert set(jobs) == {"1.1", "1.3"}
    assert "ZeroDivisionError" in refused["1.2"].reason
    assert refused["1.2"].kind is RefusalKind.LOST


def test_one_series_alone(tmp_path, make_series):
    two_series(tmp_path, make_series)
    assert list(found(tmp_path, series_uid="1.2")[0]) == ["1.2"]
    jobs, refused, _ = found(tmp_path, series_uid="1.9")
    assert not jobs
    assert "There is no series 1.9" in refused[tmp_path.name].reason


def test_single_files_and_lists(tmp_path, make_series):
    good, _bad = two_series(tmp_path / "x", make_series)
    jobs, _, _ = found(good[1])
    assert jobs["1.1"].files == (good[1],)
    names = [*good, "x/other", "# of 2024", "", tmp_path / "gone.dcm"]
    (tmp_path / "list.txt").write_text("\r\n".join(map(str, names)), encoding="utf-8-sig")
    jobs, refused, _ = found(tmp_path / "list.txt")
    assert {key: job.slices for key, job in jobs.items()} == {"1.1": 3, "1.3": 3}
    assert "named in line 7" in refused["gone.dcm"].reason
    (tmp_path / "binary").write_bytes(b"\1\2\0")
    assert "neither DICOM" in found(tmp_path / "binary")[1]["binary"].reason


@pytest.mark.filterwarnings("ignore")
def test_dicomdirs(tmp_path, samples, make_series):
    jobs, refused, _ = found(samples / "test_files" / "dicomdirtests" / "DICOMDIR")
    assert not refused
    assert len({job.series_uid for job in jobs.values()}) == 13
    assert sum(job.slices for job in jobs.values()) == 31
    files = FileSet()
    for path in make_series(tmp_path / "files", range(4)):
        dataset = pydicom.dcmread(path)
        for keyword in ("PatientID", "PatientName", "StudyID", "SeriesNumber"):
            setattr(dataset, keyword, "1")
        dataset.StudyDate, dataset.StudyTime = "20240101", "101112"
        files.add(dataset)
    files.write(tmp_path / "disc")
    source = tmp_path / "disc" / "DICOMDIR"
    (job,) = found(source)[0].values()
    assert job.slices == 4
    job.files[-1].unlink()
    jobs, refused, _ = found(source)
    assert not jobs
    assert "which is not there" in refused["1.2.3.4"].reason


def test_a_dicomdir_that_leads_elsewhere(tmp_path, samples):
    path = samples / "test_files" / "dicomdirtests" / "DICOMDIR"
    data = path.read_bytes().replace(b"77654033\\", b"..\\..\\..\\")
    (tmp_path / "DICOMDIR").write_bytes(data)
    _, refused, _ = found(tmp_path / "DICOMDIR")
    assert "need not lie in its folder" in next(iter(refused.values())).reason
    with pytest.raises(DataError, match="need not lie in its folder"):
        read_volume(tmp_path / "DICOMDIR")


def test_what_is_no_file_is_not_opened(tmp_path, make_series):
    make_series(tmp_path, range(3))
    os.mkfifo(tmp_path / "000a.dcm")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        jobs, refused, passed = found(tmp_path)
    assert (len(jobs), refused, passed) == (1, {}, {"a pipe": 1, "a socket": 1})
    with pytest.raises(DataError, match="is a pipe"):
        find_jobs(tmp_path / "000a.dcm")
    with pytest.raises(DataError, match="is a device"):
        find_jobs("/dev/zero")


def test_links(tmp_path, make_series):
    source, store = tmp_path / "source", tmp_path / "store"
    make_series(source / "a", range(3), SeriesInstanceUID="1.1")
    paths = make_series(store, range(3), SeriesInstanceUID="1.2")
    (source / "b").mkdir()
    for path in paths:
        (source / "b" / path.name).symlink_to(path)
    (source / "all").symlink_to(store, target_is_directory=True)
    (source / "loop").symlink_to(source, target_is_directory=True)
    (source / "a" / "again").symlink_to(source / "a" / "000.dcm")
    jobs, refused, passed = found(source)
    assert set(jobs) == {"1.1"}
    assert len(refused) == 3
    assert all("is a link out of the folder" in item.reason for item in refused.values())
    assert passed == {"a linked folder": 2, "a copy of an image": 1}
    jobs, refused, _ = found(source, follow_links=True)
    assert ({key: job.slices for key, job in jobs.items()}, refused) == ({"1.1": 3, "1.2": 3}, {})
    (source / "a" / "gone").symlink_to(tmp_path / "nothing")
    jobs, refused, _ = found(source, follow_links=True)
    assert "gone is a link that leads nowhere" in refused["1.1"].reason


def test_what_may_not_be_read(tmp_path, make_series, monkeypatch):
    two_series(tmp_path, make_series)
    scan, read = os.scandir, Path.open

    def no_folder(path):
        if Path(path).name == "other":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    def no_file(self, *args, **options):
        if self.name == "b1":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *args, **options)

    monkeypatch.setattr(os, "scandir", no_folder)
    monkeypatch.setattr(Path, "open", no_file)
    jobs, refused, _ = found(tmp_path)
    assert set(jobs) == {"1.1"}
    assert "Permission denied" in refused["other"].reason
    assert "b1 cannot be read: Permission denied" in refused["1.2"].reason


def test_names_that_are_no_text(tmp_path, make_series):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/K\xf6pfe \n\x1b[31m"))
    make_series(folder, range(3), SeriesDescription="CT\x07 Kopf")
    (folder / "z.dcm").write_bytes(b"")
    _jobs, refused, _ = found(tmp_path)
    text = refused["1.2.3.4"].reason
    assert text.encode("utf-8").isascii()
    assert "K\\udcf6pfe \\n\\x1b[31m" in text
    (folder / "z.dcm").unlink()
    (job,) = found(tmp_path)[0].values()
    assert pickle.loads(pickle.dumps(job)) == job
    assert job.description == "CT\\x07 Kopf"
    assert read_all({"": job}, tmp_path / "work") == {"": (3, 6, 5)}


def test_a_file_that_grows_while_its_header_is_read(tmp_path, make_series, monkeypatch):
    paths = make_series(tmp_path, range(3))
    original = pydicom.dcmread

    def slow(file, **options):
        if Path(file.name) == paths[1]:
            with paths[1].open("ab") as more:
                more.write(b"\0" * 8)
        return original(file, **options)

    monkeypatch.setattr(pydicom, "dcmread", slow)
    jobs, refused, _ = found(tmp_path)
    assert not jobs
    assert "001.dcm was changed while it was read" in refused["1.2.3.4"].reason


def test_files_that_change_between_finding_and_reading(tmp_path, make_series):
    paths = make_series(tmp_path, range(3))
    (job,) = found(tmp_path)[0].values()
    with paths[1].open("ab") as more:
        more.write(b"\0" * 8)
    with pytest.raises(DataError, match="were found with"), job.opened(tmp_path / "work"):
        pass
    paths[2].unlink()
    with pytest.raises(DataError, match=r"002.dcm is not there any more"), job.opened(tmp_path / "work"):
        pass


def test_uids_that_are_no_names(tmp_path, make_series):
    for number, uid in enumerate(["../../x", "1.2/3", "", "CON", "1" * 64 + "2", "1.2.", "ä"]):
        make_series(tmp_path / f"{number}", range(2), SeriesInstanceUID=uid)
    jobs, refused, _ = found(tmp_path)
    assert (len(jobs), refused) == (7, {})
    assert all(key.isascii() and "/" not in key and key.startswith("series-") for key in jobs)


def test_long_texts_for_uids_take_no_time(tmp_path, make_series):
    """A pattern that tries all ways to part the digits does not come to an end."""
    make_series(tmp_path, range(2), SeriesInstanceUID="1" * 60 + "x")
    assert len(found(tmp_path)[0]) == 1


def test_files_without_meta(tmp_path, make_series):
    for path in make_series(tmp_path, range(2)):
        dataset = pydicom.dcmread(path)
        pydicom.dcmwrite(path, pydicom.Dataset(dataset), implicit_vr=False, little_endian=True)
    jobs, refused, _ = found(tmp_path)
    assert not jobs
    assert all("has no File Meta Information" in item.reason for item in refused.values())
    assert found(tmp_path, strict=False)[0]["1.2.3.4"].slices == 2


def test_sources_that_are_none(tmp_path):
    with pytest.raises(DataError, match="There is no file or folder"):
        find_jobs(tmp_path / "nothing")
    for option in ("lookahead", "num_workers"):
        with pytest.raises(ConfigError, match=f"{option} must be None or at least 1, got 0"):
            find_jobs(tmp_path, **{option: 0})
    (tmp_path / "a.txt").write_text("x")
    assert found(tmp_path)[1][tmp_path.name].reason == "There is no DICOM image in it. Passed over: 1 not DICOM."


def test_finding_imports_neither_torch_nor_monai(tmp_path):
    code = (
        "import sys; from monai_sam2unet.batch.sources import find_jobs; import monai_sam2unet.batch.series_rules; "
        f"list(find_jobs({str(tmp_path)!r})); print({{'monai', 'torch'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_a_search_that_is_given_up_ends_its_threads(tmp_path, make_series):
    import threading

    for number in range(6):
        make_series(tmp_path / f"{number}", range(20), SeriesInstanceUID=f"1.{number}")
    source = find_jobs(tmp_path, lookahead=1)
    next(source)
    source.close()
    for thread in [each for each in threading.enumerate() if each.name.startswith("headers")]:
        thread.join(10)
        assert not thread.is_alive()


def nested(path):
    """Sequences within one another, before the pixel data."""
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OW")
    deep = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 10_000
    path.write_bytes(data[:place] + deep + data[place:])


def absurd(path):
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("harm", "reason"), [(nested, "its sequences lie too deep"), (absurd, "bytes of its pixel data|would take 8.0 GiB")]
)
def test_files_that_ask_for_too_much_are_no_jobs(tmp_path, make_series, harm, reason):
    two_series(tmp_path, make_series)
    harm(tmp_path / "b1")
    jobs, refused, _ = found(tmp_path)
    assert set(jobs) == {"1.1", "1.3"}
    assert re.search(reason, refused["1.2"].reason)
