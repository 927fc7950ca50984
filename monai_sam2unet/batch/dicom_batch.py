# SPDX-License-Identifier: Apache-2.0
"""A run of a bundle over many DICOM series, from its settings: what ``sam2unet dicom`` does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from monai_sam2unet.batch.batch_events import BatchSummary, Listener
from monai_sam2unet.batch.batch_runner import BatchRunner
from monai_sam2unet.batch.bundle_processor import BundleProcessor
from monai_sam2unet.batch.cpu_workers import cpu_workers, shared_cores
from monai_sam2unet.batch.journal_file import read_journal
from monai_sam2unet.batch.output_files import DICOM_OUTPUTS, OUTPUTS, output_writers
from monai_sam2unet.batch.pipeline import PipelineLimits
from monai_sam2unet.batch.ray_resources import RayResources
from monai_sam2unet.batch.ray_runner import RayRunner
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.run_facts import begin_run, end_run
from monai_sam2unet.batch.run_report import write_run_report
from monai_sam2unet.batch.segmented_series import Model
from monai_sam2unet.batch.sending import destination
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.bundle import BundleConfig, BundlePredictor
from monai_sam2unet.bundle.present_device import present_device
from monai_sam2unet.dicom.deidentification import new_uid
from monai_sam2unet.dicom.derived_object import Algorithm
from monai_sam2unet.dicom.segmentation_writer import SEGMENTATION_TYPES
from monai_sam2unet.dicom.segments import Segment, read_segments
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import why_not_writable

__all__ = ["DicomBatch"]

logger = logging.getLogger(__name__)

#: Pictures show the source's own pixels.
PICTURES = {"png", "sc"}


def _check_segments(segments: Sequence[Segment], config: BundleConfig) -> None:
    """The metadata describe what the network gives."""
    classes = config.class_names[1:] or config.class_names
    if [segment.number for segment in segments] != list(range(1, len(classes) + 1)):
        raise ConfigError(
            f"{config.folder}: segmentAttributes of the metadata describe {len(segments)} classes, the network gives "
            f"{len(classes)}: {', '.join(classes)}. Describe these, numbered from 1."
        )


def _renamed(item: SeriesJob | Refused, secret: str) -> SeriesJob | Refused:
    """A job whose folder's name is that of the de-identified series."""
    return replace(item, key=str(new_uid(item.key, secret))) if isinstance(item, SeriesJob) else item


@dataclass(frozen=True)
class DicomBatch:
    """A bundle over many series, each read, predicted and written once.

    Args:
        bundle: folder of the bundle.
        output_dir: gets a folder for each series, the journal, a log, ``measurements.csv`` and ``report.html``.
        write: what is written of each series, keys of :data:`monai_sam2unet.batch.output_files.OUTPUTS`.
        segmentation_type: of DICOM Segmentations: ``BINARY``, ``FRACTIONAL`` or ``LABELMAP``.
        settings: of the bundle's inference config, as ``{"ckpt_path": "model.pt"}``.
        devices: where the network runs, as ``("cuda:0", "cuda:1")``; empty for the bundle's own. One thread predicts on
            a GPU, up to four on a CPU.
        destinations: where DICOM results are sent, see :func:`monai_sam2unet.batch.sending.destination`.
        deidentify: whether written objects and names of folders are de-identified (PS3.15, basic profile). The secret
            for it is kept in ``run.json`` of the output folder; the journal knows who is who, too.
        retry_failed: whether series that failed in an earlier run are tried again.
        show_identity: whether log and events name UIDs and files.
        limits: how much is done at once, on this machine.
        cluster: what is taken of a Ray cluster, whose machines must see all files under the same names; None to stay on
            this machine.
    """

    bundle: Path
    output_dir: Path
    write: Sequence[str] = ("seg", "png", "csv")
    segmentation_type: str = "BINARY"
    settings: Mapping[str, Any] = field(default_factory=dict)
    devices: Sequence[str] = ()
    destinations: Sequence[str] = ()
    deidentify: bool = False
    retry_failed: bool = False
    show_identity: bool = False
    limits: PipelineLimits = field(default_factory=PipelineLimits)
    cluster: RayResources | None = None

    def processors(self) -> list[BundleProcessor]:
        """Load the network, once for each device.

        A CPU gets several processors of one network, see :func:`~monai_sam2unet.batch.cpu_workers.cpu_workers`.

        Raises:
            ConfigError: When a setting is not allowed, there is no such device, the bundle does not say what its
                classes are, or the output folder cannot be written to.
            CheckpointError: When there is no checkpoint.
            WeightsError: When it does not fit the network.
        """
        writers = output_writers(self.write)
        if self.destinations and not set(self.write) & set(DICOM_OUTPUTS):
            raise ConfigError(f"Only DICOM results are sent: write {', '.join(DICOM_OUTPUTS)}, or some of them.")
        senders = [destination(text) for text in self.destinations]
        if self.segmentation_type not in SEGMENTATION_TYPES:
            raise ConfigError(
                f"The type of segmentation must be one of {', '.join(SEGMENTATION_TYPES)}, got "
                f"{self.segmentation_type!r}."
            )
        reason = why_not_writable(self.output_dir)
        if reason is not None:
            raise ConfigError(f"The output folder {self.output_dir} cannot be written to: {reason}. Give another one.")
        settings = dict(self.settings)
        # On a cluster the devices are those of its machines.
        devices = [device if self.cluster else str(present_device(device)) for device in self.devices]
        own = [{**settings, "device": device} for device in devices] or [settings]
        predictors = [BundlePredictor(self.bundle, self._keeping_all(one)) for one in own]
        first = predictors[0]
        created, secret = begin_run(self.output_dir, self.deidentify)
        if self.deidentify and PICTURES & set(self.write) and not first.preset.is_volume:
            raise ConfigError(
                "Names may be burned into these images, so pictures of them (png, sc) are not written de-identified. "
                f"Choose others with --write: {', '.join(name for name in OUTPUTS if name not in PICTURES)}."
            )
        metadata = first.config.metadata
        segments = read_segments(metadata)
        _check_segments(segments, first.config)
        model = Model(
            segments=segments,
            algorithm=Algorithm(str(metadata["name"]), str(metadata["version"]), first.weights_sha256),
            created=created,
            segmentation_type=self.segmentation_type,
            secret=secret if self.deidentify else "",
        )
        return [
            BundleProcessor(predictor, model, writers, self.output_dir, senders)
            for predictor in predictors
            for _ in range(cpu_workers(predictor.device))
        ]

    def _keeping_all(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings under which the predictor keeps what the type of segmentation needs."""
        needs = self.segmentation_type == "FRACTIONAL" and "inferer::argmax" in BundleConfig(self.bundle).parser
        return {**settings, "inferer::argmax": False} if needs else dict(settings)

    def run(
        self,
        jobs: Iterator[SeriesJob | Refused],
        processors: Sequence[BundleProcessor] | None = None,
        listener: Listener | None = None,
    ) -> BatchSummary:
        """Process series; those that an earlier run has done are passed over.

        Args:
            jobs: what there is to do, as :func:`monai_sam2unet.batch.sources.find_jobs` finds it.
            processors: what :meth:`processors` gave; None loads the network here.
            listener: is told what happens.

        Raises:
            ConfigError: As :meth:`processors`, or when results in the folder were made with other settings.
            JournalError: When the journal cannot be read.
        """
        own = self.processors() if processors is None else list(processors)
        secret = own[0].model.secret
        named = (_renamed(item, secret) for item in jobs) if secret else jobs
        options: dict[str, Any] = {
            "made_with": self._made_with(own[0]),
            "retry_failed": self.retry_failed,
            "listener": listener,
            "show_identity": self.show_identity,
        }
        if self.cluster is None:
            runner = BatchRunner(named, own, self.output_dir, limits=self.limits, **options)
        else:
            runner = RayRunner(named, partial(_first_processor, self), self.output_dir, self.cluster, **options)
        with shared_cores(sum(processor.predictor.device.type == "cpu" for processor in own)):
            summary = runner.run()
        try:
            rows = read_journal(self.output_dir)
            write_run_report(self.output_dir, rows, summary.progress.seconds, options["made_with"])
            if not summary.left and not summary.stopped:
                end_run(self.output_dir)
        except OSError as error:  # a full disk: the results are there, and the next run writes it
            logger.warning("The report could not be written: %s", error)
        return summary

    def _made_with(self, processor: BundleProcessor) -> dict[str, Any]:
        algorithm = processor.model.algorithm
        # Where it runs does not change what comes of it.
        settings = {name: str(value) for name, value in self.settings.items() if name not in ("device", "num_workers")}
        return {
            "bundle": algorithm.name,
            "bundle_version": algorithm.version,
            "weights_sha256": algorithm.weights_hash,
            "write": sorted(self.write),
            "segmentation_type": self.segmentation_type,
            "deidentify": self.deidentify,
            "send": sorted(self.destinations),
            "config": processor.predictor.config.sha256,
            "settings": settings,
        }


def _first_processor(batch: DicomBatch) -> BundleProcessor:
    """On each machine of a cluster."""
    return batch.processors()[0]
