"""Radiopaedia's volumes as pictures, with a table that says how much is known of each slice.

    images/V_NNN.jpg   masks/V_NNN.png  0 none, 1 ground-glass, 2 consolidation   lungs/V_NNN.png  0 or 1
    slices.csv  volume,slice,...,class_known

class_known: `yes`, the classes are certain; `no`, the source marks only "lesion" and the class was guessed, so it is
taken for a lesion of unknown type; `none`, the slice holds no lesion. Volumes are known, patients are not: one person
may have two. A `dataset.yaml` beside the folders may state the `unit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from groundglass.data.dataset import Dataset, Defect, Format
from groundglass.data.folders import need_masks, pair
from groundglass.data.rows import PLAIN_VALUES, dataset_of
from groundglass.data.settings import read_settings
from groundglass.data.tables import SLICES, read_slices, slices_columns

COLUMNS = ("volume", "slice", "class_known")
VALUES: Mapping[str, Mapping[int, str]] = {
    "yes": PLAIN_VALUES,
    "no": {0: "background", 1: "lesion", 2: "lesion"},
    "none": {0: "background"},
}


def recognise(path: Path) -> bool:
    """Whether `path` is a folder with images/ and a slices.csv that says what is known, or counts pixels by volume."""
    columns = slices_columns(path)
    return (path / "images").is_dir() and ("class_known" in columns or {"volume", "ground_glass_px"} <= columns)


def open_folder(location: str) -> Dataset:
    """Open the folder; only headers are read. Defects are listed, not raised."""
    folder = Path(location).expanduser()
    settings = read_settings(folder, keys=("unit",))
    defects = settings.defects
    rows = pair(folder, defects)
    need_masks(rows, defects)
    files = {stem: row.image for stem, row in rows.items()}
    found = []
    for stem, (line, cells) in read_slices(folder, COLUMNS, _stem, files, defects).items():
        known = cells["class_known"].lower()
        if known not in VALUES:
            text = f"class_known is '{known}'; expected is yes, no or none"
            defects.append(Defect("error", "bad-table", SLICES, line, text))
            continue
        group = f"radiopaedia volume {int(cells['volume'])}"
        name = f"radiopaedia/{stem}"
        found.append(replace(rows[stem], source="radiopaedia", id=name, group=group, values=VALUES[known]))
    return dataset_of(found, location, folder, FORMAT.name, settings, "not known")


FORMAT = Format(
    "radiopaedia",
    "Radiopaedia's slices: images/, masks/, lungs/ and slices.csv with volume and class_known",
    recognise,
    open_folder,
)


def _stem(cells: Mapping[str, str]) -> str:
    return f"{int(cells['volume'])}_{int(cells['slice']):03d}"
