"""Image files with the masks and lungs that belong to them, as rows; and rows into cases.

A format says what a row's marks mean, by two things only: `values`, the label of each value in its mask file, and
`inside`, the label of what is left of the lung. Where nobody looked, both name a partly known label (`labels.LABELS`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case, Decoded, Modality, Part, Unit
from groundglass.data.dataset import Dataset, Defect, unreadable
from groundglass.data.masks import decode_values, fill_lung
from groundglass.data.settings import Settings, unknown_units
from groundglass.errors import DataError
from groundglass.labels import LABELS
from groundglass.scans.slices import (
    SliceFile,
    open_slices,
    read_image_slice,
    read_mask_slice,
    sample_unit,
    stem_of,
    suffix_of,
)

# What most lesion masks hold.
PLAIN_VALUES: Mapping[int, str] = MappingProxyType({0: "background", 1: "ground-glass", 2: "consolidation"})


@dataclass(frozen=True)
class Row:
    """One image file with what belongs to it; paths as written, relative to the data set's folder.

    line: its row in a table, for messages; id: of its case, from the file name without one; group: the volume where
    no patient is known; values, inside: see above; modality, part, cohort: as of `Case`.
    """

    image: str
    mask: str | None = None
    lung: str | None = None
    patient: str | None = None
    source: str = "data"
    line: int | None = None
    id: str | None = None
    group: str | None = None
    values: Mapping[int, str] = field(default_factory=lambda: PLAIN_VALUES)
    inside: str = "lung"
    modality: Modality = "CT"
    part: Part = ""
    cohort: str = ""

    @property
    def labelled(self) -> bool:
        return self.mask is not None or self.lung is not None


def announced(rows: Sequence[Row]) -> tuple[str, ...]:
    """What the labels of `rows` may hold, in the order of `labels.LABELS`. Pixels are not looked at."""
    names: set[str] = set()
    for row in rows:
        names |= set(row.values.values()) if row.mask else set()
        names |= {"background", row.inside} if row.lung else set()
    return tuple(label.name for label in LABELS if label.name in (names or {"background"}))


def dataset_of(
    rows: Sequence[Row],
    location: str,
    folder: Path,
    format_name: str,
    settings: Settings,
    patients: str,
    beside: str = "images/",
    classes: tuple[str, ...] | None = None,
) -> Dataset:
    """Open the files of `rows`: headers, and a sample of three images where the unit must be guessed.

    settings: with all defects found so far, to which those of the files are added; patients: how they are known, where
    they are; beside: where dataset.yaml belongs, for messages; classes: by default those that `announced` gives.
    """
    defects = settings.defects
    place = beside.removesuffix("/")
    if not rows and not any(defect.severity == "error" for defect in defects):
        defects.append(Defect("error", "no-images", place, None, "holds no image"))
    labelled, unlabelled = _build_cases(folder, rows, settings.unit, defects)
    cases = (*labelled, *unlabelled)
    defects += unknown_units(cases, beside)
    units = {case.unit for case in cases}
    if len(units) > 1:
        text = (
            f"some images are {' and some '.join(sorted(units))}; state the unit in dataset.yaml, or part the data set"
        )
        defects.append(Defect("warning", "mixed-units", place, None, text))
    return Dataset(
        location=location,
        format=format_name,
        cases=tuple(labelled),
        test=tuple(unlabelled),
        classes=announced(rows) if classes is None else classes,
        unit=units.pop() if len(units) == 1 else Unit.UNKNOWN,
        patients=patients if any(case.patient for case in cases) else "not known",
        defects=tuple(defects),
    )


def _build_cases(
    folder: Path, rows: Sequence[Row], unit: Unit | None, defects: list[Defect]
) -> tuple[list[Case], list[Case]]:
    """(labelled, unlabelled) cases of all rows whose files fit together; the others become defects."""
    opened: list[tuple[Row, SliceFile]] = []
    for row in rows:
        try:
            header = open_slices(folder / row.image)
        except DataError as error:
            defects.append(_refused(error, folder, row.image, row.line))
            continue
        partners = [(kind, path) for kind, path in (("mask", row.mask), ("lung mask", row.lung)) if path]
        # A list, so that every partner is looked at and all defects are listed at once.
        fits = [_fits(folder, path, kind, row, header, defects) for kind, path in partners]
        if all(fits):
            opened.append((row, header))
    guessed = _guess(folder, opened, defects) if unit is None else unit
    ids = _ids(folder, [row.image for row, _ in opened])
    labelled: list[Case] = []
    unlabelled: list[Case] = []
    first: dict[str, str] = {}
    for (row, header), from_file in zip(opened, ids, strict=True):
        image, name = _shown(folder, row.image), row.id or from_file
        for index in range(header.count):
            case = Case(
                id=f"{name}/{index:03d}" if header.stacked else name,
                source=row.source,
                file=image,
                row=index if header.stacked else None,
                shape=header.shape,
                unit=unit or header.unit or guessed,
                load_image=partial(read_image_slice, folder / row.image, index),
                load_labels=partial(_labels, folder, row, index) if row.labelled else None,
                load_lung=partial(_lung, folder / row.lung, index) if row.lung else None,
                patient=row.patient,
                group=row.patient or row.group or name,
                modality=row.modality,
                geometry=header.geometry(index),
                part=row.part,
                cohort=row.cohort,
            )
            if case.stem in first:
                text = f"is listed twice or has the same name as {first[case.stem]}"
                defects.append(Defect("error", "repeated-name", image, row.line, text))
                break
            first[case.stem] = image
            (labelled if row.labelled else unlabelled).append(case)
    return labelled, unlabelled


def _fits(folder: Path, path: str, kind: str, row: Row, header: SliceFile, defects: list[Defect]) -> bool:
    """Whether a mask can be laid on its image; a defect says why not."""
    file, image = _shown(folder, path), _shown(folder, row.image)
    if suffix_of(Path(path)) in (".jpg", ".jpeg"):
        text = f"is a JPEG; its compression changes values, so it cannot be a {kind}: use PNG"
        defects.append(Defect("error", "lossy-mask", file, None, text))
        return False
    try:
        mask = open_slices(folder / path)
    except DataError as error:
        defects.append(_refused(error, folder, path, row.line))
        return False
    if (mask.count, mask.shape) != (header.count, header.shape):
        text = f"[N, H, W] is {[mask.count, *mask.shape]}, but {[header.count, *header.shape]} in {image}"
        defects.append(Defect("error", "shape-mismatch", file, None, text))
        return False
    if None not in (mask.axes, header.axes) and mask.axes != header.axes:
        text = f"its axes point {mask.axes}, those of {image} {header.axes}; which is right cannot be known"
        defects.append(Defect("error", "orientation-mismatch", file, None, text))
        return False
    return True


def _refused(error: DataError, folder: Path, cell: str, line: int | None) -> Defect:
    """The defect for a file that cannot be opened."""
    file = _shown(folder, cell)
    defect = unreadable(error, file, kind="unreadable" if (folder / cell).is_file() else "missing-file")
    if line is None or file == Path(cell).as_posix():
        return defect
    # Files of one name may lie in many places; the row says which is meant.
    return replace(defect, message=f"{defect.message} (row {line} of the table)")


def _shown(folder: Path, cell: str) -> str:
    """A file as outputs may name it: by its path within the data set's folder, else by its name alone, since a path
    elsewhere tells of the machine and its users."""
    inside, path = os.path.abspath(folder), Path(os.path.abspath(folder / cell))
    return path.relative_to(inside).as_posix() if path.is_relative_to(inside) else path.name


def _guess(folder: Path, opened: list[tuple[Row, SliceFile]], defects: list[Defect]) -> Unit:
    """The unit of the files that do not settle it themselves, by the first, middle and last of them."""
    unsettled = [(row, header) for row, header in opened if header.unit is None]
    places = sorted({0, len(unsettled) // 2, len(unsettled) - 1}) if unsettled else []
    units = set()
    for place in places:
        row, header = unsettled[place]
        try:
            units.add(sample_unit(folder / row.image, header.count))
        except DataError as error:
            defects.append(_refused(error, folder, row.image, row.line))
    # A slice within a body holds no air below -200 now and then, so one clear answer beats an unclear one.
    units -= {Unit.UNKNOWN} if len(units) > 1 else set()
    return units.pop() if len(units) == 1 else Unit.UNKNOWN


def _ids(folder: Path, images: list[str]) -> list[str]:
    """File names without suffix; where names repeat, with the folders below the one that holds all images."""
    stems = [stem_of(Path(image)) for image in images]
    if len(set(stems)) == len(stems):
        return stems
    parents = [os.path.abspath((folder / image).parent) for image in images]
    common = os.path.commonpath(parents)
    return [(Path(p).relative_to(common) / stem).as_posix() for p, stem in zip(parents, stems, strict=True)]


def _labels(folder: Path, row: Row, index: int) -> Decoded:
    """Lesions from the mask, and what is left of the lung."""
    lung = _lung(folder / row.lung, index) if row.lung else None
    if row.mask:
        decoded = decode_values(read_mask_slice(folder / row.mask, index), row.values)
    else:
        decoded = Decoded(np.zeros((0, 0) if lung is None else lung.shape, np.uint8))
    if lung is not None:
        fill_lung(decoded.labels, lung, row.inside)
    return decoded


def _lung(path: Path, index: int) -> NDArray[Any]:
    return read_mask_slice(path, index) > 0
