# SPDX-License-Identifier: Apache-2.0
"""Tables of scores, their statistics and comparison, and reports to look at."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_sam2unet.evaluation.case_pictures import CasePictures
    from monai_sam2unet.evaluation.comparison import compare_scores, write_comparison
    from monai_sam2unet.evaluation.file_scoring import score_files
    from monai_sam2unet.evaluation.overlay import draw_overlay
    from monai_sam2unet.evaluation.picture_report import write_picture_report
    from monai_sam2unet.evaluation.prediction_folder import find_prediction_cases
    from monai_sam2unet.evaluation.published import PublishedTable
    from monai_sam2unet.evaluation.score_table import ScoreTable
    from monai_sam2unet.evaluation.statistics import bootstrap_interval, holm_adjusted, paired_difference
    from monai_sam2unet.evaluation.volume_scores import VolumeScoreTable

__all__ = [
    "CasePictures",
    "PublishedTable",
    "ScoreTable",
    "VolumeScoreTable",
    "bootstrap_interval",
    "compare_scores",
    "draw_overlay",
    "find_prediction_cases",
    "holm_adjusted",
    "paired_difference",
    "score_files",
    "write_comparison",
    "write_picture_report",
]

MODULES = {
    "CasePictures": "case_pictures",
    "PublishedTable": "published",
    "ScoreTable": "score_table",
    "VolumeScoreTable": "volume_scores",
    "bootstrap_interval": "statistics",
    "compare_scores": "comparison",
    "draw_overlay": "overlay",
    "find_prediction_cases": "prediction_folder",
    "holm_adjusted": "statistics",
    "paired_difference": "statistics",
    "score_files": "file_scoring",
    "write_comparison": "comparison",
    "write_picture_report": "picture_report",
}


def __getattr__(name: str) -> Any:
    # Comparing two tables needs no torch, whose import takes longer than the comparison.
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
