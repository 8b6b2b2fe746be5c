"""A drawn chest slice for tests of pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundglass.labels import BY_NAME


def chest(size: int = 96) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Image [size, size] float32 in HU and canonical labels [size, size] uint8: a body, two lungs, two findings."""
    row, column = np.mgrid[:size, :size] / size

    def ellipse(y: float, x: float, height: float, width: float) -> NDArray[np.bool_]:
        return ((row - y) / height) ** 2 + ((column - x) / width) ** 2 < 1

    lung = ellipse(0.5, 0.3, 0.3, 0.14) | ellipse(0.5, 0.7, 0.3, 0.14)
    ground = ellipse(0.55, 0.3, 0.14, 0.09)
    dense = ellipse(0.6, 0.72, 0.1, 0.07)
    image = np.full((size, size), -1000, np.float32)
    image[ellipse(0.5, 0.5, 0.42, 0.48)] = 40
    labels = np.zeros((size, size), np.uint8)
    for mask, hu, name in ((lung, -850, "lung"), (ground, -600, "ground-glass"), (dense, 20, "consolidation")):
        image[mask] = hu
        labels[mask] = BY_NAME[name].value
    return image, labels


def moved(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A prediction with every kind of error: the labels shifted, a part of the ground-glass called consolidation."""
    prediction = np.roll(labels, (5, 3), (0, 1))
    half = prediction.shape[0] // 2
    upper = prediction[:half]
    upper[upper == BY_NAME["ground-glass"].value] = BY_NAME["consolidation"].value
    return prediction
