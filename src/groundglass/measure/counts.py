"""From a reference and a prediction to counts. One confusion matrix per case is all that every metric needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.errors import DataError

# Pixels counted at a time: bincount widens to eight bytes a pixel, which a whole CT volume should not pay at once.
_BLOCK = 1 << 22


class Counts(NamedTuple):
    """Pixels of one class against all others, each [...] float64 (exact below 2**53)."""

    tp: NDArray[np.float64]
    fp: NDArray[np.float64]
    fn: NDArray[np.float64]
    tn: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CaseCounts:
    """What is kept of one measured case.

    confusion: [K, K] int64, rows the reference, columns the prediction, in channel order of the label set.
    patient: None where nobody says; group: what is resampled as one, by default the patient, else the case itself.
    """

    case: str
    source: str
    confusion: NDArray[np.int64]
    patient: str | None = None
    group: str = ""

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.patient or self.case)


def confusion(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], n_classes: int) -> NDArray[np.int64]:
    """Confusion matrix [K, K] int64 (rows truth, columns prediction) of two channel maps [...] uint8 of one shape.

    Raises `DataError` when the shapes differ or a map holds a channel number that is not below `n_classes`.
    """
    if truth.shape != prediction.shape:
        raise DataError(
            f"the prediction is {_size(prediction)} and the reference {_size(truth)}; "
            "predict on the grid of the reference"
        )
    for name, channels in (("reference", truth), ("prediction", prediction)):
        if channels.size and channels.max() >= n_classes:
            raise DataError(
                f"the {name} holds channel {channels.max()}, but the label set has only {n_classes} classes; "
                "encode it with the same label set"
            )
    rows, columns = truth.ravel(), prediction.ravel()
    counts = np.zeros(n_classes * n_classes, np.int64)
    for start in range(0, rows.size, _BLOCK):
        pairs = rows[start : start + _BLOCK].astype(np.intp) * n_classes + columns[start : start + _BLOCK]
        counts += np.bincount(pairs, minlength=counts.size)
    return counts.reshape(n_classes, n_classes)


def _size(array: NDArray[np.uint8]) -> str:
    return "x".join(map(str, array.shape)) or "a single value"


def count(case: Case, truth: NDArray[np.uint8], prediction: NDArray[np.uint8], n_classes: int) -> CaseCounts:
    """Counts of one case from channel maps [...] uint8. Raises `DataError` that names the case's file and row."""
    try:
        matrix = confusion(truth, prediction, n_classes)
    except DataError as error:
        raise DataError(f"{case.place}: {error}") from error
    return CaseCounts(case.id, case.source, matrix, case.patient, case.group)


def class_counts(confusion: NDArray[np.int64] | NDArray[np.float64], channels: Sequence[int]) -> Counts:
    """Counts [...] of `channels`, merged into one class, from confusion matrices [..., K, K].

    Merging counts a pixel whose reference is one of `channels` and whose prediction is another of them as correct.
    """
    matrix = confusion.astype(np.float64)
    chosen = list(channels)
    truth = matrix[..., chosen, :].sum(axis=(-2, -1))
    predicted = matrix[..., :, chosen].sum(axis=(-2, -1))
    tp = matrix[..., chosen, :][..., chosen].sum(axis=(-2, -1))
    return Counts(tp, predicted - tp, truth - tp, matrix.sum(axis=(-2, -1)) - truth - predicted + tp)


def stack(cases: Sequence[CaseCounts]) -> NDArray[np.int64]:
    """Confusion matrices of all cases, [N, K, K] int64. Raises `DataError` when there are no cases."""
    if not cases:
        raise DataError("there are no cases to measure; choose a part of the data set that has masks")
    return np.stack([case.confusion for case in cases])
