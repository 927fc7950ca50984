# SPDX-License-Identifier: Apache-2.0
"""What a bundle's ``initialize`` does before anything is built: errors, seeds, folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from monai.utils import set_determinism

from monai_sam2unet.bundle.command_line import check_arguments, explain_user_errors
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import why_not_writable

__all__ = [
    "check_light_checkpoints",
    "default_device",
    "finish_distributed",
    "start",
    "start_distributed",
]


def default_device() -> torch.device:
    """The first GPU, or under ``torchrun`` this process's own; the CPU where there is none."""
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")


def _check_writable(folder: Path) -> None:
    reason = why_not_writable(folder)
    if reason is not None:
        raise ConfigError(
            f"Nothing can be written to {folder}: {reason}. Give another folder "
            "(`--ckpt_dir`, `--output_dir`), or make it writable."
        )


def start(*folders: str | Path, seed: int | None = None) -> None:
    """Begin a bundle's run: say errors in a few lines, check the command line and the folders, fix the seeds.

    Args:
        folders: where the run will write; they are made.
        seed: of torch's, NumPy's and Python's random numbers; None leaves them as they are.

    Raises:
        ConfigError: When an argument on the command line names nothing in the config, the device is not there, or a
            folder cannot be written to.
    """
    explain_user_errors()
    check_arguments(sys.argv)
    for folder in folders:
        _check_writable(Path(folder))
    if seed is not None:
        set_determinism(seed)


def finish_distributed() -> None:
    """End distributed training, once all processes have come to its end."""
    dist.barrier()
    dist.destroy_process_group()


def check_light_checkpoints(light_checkpoints: bool, weights: str) -> None:
    """Refuse light checkpoints of an encoder whose frozen values nobody could load again.

    Raises:
        ConfigError: When ``light_checkpoints`` is on and ``weights`` are random.
    """
    if light_checkpoints and weights in (None, "random"):
        raise ConfigError("Light checkpoints leave the frozen encoder out; with random `--weights` it would be lost.")


def start_distributed(*folders: str | Path, seed: int | None = None, device: torch.device | str | None = None) -> None:
    """As :func:`start`, in each process of ``torchrun``: NCCL on GPUs, gloo on CPUs.

    Args:
        folders: as for :func:`start`.
        seed: as for :func:`start`.
        device: what this process trains on; None for :func:`default_device`.

    Raises:
        ConfigError: As :func:`start`; or when the process was not started by ``torchrun``.
    """
    start(*folders, seed=seed)
    if "RANK" not in os.environ:
        raise ConfigError(
            "multi_gpu_train.yaml is for several processes. Start it as\n"
            "  torchrun --standalone --nproc_per_node=2 -m monai.bundle run training "
            "--config_file \"['configs/train.yaml','configs/multi_gpu_train.yaml']\""
        )
    is_on_gpu = torch.device(default_device() if device is None else device).type == "cuda"
    if is_on_gpu:
        torch.cuda.set_device(default_device())
    dist.init_process_group("nccl" if is_on_gpu else "gloo")
    explain_user_errors()  # torch has just put its own hook in place of it
