"""Colours and display names of everything that is drawn, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import RecipeError, nearest
from groundglass.labels import LABELS

LESIONS: tuple[str, ...] = tuple(label.name for label in LABELS if label.lesion)
# Labels that say only in part what a pixel is. They are drawn hatched, unless they are classes of a network.
PARTLY: tuple[str, ...] = tuple(label.name for label in LABELS if label.possible)

# Beside the labels a palette names three roles: `mixed`, two classes claimed at one pixel; `missed`, labelled by the
# expert and not predicted; `area`, the area of a single category shown by itself.
_SAFE = {label.name: label.colour for label in LABELS} | {"mixed": "#CC79A7", "missed": "#F0E442", "area": "#F0E442"}

PALETTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        # Okabe and Ito, "Color Universal Design", 2008: told apart by colour-blind readers.
        "safe": MappingProxyType(_SAFE),
        # The colours of system 000; it draws lung black, and what it does not draw keeps the safe colour.
        "000": MappingProxyType(
            _SAFE
            | {"ground-glass": "#00FF00", "consolidation": "#FF0000", "lung": "#000000"}
            | {"mixed": "#FFFF00", "missed": "#FFFF00", "area": "#FFFF00"}
        ),
        # The colours of system 002.
        "002": MappingProxyType(
            _SAFE
            | {"ground-glass": "#FF0000", "consolidation": "#00FF00", "lung": "#0000FF"}
            | {"mixed": "#FFFF00", "missed": "#FFFF00", "area": "#FFFF00"}
        ),
    }
)

# How a prediction differs from the expert's labels; the index in this tuple is the value in an error map.
ERROR_KINDS: tuple[str, ...] = ("neither", "agree", "missed", "spurious", "wrong-class")
ERROR_COLOURS: Mapping[str, str] = MappingProxyType(
    {"agree": "#009E73", "missed": "#F0E442", "spurious": "#CC79A7", "wrong-class": "#0072B2"}
)

DISPLAY_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "background": "Background",
        "ground-glass": "Ground-glass",
        "consolidation": "Consolidation",
        "lung": "Lung",
        "pleural-effusion": "Pleural effusion",
        "lesion": "Lesion",
        "unmarked-lung": "Lung, lesions not marked",
        "no-lesion": "No lesion, lung not marked",
        "unknown": "Not marked",
        "any lesion": "Any lesion",
        "agree": "Agree",
        "missed": "Missed",
        "spurious": "Spurious",
        "wrong-class": "Wrong class",
    }
)

# Lines and dots on white paper: the safe colours, with yellow darkened until it can be read.
INK: Mapping[str, str] = MappingProxyType(
    {label.name: label.colour for label in LABELS} | {"pleural-effusion": "#A89400", "ground-glass": "#2F9BDB"}
)
# For things that have no colour of their own: sources, runs, networks.
SERIES: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


# Neighbours that have to be told apart, on a grey image.
INSTANCES: tuple[str, ...] = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")


def palette_named(name: str) -> Mapping[str, str]:
    """Colours by label name. Raises `RecipeError` with the nearest valid name."""
    if name not in PALETTES:
        raise RecipeError(f"unknown palette '{name}'; {nearest(name, PALETTES)}")
    return PALETTES[name]


def rgb(colour: str) -> NDArray[np.uint8]:
    """`#RRGGBB` as [3] uint8."""
    return np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8)


def display_name(name: str, partly: bool = False) -> str:
    """A label's name as a reader sees it; unknown names are shown as they are. partly: `name` is drawn hatched."""
    if partly and name == "lesion":
        return "Lesion, type unknown"
    return DISPLAY_NAMES.get(name, name)
