"""What a network costs to run: arithmetic, threads, the kind of processor."""

from __future__ import annotations

import platform

import torch
from torch.utils.flop_counter import FlopCounterMode

from groundglass.networks.building import build, in_channels
from groundglass.recipes.settings import Recipe


def gflops(recipe: Recipe) -> float | None:
    """10^9 operations of one forward pass of one image on the recipe's square, a multiplication and an addition
    counted as two; of convolutions, matrix products and attention only, as `torch.utils.flop_counter` counts them.

    Nothing is computed: shapes alone go through the network. None for a network of one's own that needs values.
    """
    network, side = build(recipe).eval().to("meta"), recipe.image_size
    image = torch.empty(1, in_channels(recipe), side, side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        try:
            network(image)
        except Exception:  # whatever a network of one's own raises when it meets numbers without values
            return None
    return float(counter.get_total_flops()) / 1e9


def threads() -> int:
    """Processor threads that torch computes with."""
    return torch.get_num_threads()


def device_name(device: str) -> str:
    """The kind of processor behind `cpu` or `cuda`, such as `x86_64 CPU`; nothing that names the machine."""
    return str(torch.cuda.get_device_name()) if device == "cuda" else f"{platform.machine()} CPU"
