# SPDX-License-Identifier: Apache-2.0
"""``sam2unet info``: how large the network is, and what each way of training it costs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from monai_sam2unet.cli.weights import Size

__all__ = ["info"]


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(columns):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _print(console: Console, facts: dict[str, Any]) -> None:
    stages = [
        [
            str(number),
            f"1/{stage['stride']}",
            str(stage["channels"]),
            str(stage["heads"]),
            str(stage["blocks"]),
            f"{stage['window']}x{stage['window']}",
            ", ".join(map(str, stage["global_blocks"])) or "-",
        ]
        for number, stage in enumerate(facts["stages"], start=1)
    ]
    headings = ["stage", "scale", "channels", "heads", "blocks", "window", "global blocks"]
    console.print(_table(f"Encoder {facts['size']}", headings, stages))
    console.print(
        f"{facts['gflop']['network']:.1f} GFLOP for an image of {facts['spatial_size']}x{facts['spatial_size']} "
        f"with adapters, {facts['gflop']['encoder']:.1f} of them in the encoder.\n"
    )
    choices = [
        [
            name,
            f"{choice['parameters'] / 1e6:.1f} M",
            f"{choice['trained'] / 1e6:.2f} M",
            f"{100 * choice['trained'] / choice['parameters']:.1f} %",
            f"{choice['light_checkpoint_bytes'] / 1e6:.1f}",
            f"{choice['optimizer_bytes'] / 1e6:.1f}",
        ]
        for name, choice in facts["choices"].items()
    ]
    headings = ["choice", "parameters", "trained", "share", "light MB", "AdamW MB"]
    both = facts["choices"]["adapters and LoRA"]["settings"]
    title = f"Ways of training it, adapters of {both['adapter_channels']} channels, LoRA of rank {both['lora_rank']}"
    console.print(_table(title, headings, choices))
    console.print(
        "Adapters are the paper's choice. Full fine-tuning is best done with layer_decay below 1.\n"
        "light MB: a checkpoint without the frozen encoder. AdamW MB: the optimiser's state. Both in float32.",
        soft_wrap=True,
    )


def info(
    size: Annotated[Size, typer.Option(help="Size of the encoder; the paper uses large.")] = Size.large,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the image.")] = 3,
    out_channels: Annotated[int, typer.Option(min=1, help="Channels of the result, one a class.")] = 1,
    adapter_channels: Annotated[int, typer.Option(min=1, help="Width of the adapters, where there are some.")] = 32,
    lora_rank: Annotated[int, typer.Option(min=1, help="Rank of LoRA, where there is some.")] = 8,
    spatial_size: Annotated[int, typer.Option(min=1, help="Height and width of the image, in pixels.")] = 352,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show how large the network is, and what each way of training it costs. Needs no weights, and computes nothing.

    The ways: adapters (the paper's), LoRA on queries, keys and values, both, neither (linear probe: only the decoder
    is trained), and full fine-tuning.
    """
    # `--help` should not wait for torch.
    import torch

    from monai_sam2unet.networks import HIERA_SPECS, SAM2UNet
    from monai_sam2unet.networks.network_costs import count_inference, count_training, training_choices

    choices = training_choices(adapter_channels, lora_rank)
    with torch.device("meta"):
        networks = {name: SAM2UNet(in_channels, out_channels, size.value, **c).eval() for name, c in choices.items()}
    flops = count_inference(networks["adapters"], in_channels, spatial_size, spatial_size)
    spec = HIERA_SPECS[size.value]
    ends = [sum(spec.stages[: i + 1]) for i in range(4)]
    facts = {
        "size": size.value,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "spatial_size": spatial_size,
        "stages": [
            {
                "stride": 4 * 2**i,
                "channels": spec.embed_dim * 2**i,
                "heads": spec.num_heads * 2**i,
                "blocks": spec.stages[i],
                "window": spec.window_sizes[i],
                "global_blocks": [b for b in spec.global_blocks if ends[i] - spec.stages[i] <= b < ends[i]],
            }
            for i in range(4)
        ],
        "gflop": {name: count / 1e9 for name, count in asdict(flops).items()},
        "choices": {
            name: {"settings": choices[name], **asdict(count_training(network))} for name, network in networks.items()
        },
    }
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print(Console(highlight=False), facts)
