# SPDX-License-Identifier: Apache-2.0
"""What a label keeps that goes to the network's size, as probabilities do, and back.

    python -m benchmarks.round_trip --data-dir DIR --output docs/results/round_trip.json

Each label is cut into slices, fitted to the network's size as probabilities are, brought back, and compared with itself
wherever a structure has more than 100 pixels in a slice. DIR holds the sets as `DIR/NAME/dataset.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from monai.data import MetaTensor
from rich.console import Console
from rich.table import Table
from torch import Tensor

from monai_sam2unet.transforms import Preset, VolumeToSlices
from monai_sam2unet.transforms.pixel_size import known_spacing

#: Sets by the modality they are read as, and from which label value on masks are foreground (None: classes).
SETS: dict[str, tuple[str, float | None]] = {
    "acdc": ("mr", None),
    "msd-hippocampus": ("mr", None),
    "sct-spine": ("mr", None),
    "totalseg-example": ("ct", None),
    "polyp": ("endoscopy", 127.5),
    "busi": ("ultrasound", 127.5),
    "cxr-lungs": ("xray", 127.5),
    "isic2017": ("dermoscopy", 127.5),
    "dsb2018": ("endoscopy", 127.5),
    "chasedb1": ("endoscopy", 127.5),
}
SMALLEST = 100  # pixels of a structure in a slice


def items_of(folder: Path, limit: int) -> list[dict[str, str]]:
    """The first cases of a set, from its dataset.json."""
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    items = [item for part in content.values() if isinstance(part, list) for item in part]
    return [{key: str(folder / item[key]) for key in ("image", "label")} for item in items[:limit]]


def dice_there_and_back(piece: Tensor, preset: Preset) -> list[float]:
    """Dice of each structure of a label slice (1, H, W) with itself after the trip."""
    label = piece.as_tensor() if isinstance(piece, MetaTensor) else piece
    classes = [value for value in label.unique().tolist() if value > 0 and (label == value).sum() > SMALLEST]
    if not classes:
        return []
    masks = torch.stack([(label[0] == value).float() for value in classes])[None]
    plan = preset.slice_transform.fit.plan(masks, spacing=known_spacing(piece))
    back = plan.inverse(plan.forward(masks)) >= 0.5
    return [
        float(2 * (mask.bool() & found).sum() / (mask.sum() + found.sum()))
        for mask, found in zip(masks[0], back[0], strict=True)
    ]


def measure(items: list[dict[str, str]], preset: Preset) -> dict[str, Any]:
    """Dice over all structures, slices, planes and cases of a set."""
    values: list[float] = []
    for item in items:
        if not preset.is_volume:
            values += dice_there_and_back(preset.evaluation()(item)["label"], preset)
            continue
        label = preset.volumes()(item)["label"]
        for plane in ("axial", "coronal", "sagittal"):
            for piece in VolumeToSlices(plane)(label):
                values += dice_there_and_back(piece, preset)
    dice = np.array(values)
    return {
        "cases": len(items),
        "structures": len(dice),
        "mean_dice": round(float(dice.mean()), 4),
        "lowest_dice": round(float(dice.min()), 4),
        "share_from_0.99": round(float((dice >= 0.99).mean()), 4),
    }


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of the sets.")],
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    sizes: Annotated[str, typer.Option(help="Sizes of the network's input, with commas.")] = "352,512",
    limit: Annotated[int, typer.Option(help="Cases of each set.")] = 60,
) -> None:
    """Measure every set at every size."""
    results: dict[str, Any] = {}
    series = data_dir / "dicom" / "ct_series_j2k_with_seg"
    dicom = [{"image": str(series / "ct"), "label": str(series / "example_seg_dicom.nii.gz")}]
    for size in (int(word) for word in sizes.split(",")):
        for name, (modality, threshold) in SETS.items():
            preset = Preset(modality, spatial_size=size, mask_threshold=threshold)
            results.setdefault(name, {})[str(size)] = measure(items_of(data_dir / name, limit), preset)
        results.setdefault("CT DICOM series", {})[str(size)] = measure(dicom, Preset("ct", spatial_size=size))
    table = Table("set", "size", "structures", "mean Dice", "lowest Dice", "share from 0.99")
    for name, by_size in results.items():
        for size_name, row in by_size.items():
            cells = (row["structures"], row["mean_dice"], row["lowest_dice"], row["share_from_0.99"])
            table.add_row(name, size_name, *map(str, cells))
    Console().print(table)
    if output is not None:
        command = f"python -m benchmarks.round_trip --data-dir DIR --sizes {sizes} --limit {limit}"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({"command": command, "sets": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(typer.run(main))
