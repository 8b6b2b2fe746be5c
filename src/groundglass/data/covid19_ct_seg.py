"""The COVID-19-CT-Seg benchmark as pictures: lungs, and infection of which nobody says the type.

    images/case_XX/NNN.png   infection/case_XX/NNN.png  0 or 1   lungs/case_XX/NNN.png  0 or 1, infection included
    slices.csv  case,slice,... (optional)

A case is a volume; whether two are of one patient is not said. Where some volumes have lungs and one has none, what is
no infection in it is background or lung: `no-lesion`. A `dataset.yaml` beside the folders may state the `unit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from groundglass.data.dataset import Dataset, Defect, Format
from groundglass.data.folders import need_masks, pair
from groundglass.data.rows import Row, dataset_of
from groundglass.data.settings import read_settings
from groundglass.data.tables import SLICES, read_slices

FOLDERS = ("images", "infection", "lungs")
VALUES = {0: "background", 1: "lesion"}
LUNGLESS = {0: "no-lesion", 1: "lesion"}


def recognise(path: Path) -> bool:
    """Whether `path` is a folder with images/ and infection/, and no manifest."""
    return all((path / name).is_dir() for name in FOLDERS[:2]) and not (path / "manifest.csv").is_file()


def open_folder(location: str) -> Dataset:
    """Open the folder; only headers are read. Defects are listed, not raised."""
    folder = Path(location).expanduser()
    settings = read_settings(folder, keys=("unit",))
    defects = settings.defects
    rows: dict[str, Row] = {}
    volumes = {entry.name for name in FOLDERS for entry in (folder / name).glob("*") if entry.is_dir()}
    for volume in sorted(volumes):
        paired = pair(folder, defects, *(f"{name}/{volume}" for name in FOLDERS))
        need_masks(paired, defects, f"infection/{volume}")
        for stem, row in paired.items():
            name = f"{volume}/{stem}"
            rows[name] = replace(
                row, source=FORMAT.name, id=f"{FORMAT.name}/{name}", group=f"{FORMAT.name} {volume}", values=VALUES
            )
    if any(row.lung for row in rows.values()):
        for volume in dict.fromkeys(str(row.group) for row in rows.values() if not row.lung):
            text = "has no lungs, but other cases do: outside its infection it counts as no lesion, background or lung"
            defects.append(Defect("warning", "partly-known", volume.replace(FORMAT.name, FOLDERS[2]), None, text))
        rows = {name: row if row.lung else replace(row, values=LUNGLESS) for name, row in rows.items()}
    if (folder / SLICES).is_file():
        files = {name: row.image for name, row in rows.items()}
        read_slices(folder, ("case", "slice"), _stem, files, defects)
    return dataset_of(list(rows.values()), location, folder, FORMAT.name, settings, "not known")


FORMAT = Format(
    "covid19-ct-seg",
    "the COVID-19-CT-Seg benchmark as PNG: images/, infection/ and lungs/, each with a folder a case",
    recognise,
    open_folder,
)


def _stem(cells: Mapping[str, str]) -> str:
    return f"{cells['case']}/{int(cells['slice']):03d}"
