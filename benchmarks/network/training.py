# SPDX-License-Identifier: Apache-2.0
"""Steps of training: time, and what the forward pass keeps for the backward pass."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

from benchmarks.network.forms import Unavailable, Workbench, first_line
from benchmarks.network.own_forms import released
from benchmarks.network.peers import PEER_NETWORKS
from benchmarks.timing import in_turns, quartiles
from monai_sam2unet.errors import UserError
from monai_sam2unet.losses import StructureLoss

__all__ = ["TRAINING_FORMS", "TrainingForm", "measure_training"]


@dataclass(frozen=True)
class TrainingForm:
    """A network in training.

    Attributes:
        key: its name; that of the form for inference where there is one.
        label: its name in the table.
        group: ``"released"``, ``"ours"`` or ``"peers"``.
        build: makes the network; raises :class:`Unavailable` where that cannot be.
        bf16: whether the forward pass runs under bf16 autocast.
    """

    key: str
    label: str
    group: str
    build: Callable[[Workbench], nn.Module]
    bf16: bool = False


def _ours(bench: Workbench, use_checkpoint: bool = False) -> nn.Module:
    return bench.trainable(deep_supervision=True, use_checkpoint=use_checkpoint)


def _compiled(bench: Workbench) -> nn.Module:
    if bench.device.type != "cuda":
        raise Unavailable("compiling the backward pass for a CPU takes minutes; measured on CUDA")
    network = _ours(bench)
    network.compile(dynamic=False)
    return network


def _peer(key: str, bench: Workbench) -> nn.Module:
    torch.manual_seed(0)
    return PEER_NETWORKS[key][1](bench.setting).to(bench.device)


TRAINING_FORMS = (
    TrainingForm("released", "released code, fp32", "released", released),
    TrainingForm("released-bf16", "released code, bf16 autocast", "released", released, bf16=True),
    TrainingForm("plain", "plain", "ours", _ours),
    TrainingForm("plain-checkpointing", "activation checkpointing", "ours", partial(_ours, use_checkpoint=True)),
    TrainingForm("bf16", "bf16 autocast", "ours", _ours, bf16=True),
    TrainingForm(
        "bf16-checkpointing", "bf16, activation checkpointing", "ours", partial(_ours, use_checkpoint=True), bf16=True
    ),
    TrainingForm("compiled-bf16", "compiled, bf16 autocast", "ours", _compiled, bf16=True),
    *(TrainingForm(key, label, "peers", partial(_peer, key)) for key, (label, _) in PEER_NETWORKS.items()),
)


class Step:
    """One step of the paper's training: its loss over all outputs, AdamW on the trained parameters.

    Args:
        network: to be trained; gives a map of logits or several.
        images: (B, 3, H, W).
        masks: (B, 1, H, W), 0 or 1.
        bf16: whether the forward pass runs under bf16 autocast.
    """

    def __init__(self, network: nn.Module, images: Tensor, masks: Tensor, bf16: bool) -> None:
        self.network, self.images, self.masks, self.bf16 = network.train(), images, masks, bf16
        self.loss = DeepSupervisionLoss(StructureLoss(), weight_mode="same")
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=5e-4)

    def forward(self) -> Tensor:
        """The loss."""
        device = self.images.device.type
        with torch.autocast(device, torch.bfloat16) if self.bf16 else nullcontext():
            outputs = self.network(self.images)
        loss: Tensor = self.loss(list(outputs) if isinstance(outputs, list | tuple) else outputs, self.masks)
        return loss

    def __call__(self) -> None:
        """Forward, backward, and the parameters' update."""
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().backward()
        self.optimizer.step()


def saved_bytes(step: Step) -> int:
    """Bytes that a forward pass keeps for the backward pass: each storage once, parameters and inputs left out."""
    own = {t.untyped_storage().data_ptr() for t in (*step.network.parameters(), step.images, step.masks)}
    saved: dict[int, int] = {}
    alive = []  # else a freed storage's address could be taken for another's

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step.forward()
    return sum(saved.values())


def _peak_bytes(step: Step) -> int | None:
    """What a step takes on a GPU at its peak beyond what is there before."""
    device = step.images.device
    if device.type != "cuda":
        return None
    step.optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def measure_training(
    bench: Workbench, forms: Sequence[TrainingForm], batch: int, rounds: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Time a step of each, in turns, against the first that runs.

    Args:
        bench: what all forms share.
        forms: the rows.
        batch: images of a step.
        rounds: turns of each.
        say: told what is being done.

    Returns:
        A row for each form: ``step_ms`` and ``times_as_fast`` (median and quartiles over the rounds), ``saved_mib``,
        ``peak_mib`` on a GPU, or ``reason`` where it could not run.
    """
    images = bench.images(batch)
    masks = (torch.nn.functional.avg_pool2d(images[:, :1], 31, 1, 15) > 0).float()
    steps: dict[str, Step] = {}
    rows: list[dict[str, Any]] = []
    for form in forms:
        row: dict[str, Any] = {"key": form.key, "label": form.label, "group": form.group}
        say(f"training: {form.label}")
        try:
            step = Step(form.build(bench), images, masks, form.bf16)
            row["trained_m"] = sum(p.numel() for p in step.network.parameters() if p.requires_grad) / 1e6
            step()
            row["saved_mib"] = saved_bytes(step) / 2**20
            peak = _peak_bytes(step)
            if peak is not None:
                row["peak_mib"] = peak / 2**20
            steps[form.key] = step
        except (Unavailable, UserError) as reason:
            row["reason"] = str(reason).splitlines()[0]
        except Exception as error:  # whatever one form does, the others are still measured
            row["reason"] = first_line(error)
        rows.append(row)
    say(f"training: {rounds} rounds")
    times = in_turns(steps, rounds, bench.device, warm_ups=0, pause_s=0.02)
    reference = next(iter(times.values()), [])
    for row in rows:
        own = times.get(row["key"])
        if own is not None:
            row["step_ms"] = quartiles([1000 * t for t in own])
            row["times_as_fast"] = quartiles([a / b for a, b in zip(reference, own, strict=True)])
    steps.clear()
    gc.collect()
    return rows
