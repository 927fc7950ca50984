# SPDX-License-Identifier: Apache-2.0
"""Results sent to a real Orthanc, and to servers that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage, SegmentationStorage

from monai_sam2unet.batch.sending import destination, send_files
from monai_sam2unet.batch.transfer import Retries, TransferError
from monai_sam2unet.errors import ConfigError, DataError

Files = Callable[[str], list[Path]]
MR = "mr_series_t1post_oblique10deg"
QUICK = Retries(attempts=3, first_wait=0.01)


@pytest.fixture
def segmentation(real_series: Files, tmp_path: Path) -> Path:
    """A SEG as our own writer makes it: by highdicom, of a real series."""
    images = [pydicom.dcmread(path) for path in real_series(MR)]
    mask = np.zeros((len(images), images[0].Rows, images[0].Columns, 1), np.uint8)
    mask[2:9, 50:90, 60:100] = 1
    segment = hd.seg.SegmentDescription(
        1,
        "Tumour",
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.Neoplasm,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        hd.AlgorithmIdentificationSequence("SAM2-UNet", codes.DCM.ArtificialIntelligence, "1"),
    )
    made = hd.seg.Segmentation(
        images, mask, hd.seg.SegmentationTypeValues.BINARY, [segment], hd.UID(), 1, hd.UID(), 1, "x", "x", "1", "1"
    )
    made.save_as(path := tmp_path / "seg.dcm")
    return path


def uid_of(file: Path) -> str:
    return pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID


def places(orthanc) -> dict[str, str]:
    return {
        "STOW": f"dicomweb:{orthanc.dicomweb}",
        "C-STORE": f"dicom:127.0.0.1:{orthanc.dicom_port}:{orthanc.ae_title}",
    }


@pytest.mark.orthanc
@pytest.mark.parametrize("way", ["STOW", "C-STORE"])
def test_a_segmentation_arrives_as_it_was_written(orthanc, segmentation: Path, way: str):
    assert send_files(destination(places(orthanc)[way]), [segmentation], retries=QUICK) == 1
    kept = orthanc.instance(uid_of(segmentation))
    assert kept is not None
    # Equal value by value; the archive writes the lengths of sequences anew where it took them by C-STORE.
    assert pydicom.dcmread(BytesIO(kept)) == pydicom.dcmread(segmentation)
    if way == "STOW":
        assert kept == segmentation.read_bytes()
    back = hd.seg.Segmentation.from_dataset(pydicom.dcmread(BytesIO(kept)))
    assert back.get_volume(combine_segments=True).array.sum() == 7 * 40 * 40


@pytest.mark.orthanc
@pytest.mark.parametrize("way", ["STOW", "C-STORE"])
def test_what_was_confirmed_is_not_sent_again(orthanc, real_series: Files, tmp_path: Path, way: str):
    files, receipts = real_series(MR)[:3], tmp_path / "sent.jsonl"
    sender = destination(places(orthanc)[way])
    assert send_files(sender, files[:2], receipts_file=receipts, retries=QUICK) == 2
    orthanc.empty()
    assert send_files(sender, files, receipts_file=receipts, retries=QUICK) == 1
    assert [orthanc.instance(uid_of(file)) is not None for file in files] == [False, False, True]
    # Another place has confirmed nothing.
    other = places(orthanc)["STOW" if way == "C-STORE" else "C-STORE"]
    assert send_files(destination(other), files, receipts_file=receipts, retries=QUICK) == 3


@pytest.mark.orthanc
def test_an_archive_that_does_not_know_the_title(orthanc, segmentation: Path):
    sender = destination(f"dicom:127.0.0.1:{orthanc.dicom_port}:NOBODY")
    with pytest.raises(TransferError, match=r"seg\.dcm.*refuses an association.*Its AE title is not NOBODY"):
        send_files(sender, [segmentation], retries=QUICK)


@pytest.mark.orthanc
def test_partial_failures_of_a_real_archive(orthanc, segmentation: Path, tmp_path: Path, real_series: Files):
    broken = pydicom.dcmread(real_series(MR)[0])
    del broken.SeriesInstanceUID
    broken.save_as(tmp_path / "broken.dcm")
    with pytest.raises(TransferError, match=r"1 of 2 files could not be sent .*\n  broken\.dcm: "):
        send_files(
            destination(places(orthanc)["STOW"]),
            [tmp_path / "broken.dcm", segmentation],
            receipts_file=tmp_path / "sent.jsonl",
            retries=QUICK,
        )
    assert orthanc.instance(uid_of(segmentation)) is not None
    assert len((tmp_path / "sent.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("way", ["dicomweb:http://127.0.0.1:{port}", "dicom:127.0.0.1:{port}:ARCHIVE"])
def test_a_place_that_is_down(port: int, way: str, segmentation: Path):
    with pytest.raises(TransferError, match=r"(?s)1 of 1 files could not be sent to dicom.*here is no connection"):
        send_files(destination(way.format(port=port)), [segmentation], retries=QUICK)


def stored(*uids: str, failed: dict[str, int] | None = None) -> dict:
    def items(tags: list[dict]) -> dict:
        return {"vr": "SQ", "Value": tags}

    def item(uid: str, reason: int | None = None) -> dict:
        told = {"00081155": {"vr": "UI", "Value": [uid]}}
        return told if reason is None else {**told, "00081197": {"vr": "US", "Value": [reason]}}

    return {
        "00081199": items([item(uid) for uid in uids]),
        "00081198": items([item(uid, reason) for uid, reason in (failed or {}).items()]),
    }


def test_stow_reads_what_came_of_each_file(scripted_server, real_series: Files, tmp_path: Path):
    files = real_series(MR)[:4]
    uids = [uid_of(file) for file in files]
    scripted_server.answer(503)
    scripted_server.answer(202, stored(uids[0], failed={uids[1]: 0xA700, uids[2]: 0xC123, uids[3]: 0x0111}))
    # With a character set, which dicomweb-client alone would not read.
    scripted_server.answer(409, stored(failed={uids[1]: 0xA700}), **{"Content-Type": "application/dicom+json; c=utf-8"})
    receipts = tmp_path / "sent.jsonl"
    with pytest.raises(TransferError) as caught:
        send_files(destination(f"dicomweb:{scripted_server.url}"), files, receipts_file=receipts, retries=QUICK)
    text = str(caught.value)
    assert text.startswith("2 of 4 files could not be sent")
    assert f"{files[1].name}: it is out of resources, as of disk space (A700)" in text
    assert f"{files[2].name}: it cannot understand the object (C123)" in text
    # The first is confirmed, and the last is there already.
    assert [files[0].name in receipts.read_text(), files[3].name in receipts.read_text()] == [True, True]
    # Each time what may still go: all, all, the one that may pass.
    assert [body.count(b"DICM") for _, _, body in scripted_server.asked] == [4, 4, 1]


def test_stow_without_a_word_of_a_file_confirms_nothing(scripted_server, segmentation: Path):
    scripted_server.answer(200)
    with pytest.raises(TransferError, match="does not say that it is stored"):
        send_files(destination(f"dicomweb:{scripted_server.url}"), [segmentation], retries=QUICK)


@pytest.fixture
def node(port: int) -> Iterator[Callable[..., AE]]:
    """Starts a DICOM node that answers C-STORE with the statuses it is told, the last one for ever."""
    nodes: list[AE] = []

    def start(statuses: list[int], kinds=(SegmentationStorage,), **settings) -> list[str]:
        seen: list[str] = []

        def handle(event: evt.Event) -> int:
            seen.append(str(event.request.AffectedSOPInstanceUID))
            return statuses.pop(0) if len(statuses) > 1 else statuses[0]

        entity = AE("ARCHIVE")
        for name, value in settings.items():
            setattr(entity, name, value)
        for kind in kinds:
            entity.add_supported_context(kind)
        entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
        nodes.append(entity)
        return seen

    yield start
    for entity in nodes:
        entity.shutdown()


def c_store(port: int, files: list[Path], **options) -> int:
    return send_files(destination(f"dicom:127.0.0.1:{port}:ARCHIVE"), files, retries=QUICK, **options)


@pytest.mark.parametrize(
    ("statuses", "tries", "told"),
    [
        ([0x0000], 1, None),
        ([0xB007], 1, None),
        ([0xA700, 0x0000], 2, None),
        ([0x0111], 1, None),
        ([0xA700], 3, "out of resources"),
        ([0xA900], 1, r"does not fit its kind \(SOP class\) \(A900\)"),
        ([0x0124], 1, "does not allow us to store"),
    ],
)
def test_statuses_of_c_store(node, port: int, segmentation: Path, statuses: list[int], tries: int, told: str | None):
    seen = node(statuses)
    if told is None:
        assert c_store(port, [segmentation]) == 1
    else:
        with pytest.raises(TransferError, match=told):
            c_store(port, [segmentation])
    assert len(seen) == tries


def test_a_node_that_does_not_know_us_or_our_kind(node, port: int, segmentation: Path, real_series: Files):
    node([0], require_calling_aet=["SOMEONE"])
    with pytest.raises(TransferError, match="It must know our AE title, SAM2UNET"):
        c_store(port, [segmentation])
    assert destination(f"dicom:127.0.0.1:{port}:ARCHIVE", "SOMEONE").calling_ae_title == "SOMEONE"


def test_a_node_that_takes_one_kind_of_two(node, port: int, segmentation: Path, real_series: Files):
    node([0])
    image = real_series(MR)[0]
    with pytest.raises(TransferError, match=rf"1 of 2 .*\n  {image.name}: the node takes no MR Image Storage in"):
        c_store(port, [segmentation, image])
    with pytest.raises(TransferError, match="takes none of what is sent: MR Image Storage"):
        c_store(port, [image])


def test_what_a_broken_association_has_confirmed_is_not_sent_again(port: int, real_series: Files, tmp_path: Path):
    files, seen = real_series(MR)[:3], []

    def handle(event: evt.Event) -> int:
        seen.append(str(event.request.AffectedSOPInstanceUID))
        if len(seen) == 2:
            event.assoc.abort()
        return 0

    entity = AE("ARCHIVE")
    entity.add_supported_context(MRImageStorage)
    entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    try:
        assert c_store(port, files) == 3
    finally:
        entity.shutdown()
    uids = [uid_of(file) for file in files]
    assert seen == [uids[0], uids[1], uids[1], uids[2]]


def test_a_result_that_was_made_anew_is_sent_again(node, port: int, segmentation: Path, tmp_path: Path):
    seen, receipts = node([0]), tmp_path / "sent.jsonl"
    c_store(port, [segmentation], receipts_file=receipts)
    # Cut off, as by a loss of power.
    receipts.write_bytes(receipts.read_bytes() + b'{"place": "di')
    assert c_store(port, [segmentation], receipts_file=receipts) == 0
    dataset = pydicom.dcmread(segmentation)
    dataset.SeriesDescription = "another"
    dataset.save_as(segmentation)
    assert c_store(port, [segmentation], receipts_file=receipts) == 1
    assert c_store(port, [segmentation], receipts_file=receipts) == 0
    assert len(seen) == 2


def test_receipts_and_files_that_cannot_be_read(port: int, segmentation: Path, tmp_path: Path):
    (tmp_path / "sent.jsonl").write_text("no receipt\n{}\n")
    with pytest.raises(DataError, match=r"sent\.jsonl, line 1"):
        c_store(port, [segmentation], receipts_file=tmp_path / "sent.jsonl")
    (tmp_path / "note.dcm").write_text("no DICOM")
    with pytest.raises(DataError, match=r"note\.dcm cannot be sent"):
        c_store(port, [tmp_path / "note.dcm"])


@pytest.mark.parametrize(
    "text",
    [
        "https://host/dicom-web",
        "dicomweb:host",
        "dicom:host",
        "dicom:host:104",
        "dicom:host:0:ARCHIVE",
        "dicom:host:70000:ARCHIVE",
        "dicom:host:104:A TITLE THAT IS TOO LONG",
        "dicom:host:104:BACK\\SLASH",
    ],
)
def test_places_that_are_refused(text: str):
    with pytest.raises(ConfigError):
        destination(text)


def test_places_that_are_read():
    assert str(destination("dicom:[::1]:104:MY ARCHIVE")) == "dicom:[::1]:104:MY ARCHIVE"
    assert str(destination("dicomweb:https://host/dicom-web/")) == "dicomweb:https://host/dicom-web"
