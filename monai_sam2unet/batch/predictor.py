# SPDX-License-Identifier: Apache-2.0
"""Predicts several cases so that a bad one spoils no other, and so that too little memory is no end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monai_sam2unet.batch.processor import Fallback, MemoryFallbacks, Processor
from monai_sam2unet.errors import causes

__all__ = ["Predicted", "Predictor", "is_out_of_gpu_memory"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predicted:
    """What came of one case.

    Args:
        result: what was predicted; None where it failed.
        error: why it failed; else None.
        notes: what is to be known of how it was made.
    """

    result: Any = None
    error: Exception | None = None
    notes: tuple[str, ...] = ()


def is_out_of_gpu_memory(error: BaseException) -> bool:
    """Whether an error is torch's for a GPU without enough memory, or was raised from one.

    Args:
        error: any error. It is known by its type's name, so that torch need not be there.
    """
    return any(kind.__name__ == "OutOfMemoryError" for cause in causes(error) for kind in type(cause).__mro__)


class Predictor:
    """Predicts lists of cases with one processor; of one thread.

    A list that fails is tried case by case. A case that is too large for the GPU is tried in the processor's other
    ways, one after the other (:class:`~monai_sam2unet.batch.processor.MemoryFallbacks`).

    Args:
        processor: what predicts.
    """

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self._way: Fallback | None = None
        self._further = tuple(processor.fallbacks()) if isinstance(processor, MemoryFallbacks) else ()

    def __call__(self, cases: Sequence[Any]) -> list[Predicted]:
        """Predict.

        Args:
            cases: what the processor's ``read`` returned.

        Returns:
            What came of each, in order.
        """
        several = self._try(cases, self._way)
        if not isinstance(several, Exception):
            return several
        if len(cases) > 1:
            # What failed may be one of them, or their number.
            return [self([case])[0] for case in cases]
        return [self._one_with_less(cases[0], several)]

    def _try(self, cases: Sequence[Any], way: Fallback | None) -> list[Predicted] | Exception:
        try:
            if way is None or not isinstance(self.processor, MemoryFallbacks):
                results = self.processor.predict(list(cases))
            else:
                results = self.processor.predict_with(list(cases), way)
            if len(results) != len(cases):
                raise RuntimeError(f"{len(cases)} cases were given to predict, and {len(results)} results came back.")
        except Exception as error:
            if is_out_of_gpu_memory(error):
                # The tracebacks would hold all that was on the GPU while the next way is tried.
                for cause in causes(error):
                    cause.__traceback__ = None
            return error
        notes = () if way is None else (f"predicted with {way.name}: the GPU has too little memory",)
        return [Predicted(result, notes=notes) for result in results]

    def _one_with_less(self, case: Any, error: Exception) -> Predicted:
        for number, way in enumerate(self._further, start=1):
            if not is_out_of_gpu_memory(error):
                break
            logger.warning("The GPU has too little memory for a series; trying %s.", way.name)
            outcome = self._try([case], way)
            if not isinstance(outcome, Exception):
                if way.keep:
                    self._way, self._further = way, self._further[number:]
                    logger.warning("From now on: %s.", way.name)
                return outcome[0]
            error = outcome
        return Predicted(error=error)
