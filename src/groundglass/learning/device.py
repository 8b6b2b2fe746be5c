"""Which device and which precision to compute in."""

from __future__ import annotations

import torch

from groundglass.errors import RecipeError
from groundglass.recipes.settings import Recipe


def choose_device(device: str) -> str:
    """`auto` becomes `cuda` where a GPU answers, else `cpu`. Raises `RecipeError` for a device that is not there."""
    if device not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device {device}: choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: no CUDA device answers on this machine; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def choose_precision(recipe: Recipe, device: str) -> str:
    """`fp32`, `bf16` or `fp16`. `auto` is bf16 where the processor multiplies it in hardware, else fp32.

    Raises `RecipeError` for fp16 on a CPU, which has no kernels that gain by it.
    """
    if recipe.precision == "fp16" and device == "cpu":
        raise RecipeError("precision: fp16 needs a GPU; on a CPU use auto, bf16 or fp32")
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if bf16_gains(device) else "fp32"


def bf16_gains(device: str) -> bool:
    """Whether the device has bf16 arithmetic in hardware (AVX512-BF16 or AMX on a CPU)."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)


def autocast(precision: str, device: str) -> torch.autocast:
    """The context in which a forward pass runs in `precision`."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device, dtype=kind, enabled=kind is not None)
