"""What a data set holds, source by source: class shares, sizes of findings, intensities. Taken along a pass over it.

A survey keeps counts and a sample, never an image, so that tens of thousands of images fit into little memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.case import Case, Decoded, Unit
from groundglass.data.dataset import Dataset
from groundglass.labels import LABELS, LESION_VALUES

# Intensities of all images together are described by about this many pixels.
_SAMPLE = 1_000_000
# Areas are counted by value; so many significant digits keep the number of values bounded.
_DIGITS = 3
# Where these are, there may be a lesion that nobody marked.
UNMARKED_VALUES: tuple[int, ...] = tuple(
    label.value
    for label in LABELS
    if not label.lesion and any(other.lesion for other in LABELS if other.name in label.possible)
)
_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)

Row = dict[str, Any]


@dataclass
class Sizes:
    """Areas in one unit. images: by id, the area of all findings of an image that has any; components: how many
    connected findings (8 neighbours, whatever their class) have an area of so many units, to three digits."""

    images: dict[str, float] = field(default_factory=dict)
    components: Counter[float] = field(default_factory=Counter)


@dataclass
class Source:
    """One source. labelled, unlabelled: images; without_lesion: labelled images that are known to have no finding;
    unmarked: those without a marked finding in which nobody looked for findings everywhere.

    pixels: labelled pixels by canonical value [256]; holding: labelled images that hold a value [256];
    shares: by id, part of an image's pixels that is lesion, for images with findings; sizes: by unit, `mm2` where the
    spacing is known, else `px`; intensities: a sample of pixels by unit of intensity, in pieces.
    """

    name: str
    labelled: int = 0
    unlabelled: int = 0
    without_lesion: int = 0
    unmarked: int = 0
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    holding: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    shares: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, Sizes] = field(default_factory=dict)
    intensities: dict[Unit, list[NDArray[np.float32]]] = field(default_factory=dict)

    def sample(self, unit: Unit) -> NDArray[np.float32]:
        """Sampled intensities [N] float32, empty where no image of this source has that unit."""
        return np.concatenate([np.zeros(0, np.float32), *self.intensities.get(unit, [])])


class Survey:
    """Give every case of a data set to `add` once, in any order; then read `sources`."""

    def __init__(self, dataset: Dataset) -> None:
        cases = (*dataset.cases, *dataset.test)
        self.sources: dict[str, Source] = {case.source: Source(case.source) for case in cases}
        self._per_case = max(16, min(4096, _SAMPLE // max(1, len(cases))))
        self._random = np.random.default_rng(0)

    def add(self, case: Case, image: NDArray[np.float32] | None, labels: Decoded | None) -> None:
        """Take note of one case; None where something is missing or could not be read."""
        source = self.sources[case.source]
        if case.load_labels is None:
            source.unlabelled += 1
        else:
            source.labelled += 1
        if image is not None:
            finite = image[np.isfinite(image)]
            if finite.size:
                drawn = finite[self._random.integers(0, finite.size, self._per_case)]
                source.intensities.setdefault(case.unit, []).append(drawn)
        if labels is not None:
            self._add_labels(source, case, labels.labels)

    def _add_labels(self, source: Source, case: Case, labels: NDArray[np.uint8]) -> None:
        counts = np.bincount(labels.ravel(), minlength=256)
        source.pixels += counts
        source.holding += counts > 0
        lesion = int(counts[list(LESION_VALUES)].sum())
        if not lesion:
            if counts[list(UNMARKED_VALUES)].any():
                source.unmarked += 1
            else:
                source.without_lesion += 1
            return
        source.shares[case.id] = lesion / labels.size
        spacing = case.geometry.spacing_mm
        unit, per_pixel = ("mm2", spacing[-2] * spacing[-1]) if spacing else ("px", 1.0)
        sizes = source.sizes.setdefault(unit, Sizes())
        sizes.images[case.id] = lesion * per_pixel
        sizes.components.update(_rounded(float(area) * per_pixel) for area in _components(labels))

    # Tables -----------------------------------------------------------------------------------------------------------

    def classes_table(self) -> list[Row]:
        """A row a source and class that is in it: pixels, their share of the source's labelled pixels, and how many of
        its labelled images hold it."""
        rows = []
        for source in self._labelled():
            total = int(source.pixels.sum())
            for label in LABELS:
                pixels = int(source.pixels[label.value])
                if pixels:
                    rows.append(
                        {
                            "source": source.name,
                            "class": label.name,
                            "partly_known": bool(label.possible),
                            "pixels": pixels,
                            "share": pixels / max(1, total),
                            "images_with_it": int(source.holding[label.value]),
                            "images": source.labelled,
                        }
                    )
        return rows

    def lesions_table(self) -> list[Row]:
        """A row a source, measure and unit: n and quartiles of the lesion area of an image (images with lesions only)
        and of single connected findings."""
        rows = []
        for source in self._labelled():
            base = {
                "source": source.name,
                "images": source.labelled,
                "without_lesion": source.without_lesion,
                "unmarked": source.unmarked,
            }
            percent = Counter(100 * share for share in source.shares.values())
            rows.append({**base, "what": "lesion of an image", "unit": "% of its pixels", **_quartiles(percent)})
            for unit, sizes in source.sizes.items():
                if unit != "px":  # pixels of images of any size say less than their percentage
                    images = Counter(sizes.images.values())
                    rows.append({**base, "what": "lesion of an image", "unit": unit, **_quartiles(images)})
                rows.append({**base, "what": "connected finding", "unit": unit, **_quartiles(sizes.components)})
        return rows

    def intensities_table(self) -> list[Row]:
        """A row a source and unit: sampled pixels and their percentiles."""
        rows = []
        for source in self.sources.values():
            for unit, pieces in source.intensities.items():
                found = np.percentile(source.sample(unit), (0.5, 5, 50, 95, 99.5))
                names = ("p0.5", "p5", "median", "p95", "p99.5")
                rows.append(
                    {
                        "source": source.name,
                        "unit": str(unit),
                        "images": len(pieces),
                        "pixels_sampled": sum(piece.size for piece in pieces),
                        **{name: float(value) for name, value in zip(names, found, strict=True)},
                    }
                )
        return rows

    def _labelled(self) -> list[Source]:
        return [source for source in self.sources.values() if source.labelled]


def _components(labels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Pixels of every connected finding."""
    lesion = np.isin(labels, LESION_VALUES)
    numbered, _ = ndimage.label(lesion, _EIGHT_NEIGHBOURS)
    return np.bincount(numbered.ravel())[1:]


def _rounded(area: float) -> float:
    return float(f"{area:.{_DIGITS}g}")


def _quartiles(counted: Mapping[float, int]) -> Row:
    """n, smallest, quartiles and largest of values given with how often they occur; None where there are none."""
    names = ("smallest", "lower_quartile", "median", "upper_quartile", "largest")
    n = sum(counted.values())
    if not n:
        return {"n": 0, **dict.fromkeys(names)}
    values = np.array(sorted(counted))
    upto = np.cumsum([counted[value] for value in sorted(counted)])
    places = np.searchsorted(upto, np.ceil(np.array([0, 0.25, 0.5, 0.75, 1]) * n).clip(1))
    return {"n": n, **{name: float(value) for name, value in zip(names, values[places], strict=True)}}
