"""From probabilities to classes: the one decision that every prediction in the program goes through."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import RecipeError, nearest
from groundglass.labels import LabelSet


def decide(
    probabilities: NDArray[np.float32], labels: LabelSet, thresholds: Mapping[str, float] | None = None
) -> NDArray[np.uint8]:
    """Channel numbers [H, W] uint8 from probabilities [K, H, W] float32 (or [K, D, H, W] -> [D, H, W]).

    Without thresholds: the most probable class, the lower channel where two are equal. With thresholds, by the name of
    a lesion class: a pixel goes to the lesion class that exceeds its threshold by the largest factor p / threshold,
    among those with p >= threshold; where there is none, to the most probable class that is no lesion. A lesion class
    without a threshold has 0.5, so that {} means: lesion from one half on.

    Raises `RecipeError` for a threshold of an unknown or non-lesion class, or outside (0, 1].
    """
    if thresholds is None:
        most_probable: NDArray[np.intp] = np.argmax(probabilities, axis=0)
        return most_probable.astype(np.uint8)
    for name, threshold in thresholds.items():
        if name not in labels.lesions:
            raise RecipeError(
                f"threshold for '{name}', which is no lesion class of label set '{labels.name}'; "
                f"{nearest(name, labels.lesions)}"
            )
        if not 0 < threshold <= 1:
            raise RecipeError(f"threshold of '{name}' is {threshold:g}; it must be above 0 and at most 1")
    others = [channel for channel in range(len(labels.classes)) if channel not in labels.lesion_channels]
    decided: NDArray[np.uint8] = np.array(others, np.uint8)[np.argmax(probabilities[others], axis=0)]
    largest = np.zeros(probabilities.shape[1:], np.float32)
    for name, channel in zip(labels.lesions, labels.lesion_channels, strict=True):
        p, least = probabilities[channel], np.float32(thresholds.get(name, 0.5))
        factor = p / least
        wins = (p >= least) & (factor > largest)
        decided[wins] = channel
        largest[wins] = factor[wins]
    return decided
