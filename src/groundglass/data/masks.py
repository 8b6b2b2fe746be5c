"""Values in mask files into canonical labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Decoded
from groundglass.labels import BY_NAME, PRECEDENCE


def decode_values(mask: NDArray[Any], names: Mapping[int, str]) -> Decoded:
    """Mask [H, W] of any real dtype that holds the keys of `names` -> canonical labels."""
    labels = np.zeros(mask.shape, np.uint8)
    known = np.zeros(mask.shape, bool)
    for value, name in names.items():
        here = mask == value
        labels[here] = BY_NAME[name].value
        known |= here
    return Decoded(labels, bad_values=_some(mask[~known]))


def fill_lung(labels: NDArray[np.uint8], lung: NDArray[Any], inside: str) -> None:
    """Write the lung [H, W] bool into a label map [H, W] uint8: what no lesion claims in it becomes `inside`.

    With a lung, what is no lesion outside of it is background.
    """
    free = np.isin(labels, (BY_NAME["background"].value, BY_NAME["no-lesion"].value))
    labels[free] = np.where(lung[free], BY_NAME[inside].value, BY_NAME["background"].value)


def without_lungs(load: Callable[[], Decoded]) -> Decoded:
    """The labels of a data set that never marks lung, beside sets that do: its background may be lung."""
    decoded = load()
    decoded.labels[decoded.labels == BY_NAME["background"].value] = BY_NAME["no-lesion"].value
    return decoded


def decode_one_hot(mask: NDArray[Any], names: tuple[str, ...]) -> Decoded:
    """One-hot mask [H, W, C] of any real dtype, one channel for each of `names` -> canonical labels.

    Where channels overlap, the first in `labels.PRECEDENCE` wins. Pixels of no channel become background.
    """
    claimed = mask == 1
    valid = claimed | (mask == 0)
    bad = _some(mask[~valid])
    labels = np.zeros(mask.shape[:2], np.uint8)
    taken = np.zeros(mask.shape[:2], bool)
    overlaps: dict[tuple[str, str], int] = {}
    order = [name for name in PRECEDENCE if name in names]
    for place, name in enumerate(order):
        channel = claimed[..., names.index(name)]
        if (channel & taken).any():
            for winner in order[:place]:
                shared = int(np.count_nonzero(channel & taken & (labels == BY_NAME[winner].value)))
                if shared:
                    overlaps[winner, name] = shared
        labels[channel & ~taken] = BY_NAME[name].value
        taken |= channel
    return Decoded(labels, overlaps, int(np.count_nonzero(~taken)), bad)


def _some(values: NDArray[Any]) -> tuple[float, ...]:
    """A few of the distinct values, enough for a message."""
    return tuple(float(value) for value in np.unique(values)[:5])
