"""Instances: single findings, where a network tells them apart, on the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Unit
from groundglass.model.predict import Model, network_input
from groundglass.model.prepare import Fit, restore

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Instance:
    """One finding. box: (x1, y1, x2, y2) in pixels, 0 at the image's left and upper edge; score: 0..1, how sure the
    network is that something is there; mask: probability [H, W] float32 of each pixel to belong to it."""

    box: Box
    score: float
    mask: NDArray[np.float32]


@runtime_checkable
class Separating(Protocol):
    """An engine that tells instances apart: [N, 1, S, S] float32 -> for each image its instances, by falling score."""

    def instances(self, batch: NDArray[np.float32], /) -> list[list[Instance]]: ...


def instances(
    model: Model, image: NDArray[np.floating], unit: Unit, lungs: NDArray[np.bool_] | None = None
) -> list[Instance] | None:
    """The instances in an image [H, W] on its own grid, by falling score; None of a model that tells none apart.

    lungs: as in `probabilities`. What is found is of the image as it is; flips at test time do not count.
    """
    if not isinstance(model.engine, Separating):
        return None
    x, fit = network_input(model, image, unit, lungs)
    (found,) = model.engine.instances(np.ascontiguousarray(x[None, None]))
    return [Instance(_restored(each.box, fit), each.score, restore(each.mask[None], fit)[0]) for each in found]


def numbered(found: Sequence[Instance], lesion: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Of each pixel [H, W] that was decided to be lesion the number of its instance, 1 for the highest score; 0 where
    there is no lesion, or none of the instances. Where several claim a pixel, the highest mask probability wins."""
    if not found:
        return np.zeros(lesion.shape, np.uint8)
    masks = np.stack([each.mask for each in found])
    return np.where(lesion & (masks.max(axis=0) > 0), masks.argmax(axis=0) + 1, 0).astype(np.uint8)


def _restored(box: Box, fit: Fit) -> Box:
    """A box in the network's square -> in the image, which it does not leave."""
    (height, width), (top, left) = fit.shape, fit.offset
    down, across = height / fit.inner[0], width / fit.inner[1]
    x1, x2 = (min(max((x - left) * across, 0.0), float(width)) for x in (box[0], box[2]))
    y1, y2 = (min(max((y - top) * down, 0.0), float(height)) for y in (box[1], box[3]))
    return x1, y1, x2, y2
