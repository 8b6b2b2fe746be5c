"""Anybody's own data: a manifest.csv, or folders of pictures with equal names.

A table has the columns `patient,image` and, where they exist, `mask` and `lung`; paths are relative to the table.
Without a table, `images/` is paired with `masks/` and `lungs/` by file name; `test_images/` holds more without masks.
Files are PNG, JPEG, npy or NIfTI; a stack [N, H, W] gives one case a slice, all of one patient or volume.

Masks hold canonical values (`labels.LABELS`), and the unit is guessed, unless a `dataset.yaml` says otherwise.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case, Decoded, Unit
from groundglass.data.dataset import Dataset, Defect, Format, unreadable
from groundglass.data.masks import decode_values
from groundglass.data.settings import Settings, read_settings, unknown_units
from groundglass.errors import DataError
from groundglass.labels import BY_NAME, LABELS
from groundglass.scans.slices import (
    SUFFIXES,
    SliceFile,
    open_slices,
    read_image_slice,
    read_mask_slice,
    sample_unit,
    stem_of,
    suffix_of,
)

COLUMNS = ("patient", "image", "mask", "lung")
# A patient is what comes before the last number of a file name: `p12_003.png` and `p12-004.png` are of `p12`.
_NUMBERED = re.compile(r"(.+)[_-]\d+")


@dataclass(frozen=True)
class Row:
    """One image file with what belongs to it; paths as written, relative to the data set's folder."""

    image: str
    mask: str | None = None
    lung: str | None = None
    patient: str | None = None
    source: str = "data"
    line: int | None = None


def recognise(path: Path) -> bool:
    """Whether `path` is a .csv file, a folder with manifest.csv, or a folder with images/."""
    if path.suffix.lower() == ".csv":
        return path.is_file()
    return (path / "manifest.csv").is_file() or (path / "images").is_dir()


def open_location(location: str) -> Dataset:
    """Open a table or folder; only headers and a sample of three images are read. Defects are listed, not raised."""
    path = Path(location).expanduser()
    table = path if path.is_file() else path / "manifest.csv"
    folder = table.parent
    settings = read_settings(folder)
    defects = settings.defects
    if table.is_file():
        rows, how = _read_table(table, defects), "given"
        defects += _without_lung(table, rows)
    else:
        rows, how = _pair_folders(folder, defects), "from file names"
    if not rows and not any(defect.severity == "error" for defect in defects):
        defects.append(
            Defect("error", "no-images", table.name if table.is_file() else "images", None, "holds no image")
        )
    lesions_known = any(row.mask for row in rows)
    # Once lesions are known, rows with a lung alone are not learned from, and announce nothing.
    lungs_known = any(row.lung for row in rows if row.mask or not lesions_known)
    labelled, unlabelled = _build_cases(folder, rows, settings, lesions_known)
    cases = (*labelled, *unlabelled)
    defects += unknown_units(cases, beside=table.name if table.is_file() else "images/")
    units = {case.unit for case in cases}
    if len(units) > 1:
        text = (
            f"some images are {' and some '.join(sorted(units))}; state the unit in dataset.yaml, or part the data set"
        )
        defects.append(Defect("warning", "mixed-units", table.name if table.is_file() else "images", None, text))
    return Dataset(
        location=str(location),
        format=FORMAT.name,
        cases=tuple(labelled),
        test=tuple(unlabelled),
        classes=_classes(settings, lesions_known, lungs_known),
        unit=units.pop() if len(units) == 1 else Unit.UNKNOWN,
        patients=how if any(case.patient for case in cases) else "not known",
        defects=tuple(defects),
    )


FORMAT = Format(
    "manifest",
    "your own PNG, JPEG, npy or NIfTI files: manifest.csv (patient,image,mask,lung), or images/ with masks/ and lungs/",
    recognise,
    open_location,
)


def _classes(settings: Settings, lesions: bool, lungs: bool) -> tuple[str, ...]:
    """What masks may hold, in the order of `labels.LABELS`. Pixels are not looked at; `scan` reports other labels."""
    names = {"background"}
    if lesions:
        names |= set(settings.values.values()) if settings.named else {"ground-glass", "consolidation"}
    if lungs:
        names.add("lung")
    return tuple(label.name for label in LABELS if label.name in names)


def _read_table(table: Path, defects: list[Defect]) -> list[Row]:
    def bad(text: str, line: int | None = None) -> None:
        defects.append(Defect("error", "bad-table", table.name, line, text))

    try:
        text = table.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = ";" if ";" in header and "," not in header else ","
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="(too many)")
        records = [{(key or "").strip().lower(): value for key, value in record.items()} for record in reader]
        columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        bad(f"is not a readable table ({getattr(error, 'strerror', None) or error})")
        return []
    if "image" not in columns:
        bad(f"has no column 'image'; the columns are {', '.join(columns) or 'none'}, expected {', '.join(COLUMNS)}")
        return []
    for name in columns:
        if name not in COLUMNS:
            text = f"column '{name}' is not used; known are {', '.join(COLUMNS)}"
            defects.append(Defect("warning", "unknown-column", table.name, None, text))
    rows: list[Row] = []
    for line, record in enumerate(records, start=1):
        cells = {name: (record.get(name) or "").strip() or None for name in COLUMNS}
        image = cells["image"]
        if "(too many)" in record:
            bad("has more cells than the header; quote cells that hold a comma", line)
        elif image is None:
            bad("names no image", line)
        else:
            rows.append(Row(image, cells["mask"], cells["lung"], cells["patient"], line=line))
    return rows


def _without_lung(table: Path, rows: list[Row]) -> list[Defect]:
    """Masked rows without a lung, where others have one: their healthy lung would be learned as background."""
    masked = [row for row in rows if row.mask]
    without = [str(row.line) for row in masked if not row.lung]
    if not without or len(without) == len(masked):
        return []
    shown = ", ".join(without[:10]) + (f" and {len(without) - 10} more" if len(without) > 10 else "")
    text = (
        f"{len(without)} of {len(masked)} rows with a mask name no lung (rows {shown}), so their healthy lung would "
        "count as background; give every row with a mask a lung, or none"
    )
    return [Defect("error", "missing-partner", table.name, None, text)]


def _pair_folders(folder: Path, defects: list[Defect]) -> list[Row]:
    images, masks, lungs, tests = (
        _files(folder, name, defects) for name in ("images", "masks", "lungs", "test_images")
    )
    for name, partners in (("masks", masks), ("lungs", lungs)):
        for stem, file in partners.items():
            if stem not in images:
                defects.append(Defect("error", "missing-partner", file, None, "has no image of that name in images/"))
        for stem, file in images.items():
            if partners and stem not in partners:
                defects.append(Defect("error", "missing-partner", file, None, f"has no file of that name in {name}/"))
    prefixes = {stem: match[1] for stem in (*images, *tests) if (match := _NUMBERED.fullmatch(stem))}
    shared = {prefix for prefix, count in Counter(prefixes.values()).items() if count > 1}
    patients = {stem: prefix for stem, prefix in prefixes.items() if prefix in shared}
    if len(shared) == 1 and len(images) > 1 and len(patients) >= len(images):
        text = (
            f"every file name begins with '{next(iter(shared))}': taken as one patient, whom no split divides; "
            "if that is wrong, write a manifest.csv with a column 'patient'"
        )
        defects.append(Defect("warning", "one-patient", "images", None, text))
    rows = [Row(file, masks.get(stem), lungs.get(stem), patients.get(stem)) for stem, file in sorted(images.items())]
    return rows + [Row(file, patient=patients.get(stem), source="test") for stem, file in sorted(tests.items())]


def _files(folder: Path, name: str, defects: list[Defect]) -> dict[str, str]:
    """stem -> path relative to `folder`, of every readable kind of file in folder/name."""
    found: dict[str, str] = {}
    ignored = []
    for path in sorted((folder / name).iterdir()) if (folder / name).is_dir() else []:
        if path.name.startswith("."):
            continue
        if suffix_of(path) not in SUFFIXES:
            ignored.append(path.name)
        elif stem_of(path) in found:
            text = f"has the same name as {found[stem_of(path)]}"
            defects.append(Defect("error", "repeated-name", f"{name}/{path.name}", None, text))
        else:
            found[stem_of(path)] = f"{name}/{path.name}"
    if ignored:
        text = f"{len(ignored)} entries of no known kind are ignored, such as {ignored[0]}"
        defects.append(Defect("warning", "ignored-files", name, None, text))
    return found


def _build_cases(
    folder: Path, rows: list[Row], settings: Settings, lesions_known: bool
) -> tuple[list[Case], list[Case]]:
    """(labelled, unlabelled) cases of all rows whose files fit together; the others become defects."""
    defects = settings.defects
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
    guessed = _guess(folder, opened, defects) if settings.unit is None else settings.unit
    ids = _ids(folder, [row.image for row, _ in opened])
    labelled: list[Case] = []
    unlabelled: list[Case] = []
    first: dict[str, str] = {}
    for (row, header), name in zip(opened, ids, strict=True):
        image = _shown(folder, row.image)
        has_labels = row.mask is not None or (row.lung is not None and not lesions_known)
        for index in range(header.count):
            case = Case(
                id=f"{name}/{index:03d}" if header.stacked else name,
                source=row.source,
                file=image,
                row=index if header.stacked else None,
                shape=header.shape,
                unit=settings.unit or header.unit or guessed,
                load_image=partial(read_image_slice, folder / row.image, index),
                load_labels=partial(_labels, *_paths(folder, row), index, settings.values) if has_labels else None,
                load_lung=partial(_lung, folder / row.lung, index) if row.lung else None,
                patient=row.patient,
                group=row.patient or name,
                geometry=header.geometry(index),
            )
            if case.stem in first:
                text = f"is listed twice or has the same name as {first[case.stem]}"
                defects.append(Defect("error", "repeated-name", image, row.line, text))
                break
            first[case.stem] = image
            (labelled if has_labels else unlabelled).append(case)
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


def _paths(folder: Path, row: Row) -> tuple[Path | None, Path | None]:
    return (folder / row.mask if row.mask else None, folder / row.lung if row.lung else None)


def _labels(mask: Path | None, lung: Path | None, index: int, values: dict[int, str]) -> Decoded:
    """Lesions from the mask; what is left of the lung becomes `lung`."""
    inside = _lung(lung, index) if lung else None
    if mask:
        decoded = decode_values(read_mask_slice(mask, index), values)
    else:
        decoded = Decoded(np.zeros(inside.shape if inside is not None else (0, 0), np.uint8))
    if inside is not None:
        decoded.labels[(decoded.labels == 0) & inside] = BY_NAME["lung"].value
    return decoded


def _lung(path: Path, index: int) -> NDArray[Any]:
    return read_mask_slice(path, index) > 0
