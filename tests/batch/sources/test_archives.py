# SPDX-License-Identifier: Apache-2.0
"""Zipped studies are read as unpacked ones; archives that would do harm, or are not whole, are refused."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import tracemalloc
import zipfile
from collections import Counter

import numpy as np
import pytest

from monai_sam2unet.batch import guards
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.sources import find_jobs
from monai_sam2unet.dicom import read_volume
from monai_sam2unet.errors import DataError


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    """An archive of (name, file or bytes)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return path


def found(source, **options):
    passed = Counter()
    items = list(find_jobs(source, passed_over=passed, **options))
    jobs = [item for item in items if not isinstance(item, Refused)]
    return jobs, [item for item in items if isinstance(item, Refused)], passed


def reason(source):
    jobs, refused, _ = found(source)
    assert not jobs
    return refused[0].reason


def test_a_zipped_study_is_read_as_it_was(tmp_path, shared_data):
    folder = shared_data / "dicom" / "mr_series_hippocrop"
    files = sorted(folder.iterdir())
    path = zipped(tmp_path / "study.zip", [(f"IM/{file.name}", file) for file in files] + [("readme.txt", b"text")])
    (job,), refused, passed = found(path)
    (truth,), _, _ = found(folder)
    assert (refused, passed) == ([], {"not DICOM": 1})
    assert job.archives == (path,)
    assert {file.relative_to(path / "IM").name for file in job.files} == {file.name for file in files}
    for name in ("key", "series_uid", "study_uid", "modality", "description", "slices", "size_bytes", "orientation"):
        assert getattr(job, name) == getattr(truth, name), name
    work = tmp_path / "work"
    with job.opened(work) as opened:
        volume = read_volume(opened)
        assert all(work in file.parents for file in opened)
    np.testing.assert_array_equal(volume.pixels, read_volume(folder).pixels)
    assert not list(work.iterdir())


def test_archives_in_a_tree(tmp_path, make_series):
    paths = make_series(tmp_path / "files", range(6), SeriesInstanceUID="1.1")
    source = tmp_path / "source"
    (source / "b").mkdir(parents=True)
    zipped(source / "one", [("a\\x0", paths[0]), ("a\\x1", paths[1])])
    zipped(source / "b" / "two.zip", [("ü", paths[2]), ("./a//x3", paths[3])], zipfile.ZIP_BZIP2)
    for path in paths[4:]:
        shutil.copy(path, source / "b")
    (job,), refused, _ = found(source)
    assert not refused
    assert (job.slices, len(job.archives)) == (6, 2)
    with job.opened(tmp_path / "work") as files:
        assert read_volume(files).pixels.shape[0] == 6
    (tmp_path / "work" / f"unpacked-{job.key}").mkdir()
    (tmp_path / "work" / f"unpacked-{job.key}" / "000000.dcm").write_text("left by a run that was killed")
    with job.opened(tmp_path / "work") as files:
        assert read_volume(files).pixels.shape[0] == 6
        (source / "one").unlink()
    with pytest.raises(OSError, match="one"), job.opened(tmp_path / "work"):
        pass
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_loses_no_other_series(tmp_path, make_series, compression):
    (tmp_path / "source").mkdir()
    for number in (1, 2):
        files = make_series(tmp_path / f"{number}", range(2), SeriesInstanceUID=f"1.{number}")
        zipped(tmp_path / "source" / f"{number}.zip", [(file.name, file) for file in files], compression)
    path = tmp_path / "source" / "1.zip"
    whole = path.read_bytes()
    place = whole.index(b"000.dcm") + len("000.dcm")
    damaged = bytearray(whole)
    # Behind the properties that LZMA's data start with.
    damaged[place + 9 : place + 60] = b"\xff" * 51
    (job,) = [job for job in found(tmp_path / "source")[0] if job.series_uid == "1.1"]
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="cannot be unpacked"), job.opened(tmp_path / "work"):
        pass
    jobs, refused, _ = found(tmp_path / "source")
    assert "1.2" in {job.series_uid for job in jobs}
    assert "cannot be unpacked" in refused[0].reason
    assert {item.kind for item in refused} == {RefusalKind.LOST}


def test_an_archive_that_changed(tmp_path, make_series):
    paths = make_series(tmp_path / "files", range(3))
    path = zipped(tmp_path / "s.zip", [(file.name, file) for file in paths])
    (job,), _, _ = found(path)
    zipped(path, [(file.name, file) for file in paths[:2]])
    with pytest.raises(DataError, match="is not in it now"), job.opened(tmp_path / "work"):
        pass


def test_a_bad_file_in_an_archive(tmp_path, make_series):
    paths = make_series(tmp_path / "files", range(3))
    other = make_series(tmp_path / "more", range(2), SeriesInstanceUID="1.9")
    cut = paths[2].read_bytes()[:-3]
    files = [("0", paths[0]), ("1", paths[1]), ("2", cut), *((f"o/{file.name}", file) for file in other)]
    jobs, refused, _ = found(zipped(tmp_path / "s.zip", files))
    assert [job.key for job in jobs] == ["1.9"]
    assert "2 is cut off: 3 bytes" in refused[0].reason


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\x"])
def test_names_that_lead_out(tmp_path, make_series, name):
    (path,) = make_series(tmp_path / "files", [0])
    assert "leads elsewhere" in reason(zipped(tmp_path / "s.zip", [("ok", path), (name, path)]))


def test_links_in_an_archive(tmp_path, make_series):
    (path,) = make_series(tmp_path / "files", [0])
    link = zipfile.ZipInfo("link.dcm")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.write(path, "a.dcm")
        archive.writestr(link, "/etc/passwd")
    assert "holds a link" in reason(tmp_path / "s.zip")


def test_nested_and_other_archives(tmp_path, make_series):
    (path,) = make_series(tmp_path / "files", [0])
    inner = zipped(tmp_path / "inner.zip", [("a", path)])
    source = tmp_path / "source"
    source.mkdir()
    zipped(source / "s.zip", [("inner", inner), ("b", path)])
    (source / "more.tar.gz").write_bytes(b"\x1f\x8b")
    jobs, refused, _ = found(source)
    assert len(jobs) == 1
    assert sorted(item.reason for item in refused) == [
        "An archive in an archive is not opened; unpack it first.",
        "Of archives, zip alone is opened; unpack it first.",
    ]


def test_a_bomb_is_not_unpacked(tmp_path, make_series, monkeypatch):
    (path,) = make_series(tmp_path / "files", [0])
    monkeypatch.setattr(guards, "SMALL_ARCHIVE", 2**20)
    bomb = zipped(tmp_path / "s.zip", [("a", path), ("bomb.dcm", b"\0" * 2**25)])
    tracemalloc.start()
    text = reason(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "would unpack to" in text
    assert peak < 2**24


def test_a_member_longer_than_the_directory_says(tmp_path, make_series):
    """The size in the directory is a lie, so that it says nothing of the bomb."""
    paths = make_series(tmp_path / "files", range(2))
    path = zipped(tmp_path / "s.zip", [(file.name, file) for file in paths])
    (job,), _, _ = found(path)
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02")
    (size,) = struct.unpack_from("<L", data, place + 24)
    struct.pack_into("<L", data, place + 24, size - 20)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot be unpacked|longer than"), job.opened(tmp_path / "work"):
        pass
    assert not list((tmp_path / "work").iterdir())


def test_too_many_members_and_too_large_a_directory(tmp_path, make_series, monkeypatch):
    (path,) = make_series(tmp_path / "files", [0])
    archive = zipped(tmp_path / "s.zip", [(f"{number}", b"") for number in range(50)] + [("a", path)])
    monkeypatch.setattr(guards, "MAX_MEMBERS", 50)
    assert "holds 51 files, at most 50" in reason(archive)
    monkeypatch.setattr(guards, "MAX_DIRECTORY", 500)
    assert "has a directory of" in reason(archive)


def test_members_that_share_their_bytes(tmp_path, make_series):
    """One compressed member that the directory names many times over."""
    (path,) = make_series(tmp_path / "files", [0])
    data = zipped(tmp_path / "one.zip", [("a0000", path.read_bytes() + b"\0" * 500)], zipfile.ZIP_STORED).read_bytes()
    start, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    entry = data[start:end]
    entries = b"".join(entry.replace(b"a0000", b"a%04d" % number) for number in range(100))
    tail = bytearray(data[end:])
    struct.pack_into("<HHLL", tail, 8, 100, 100, len(entries), start)
    (tmp_path / "s.zip").write_bytes(data[:start] + entries + tail)
    assert "lie over one another" in reason(tmp_path / "s.zip")


def test_archives_that_are_not_whole(tmp_path, make_series):
    paths = make_series(tmp_path / "files", range(3))
    data = zipped(tmp_path / "s.zip", [(file.name, file) for file in paths]).read_bytes()
    for cut in (30, 200, len(data) // 2, len(data) - 30, len(data) - 1):
        (tmp_path / "cut.zip").write_bytes(data[:cut])
        jobs, refused, _ = found(tmp_path / "cut.zip")
        assert not jobs
        assert len(refused) >= 1
    damaged = bytearray(data)
    damaged[60:90] = b"\xff" * 30
    (tmp_path / "damaged.zip").write_bytes(damaged)
    jobs, refused, _ = found(tmp_path / "damaged.zip")
    assert "cannot be unpacked" in refused[0].reason
    assert not jobs


def test_an_encrypted_archive(tmp_path, make_series):
    (path,) = make_series(tmp_path / "files", [0])
    data = bytearray(zipped(tmp_path / "s.zip", [("a.dcm", path)]).read_bytes())
    for place in (6, data.rfind(b"PK\x01\x02") + 8):
        data[place] |= 1
    (tmp_path / "s.zip").write_bytes(data)
    assert "is encrypted" in reason(tmp_path / "s.zip")


def test_a_name_twice(tmp_path, make_series):
    (path,) = make_series(tmp_path / "files", [0])
    with pytest.warns(UserWarning, match="Duplicate"):
        archive = zipped(tmp_path / "s.zip", [("a", path), ("a", path)])
    assert "holds 'a' twice" in reason(archive)


def test_deflated_members_are_not_held(tmp_path, make_image):
    """Of a large member the header alone is kept."""
    make_image(tmp_path / "a.dcm", np.zeros((4096, 4096), np.uint16))
    path = zipped(tmp_path / "s.zip", [("a.dcm", tmp_path / "a.dcm")])
    tracemalloc.start()
    jobs, _, _ = found(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(jobs) == 1
    assert peak < 2**23


def test_damaged_archives_lead_to_refusals_alone(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(200):
        data = bytearray(zipped(io.BytesIO(), [("a.dcm", b"\0" * 50), ("b", b"abc" * 20)]).getvalue())
        for place in generator.integers(4, len(data), 3):
            data[place] = generator.integers(256)
        (tmp_path / f"{number}.zip").write_bytes(data)
    jobs, refused, _ = found(tmp_path)
    assert not jobs
    assert len(refused) > 100
