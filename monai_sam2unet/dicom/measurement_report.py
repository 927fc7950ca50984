# SPDX-License-Identifier: Apache-2.0
"""Makes DICOM measurement reports (TID 1500) of what was measured in a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from monai_sam2unet.dicom.derived_object import (
    LONG_TEXT,
    PACKAGE,
    Algorithm,
    DerivedIdentity,
    derived_identity,
    settle,
    source_frames,
)
from monai_sam2unet.dicom.frame import Frame
from monai_sam2unet.dicom.measurements import SegmentMeasurement
from monai_sam2unet.dicom.segments import Segment
from monai_sam2unet.dicom.volume import DicomVolume
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["measurement_report"]

_Group: TypeAlias = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)

MILLILITRE = Code("ml", "UCUM", "ml")
PIXELS = Code("{pixels}", "UCUM", "pixels")
#: Name and unit of each measurement, by the attribute that holds it (CID 7469, CID 7470, CID 7181).
QUANTITIES = {
    "volume_ml": (codes.SCT.Volume, MILLILITRE),
    "area_mm2": (codes.SCT.Area, codes.UCUM.SquareMillimeter),
    "area_pixels": (codes.SCT.Area, PIXELS),
    "longest_diameter_mm": (codes.SCT.LongAxis, codes.UCUM.Millimeter),
    "longest_diameter_pixels": (codes.SCT.LongAxis, PIXELS),
}


#: What says which scanner made an image.
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber")


def _frame_number(segmentation: Segmentation, segment: int, frame: Frame) -> int | None:
    """Which frame of a segmentation, from 1, shows a segment on a frame of the source; None where there is none."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for number, own in enumerate(segmentation.PerFrameFunctionalGroupsSequence, 1):
        identified = own.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        # A label map's frames hold all segments.
        if identified and identified[0].ReferencedSegmentNumber != segment:
            continue
        source = own.DerivationImageSequence[0].SourceImageSequence[0]
        place = (source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber"))
        if place == (frame.dataset.SOPInstanceUID, None if frame.index is None else frame.index + 1):
            return number
    return None


def _image(frame: Frame) -> dict[str, Any]:
    return {
        "referenced_sop_class_uid": frame.dataset.SOPClassUID,
        "referenced_sop_instance_uid": frame.dataset.SOPInstanceUID,
        "referenced_frame_numbers": None if frame.index is None else [frame.index + 1],
    }


def _group(
    measured: SegmentMeasurement,
    segment: Segment,
    segmentation: Segmentation,
    volume: DicomVolume,
    algorithm: Algorithm,
    identity: DerivedIdentity,
) -> _Group:
    """Measurements of one segment, with what they refer to."""
    values = [
        Measurement(name=name, value=float(f"{getattr(measured, key):.6g}"), unit=unit)
        for key, (name, unit) in QUANTITIES.items()
        if getattr(measured, key) is not None
    ]
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=identity.uid(f"segment {segment.number}"), identifier=f"{segment.number} {segment.label}"[:LONG_TEXT]
        ),
        "finding_type": segment.type,
        "finding_category": segment.category,
        "finding_sites": [FindingSite(segment.region)] if segment.region else None,
        "algorithm_id": AlgorithmIdentification(
            name=algorithm.name,
            version=algorithm.version,
            parameters=[f"weights_sha256={algorithm.weights_hash}"],
        ),
        "measurements": values,
    }
    about: dict[str, Any] = {"sop_class_uid": segmentation.SOPClassUID, "sop_instance_uid": segmentation.SOPInstanceUID}
    if measured.volume_ml is not None:
        series = SourceSeriesForSegmentation(volume.first.dataset.SeriesInstanceUID)
        reference = ReferencedSegment(**about, segment_number=segment.number, source_series=series)
        return VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=reference, **common)
    frame = volume.first if measured.slice is None else volume.frames[measured.slice]
    number = None if frame is None or not measured.voxels else _frame_number(segmentation, segment.number, frame)
    if frame is None or number is None:
        images = [SourceImageForMeasurementGroup(**_image(frame or volume.first))]
        return MeasurementsAndQualitativeEvaluations(source_images=images, **common)
    planar = ReferencedSegmentationFrame(
        **about,
        frame_number=number,
        segment_number=segment.number,
        source_image=SourceImageForSegmentation(**_image(frame)),
    )
    # A reference names the frame or the segment, never both (PS3.3 C.18.4); a label map's frame shows all segments.
    is_label_map = segmentation.SegmentationType == "LABELMAP"
    del planar[0].ReferencedSOPSequence[0]["ReferencedFrameNumber" if is_label_map else "ReferencedSegmentNumber"]
    return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=planar, **common)


def _evidence(volume: DicomVolume) -> list[Dataset]:
    """What highdicom needs to know of the source's images to list them."""
    images = {}
    for frame in source_frames(volume):
        image = Dataset()
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(image, keyword, frame.dataset.get(keyword))
        images[image.SOPInstanceUID] = image
    return list(images.values())


def _name_scanner(made: Comprehensive3DSR, frame: Frame) -> None:
    """What acquired the images is their scanner; highdicom takes what made the segmentation for it."""
    for item in made.ContributingEquipmentSequence:
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == codes.DCM.AcquisitionEquipment.value:
            for keyword in EQUIPMENT:
                item.pop(keyword, None)
                if frame.dataset.get(keyword):
                    setattr(item, keyword, frame.dataset.get(keyword))
            # Type 1 (PS3.3 C.12-1).
            item.Manufacturer = item.get("Manufacturer") or "UNKNOWN"


def measurement_report(
    measurements: Sequence[SegmentMeasurement],
    segmentation: Segmentation,
    volume: DicomVolume,
    segments: Sequence[Segment],
    algorithm: Algorithm,
    created: datetime,
) -> Comprehensive3DSR:
    """Make a report of measurements that refers to the segmentation (Comprehensive 3D SR, TID 1500).

    A volume's segments are referred to as such (TID 1411), those of a single image by the frame that shows them (TID
    1410). A segment without any pixel in a single image has no such frame, so its area of 0 refers to the image. Values
    have six digits.

    Args:
        measurements: as :func:`monai_sam2unet.dicom.measurements.measure` gives them.
        segmentation: as :func:`monai_sam2unet.dicom.segmentation_writer.segmentation` makes it of the same mask.
        volume: what was segmented.
        segments: one for each class.
        algorithm: the model.
        created: when it was made.

    Returns:
        The report, to be saved with ``save_as``: complete, preliminary and unverified.

    Raises:
        ConfigError: When the measurements are not those of the segments.
        DataError: When the source does not allow a report.
    """
    if [one.number for one in measurements] != [segment.number for segment in segments] or not segments:
        raise ConfigError(f"{len(measurements)} measurements do not go with {len(segments)} segments.")
    told = repr((list(measurements), str(segmentation.SOPInstanceUID)))
    identity = derived_identity("SR", volume, algorithm, np.frombuffer(told.encode(), np.uint8), created)
    observer = DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[algorithm.name, algorithm.version, algorithm.weights_hash]),
        name=PACKAGE,
        manufacturer_name=PACKAGE,
        model_name=algorithm.name,
    )
    context = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=observer)
    try:
        content = MeasurementReport(
            observation_context=ObservationContext(observer_device_context=context),
            procedure_reported=CodedConcept.from_code(codes.SCT.ImagingProcedure),
            imaging_measurements=[
                _group(measured, segment, segmentation, volume, algorithm, identity)
                for measured, segment in zip(measurements, segments, strict=True)
            ],
        )
        made = Comprehensive3DSR(
            evidence=[segmentation, *_evidence(volume)],
            content=content,
            instance_number=1,
            is_complete=True,
            **identity.arguments(algorithm, created, "Measurements"),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"No measurement report can be made for {volume.series}: {error}") from error
    _name_scanner(made, volume.first)
    settle(made, identity, created)
    return made
