"""Anybody's own data: a manifest.csv, or folders of pictures with equal names.

A table has the columns `patient,image` and, where they exist, `mask` and `lung`; paths are relative to the table.
Without a table, `images/` is paired with `masks/` and `lungs/` by file name; `test_images/` holds more without masks.
Files are PNG, JPEG, npy or NIfTI; a stack [N, H, W] gives one case a slice, all of one patient or volume.

Masks hold canonical values (`labels.LABELS`), and the unit is guessed, unless a `dataset.yaml` says otherwise. Nobody
looked for lesions where there is a lung and no mask, unless it says `lesions: none`. Images are CT, unless it says
`modality: X-ray`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from groundglass.data.dataset import Dataset, Defect, Format
from groundglass.data.folders import files_in, pair
from groundglass.data.rows import PLAIN_VALUES, Row, announced, dataset_of
from groundglass.data.settings import Settings, read_settings
from groundglass.data.tables import read_table

COLUMNS = ("patient", "image", "mask", "lung")
# A patient is what comes before the last number of a file name: `p12_003.png` and `p12-004.png` are of `p12`.
_NUMBERED = re.compile(r"(.+)[_-]\d+")


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
    if table.is_file():
        rows, patients, beside = _read_rows(table, settings.defects), "given", table.name
    else:
        rows, patients, beside = _pair_folders(folder, settings.defects), "from file names", "images/"
    rows = [_meaning(row, settings, lungs_known=any(row.lung for row in rows)) for row in rows]
    if table.is_file():
        settings.defects += _without_lung(table, rows)
    # Unless they are named, only the plain values are expected, though all canonical ones can be read.
    values = settings.values if settings.named else PLAIN_VALUES
    expected = [replace(row, values={**values, 0: row.values[0]}) for row in rows]
    return dataset_of(rows, location, folder, FORMAT.name, settings, patients, beside, announced(expected))


FORMAT = Format(
    "manifest",
    "your own PNG, JPEG, npy or NIfTI files: manifest.csv (patient,image,mask,lung), or images/ with masks/ and lungs/",
    recognise,
    open_location,
)


def _meaning(row: Row, settings: Settings, lungs_known: bool) -> Row:
    """What the marks of a row mean beside the other rows: their lungs show that lung is not background."""
    values: Mapping[int, str] = settings.values
    if lungs_known and not row.lung and "lung" not in settings.named_values and values[0] == "background":
        values = {**values, 0: "no-lesion"}
    searched = row.mask is not None or settings.lesion_free
    inside = "lung" if searched else "unmarked-lung"
    return replace(row, values=values, inside=inside, modality=settings.modality)


def _read_rows(path: Path, defects: list[Defect]) -> list[Row]:
    table = read_table(path, ("image",), COLUMNS, defects)
    for name in table.columns:
        if name not in COLUMNS:
            text = f"column '{name}' is not used; known are {', '.join(COLUMNS)}"
            defects.append(Defect("warning", "unknown-column", path.name, None, text))
    rows: list[Row] = []
    for line, record in table.rows:
        cells = {name: record.get(name) or None for name in COLUMNS}
        image = cells["image"]
        if image is None:
            defects.append(Defect("error", "bad-table", path.name, line, "names no image"))
        else:
            rows.append(Row(image, cells["mask"], cells["lung"], cells["patient"], line=line))
    return rows


def _without_lung(table: Path, rows: Sequence[Row]) -> list[Defect]:
    """Masked rows of which nobody says what is lung, where other rows have one."""
    masked = [row for row in rows if row.mask]
    without = [str(row.line) for row in masked if row.values[0] == "no-lesion" and not row.lung]
    if not without:
        return []
    shown = ", ".join(without[:10]) + (f" and {len(without) - 10} more" if len(without) > 10 else "")
    text = (
        f"{len(without)} of {len(masked)} rows with a mask name no lung (rows {shown}), but other rows do: outside "
        "their lesions these count as no lesion, background or lung"
    )
    return [Defect("warning", "partly-known", table.name, None, text)]


def _pair_folders(folder: Path, defects: list[Defect]) -> list[Row]:
    rows, tests = pair(folder, defects), files_in(folder, "test_images", defects)
    prefixes = {stem: match[1] for stem in (*rows, *tests) if (match := _NUMBERED.fullmatch(stem))}
    shared = {prefix for prefix, count in Counter(prefixes.values()).items() if count > 1}
    patients = {stem: prefix for stem, prefix in prefixes.items() if prefix in shared}
    if len(shared) == 1 and len(rows) > 1 and len(patients) >= len(rows):
        text = (
            f"every file name begins with '{next(iter(shared))}': taken as one patient, whom no split divides; "
            "if that is wrong, write a manifest.csv with a column 'patient'"
        )
        defects.append(Defect("warning", "one-patient", "images", None, text))
    return [
        *(replace(row, patient=patients.get(stem)) for stem, row in rows.items()),
        *(Row(file, patient=patients.get(stem), source="test") for stem, file in sorted(tests.items())),
    ]
