# SPDX-License-Identifier: Apache-2.0
"""Simulates labelling with and without active learning: Dice on held-out pictures by the number of labels.

    python -m benchmarks.active_learning --dataset-dir DIR --split-file DIR/splits/kvasir_train.txt --test-set Kvasir \
      --weights sam2_hiera_tiny.pt --output docs/results/active_learning_cpu.json

Labels of a pool are revealed only when a strategy asks for them: the first ones at random, the same for all strategies
of a seed; then, round by round, those with the highest epistemic score, or random ones. In each round the polyp
bundle's network goes on training, by its own `train.yaml`, from its weights of the round before on all labels so far;
it starts from SAM 2's encoder with untrained adapters and decoder. Each round takes as many steps, of whatever number
of labels.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from monai.bundle import ConfigParser
from monai.metrics import DiceMetric, compute_dice
from monai.utils import set_determinism
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.bundle_run import BUNDLES, files_sha256, machine, write_json
from monai_sam2unet.bundle import evaluation_datalist, training_datalist
from monai_sam2unet.inferers import AutocastInferer, UncertaintyMaps, epistemic_score

STRATEGIES = ("epistemic", "random")
CONFIG = BUNDLES / "polyp_segmentation" / "configs" / "train.yaml"
#: Of the training's handlers those that change what is learnt; the others validate, write and log.
HANDLERS = ("EpochSeed", "GradientClipper", "LrScheduleHandler")
FLIPS = ["rows", "columns", "both"]
BATCH = 16

Case = Mapping[str, Any]


class Simulation:
    """One network that learns from ever more labels.

    Args:
        pool: cases whose labels may be asked for.
        test: cases to measure on.
        seed: of everything random.
        steps: optimiser steps of a round.
        settings: of the bundle's `train.yaml`.
    """

    def __init__(
        self, pool: Sequence[Case], test: Sequence[Case], seed: int, steps: int, settings: Mapping[str, Any]
    ) -> None:
        self.pool, self.seed, self.steps = pool, seed, steps
        self.settings = settings
        prepare = self._config([])["preset"].training()
        self.images, self.masks = self._read(pool, prepare)
        self.test_images, self.test_masks = self._read(test, prepare)

    @staticmethod
    def _read(cases: Sequence[Case], prepare: Any) -> tuple[Tensor, Tensor]:
        read = [prepare(dict(case)) for case in cases]
        images, masks = (torch.stack([case[key] for case in read]) for key in ("image", "label"))
        return images, masks

    def _config(self, labelled: Sequence[Case]) -> dict[str, Any]:
        parser = ConfigParser()
        parser.read_config(CONFIG)
        parser.update({"seed": self.seed, "num_workers": 0, "device": "$torch.device('cpu')", **self.settings})
        parser["imports"] += ["$import torch"]
        parser["train::dataset::data"] = [dict(case) for case in labelled]
        parser["train::handlers"] = [
            handler for handler in parser["train::handlers"] if handler["_target_"].rpartition(".")[2] in HANDLERS
        ]
        steps_an_epoch = max(1, math.ceil(len(labelled) / parser["batch_size"]))
        parser["max_epochs"] = max(1, round(self.steps / steps_an_epoch))
        wanted = ["train::trainer", "network_def"] if labelled else ["preset"]
        return {key: parser.get_parsed_content(key) for key in wanted}

    def train(self, labelled: Sequence[int], state: Mapping[str, Tensor] | None) -> nn.Module:
        """Train on the labels so far, from the weights of the round before; None: from SAM 2's encoder."""
        set_determinism(self.seed)
        made = self._config([self.pool[number] for number in labelled])
        network: nn.Module = made["network_def"]
        if state is not None:
            network.load_state_dict(state)
        made["train::trainer"].run()
        return network.eval()

    def test_dice(self, network: nn.Module) -> float:
        """Mean Dice of the test pictures, at the network's size; of an empty mask 1 if nothing is predicted."""
        metric = DiceMetric(ignore_empty=False)
        for images, masks in zip(self.test_images.split(BATCH), self.test_masks.split(BATCH), strict=True):
            metric(predicted(images, network), masks)
        return float(metric.aggregate())

    def scores(self, network: nn.Module, numbers: Sequence[int]) -> list[float]:
        """Epistemic scores of pictures of the pool, made without their labels."""
        maps, inferer = UncertaintyMaps(network, "sigmoid", FLIPS), AutocastInferer("fp32")
        with torch.no_grad():
            return [epistemic_score(m) for part in self.images[numbers].split(BATCH) for m in inferer(part, maps)]

    def told_by(self, scores: Sequence[float], network: nn.Module, numbers: Sequence[int]) -> float | None:
        """Spearman's correlation of scores with what is wrong, 1 - Dice; looks at labels that no strategy sees.

        None: all are wrong to the same extent.
        """
        parts = [predicted(part, network) for part in self.images[numbers].split(BATCH)]
        wrong = 1 - compute_dice(torch.cat(parts), self.masks[numbers], ignore_empty=False)[:, 0]
        if len(set(scores)) == 1 or bool((wrong == wrong[0]).all()):
            return None
        return float(spearmanr(scores, wrong.numpy()).statistic)


@torch.no_grad()
def predicted(images: Tensor, network: nn.Module) -> Tensor:
    """Masks (B, 1, H, W) of 0 and 1 of one plain pass."""
    return (AutocastInferer("fp32")(images, network) > 0).float()


def one_seed(simulation: Simulation, labels: Sequence[int]) -> dict[str, Any]:
    """Dice by strategy and number of labels; the first round is common to both."""
    random = np.random.default_rng(simulation.seed)
    order = [int(number) for number in random.permutation(len(simulation.pool))]
    first = simulation.train(order[: labels[0]], None)
    dice = {name: [simulation.test_dice(first)] for name in STRATEGIES}
    rank_correlation: list[float | None] = []
    for name in STRATEGIES:
        network, known = first, order[: labels[0]]
        for count in labels[1:]:
            left = [number for number in order if number not in known]
            if name == "epistemic":
                scores = simulation.scores(network, left)
                rank_correlation.append(simulation.told_by(scores, network, left))
                left = [left[i] for i in np.argsort(scores, kind="stable")[::-1]]
            known = known + left[: count - len(known)]
            network = simulation.train(known, network.state_dict())
            dice[name].append(simulation.test_dice(network))
            print(f"seed {simulation.seed}, {name}, {count} labels: Dice {dice[name][-1]:.3f}", flush=True)
    return {"seed": simulation.seed, "dice": dice, "rank_correlation": rank_correlation}


def summary(labels: Sequence[int], seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and how far the strategies are apart in each."""
    mean = {
        name: [statistics.mean(column) for column in zip(*(s["dice"][name] for s in seeds), strict=True)]
        for name in STRATEGIES
    }
    gains = [
        statistics.mean(a - b for a, b in zip(s["dice"]["epistemic"][1:], s["dice"]["random"][1:], strict=True))
        for s in seeds
    ]
    return {"labels": list(labels), "mean_dice": mean, "mean_gain_of_each_seed": gains}


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw the curves: each seed thin, the mean thick."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    labels, found = result["summary"]["labels"], result["summary"]["mean_dice"]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, color in zip(STRATEGIES, ("tab:blue", "tab:orange"), strict=True):
        for one in result["seeds"]:
            axes.plot(labels, one["dice"][name], color=color, linewidth=0.7, alpha=0.5)
        axes.plot(labels, found[name], color=color, linewidth=2, marker="o", label=f"{name}, mean")
    axes.set(xlabel="labelled pictures", ylabel=f"Dice on {result['settings']['test']} held-out pictures")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(
    dataset_dir: Annotated[Path, typer.Option(help="Folder with TrainDataset/ and TestDataset/.", exists=True)],
    output: Annotated[Path, typer.Option(help="JSON file of results; seeds that it holds are not run again.")],
    weights: Annotated[str, typer.Option(help="Encoder weights: sam2, sam2.1, a file or random.")] = "sam2",
    split_file: Annotated[Path | None, typer.Option(help="Stems of the pool's pictures, one a line.")] = None,
    test_set: Annotated[str | None, typer.Option(help="Name of the test set; all if not given.")] = None,
    pool: Annotated[int, typer.Option(help="Pictures in the pool.", min=3)] = 120,
    test: Annotated[int, typer.Option(help="Pictures to measure on.", min=1)] = 60,
    labels: Annotated[str, typer.Option(help="Numbers of labels of the rounds.")] = "8,16,32,48",
    steps: Annotated[int, typer.Option(help="Optimiser steps of a round.", min=1)] = 24,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.", min=2)] = 8,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 96,
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds.")] = "0,1,2",
    picture: Annotated[Path | None, typer.Option(help="PNG file to draw the curves to.")] = None,
) -> None:
    """Simulate, seed by seed, and write the curves."""
    counts = [int(word) for word in labels.split(",")]
    if counts != sorted(set(counts)) or counts[0] < 2 or counts[-1] > pool:
        raise typer.BadParameter(f"--labels: numbers from 2 to the pool's {pool}, ever larger; got {labels}.")
    settings = {"encoder_size": "tiny", "weights": weights, "spatial_size": [size, size], "batch_size": batch_size}
    told: dict[str, Any] = {
        **settings,
        "weights": Path(weights).name,
        "pool": pool,
        "test": test,
        "test_set": test_set,
        "labels": counts,
        "steps": steps,
        "flips": FLIPS,
        "data_sha256": files_sha256(dataset_dir.resolve()),
    }
    known = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {"settings": told, "seeds": []}
    if known["settings"] != told:
        raise typer.BadParameter(f"--output: {output} holds results of other settings or data; name another file.")
    tested = evaluation_datalist(dataset_dir, sets=None if test_set is None else [test_set])
    done = {one["seed"]: one for one in known["seeds"]}
    for seed in map(int, seeds.split(",")):
        if seed in done:
            continue
        found = training_datalist(dataset_dir, seed=seed, split_file=split_file, max_cases=pool)
        start = time.process_time()
        simulation = Simulation(found["training"] + found["validation"], tested[:test], seed, steps, settings)
        done[seed] = one_seed(simulation, counts) | {"cpu_seconds": round(time.process_time() - start)}
        ordered = [done[key] for key in sorted(done)]
        result = {"settings": told, "machine": machine(), "summary": summary(counts, ordered), "seeds": ordered}
        write_json(output, result)
    if picture is not None:
        plot(json.loads(output.read_text(encoding="utf-8")), picture)


if __name__ == "__main__":
    typer.run(main)
