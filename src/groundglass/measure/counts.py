"""From a reference and a prediction to counts. One confusion matrix per case is all that every metric needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.errors import DataError
from groundglass.labels import LabelSet

# Pixels counted at a time: bincount widens to eight bytes a pixel, which a whole CT volume should not pay at once.
_BLOCK = 1 << 22


class Counts(NamedTuple):
    """Pixels of one class against all others, each [...] float64 (exact below 2**53).

    unknown: pixels that may or may not be of the class, since their reference is partly known; in none of the others.
    """

    tp: NDArray[np.float64]
    fp: NDArray[np.float64]
    fn: NDArray[np.float64]
    tn: NDArray[np.float64]
    unknown: NDArray[np.float64]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether the reference is known to hold the class."""
        return np.asarray(self.tp + self.fn > 0)

    @property
    def undecided(self) -> NDArray[np.bool_]:
        """Whether nobody says if the reference holds the class."""
        return np.asarray(~self.positive & (self.unknown > 0))

    @property
    def negative(self) -> NDArray[np.bool_]:
        """Whether the reference is known not to hold the class."""
        return np.asarray(~self.positive & (self.unknown == 0))


@dataclass(frozen=True, eq=False)
class CaseCounts:
    """What is kept of one measured case.

    confusion: [R, K] int64, rows the codes of the reference (the classes, then the partly known), columns the channels
    of the prediction, in the order of the label set.
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


def confusion(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], labels: LabelSet) -> NDArray[np.int64]:
    """Confusion matrix [R, K] int64 of two maps [...] uint8 of one shape: rows the R codes of the reference, as
    `labels.encode` gives them, columns the K channels of the prediction. Rows from K on are the partly known pixels.

    Raises `DataError` when the shapes differ or a map holds a number that is no code or no channel of `labels`.
    """
    if truth.shape != prediction.shape:
        raise DataError(
            f"the prediction is {_size(prediction)} and the reference {_size(truth)}; "
            "predict on the grid of the reference"
        )
    n_codes, n_classes = len(labels.codes), len(labels.classes)
    for name, numbers, limit in (("reference", truth, n_codes), ("prediction", prediction, n_classes)):
        if numbers.size and numbers.max() >= limit:
            raise DataError(
                f"the {name} holds channel {numbers.max()}, which label set '{labels.name}' does not have; "
                "encode it with the same label set"
            )
    rows, columns = truth.ravel(), prediction.ravel()
    counts = np.zeros(n_codes * n_classes, np.int64)
    for start in range(0, rows.size, _BLOCK):
        pairs = rows[start : start + _BLOCK].astype(np.intp) * n_classes + columns[start : start + _BLOCK]
        counts += np.bincount(pairs, minlength=counts.size)
    return counts.reshape(n_codes, n_classes)


def _size(array: NDArray[np.uint8]) -> str:
    return "x".join(map(str, array.shape)) or "a single value"


def count(case: Case, truth: NDArray[np.uint8], prediction: NDArray[np.uint8], labels: LabelSet) -> CaseCounts:
    """Counts of one case from the codes of its reference and the predicted channels, both [...] uint8.

    Raises `DataError` that names the case's file and row.
    """
    try:
        matrix = confusion(truth, prediction, labels)
    except DataError as error:
        raise DataError(f"{case.place}: {error}") from error
    return CaseCounts(case.id, case.source, matrix, case.patient, case.group)


def membership(channels: Sequence[int], labels: LabelSet) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What each code of the label set says of `channels` merged into one class: (certainly in it [R] bool, certainly
    not [R] bool). A code of which neither is true is unknown."""
    chosen = set(channels)
    inside = [chosen.issuperset(code) for code in labels.codes]
    outside = [chosen.isdisjoint(code) for code in labels.codes]
    return np.array(inside, np.bool_), np.array(outside, np.bool_)


def class_counts(
    confusion: NDArray[np.int64] | NDArray[np.float64], channels: Sequence[int], labels: LabelSet
) -> Counts:
    """Counts [...] of `channels`, merged into one class, from confusion matrices [..., R, K].

    Merging counts a pixel whose reference is one of `channels` and whose prediction is another of them as correct.
    A partly known pixel counts where it is the same for all that it may be; else it is unknown.
    """
    matrix = confusion.astype(np.float64)
    inside, outside = membership(channels, labels)
    truth = matrix.sum(axis=-1)
    predicted = matrix[..., list(channels)].sum(axis=-1)
    tp, fp = (predicted[..., rows].sum(axis=-1) for rows in (inside, outside))
    fn, tn = truth[..., inside].sum(axis=-1) - tp, truth[..., outside].sum(axis=-1) - fp
    return Counts(tp, fp, fn, tn, truth[..., ~(inside | outside)].sum(axis=-1))


def stack(cases: Sequence[CaseCounts]) -> NDArray[np.int64]:
    """Confusion matrices of all cases, [N, R, K] int64. Raises `DataError` when there are no cases."""
    if not cases:
        raise DataError("there are no cases to measure; choose a part of the data set that has masks")
    return np.stack([case.confusion for case in cases])
