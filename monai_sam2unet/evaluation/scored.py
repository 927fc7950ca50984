# SPDX-License-Identifier: Apache-2.0
"""What tables, files and reports need to know of scored cases."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Scored"]


class Scored(Protocol):
    """Scores of the cases of some sets, as :class:`~monai_sam2unet.evaluation.ScoreTable` holds them.

    Attributes:
        threshold: of the clinical reading.
        tolerance: of the surface Dice, in ``unit``.
        unit: of distances.
    """

    threshold: float
    tolerance: float
    unit: str

    @property
    def settings(self) -> dict[str, Any]:
        """How the scores are made."""
        ...

    @property
    def clinical_title(self) -> str:
        """What the clinical reading measures."""
        ...

    @property
    def clinical_columns(self) -> list[str]:
        """The score columns of the clinical reading."""
        ...

    @property
    def papers_columns(self) -> list[str]:
        """The score columns of the papers' protocol."""
        ...

    def frame(self) -> pd.DataFrame:
        """A row for each case."""
        ...

    def curves(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Mean curves of each set."""
        ...

    def reliability(self) -> dict[str, pd.DataFrame]:
        """Reliability curve of each set."""
        ...

    def summary(self) -> dict[str, dict[str, Any]]:
        """Means, standard deviations and intervals of each set."""
        ...
