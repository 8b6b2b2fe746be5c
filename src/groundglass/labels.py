"""What can be marked on a chest image: canonical values, names, colours, and how label sets merge them.

A label map is a uint8 array on the image's own grid that holds the canonical values below. A network does not
predict canonical values but channel numbers of a `LabelSet`; `encode` and `decode` go between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import RecipeError, nearest


@dataclass(frozen=True)
class Label:
    """One thing that can be marked. `colour` is from the Okabe-Ito palette, safe for colour-blind readers.

    possible: where a mark says only that a pixel is one of several things, their names. Such a pixel is partly known:
    it is learned and scored as far as it is known, and never as background.
    """

    name: str
    value: int
    colour: str
    lesion: bool = False
    possible: tuple[str, ...] = ()


LABELS: tuple[Label, ...] = (
    Label("background", 0, "#000000"),
    Label("ground-glass", 1, "#56B4E9", lesion=True),
    Label("consolidation", 2, "#D55E00", lesion=True),
    Label("lung", 3, "#009E73"),
    Label("pleural-effusion", 4, "#F0E442", lesion=True),
    # A finding whose type nobody says.
    Label("lesion", 5, "#CC79A7", lesion=True, possible=("ground-glass", "consolidation")),
    # Inside a lung in which nobody looked for lesions.
    Label("unmarked-lung", 6, "#999999", possible=("lung", "ground-glass", "consolidation")),
    # No lesion, where nobody says what is lung.
    Label("no-lesion", 7, "#4D4D4D", possible=("background", "lung")),
    Label("unknown", 8, "#BBBBBB", possible=("background", "ground-glass", "consolidation", "lung")),
)
BY_NAME: Mapping[str, Label] = MappingProxyType({label.name: label for label in LABELS})
LESION_VALUES: tuple[int, ...] = tuple(label.value for label in LABELS if label.lesion)

# Where two masks claim one pixel, the denser finding wins: it is the one a reader would measure.
# What is less known gives way.
PRECEDENCE: tuple[str, ...] = (
    *("consolidation", "pleural-effusion", "ground-glass", "lesion", "lung"),
    *("unmarked-lung", "no-lesion", "unknown", "background"),
)


@dataclass(frozen=True)
class LabelSet:
    """The classes a network tells apart, in channel order, and where every other label goes.

    `merges` maps a canonical name to one of `classes`. A label that is neither in `classes` nor in `merges`, but may
    be one of several classes, is partly known: its code is a number from len(classes) on, whose channels `codes` lists.
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

    @property
    def targets(self) -> tuple[str, ...]:
        """What is to be found: the findings, or every class but the background where the set knows none."""
        return self.lesions or tuple(name for name in self.classes if name != "background")

    @cached_property
    def codes(self) -> tuple[tuple[int, ...], ...]:
        """The channels that each code of `encode` may be: (0,), (1,), ... for the classes, then the partly known."""
        partial = dict.fromkeys(found for label in LABELS if len(found := self._channels(label)) > 1)
        return (*((channel,) for channel in range(len(self.classes))), *partial)

    def covers(self, names: Iterable[str]) -> bool:
        """Whether labels of all `names` can be expressed in this set, if only in part."""
        return all(self._channels(BY_NAME[name]) for name in names)

    def encode(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Canonical label map [...] uint8 -> codes [...] uint8: channel numbers, and the codes of the partly known.

        Raises `RecipeError` if the map holds a label that this set cannot express.
        """
        table = np.full(256, 255, np.uint8)
        for label in LABELS:
            if channels := self._channels(label):
                table[label.value] = self.codes.index(channels)
        codes = table[labels]
        if codes.size and codes.max() == 255:
            value = int(labels[codes == 255][0])
            name = next((label.name for label in LABELS if label.value == value), str(value))
            raise RecipeError(f"label set '{self.name}' has no class for the label '{name}' in the data")
        return codes

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Codes [...] (channel numbers, or what `encode` gives) -> canonical label map [...] uint8."""
        known = [BY_NAME[name] for name in self.classes]
        partly = [next(label for label in LABELS if self._channels(label) == code) for code in self.codes[len(known) :]]
        table: NDArray[np.uint8] = np.array([label.value for label in (*known, *partly)], np.uint8)
        return np.asarray(table[codes])

    def _channels(self, label: Label) -> tuple[int, ...]:
        """The channels that a label may be, empty where this set cannot express it."""
        for name in (label.name, self.merges.get(label.name)):
            if name in self.classes:
                return (self.classes.index(name),)
        targets = {self.merges.get(name, name) for name in label.possible}
        return tuple(channel for channel, name in enumerate(self.classes) if name in targets)


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
            # Where the lungs are, lesions included: the first of 003's two stages.
            LabelSet(
                "lung",
                ("background", "lung"),
                {"ground-glass": "lung", "consolidation": "lung", "pleural-effusion": "background"},
            ),
        )
    }
)


def label_set(name: str) -> LabelSet:
    """The label set called `name`. Raises `RecipeError` with the nearest valid name."""
    if name not in LABEL_SETS:
        raise RecipeError(f"unknown label set '{name}'; {nearest(name, LABEL_SETS)}")
    return LABEL_SETS[name]
