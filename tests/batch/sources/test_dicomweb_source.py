# SPDX-License-Identifier: Apache-2.0
"""Series of a DICOMweb server, with a real Orthanc."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.run_log import run_log
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.series_rules import SeriesRules
from monai_sam2unet.batch.sources import dicomweb_source
from monai_sam2unet.batch.sources.dicomweb_source import WadoSeries, find_dicomweb_jobs
from monai_sam2unet.batch.transfer import Retries, TransferError
from monai_sam2unet.errors import ConfigError, DataError

pytestmark = pytest.mark.orthanc

Files = Callable[[str], list[Path]]
CT, MR, CROP = "ct_series_j2k_with_seg/ct", "mr_series_t1post_oblique10deg", "mr_series_hippocrop"
ONCE = Retries(attempts=1)


def by_uid(files) -> dict[str, bytes]:
    return {pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID: path.read_bytes() for path in files}


def jobs(orthanc, where=(), source="") -> list[SeriesJob]:
    return list(find_dicomweb_jobs(f"dicomweb:{orthanc.dicomweb}{source}", where, ONCE))


def test_fetched_files_are_those_that_were_stored(orthanc, real_series: Files, tmp_path: Path):
    for name in (CT, MR):
        orthanc.upload(real_series(name))
    (job,) = jobs(orthanc, ["Modality=CT"])
    stored = by_uid(real_series(CT))
    assert (job.slices, job.modality, job.files) == (20, "CT", ())
    assert job.series_uid == pydicom.dcmread(real_series(CT)[0]).SeriesInstanceUID
    # Ray and processes send a job to where it is worked on.
    with pickle.loads(pickle.dumps(job)).opened(tmp_path) as files:
        assert by_uid(files) == stored
    assert not list(tmp_path.iterdir())


def test_a_run_of_all_series_of_an_archive(orthanc, real_series: Files, count_run):
    for name in (CT, CROP):
        orthanc.upload(real_series(name))
    orthanc.upload(real_series(MR)[:2])
    assert sorted(count_run(jobs(orthanc)).values()) == [2, 20, 40]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ([], {"CT", "MR"}),
        (["Modality=MR"], {"MR"}),
        (["SeriesDescription=T1*"], {"MR"}),
        (["Modality=?R"], {"MR"}),
        (["StudyDate=19000101-20991231", "00080060=CT"], {"CT"}),
        (["StudyDate=20990101-"], None),
    ],
)
def test_conditions(orthanc, real_series: Files, where: list[str], found: set[str] | None):
    for name in (CT, MR):
        orthanc.upload(real_series(name)[:2])
    if found is None:
        with pytest.raises(DataError, match="no series for which all conditions hold: those on StudyDate"):
            jobs(orthanc, where)
    else:
        assert {job.modality for job in jobs(orthanc, where)} == found


def test_a_series_by_its_uid_or_address(orthanc, real_series: Files):
    for name in (CT, MR):
        orthanc.upload(real_series(name)[:1])
    image = pydicom.dcmread(real_series(MR)[0])
    study, series = image.StudyInstanceUID, image.SeriesInstanceUID
    expected = [series]
    assert [job.series_uid for job in jobs(orthanc, [f"SeriesInstanceUID={series}"])] == expected
    assert [job.series_uid for job in jobs(orthanc, source=f"/studies/{study}")] == expected
    assert [job.series_uid for job in jobs(orthanc, source=f"/studies/{study}/series/{series}")] == expected


def test_many_pages_give_each_series_once(orthanc, real_series: Files, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(dicomweb_source, "PAGE", 2)
    image = pydicom.dcmread(real_series(CROP)[0])
    for number in range(5):
        image.SeriesInstanceUID, image.SOPInstanceUID = f"1.2.{number}", f"1.2.{number}.1"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(tmp_path / f"{number}.dcm")
    orthanc.upload(sorted(tmp_path.iterdir()))
    assert sorted(job.series_uid for job in jobs(orthanc)) == [f"1.2.{number}" for number in range(5)]


def test_each_radiograph_of_a_series_is_a_job(orthanc, two_radiographs: list[Path], tmp_path: Path):
    orthanc.upload(two_radiographs)
    found = jobs(orthanc)
    assert len({job.key for job in found}) == 2
    fetched: dict[str, bytes] = {}
    for job in found:
        with job.opened(tmp_path / "work") as files:
            fetched |= by_uid(files)
    assert fetched == by_uid(two_radiographs)


@pytest.mark.parametrize("told", [True, False], ids=["listed", "header"])
def test_image_type_and_plane_are_those_of_files(orthanc, make_series, tmp_path: Path, monkeypatch, told: bool):
    if not told:
        # As from a server that lists images without what was asked for.
        monkeypatch.setattr(DICOMwebClient, "search_for_instances", without_fields(DICOMwebClient.search_for_instances))
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    patient = {"PatientID": "1", "PatientName": "1"}
    slices = make_series(tmp_path / "a", range(4), SeriesInstanceUID="1.2.1", **patient)
    mixed = make_series(tmp_path / "a", [9], names=["z"], SeriesInstanceUID="1.2.1", **scout, **patient)
    scouts = make_series(tmp_path / "b", range(2), SeriesInstanceUID="1.2.2", **scout, **patient)
    orthanc.upload([*mixed, *slices, *scouts])
    found = {job.series_uid: job for job in jobs(orthanc)}
    volume, localizers = found["1.2.1"], found["1.2.2"]
    assert (volume.image_type, volume.orientation) == (("ORIGINAL", "PRIMARY", "AXIAL"), "axial")
    assert (localizers.image_type, localizers.orientation) == (("ORIGINAL", "PRIMARY", "LOCALIZER"), "axial")
    rules = SeriesRules.for_modalities(["CT"])
    assert [rules.decide(job).take for job in (volume, localizers)] == [True, False]
    own = SeriesRules({"rules": [{"take": {"orientation": "axial", "image_type": "ORIGINAL"}}]})
    assert own.decide(volume).take
    with volume.opened(tmp_path / "work") as files:
        assert by_uid(files) == by_uid(slices)


def without_fields(search):
    def listed(*args, **options):
        options.pop("fields", None)
        answers = search(*args, **options)
        return [{tag: value for tag, value in one.items() if tag not in ("00080008", "00200037")} for one in answers]

    return listed


def test_a_series_that_the_server_does_not_list_is_refused_alone(
    orthanc, two_radiographs: list[Path], real_series: Files, monkeypatch
):
    orthanc.upload([*two_radiographs, *real_series(CROP)[:2]])

    def answered_404(*args, **options):
        raise TransferError("404")

    monkeypatch.setattr(WadoSeries, "list_instances", answered_404)
    found = jobs(orthanc)
    (refused,) = [item for item in found if isinstance(item, Refused)]
    assert (refused.series_uid, refused.kind) == ("1.2.3", RefusalKind.LOST)
    assert [item.modality for item in found if isinstance(item, SeriesJob)] == ["MR"]


def test_what_holds_no_images_is_refused(orthanc, shared_data: Path):
    orthanc.upload([shared_data / "dicom" / "seg" / "liver.dcm"])
    (refused,) = jobs(orthanc)
    assert isinstance(refused, Refused)
    assert refused.reason == "Its modality, SEG, is none of images."


def test_missing_instances_are_an_error_and_nothing_is_left(orthanc, real_series: Files, tmp_path: Path):
    orthanc.upload(real_series(CROP)[:3])
    (job,) = jobs(orthanc)
    assert isinstance(job.fetch, WadoSeries)
    more = WadoSeries(job.fetch.server, job.study_uid, job.series_uid, 4)
    with pytest.raises(DataError, match="sent 3 of the 4 instances"), more.opened(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    # Where the server does not say how many it has, it is asked for a list.
    unknown = WadoSeries(job.fetch.server, job.study_uid, job.series_uid, None)
    with unknown.opened(tmp_path) as files:
        assert len(files) == 3


def test_a_series_that_is_gone_is_an_error_without_its_uid(orthanc, real_series: Files, tmp_path: Path):
    orthanc.upload(real_series(CROP)[:1])
    (job,) = jobs(orthanc)
    orthanc.empty()
    with pytest.raises(TransferError, match="404") as caught, job.opened(tmp_path):
        pass
    assert job.series_uid not in str(caught.value)


def test_no_log_holds_uids_or_passwords(orthanc, real_series: Files, tmp_path: Path, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    orthanc.upload(real_series(CROP)[:1])
    caplog.clear()
    with run_log(tmp_path / "log"):
        (job,) = jobs(orthanc)
        with job.opened(tmp_path):
            pass
    assert job.series_uid not in caplog.text
    monkeypatch.setenv("SAM2UNET_DICOMWEB_PASSWORD", "another word")
    with pytest.raises(TransferError, match="401") as caught:
        jobs(orthanc)
    assert "SAM2UNET_DICOMWEB_TOKEN" in str(caught.value)
    assert "another word" not in caplog.text + str(caught.value)


def test_a_condition_that_the_address_holds_too(orthanc):
    with pytest.raises(ConfigError, match="StudyInstanceUID is given by --where and by the address"):
        jobs(orthanc, ["StudyInstanceUID=1.2"], source="/studies/1.2")
