"""Augmentation of one slice and its labels, by the steps of a recipe.

Intensity steps act first, in the recipe's order, on the clipped image as 0..1, before it is scaled for the network;
that is where CLAHE belongs, since it equalises a histogram of bounded intensities. Geometric steps follow, in order:
their coordinate maps are joined and the slice is sampled once, bilinear, its labels nearest. What comes from outside
the slice is air (0) and background (0).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import exposure
from torch.nn import functional

from groundglass.recipes.augmentations import (
    Augmentation,
    BrightnessContrast,
    Clahe,
    Crop,
    Elastic,
    Flip,
    Gamma,
    Noise,
    Rotate,
    Scale,
    Shift,
)

# Nodes of an elastic field along each axis.
_NODES = 64
_INTENSITY = (Clahe, BrightnessContrast, Gamma, Noise)


def augment(
    x: NDArray[np.float32], target: NDArray[np.uint8], steps: Sequence[Augmentation], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A slice [S, S] float32 in 0..1 and the codes [S, S] uint8 of its labels, changed by each step that its `p` picks.

    The same generator state gives the same result.
    """
    picked = [step for step in steps if rng.random() < step.p]
    for step in picked:
        if isinstance(step, _INTENSITY):
            x = _recolour(x, step, rng)
    geometric = [step for step in picked if not isinstance(step, _INTENSITY)]
    return _sample(x, target, geometric, rng) if geometric else (x, target)


def _recolour(
    x: NDArray[np.float32], step: Clahe | BrightnessContrast | Gamma | Noise, rng: np.random.Generator
) -> NDArray[np.float32]:
    match step:
        case Clahe():
            tile = max(1, x.shape[0] // step.tiles)
            x = exposure.equalize_adapthist(x, kernel_size=tile, clip_limit=step.clip_limit)
        case BrightnessContrast():
            b = rng.uniform(-step.brightness, step.brightness)
            c = rng.uniform(-step.contrast, step.contrast)
            x = (x - 0.5) * (1 + c) + 0.5 + b
        case Gamma():
            x = x ** np.exp(rng.uniform(*np.log(step.range)))
        case Noise():
            x = x + rng.normal(0, rng.uniform(0, step.std), x.shape).astype(np.float32)
    return np.clip(x, 0, 1).astype(np.float32)


def _sample(
    x: NDArray[np.float32], target: NDArray[np.uint8], steps: Sequence[Augmentation], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Sample once through all maps. Coordinates are torch's: (column, row) in -1..1 over the slice."""
    side = x.shape[0]
    centres = (torch.arange(side, dtype=torch.float32) + 0.5) / side * 2 - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    # An output pixel is traced back through the last step first.
    for step in reversed(steps):
        grid = _trace(grid, step, rng)
    image = functional.grid_sample(
        torch.from_numpy(x)[None, None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )
    labels = functional.grid_sample(
        torch.from_numpy(target)[None, None].float(), grid[None], mode="nearest", align_corners=False
    )
    return image[0, 0].numpy(), labels[0, 0].to(torch.uint8).numpy()


def _trace(grid: torch.Tensor, step: Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """Where the points `grid` [S, S, 2] of a step's output come from in its input."""
    match step:
        case Flip():
            return grid * torch.tensor([-1.0, 1.0] if step.name == "hflip" else [1.0, -1.0])
        case Rotate():
            angle = np.deg2rad(rng.uniform(-step.degrees, step.degrees))
            turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            return grid @ torch.tensor(turn, dtype=torch.float32)
        case Crop():
            share = rng.uniform(*step.scale)
            centre = rng.uniform(-(1 - share), 1 - share, 2)
            return grid * share + torch.tensor(centre, dtype=torch.float32)
        case Scale():
            return grid / rng.uniform(*step.range)
        case Shift():
            return grid - torch.tensor(rng.uniform(-2 * step.fraction, 2 * step.fraction, 2), dtype=torch.float32)
        case Elastic():
            moved = functional.grid_sample(
                _displacement(step, rng), grid[None], padding_mode="border", align_corners=False
            )
            return grid + moved[0].permute(1, 2, 0)
        case _:
            raise TypeError(f"no geometry for the step '{step.name}'")


def _displacement(step: Elastic, rng: np.random.Generator) -> torch.Tensor:
    """A smooth random field [1, 2, nodes, nodes] whose largest displacement is `alpha` of the side (Simard et al.
    2003). A field smooth over `sigma` of the side is held by a coarse grid, which costs a tenth of a full one."""
    noise = rng.uniform(-1, 1, (2, _NODES, _NODES))
    field = np.stack([ndimage.gaussian_filter(n, step.sigma * _NODES, mode="constant") for n in noise])
    field *= 2 * step.alpha / max(float(np.abs(field).max()), 1e-12)
    return torch.from_numpy(field.astype(np.float32))[None]
