# SPDX-License-Identifier: Apache-2.0
"""How a DICOMweb server is talked with when it does not do what it should."""

from __future__ import annotations

import base64
import pickle
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from monai_sam2unet.batch.dicomweb_server import DicomwebServer
from monai_sam2unet.batch.sources.dicomweb_source import WadoSeries, find_dicomweb_jobs
from monai_sam2unet.batch.transfer import Retries, TemporaryError, TransferError
from monai_sam2unet.errors import ConfigError, DataError

QUICK = Retries(attempts=3, first_wait=0.01)
SERIES = {
    "0020000D": {"vr": "UI", "Value": ["1.2"]},
    "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
    "00080060": {"vr": "CS", "Value": ["CT"]},
}


def found(server, *where: str) -> list:
    return list(find_dicomweb_jobs(f"dicomweb:{server.url}", where, QUICK))


@pytest.mark.parametrize("status", [503, 500, 502, 429])
def test_what_may_pass_is_asked_again(scripted_server, status: int):
    scripted_server.answer(status)
    scripted_server.answer(status)
    scripted_server.answer(200, [SERIES])
    scripted_server.answer(200, [])
    assert [job.series_uid for job in found(scripted_server)] == ["1.2.3"]


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (400, 1), (501, 1), (503, 3)])
def test_what_stays_is_told_at_once(scripted_server, status: int, tries: int):
    scripted_server.answer(status)
    with pytest.raises(TransferError, match=f"could not search for series: it answered {status}"):
        found(scripted_server)
    assert len(scripted_server.asked) == tries


def test_a_server_that_is_down(port: int):
    server = DicomwebServer(f"http://127.0.0.1:{port}", QUICK)
    with pytest.raises(TemporaryError, match="there is no connection"):
        server.call("search", lambda client: client.search_for_series())


def test_an_answer_that_is_no_dicom(scripted_server):
    scripted_server.answer(200, b"<html>")
    with pytest.raises(TransferError, match="its answer is no JSON"):
        found(scripted_server)


def test_a_server_that_passes_over_conditions_or_pages(scripted_server):
    scripted_server.answer(200, [SERIES])
    # The same page again and again.
    assert len(found(scripted_server)) == 1
    with pytest.raises(DataError, match="does not know a condition: Modality=MR, which it answers CT to"):
        found(scripted_server, "Modality=MR")


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts) + b"\r\n--b--"


def test_a_connection_that_breaks_within_a_series(scripted_server, tmp_path: Path):
    image = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    image.save_as(buffer := BytesIO())
    whole = multipart(buffer.getvalue())
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    server = DicomwebServer(scripted_server.url, QUICK)
    series = WadoSeries(server, image.StudyInstanceUID, image.SeriesInstanceUID, 1)
    broken = {**headers, "Content-Length": str(len(whole))}
    scripted_server.answer(200, whole[:20000], **broken)
    scripted_server.answer(200, whole, **headers)
    with series.opened(tmp_path) as (file,):
        assert file.read_bytes() == buffer.getvalue()
    scripted_server.answers.clear()
    scripted_server.answer(200, whole[:20000], **broken)
    with pytest.raises(TemporaryError, match="or it broke"), series.opened(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_instances_of_another_series_are_refused(scripted_server, tmp_path: Path):
    part = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    scripted_server.answer(
        200, multipart(part), **{"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    )
    series = WadoSeries(DicomwebServer(scripted_server.url, QUICK), "1.2", "1.2.3", 1)
    with pytest.raises(TransferError, match="not of series #"), series.opened(tmp_path):
        pass


@pytest.mark.parametrize(
    ("environment", "header", "value"),
    [
        ({"TOKEN": "secret"}, "Authorization", "Bearer secret"),
        (
            {"USER": "me", "PASSWORD": "secret"},
            "Authorization",
            f"Basic {base64.b64encode(b'me:secret').decode()}",
        ),
        ({"HEADER": "X-Api-Key: secret"}, "X-Api-Key", "secret"),
    ],
)
def test_who_we_are(scripted_server, monkeypatch, caplog, environment: dict[str, str], header: str, value: str):
    for name, given in environment.items():
        monkeypatch.setenv(f"SAM2UNET_DICOMWEB_{name}", given)
    caplog.set_level("DEBUG")
    scripted_server.answer(200, [])
    server = DicomwebServer(scripted_server.url, QUICK)
    server.call("search", lambda client: client.search_for_series())
    assert scripted_server.asked[0][1][header] == value
    assert "secret" not in caplog.text
    assert "secret" not in repr(server)
    assert b"secret" not in pickle.dumps(server)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"TOKEN": "a", "USER": "b"}, "Only one of SAM2UNET_DICOMWEB_TOKEN, SAM2UNET_DICOMWEB_USER"),
        ({"PASSWORD": "b"}, "SAM2UNET_DICOMWEB_PASSWORD is set in the environment, but not SAM2UNET_DICOMWEB_USER"),
        ({"HEADER": "secret"}, "must be a header's name and value"),
        ({"CA_BUNDLE": "/nowhere.pem"}, "SAM2UNET_DICOMWEB_CA_BUNDLE in the environment: .*nowhere.pem"),
    ],
)
def test_an_environment_that_does_not_say_who_we_are(monkeypatch, environment: dict[str, str], told: str):
    for name, given in environment.items():
        monkeypatch.setenv(f"SAM2UNET_DICOMWEB_{name}", given)
    with (
        pytest.raises(ConfigError, match=told) as caught,
        DicomwebServer("https://host").client(),
    ):
        pass
    assert "secret" not in str(caught.value)


def test_certificates_are_verified_with_authorities_of_ones_own(tls_server, monkeypatch):
    server, certificate = tls_server
    server.answer(200, [SERIES])
    server.answer(200, [])
    with pytest.raises(TransferError, match="SAM2UNET_DICOMWEB_CA_BUNDLE"):
        found(server)
    assert not server.asked
    monkeypatch.setenv("SAM2UNET_DICOMWEB_CA_BUNDLE", str(certificate))
    assert len(found(server)) == 1


@pytest.mark.parametrize("url", ["ftp://host/dicom-web", "host/dicom-web", "https://", "https://me:secret@host/web"])
def test_addresses_that_are_refused(url: str):
    with pytest.raises(ConfigError):
        DicomwebServer(url)
