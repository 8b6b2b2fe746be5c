"""A Case is what flows through groundglass: one image, lazily read, with everything known about it.

Axis convention, for every array in the program: the last two axes are [row, column] as a reader sees the picture
(row 0 at the top, column 0 at the left); a third axis in front is the slice; channels and batches come before those.
`spacing_mm` and `shape` follow the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import DataError

# X-ray: a radiograph of the chest (DICOM's CR and DX).
Modality = Literal["CT", "X-ray"]
MODALITIES: Mapping[Modality, str] = MappingProxyType({"CT": "a CT", "X-ray": "a chest X-ray"})
Part = Literal["", "train", "validation", "test"]


class Unit(StrEnum):
    """What an intensity means."""

    HU = "HU"
    PICTURE = "picture"  # 0..255 of an unknown window
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Geometry:
    """Where pixels lie. `spacing_mm` is (row, column) or (slice, row, column); `affine` [4, 4] maps voxel indices
    (column, row, slice) to RAS+ millimetres as NIfTI does. None: not known."""

    spacing_mm: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Decoded:
    """A mask file turned into canonical labels, with what was odd about it.

    labels: [H, W] uint8 canonical values; overlaps: pixels claimed by two classes, by (winner, loser);
    unlabelled: pixels that no channel of a one-hot mask claims (they become background);
    bad_values: values that mean nothing in this format.
    """

    labels: NDArray[np.uint8]
    overlaps: dict[tuple[str, str], int] = field(default_factory=dict)
    unlabelled: int = 0
    bad_values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Case:
    """One image. Its shape, patient and place are known without reading pixels.

    id: unique within its data set, such as `medseg/007`; used as a file name with `/` replaced.
    source: the part of the data set it comes from, such as `medseg`.
    file, row: where it lies, for messages; row is the index within a stack, None for a file of its own.
    group: what must never be divided by a split: the patient, else the volume, else the case itself.
    patient: the patient, or None where nobody says.
    part: the side that the source itself puts it on, empty where it does not divide its data.
    cohort: what the source says of the person, such as `COVID-19` or `Normal`; empty where it says nothing.
    """

    id: str
    source: str
    file: str
    shape: tuple[int, ...]
    unit: Unit
    load_image: Callable[[], NDArray[np.float32]]
    load_labels: Callable[[], Decoded] | None = None
    load_lung: Callable[[], NDArray[np.bool_]] | None = None
    row: int | None = None
    patient: str | None = None
    group: str = ""
    modality: Modality = "CT"
    part: Part = ""
    cohort: str = ""
    geometry: Geometry = Geometry()

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.patient or self.id)

    @property
    def place(self) -> str:
        """File and row, for messages."""
        return self.file if self.row is None else f"{self.file} row {self.row}"

    @property
    def stem(self) -> str:
        """The id as a file name."""
        return self.id.replace("/", "_")

    def image(self) -> NDArray[np.float32]:
        """Intensities [H, W] float32 in `unit`. Raises `DataError` when the file cannot be read."""
        return self.load_image()

    def labels(self) -> NDArray[np.uint8]:
        """Canonical label map [H, W] uint8. Raises `DataError` without labels or with values that mean nothing."""
        if self.load_labels is None:
            raise DataError(f"{self.place}: has no mask")
        decoded = self.load_labels()
        if decoded.bad_values:
            raise DataError(f"{self.place}: mask holds {decoded.bad_values[0]:g}, which is no label")
        return decoded.labels

    def lung(self) -> NDArray[np.bool_] | None:
        """Lung mask [H, W] bool (lesions included), or None where the data set has none."""
        return None if self.load_lung is None else self.load_lung()
