"""MedSeg's slices as pictures: 8-bit, each cropped to the chest, windows differing from picture to picture.

    images/NNN.png   masks/NNN.png  0 none, 1 ground-glass, 2 consolidation   lungs/NNN.png  0 or 1, lesions included
    test_images/NNN.png  no masks   slices.csv  slice,...

Nobody says whose slices these are. A `dataset.yaml` beside the folders may state their `unit`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from groundglass.data.dataset import Dataset, Format
from groundglass.data.folders import files_in, need_masks, pair
from groundglass.data.rows import Row, dataset_of
from groundglass.data.settings import read_settings
from groundglass.data.tables import read_slices, slices_columns


def recognise(path: Path) -> bool:
    """Whether `path` is a folder with images/ and a slices.csv that counts pixels of lesions, or cannot be read."""
    return (path / "images").is_dir() and bool(slices_columns(path) & {"ground_glass_px", "consolidation_px", "?"})


def open_folder(location: str) -> Dataset:
    """Open the folder; only headers are read. Defects are listed, not raised."""
    folder = Path(location).expanduser()
    settings = read_settings(folder, keys=("unit",))
    defects = settings.defects
    rows = pair(folder, defects)
    need_masks(rows, defects)
    files = {stem: row.image for stem, row in rows.items()}
    read_slices(folder, ("slice",), lambda cells: f"{int(cells['slice']):03d}", files, defects)
    tests = files_in(folder, "test_images", defects)
    found = [
        *(replace(row, source="medseg", id=f"medseg/{stem}") for stem, row in rows.items()),
        *(Row(file, source="test", id=f"test/{stem}") for stem, file in sorted(tests.items())),
    ]
    return dataset_of(found, location, folder, FORMAT.name, settings, "not known")


FORMAT = Format(
    "medseg", "MedSeg's slices as PNG: images/, masks/, lungs/, test_images/ and slices.csv", recognise, open_folder
)
