"""What can be marked on a chest image: canonical values, names, colours, and how label sets merge them.

A label map is a uint8 array on the image's own grid that holds the canonical values below. A network does not
predict canonical values but channel numbers of a `LabelSet`; `encode` and `decode` go between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import RecipeError, nearest


@dataclass(frozen=True)
class Label:
    """One thing that can be marked. `colour` is from the Okabe-Ito palette, safe for colour-blind readers."""

    name: str
    value: int
    colour: str
    lesion: bool = False


LABELS: tuple[Label, ...] = (
    Label("background", 0, "#000000"),
    Label("ground-glass", 1, "#56B4E9", lesion=True),
    Label("consolidation", 2, "#D55E00", lesion=True),
    Label("lung", 3, "#009E73"),
    Label("pleural-effusion", 4, "#F0E442", lesion=True),
    Label("lesion", 5, "#CC79A7", lesion=True),
)
BY_NAME: Mapping[str, Label] = MappingProxyType({label.name: label for label in LABELS})
LESION_VALUES: tuple[int, ...] = tuple(label.value for label in LABELS if label.lesion)

# Where two masks claim one pixel, the denser finding wins: it is the one a reader would measure.
PRECEDENCE: tuple[str, ...] = ("consolidation", "pleural-effusion", "ground-glass", "lesion", "lung", "background")


@dataclass(frozen=True)
class LabelSet:
    """The classes a network tells apart, in channel order, and where every other label goes.

    `merges` maps a canonical name to one of `classes`. A label that is neither in `classes` nor in `merges`
    cannot be learned with this set.
    """

    name: str
    classes: tuple[str, ...]
    merges: Mapping[str, str]

    @property
    def lesions(self) -> tuple[str, ...]:
        """The classes that are findings, in channel order."""
        return tuple(name for name in self.classes if BY_NAME[name].lesion)

    @property
    def lesion_channels(self) -> tuple[int, ...]:
        return tuple(self.classes.index(name) for name in self.lesions)

    def covers(self, names: Iterable[str]) -> bool:
        """Whether labels of all `names` can be expressed in this set."""
        return all(name in self.classes or name in self.merges for name in names)

    def encode(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Canonical label map [...] uint8 -> channel numbers [...] uint8.

        Raises `RecipeError` if the map holds a label that this set cannot express.
        """
        table = np.full(256, 255, np.uint8)
        for label in LABELS:
            target = label.name if label.name in self.classes else self.merges.get(label.name)
            if target is not None:
                table[label.value] = self.classes.index(target)
        channels = table[labels]
        if channels.size and channels.max() == 255:
            value = int(labels[channels == 255][0])
            name = next((label.name for label in LABELS if label.value == value), str(value))
            raise RecipeError(f"label set '{self.name}' has no class for the label '{name}' in the data")
        return channels

    def decode(self, channels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Channel numbers [...] -> canonical label map [...] uint8."""
        values: NDArray[np.uint8] = np.array([BY_NAME[name].value for name in self.classes], np.uint8)
        return np.asarray(values[channels])


_TO_BACKGROUND = {"lung": "background", "pleural-effusion": "background"}
LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType(
    {
        s.name: s
        for s in (
            # The four channels of the Kaggle competition (000, 001, 002).
            LabelSet(
                "ct4", ("background", "ground-glass", "consolidation", "lung"), {"pleural-effusion": "background"}
            ),
            LabelSet("ct3", ("background", "ground-glass", "consolidation"), _TO_BACKGROUND),
            # One lesion class, as 004 merges them; pleural effusion counts as lesion there.
            LabelSet(
                "lesion",
                ("background", "lesion"),
                {
                    "ground-glass": "lesion",
                    "consolidation": "lesion",
                    "pleural-effusion": "lesion",
                    "lung": "background",
                },
            ),
        )
    }
)


def label_set(name: str) -> LabelSet:
    """The label set called `name`. Raises `RecipeError` with the nearest valid name."""
    if name not in LABEL_SETS:
        raise RecipeError(f"unknown label set '{name}'; {nearest(name, LABEL_SETS)}")
    return LABEL_SETS[name]
