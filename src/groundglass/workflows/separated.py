"""The instances of what is predicted: a map of their numbers for each file, and one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Unit
from groundglass.files import write_csv
from groundglass.labels import BY_NAME
from groundglass.model.instances import Separating, instances, numbered
from groundglass.model.predict import Model, Segmented
from groundglass.scans.slices import PICTURES, SliceFile, stem_of, suffix_of
from groundglass.show.colours import INSTANCES
from groundglass.write.masks import write_npy, write_png

TABLE = "instances.csv"
_COLUMNS = ("file", "slice", "instance", "score", "x1", "y1", "x2", "y2", "pixels")
_COLOURS = ("#000000", *islice(cycle(INSTANCES), 255))


class Separated:
    """Collects what one model tells apart, slice by slice; the maps of a file wait until they are written."""

    def __init__(self, model: Model) -> None:
        # It is shown the lungs that its first stage has found already.
        self._model = model if model.roi == "none" else replace(model, roi="truth")
        self._rows: list[dict[str, Any]] = []
        self._maps: list[NDArray[np.uint8]] = []

    @classmethod
    def by(cls, models: Sequence[Model]) -> Separated | None:
        """None of models that tell none apart, and of several: what is one instance to all of them, nobody can say."""
        return cls(models[0]) if len(models) == 1 and isinstance(models[0].engine, Separating) else None

    def add(self, path: Path, index: int, image: NDArray[np.floating], unit: Unit, answer: Segmented) -> None:
        """Look at slice `index` of a file, whose label map is that of `answer`."""
        found = instances(self._model, image, unit, answer.lungs) or []
        targets = [BY_NAME[name].value for name in self._model.labels.targets]
        numbers = numbered(found, np.isin(answer.labels, targets))
        for number, each in enumerate(found, start=1):
            box = (round(end, 2) for end in each.box)
            values = (path.name, index, number, round(each.score, 4), *box, int(np.sum(numbers == number)))
            self._rows.append(dict(zip(_COLUMNS, values, strict=True)))
        self._maps.append(numbers)

    def write(self, target: Path, header: SliceFile) -> None:
        """The map of numbers of the file whose slices were added since the last one."""
        if target.suffix == ".png":
            write_png(target, self._maps[0], _COLOURS)
        else:
            write_npy(target, self._maps, header.count if header.stacked else None)
        self._maps = []

    def write_table(self, target: Path) -> None:
        """One row an instance of all files."""
        write_csv(target, _COLUMNS, self._rows)


def name_for(path: Path) -> str:
    """The file name of the map of an input."""
    return f"{stem_of(path)}_instances{'.png' if suffix_of(path) in PICTURES else '.npy'}"
