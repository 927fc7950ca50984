# SPDX-License-Identifier: Apache-2.0
"""Reads, predicts and writes DICOM series with a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_sam2unet.batch.outcome import RunStopped
from monai_sam2unet.batch.output_files import OutputWriter
from monai_sam2unet.batch.processor import Fallback
from monai_sam2unet.batch.segmented_series import Model, SegmentedSeries
from monai_sam2unet.batch.sending import Sender, send_files
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.transfer import TransferError
from monai_sam2unet.bundle import BundlePredictor
from monai_sam2unet.dicom import DicomVolume

__all__ = ["BundleProcessor", "PredictedSeries", "SeriesCase"]

CPU = Fallback("the CPU", keep=False)
#: When so many series one after the other could not be sent, the next ones will not be either.
MAX_UNSENT = 3


@dataclass(frozen=True, eq=False)
class SeriesCase:
    """A series that is ready to be predicted.

    Args:
        volume: values and headers as read.
        items: the predictor's cases: one of a volume, one for each frame of pictures.
    """

    volume: DicomVolume
    items: tuple[Mapping[str, Any], ...]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        tensors = [value for item in self.items for value in item.values() if isinstance(value, Tensor)]
        return int(self.volume.pixels.nbytes + sum(tensor.nbytes for tensor in tensors))


@dataclass(frozen=True, eq=False)
class PredictedSeries:
    """A series with what the network says of it.

    Args:
        volume: values and headers as read.
        items: as in :class:`SeriesCase`, without what is no longer needed.
        predictions: what the bundle's inferer gave for each.
    """

    volume: DicomVolume
    items: tuple[Mapping[str, Any], ...]
    predictions: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        items = sum(value.nbytes for item in self.items for value in item.values() if isinstance(value, Tensor))
        return int(self.volume.pixels.nbytes + items + sum(prediction.nbytes for prediction in self.predictions))


def _newest(job: SeriesJob) -> datetime:
    """When the last of a series' files came, as to a listener that runs for months; long ago where it is not known."""
    times = [file.stat().st_mtime for file in job.files if file.is_file()]
    return datetime.fromtimestamp(max(times, default=0)).astimezone()


def _slices_first(x: Tensor) -> NDArray[Any]:
    """(K, X, Y, Z), indexed by column, row and slice, as (slices, rows, columns, K)."""
    return x.detach().cpu().permute(3, 2, 1, 0).numpy()


class BundleProcessor:
    """What a run does to each series (:class:`monai_sam2unet.batch.processor.Processor`), on one device.

    Args:
        predictor: the bundle's network and what goes round it; for ``FRACTIONAL`` results of volumes made with the
            setting ``{"inferer::argmax": False}``.
        model: what the results say of it.
        writers: what is written of each series, see :mod:`monai_sam2unet.batch.output_files`.
        output_dir: of the run. What is fetched or unpacked for a while is in its ``.work``, receipts for what was sent
            are in ``.sent``.
        senders: where the DICOM files of each series are sent, before it counts as done.
    """

    def __init__(
        self,
        predictor: BundlePredictor,
        model: Model,
        writers: Sequence[OutputWriter],
        output_dir: Path,
        senders: Sequence[Sender] = (),
    ) -> None:
        self.predictor = predictor
        self.model = model
        self.writers = tuple(writers)
        self.work_folder, self.sent_folder = output_dir / ".work", output_dir / ".sent"
        self._unsent = 0
        self.senders = tuple(senders)

    def read(self, job: SeriesJob) -> SeriesCase:
        """Read a series, and make the network's input of it.

        Args:
            job: the series.

        Raises:
            DataError: When its files make no regular volume, or it is no image for the bundle.
        """
        preset = self.predictor.preset
        with job.opened(self.work_folder) as files:
            volume = preset.read_dicom(files)
        if preset.is_volume:
            return SeriesCase(volume, (self.predictor.load(volume),))
        frames = (
            replace(volume, pixels=volume.pixels[number : number + 1], frames=(frame,))
            for number, frame in enumerate(volume.frames)
        )
        return SeriesCase(volume, tuple(self.predictor.load(frame) for frame in frames))

    def predict(self, cases: list[SeriesCase]) -> list[PredictedSeries]:
        """Predict series; their slices share batches.

        Args:
            cases: as :meth:`read` gives them.
        """
        found = iter(self.predictor.predict([item for case in cases for item in case.items]))
        results = []
        for case in cases:
            predictions = tuple(next(found) for _ in case.items)
            # A volume's prediction lies on its grid already; of a picture the input says how to bring it back.
            items = ({},) if self.predictor.preset.is_volume else case.items
            results.append(PredictedSeries(case.volume, items, predictions))
        return results

    def fallbacks(self) -> list[Fallback]:
        """Ways to predict with less memory of the GPU: half as many slices at once, and so on, and the CPU."""
        if self.predictor.device.type == "cpu":
            return []
        return [*(Fallback(f"batches of {size}") for size in self._smaller()), CPU]

    def _smaller(self) -> list[int]:
        sizes, size = [], self.predictor.batch_size
        while size > 1:
            size //= 2
            sizes.append(size)
        return sizes

    def predict_with(self, cases: list[SeriesCase], fallback: Fallback) -> list[PredictedSeries]:
        """Predict in a way that takes less memory.

        Args:
            cases: as :meth:`read` gives them.
            fallback: one of :meth:`fallbacks`.
        """
        torch.cuda.empty_cache()
        device, batch_size = self.predictor.device, self.predictor.batch_size
        if fallback == CPU:
            self.predictor.to("cpu")
        else:
            self.predictor.batch_size = int(fallback.name.rsplit(" ", 1)[1])
        try:
            return self.predict(cases)
        finally:
            self.predictor.to(device)
            self.predictor.batch_size = batch_size

    def write(self, job: SeriesJob, result: PredictedSeries, folder: Path) -> None:
        """Make the mask on the source's grid, and write what is asked for.

        Args:
            job: the series.
            result: as :meth:`predict` gives it.
            folder: where the files go.

        Raises:
            DataError: When the prediction holds NaN, or the source cannot be referred to in the form asked for.
            TransferError: When files could not be sent.
            RunStopped: When that was so for several series, one after the other.
        """
        pairs = list(zip(result.items, result.predictions, strict=True))
        masks = [self.predictor.mask(*pair) for pair in pairs]
        probabilities = None
        if self.model.segmentation_type == "FRACTIONAL":
            found = self._on_source([self.predictor.probabilities(*pair) for pair in pairs])
            # Of several channels the first is the background.
            probabilities = found[..., 1:] if found.shape[-1] > 1 else found
        model = replace(self.model, created=max(self.model.created, _newest(job)))
        series = SegmentedSeries(result.volume, self._on_source(masks)[..., 0], model, probabilities)
        for writer in self.writers:
            writer(series, folder)
        self._send(job, sorted(folder.glob("*.dcm")))

    def _send(self, job: SeriesJob, files: Sequence[Path]) -> None:
        try:
            for sender in self.senders:
                self.sent_folder.mkdir(exist_ok=True)
                send_files(sender, files, receipts_file=self.sent_folder / f"{job.key}.jsonl")
            self._unsent = 0
        except TransferError as error:
            self._unsent += 1
            if self._unsent >= MAX_UNSENT:
                raise RunStopped(f"{MAX_UNSENT} series one after the other could not be sent. {error}") from error
            raise

    def _on_source(self, found: Sequence[Tensor]) -> NDArray[Any]:
        """(K, X, Y, Z) of a volume, or (K, H, W) of each frame, as (slices, rows, columns, K)."""
        if self.predictor.preset.is_volume:
            return _slices_first(found[0])
        return np.stack([one.detach().cpu().permute(1, 2, 0).numpy() for one in found])
