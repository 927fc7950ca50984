# SPDX-License-Identifier: Apache-2.0
"""The recipes that `benchmarks.polyp_results` trains by: the released one, and what differs from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bundle_run import Commands, bundle_command

__all__ = ["AVERAGE", "PEERS", "RECIPES", "SIZE_STEP", "Recipe", "commands_of"]

Settings = Mapping[str, object]
#: The evaluations of a run by the name of their folder, and the folder of data that each takes.
EVALUATIONS = {"eval": "{DIR}", "eval_crops": "{CROPS}"}
EVERY_FLIP = {"flips": "['rows','columns','both']"}
SCALES = {"scales": "[0.75,1,1.25]"}
THEN_WHOLE = "baseline, then the whole encoder"
AVERAGE = "average of baseline and whole encoder"
WHOLE = "whole encoder trained"
THEN_LARGER = "baseline, then larger input"
THEN_LONGER = "baseline, half as long again"
FURTHER = {"learning_rate": 0.0005, "clip_norm": 1}  # the same with the larger input and without, so that they compare
BOTH_SIZES = {"scales": "[0.75,1]"}  # after training at the larger one, about those of both trainings
#: The network's input is a multiple of so many pixels, by its four halvings and the windows of the encoder.
SIZE_STEP = 32
LARGER = 1.375  # 256 pixels become 352, 352 become 480
FLIPS_AND_SCALES = {**EVERY_FLIP, **SCALES}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained and evaluated.

    Attributes:
        training: settings of the bundle's `train.yaml`, on top of `configs/recipes/paper.yaml`.
        network: settings of the network, which evaluation needs, too.
        evaluation: settings of the bundle's `evaluate.yaml`.
        overlay: a file of `configs/recipes/` put after `paper.yaml`.
        peer: a file of `configs/peers/`, which puts another network in place of SAM2-UNet.
        epochs: length as a multiple of the run's.
        size: height and width of the network's input as a multiple of the run's, to the nearest 32 pixels.
        after: name of the recipe whose trained network is trained further, instead of starting from published weights.
        average_of: names of recipes whose trained networks' weights are averaged, instead of training one.
        trained_as: name of the recipe whose trained network is evaluated, instead of training one.
    """

    training: Settings = field(default_factory=dict)
    network: Settings = field(default_factory=dict)
    evaluation: Settings = field(default_factory=dict)
    overlay: str | None = None
    peer: str | None = None
    epochs: float = 1.0
    size: float = 1.0
    after: str | None = None
    average_of: tuple[str, ...] = ()
    trained_as: str | None = None

    @property
    def earlier(self) -> tuple[str, ...]:
        """Names of the recipes whose trained networks this one starts from."""
        return (self.after,) if self.after else self.average_of


#: What MONAI's users would take instead, by the baseline's recipe. MONAI fetches weights trained on ImageNet for the
#: first; for the others it has none of colour pictures.
PEERS = {
    "FlexibleUNet-b4, ImageNet weights": Recipe({"network_def::pretrained": True}, peer="flexible_unet.yaml"),
    "FlexibleUNet-b4, random weights": Recipe(peer="flexible_unet.yaml"),
    "SwinUNETR, random weights": Recipe(peer="swin_unetr.yaml"),
    "SegResNet, random weights": Recipe(peer="segresnet.yaml"),
}
#: What is tried against the baseline, mostly one thing, or what belongs together; and the peers.
RECIPES = {
    "baseline": Recipe(),
    # A trained encoder needs a smaller rate; as in `benchmarks.bundle_results`.
    "random encoder, trained whole": Recipe(
        {"weights": "random", "freeze_encoder": False, "learning_rate": 0.0003, "warmup_epochs": 1, "clip_norm": 1},
        network={"adapter_channels": 0},
    ),
    "zero-initialised adapters": Recipe({"zero_init_adapters": True}),
    "warm-up and clipping": Recipe({"warmup_epochs": 1, "clip_norm": 1}),
    "weighted BCE": Recipe({"bce": "weighted"}),
    "boundary term": Recipe({"hausdorff_weight": 0.1}),
    "multi-scale": Recipe({"multi_scale": "[0.75,1,1.25]"}),
    "rotation and colour": Recipe({"rotate_prob": 0.3, "color_jitter_prob": 0.5}),
    "blur and JPEG": Recipe({"blur_prob": 0.2, "jpeg_prob": 0.2}),
    "adapters of 64 channels": Recipe(network={"adapter_channels": 64}),
    "LoRA of rank 8": Recipe(network={"lora_rank": 8}),
    "last stage trained": Recipe({"unfrozen_stages": 1, "layer_decay": 0.1}),
    WHOLE: Recipe(
        {"unfrozen_stages": 4, "learning_rate": 0.0005, "layer_decay": 0.7, "warmup_epochs": 1, "clip_norm": 1}
    ),
    THEN_LONGER: Recipe(FURTHER, epochs=0.5, after="baseline"),
    f"{THEN_LONGER}, flips": Recipe(evaluation=EVERY_FLIP, trained_as=THEN_LONGER),
    THEN_WHOLE: Recipe(overlay="whole_encoder.yaml", epochs=0.5, after="baseline"),
    AVERAGE: Recipe(average_of=("baseline", THEN_WHOLE)),
    "average of the weights": Recipe({"ema_decay": 0.99}),
    "twice the epochs": Recipe(epochs=2.0),
    "larger input": Recipe(size=LARGER),
    THEN_LARGER: Recipe(FURTHER, epochs=0.5, size=LARGER, after="baseline"),
    f"{THEN_LARGER}, flips": Recipe(evaluation=EVERY_FLIP, trained_as=THEN_LARGER),
    f"{THEN_LARGER}, both sizes": Recipe(evaluation=BOTH_SIZES, trained_as=THEN_LARGER),
    f"{THEN_LARGER}, both sizes and flips": Recipe(evaluation={**EVERY_FLIP, **BOTH_SIZES}, trained_as=THEN_LARGER),
    "flips at test time": Recipe(evaluation=EVERY_FLIP, trained_as="baseline"),
    "scales at test time": Recipe(evaluation=SCALES, trained_as="baseline"),
    "flips and scales at test time": Recipe(evaluation=FLIPS_AND_SCALES, trained_as="baseline"),
    f"{AVERAGE}, flips": Recipe(evaluation=EVERY_FLIP, trained_as=AVERAGE),
    f"{AVERAGE}, flips and scales": Recipe(evaluation=FLIPS_AND_SCALES, trained_as=AVERAGE),
    f"{WHOLE}, flips at test time": Recipe(evaluation=EVERY_FLIP, trained_as=WHOLE),
    "augmented": Recipe(
        {"zero_init_adapters": True, "warmup_epochs": 1, "clip_norm": 1, "ema_decay": 0.99}, overlay="augmented.yaml"
    ),
    "augmented, flips at test time": Recipe(evaluation=EVERY_FLIP, trained_as="augmented"),
    **PEERS,
}


def commands_of(
    recipe: Recipe, evaluation: Mapping[str, object], shared: Mapping[str, Any], paper: Mapping[str, object]
) -> Commands:
    """The command lines of a recipe.

    As released, all images are trained on but one, which the bundle needs for validation, and the last epoch counts.

    Args:
        recipe: what is trained.
        evaluation: settings of `evaluate.yaml`.
        shared: settings of the network and the machine.
        paper: settings of `train.yaml` that all recipes share; with `max_epochs`.
    """
    overlay = recipe.overlay and f"../../configs/recipes/{recipe.overlay}"
    peer = recipe.peer and f"../../configs/peers/{recipe.peer}"
    own = {"encoder_size": None} if recipe.peer else {}
    sides = [SIZE_STEP * round(side * recipe.size / SIZE_STEP) for side in json.loads(shared["spatial_size"])]
    network = {**shared, "spatial_size": json.dumps(sides, separators=(",", ":")), **own, **recipe.network}
    network = {key: value for key, value in network.items() if value is not None}
    epochs = max(1, round(int(str(paper["max_epochs"])) * recipe.epochs))
    unselected = {"max_epochs": epochs, "val_fraction": 0.0001, "val_interval": epochs + 1}
    before = [f"{{{name}}}/models/model.pt" for name in recipe.earlier]
    start = {"weights": before[0]} if recipe.after else {}
    trained_in = {"dataset_dir": "{DIR}", "ckpt_dir": "{TRAINED}/models", "log_dir": "{TRAINED}/runs"}
    if recipe.average_of:
        train = ["python", "-m", "monai_sam2unet", "weights", "average", *before, "-o", "{TRAINED}/models/model.pt"]
    else:
        train = bundle_command(
            "training",
            ["configs/train.yaml", "../../configs/recipes/paper.yaml", overlay, peer],
            {**trained_in, **paper, **start, **unselected, **network, **recipe.training},
        )
    evaluate = {}
    for folder, data in EVALUATIONS.items():
        places = {"dataset_dir": data, "ckpt_path": "{TRAINED}/models/model.pt", "output_dir": f"{{FOLDER}}/{folder}"}
        configs = ["configs/evaluate.yaml", "../../configs/benchmarks/polyp.yaml", peer]
        settings = {**places, "report": folder == "eval", **network, **evaluation}
        evaluate[folder] = bundle_command("evaluating", configs, settings)
    return Commands(train, evaluate)
