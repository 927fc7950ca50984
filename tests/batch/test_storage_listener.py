# SPDX-License-Identifier: Apache-2.0
"""Images that are sent to us, by pynetdicom and by dcmtk."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation, MRImageStorage

import monai_sam2unet.dicom  # noqa: F401 (so that no test waits for torch)
from monai_sam2unet.batch import inbox, storage_listener
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.storage_listener import StorageListener
from monai_sam2unet.errors import ConfigError, DataError

Files = Callable[[str], list[Path]]
CROP, CT = "mr_series_hippocrop", "ct_series_j2k_with_seg/ct"
QUIET = 0.3


def dcmtk(program: str) -> str:
    """A program of dcmtk; pynetdicom has some of the same names beside Python."""
    places = [place for place in os.get_exec_path() if Path(place) != Path(sys.executable).parent]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{program} of dcmtk is not installed")
    return found


@contextmanager
def listening(folder: Path, **options) -> Iterator[StorageListener]:
    options = {"quiet_seconds": QUIET, "keep_seconds": 60.0, **options}
    with StorageListener(0, folder, host="127.0.0.1", **options) as listener:
        yield listener


@contextmanager
def association(port: int, title: str = "SCANNER", syntax: str = "1.2.840.10008.1.2.1") -> Iterator[Association]:
    node = AE(title)
    node.dimse_timeout = 3
    contexts = [build_context(kind, syntax) for kind in (MRImageStorage, DigitalXRayImageStorageForPresentation)]
    made = node.associate("127.0.0.1", port, contexts=contexts)
    try:
        yield made
    finally:
        if made.is_established:
            made.release()


def send(port: int, images: Iterable[pydicom.Dataset | Path]) -> list[int | None]:
    """The status of each; None where there was no answer."""
    with association(port) as made:
        statuses = []
        for image in images:
            answer = made.send_c_store(image if not isinstance(image, Path) else pydicom.dcmread(image))
            statuses.append(answer.get("Status"))
        return statuses


def some_jobs(listener: StorageListener, number: int, seconds: float = 10.0) -> list[SeriesJob | Refused]:
    """The next jobs; an error where they do not come."""
    timer = threading.Timer(seconds, listener.stop)
    timer.start()
    found = []
    for job in listener.jobs():
        found.append(job)
        if len(found) == number:
            break
    timer.cancel()
    assert len(found) == number
    return found


def no_job(listener: StorageListener) -> None:
    threading.Timer(3 * QUIET, listener.stop).start()
    assert list(listener.jobs()) == []


def same_images(job: SeriesJob, files: Iterable[Path]) -> bool:
    def by_uid(paths: Iterable[Path]) -> dict[str, pydicom.Dataset]:
        return {image.SOPInstanceUID: image for image in map(pydicom.dcmread, paths)}

    with job.opened(Path("unused")) as opened:
        return by_uid(opened) == by_uid(files)


def test_two_series_interleaved_by_two_programs(real_series: Files, tmp_path: Path):
    storescu = dcmtk("storescu")
    crop, ct = real_series(CROP), real_series(CT)
    with listening(tmp_path / "inbox") as listener:
        # dcmtk sends JPEG 2000 as it is.
        other = subprocess.Popen([storescu, "-aet", "SCANNER2", "-xv", "127.0.0.1", str(listener.port), *map(str, ct)])
        assert set(send(listener.port, crop)) == {0}
        assert other.wait(30) == 0
        jobs = {job.modality: job for job in some_jobs(listener, 2)}
    assert same_images(jobs["MR"], crop)
    assert same_images(jobs["CT"], ct)
    assert (jobs["CT"].slices, jobs["CT"].size_bytes) == (20, sum(file.stat().st_size for file in jobs["CT"].files))
    assert jobs["MR"].series_uid == pydicom.dcmread(crop[0]).SeriesInstanceUID


# pynetdicom's thread for an association that was refused may not be over when the listener stops.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_echo_and_titles(tmp_path: Path):
    echoscu = dcmtk("echoscu")
    with listening(tmp_path, callers=["SCANNER"]) as listener:

        def echo(title: str) -> int:
            return subprocess.run([echoscu, "-aet", title, "127.0.0.1", str(listener.port)], check=False).returncode

        assert echo("SCANNER") == 0
        assert echo("SOMEONE") != 0


def test_a_series_is_a_job_once_it_is_quiet(real_series: Files, tmp_path: Path):
    files = real_series(CROP)[:4]
    quiet = 1.0  # so that a busy machine does not take a pause for the end
    with listening(tmp_path, quiet_seconds=quiet) as listener, association(listener.port) as made:
        found: list[SeriesJob] = []
        taker = threading.Thread(target=lambda: found.extend(some_jobs(listener, 1)))
        taker.start()
        for file in files:
            made.send_c_store(pydicom.dcmread(file))
            time.sleep(0.6 * quiet)
            assert not found
        taker.join(3 * quiet)
        assert len(found) == 1
    assert same_images(found[0], files)


def test_late_images_are_a_new_job_with_those_before(real_series: Files, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(storage_listener, "SWEEP", 0.0)
    files = real_series(CROP)[:5]
    with listening(tmp_path) as listener:
        send(listener.port, files[:2])
        (first,) = some_jobs(listener, 1)
        # While it is worked on: there is no second job of the series beside it.
        send(listener.port, files[2:3])
        threading.Timer(3 * QUIET, first.fetch.release, [True]).start()
        start = time.monotonic()
        (second,) = some_jobs(listener, 1)
        assert time.monotonic() - start >= 3 * QUIET
        assert same_images(second, files[:3])
        assert len({first.key, second.key}) == 2
        second.fetch.release(done=False)
        send(listener.port, files[3:4])
        (third,) = some_jobs(listener, 1)
        assert same_images(third, files[:4])
        third.fetch.release(done=True)
        # The same images once more are nothing new.
        send(listener.port, files[:4])
        listener.keep_seconds = 0.0
        no_job(listener)
    assert not list(tmp_path.glob("*/*.dcm"))
    with listening(tmp_path) as listener:
        # Those before are gone: what is late must not look like a whole volume.
        send(listener.port, files[4:])
        (late,) = some_jobs(listener, 1)
        assert isinstance(late, Refused)
        assert "4 of their series were segmented before" in late.reason
    with listening(tmp_path) as listener:
        send(listener.port, files)
        (whole,) = some_jobs(listener, 1)
        assert same_images(whole, files)
        assert whole.key not in {first.key, second.key, third.key}


def test_a_series_that_goes_on_while_another_is_worked_on(real_series: Files, tmp_path: Path):
    files = real_series(CROP)[:3]
    others = []
    for _ in range(2):
        image = pydicom.dcmread(files[0])
        image.SeriesInstanceUID = pydicom.uid.generate_uid()
        others.append(image)
    with listening(tmp_path) as listener:
        send(listener.port, others)
        time.sleep(2 * QUIET)
        threading.Timer(10.0, listener.stop).start()
        jobs = listener.jobs()
        first = next(jobs)
        # The other one was quiet when they were looked for; more of it comes now.
        (going_on,) = [image for image in others if image.SeriesInstanceUID != first.series_uid]
        late = pydicom.dcmread(files[1])
        late.SeriesInstanceUID = going_on.SeriesInstanceUID
        start = time.monotonic()
        send(listener.port, [late])
        assert next(jobs).slices == 2
        assert time.monotonic() - start >= QUIET


def test_images_are_taken_while_headers_are_read(real_series: Files, tmp_path: Path, monkeypatch):
    files = real_series(CROP)[:2]
    reading, go_on = threading.Event(), threading.Event()
    grouped = inbox._grouped

    def slowly(*args):
        reading.set()
        assert go_on.wait(10)
        return grouped(*args)

    monkeypatch.setattr(inbox, "_grouped", slowly)
    with listening(tmp_path) as listener:
        send(listener.port, files[:1])
        found: list[SeriesJob] = []
        taker = threading.Thread(target=lambda: found.extend(some_jobs(listener, 1)))
        taker.start()
        assert reading.wait(10)
        try:
            assert send(listener.port, files[1:]) == [0]
        finally:
            go_on.set()
        taker.join()
    assert same_images(found[0], files[:1])


def test_a_run_works_on_what_comes_until_it_is_stopped(real_series: Files, tmp_path: Path, count_run):
    files = real_series(CROP)[:5]
    uid = pydicom.dcmread(files[0]).SeriesInstanceUID
    # Long enough that no part is taken for two.
    with listening(tmp_path / "inbox", quiet_seconds=1.5) as listener:

        def scanner() -> None:
            for number, part in enumerate((files[:3], files[3:]), 1):
                send(listener.port, part)
                deadline = time.monotonic() + 30
                while len(list((tmp_path / "run").glob("*/count.txt"))) < number and time.monotonic() < deadline:
                    time.sleep(0.1)
            listener.stop()

        thread = threading.Thread(target=scanner)
        thread.start()
        assert sorted(count_run(listener.jobs()).values()) == [3, 5]
        thread.join()
    # The same images for the same output: they are known, and not done again.
    with listening(tmp_path / "another inbox") as listener:
        threading.Timer(6 * QUIET, listener.stop).start()
        send(listener.port, files)
        assert count_run(listener.jobs()) == {f"{uid} 3": 3, f"{uid} 5": 5}
        no_job(listener)


def test_a_restart_takes_up_what_is_not_done(real_series: Files, tmp_path: Path):
    series = {}
    for name in ("out", "failed", "done", "received"):
        image = pydicom.dcmread(real_series(CROP)[0])
        image.SeriesInstanceUID, image.SOPInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        series[name] = image
    by_uid = {image.SeriesInstanceUID: name for name, image in series.items()}
    with listening(tmp_path) as listener:
        send(listener.port, [series[name] for name in ("out", "failed", "done")])
        before = {by_uid[job.series_uid]: job for job in some_jobs(listener, 3)}
        before["failed"].fetch.release(done=False)
        before["done"].fetch.release(done=True)
        send(listener.port, [series["received"]])
        # What is out goes to another process, and comes back.
        kept = pickle.loads(pickle.dumps(before["out"]))
    with listening(tmp_path) as listener:
        after = {by_uid[job.series_uid]: job for job in some_jobs(listener, 3)}
        assert after.keys() == {"out", "failed", "received"}
        assert (after["out"], after["failed"]) == (kept, before["failed"])
        for job in after.values():
            job.fetch.release(done=True)
        no_job(listener)


def test_each_radiograph_of_a_series_is_a_job(two_radiographs: list[Path], tmp_path: Path):
    with listening(tmp_path / "inbox") as listener:
        assert send(listener.port, two_radiographs) == [0, 0]
        one, other = some_jobs(listener, 2)
        assert sorted([same_images(one, two_radiographs[:1]), same_images(one, two_radiographs[1:])]) == [False, True]
        one.fetch.release(done=True)
    with listening(tmp_path / "inbox") as listener:
        assert some_jobs(listener, 1) == [other]
        other.fetch.release(done=True)
        no_job(listener)


def test_a_volume_with_a_bad_slice_is_refused_and_kept(real_series: Files, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(storage_listener, "SWEEP", 0.0)
    files = real_series(CROP)[:3]
    bad = pydicom.dcmread(files[1])
    del bad.Rows
    with listening(tmp_path, keep_seconds=0.0) as listener:
        assert send(listener.port, [files[0], bad, files[2]]) == [0, 0, 0]
        (refused,) = some_jobs(listener, 1)
        assert "1 of its files cannot be read, so that slices would be missing" in refused.reason
        # Once the image is sent again as it should be, the series is whole.
        assert send(listener.port, files[1:2]) == [0]
        (job,) = some_jobs(listener, 1)
        assert same_images(job, files)


def test_what_is_no_image_is_refused(tmp_path: Path, shared_data: Path):
    report = pydicom.dcmread(shared_data / "dicom" / "seg" / "liver.dcm")
    with listening(tmp_path) as listener:
        made = AE("SCANNER").associate(
            "127.0.0.1",
            listener.port,
            contexts=[build_context(report.SOPClassUID, report.file_meta.TransferSyntaxUID)],
        )
        assert made.send_c_store(report).Status == 0
        made.release()
        (refused,) = some_jobs(listener, 1)
        no_job(listener)
    assert isinstance(refused, Refused)
    assert refused.reason == "It is no image: it is a segmentation."
    assert report.SeriesInstanceUID not in refused.source


def test_limits(real_series: Files, tmp_path: Path):
    files = real_series(CROP)[:3]
    size = max(file.stat().st_size for file in files)
    with listening(tmp_path / "small", max_bytes=2 * size) as listener:
        assert send(listener.port, [files[0], files[0], files[1], files[2]]) == [0, 0, 0, 0xA700]
        (job,) = some_jobs(listener, 1)
        assert same_images(job, files[:2])
    large = pydicom.dcmread(files[2])
    large.Rows = large.Columns = 1024
    large.PixelData = np.zeros((1024, 1024), np.uint16).tobytes()
    with listening(tmp_path / "cut", max_image_bytes=10 * size) as listener:
        assert send(listener.port, [*files, large]) == [0, 0, 0, None]
        # Many images together may be larger.
        assert set(send(listener.port, files * 5)) == {0}
        (job,) = some_jobs(listener, 1)
        assert same_images(job, files)


def test_a_full_disk_confirms_nothing(real_series: Files, tmp_path: Path, monkeypatch):
    with listening(tmp_path) as listener:
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            assert send(listener.port, real_series(CROP)[:1]) == [0xA700]
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        assert send(listener.port, real_series(CROP)[:1]) == [0]


def test_an_image_without_series_is_refused(real_series: Files, tmp_path: Path):
    image = pydicom.dcmread(real_series(CROP)[0])
    del image.SeriesInstanceUID
    with listening(tmp_path) as listener:
        assert send(listener.port, [image]) == [0xA900]
        no_job(listener)


LISTEN = """
import sys
from pathlib import Path
from monai_sam2unet.batch.storage_listener import StorageListener
listener = StorageListener(0, Path(sys.argv[1]), host="127.0.0.1", quiet_seconds=0.2)
print(listener.port, flush=True)
for job in listener.jobs():
    pass
"""


@pytest.mark.parametrize("number", [1, 12])
def test_kill_9_loses_nothing_that_was_confirmed(real_series: Files, tmp_path: Path, number: int):
    program = subprocess.Popen([sys.executable, "-c", LISTEN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    port = int(program.stdout.readline())
    image = pydicom.dcmread(real_series(CROP)[0])
    confirmed: set[str] = set()
    uids = [pydicom.uid.generate_uid() for _ in range(2)]
    with association(port) as made:
        while made.is_established:
            if len(confirmed) == number and program.returncode is None:
                # At some moment of the next images.
                delay = np.random.default_rng(number).uniform(0, 0.05)
                threading.Timer(delay, program.kill).start()
            image.SeriesInstanceUID = uids[len(confirmed) % 2]
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            try:
                answer = made.send_c_store(image)
            except RuntimeError:
                # The association ended since it was last looked at.
                break
            if answer.get("Status") == 0:
                confirmed.add(image.SOPInstanceUID)
    program.wait(10)
    assert program.returncode == -signal.SIGKILL
    with listening(tmp_path, quiet_seconds=0.0) as listener:
        threading.Timer(2.0, listener.stop).start()
        found: set[str] = set()
        for job in listener.jobs():
            for file in job.files:
                read = pydicom.dcmread(file)
                assert read.PixelData == image.PixelData
                found.add(read.SOPInstanceUID)
            job.fetch.release(done=True)
    # One may be on the disk whose answer did not come.
    assert confirmed
    assert confirmed <= found
    assert len(found - confirmed) <= 1


@pytest.mark.parametrize(
    "options",
    [{"port": 70000}, {"quiet_seconds": -1.0}, {"max_associations": 0}, {"ae_title": "A TITLE THAT IS TOO LONG"}],
)
def test_options_that_are_refused(tmp_path: Path, options: dict):
    with pytest.raises(ConfigError):
        StorageListener(**{"port": 0, "folder": tmp_path, **options})


def test_a_port_that_is_taken(tmp_path: Path):
    with listening(tmp_path / "one") as listener, pytest.raises(ConfigError, match="cannot be listened at"):
        StorageListener(listener.port, tmp_path / "two", host="127.0.0.1")


def test_a_state_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"state\.json cannot be read"):
        StorageListener(0, tmp_path)
