"""The five files of the Kaggle competition `covid-segmentation`, read one slice at a time from disk.

    images_medseg.npy      [N, H, W, 1]  intensities            masks_medseg.npy      [N, H, W, 4]  one-hot
    images_radiopedia.npy  [N, H, W, 1]  (spelt so)             masks_radiopedia.npy  [N, H, W, 4]
    test_images_medseg.npy [N, H, W, 1]  no masks               radiopaedia_slices.csv (extra): volume, class_known

Mask channels: 0 ground-glass, 1 consolidation, 2 the rest of the lung, 3 background.
A `dataset.yaml` beside the files may state their `unit`.
Nobody says whose slices these are. MedSeg slices stand each for itself; Radiopaedia slices belong to a volume where
the table says so, and are otherwise one group that no split divides.
"""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case, Decoded, Unit
from groundglass.data.dataset import Dataset, Defect, Format, unreadable
from groundglass.data.masks import decode_one_hot
from groundglass.data.settings import read_settings, unknown_units
from groundglass.errors import DataError
from groundglass.scans.arrays import guess_unit, read_npy

CHANNELS = ("ground-glass", "consolidation", "lung", "background")
# source: (images, masks, digits of the slice number in the case id)
PARTS: dict[str, tuple[str, str | None, int]] = {
    "medseg": ("images_medseg.npy", "masks_medseg.npy", 3),
    "radiopaedia": ("images_radiopedia.npy", "masks_radiopedia.npy", 4),
    "test": ("test_images_medseg.npy", None, 1),
}
VOLUMES = "radiopaedia_slices.csv"


def recognise(path: Path) -> bool:
    """Whether `path` is a folder that holds any of the competition's five files."""
    names = [name for images, masks, _ in PARTS.values() for name in (images, masks) if name]
    return any((path / name).is_file() for name in names)


def open_folder(location: str) -> Dataset:
    """Open the folder; nothing but headers and one slice a part is read. Defects are listed, not raised."""
    folder = Path(location).expanduser()
    settings = read_settings(folder, keys=("unit",))
    defects = settings.defects
    labelled: list[Case] = []
    unlabelled: list[Case] = []
    for source, (images, masks, digits) in PARTS.items():
        if not (folder / images).is_file():
            if source == "medseg":
                defects.append(
                    Defect("error", "missing-file", images, None, "is missing; it is the part that is scored")
                )
            elif masks and (folder / masks).is_file():
                defects.append(Defect("error", "missing-file", images, None, f"is missing, but {masks} is there"))
            continue
        count, unit = _check_images(folder, images, defects)
        with_masks = masks is not None and _check_masks(folder, images, masks, defects)
        groups = _volumes(folder, count, defects) if source == "radiopaedia" and count else {}
        shape = read_npy(folder / images).shape[1:3] if count else ()
        for row in range(count):
            case = Case(
                id=f"{source}/{row:0{digits}}",
                source=source,
                file=images,
                row=row,
                shape=shape,
                unit=settings.unit or unit,
                load_image=partial(_image, folder / images, row),
                load_labels=partial(_labels, folder / masks, row) if masks and with_masks else None,
                load_lung=partial(_lung, folder / masks, row) if masks and with_masks else None,
                group=groups.get(row, ""),
            )
            (labelled if with_masks else unlabelled).append(case)
    defects += unknown_units((*labelled, *unlabelled), beside="the npy files")
    units = {case.unit for case in (*labelled, *unlabelled)}
    return Dataset(
        location=str(location),
        format=FORMAT.name,
        cases=tuple(labelled),
        test=tuple(unlabelled),
        classes=("background", "ground-glass", "consolidation", "lung"),
        unit=units.pop() if len(units) == 1 else Unit.UNKNOWN,
        patients="not known",
        defects=tuple(defects),
    )


FORMAT = Format(
    "covid-segmentation",
    "the Kaggle competition's npy files: MedSeg and Radiopaedia slices with one-hot masks",
    recognise,
    open_folder,
)


def _image(path: Path, row: int) -> NDArray[np.float32]:
    return read_npy(path)[row, ..., 0].astype(np.float32)


def _labels(path: Path, row: int) -> Decoded:
    return decode_one_hot(read_npy(path)[row], CHANNELS)


def _lung(path: Path, row: int) -> NDArray[np.bool_]:
    """Everything that is not background: the masks mark the lung's healthy rest only."""
    return _labels(path, row).labels > 0


def _check_images(folder: Path, name: str, defects: list[Defect]) -> tuple[int, Unit]:
    """(number of slices, unit by the middle slice); (0, unknown) with a defect when the file cannot be used."""
    try:
        array = read_npy(folder / name)
    except DataError as error:
        defects.append(unreadable(error, name))
        return 0, Unit.UNKNOWN
    if array.ndim != 4 or array.shape[3] != 1:
        defects.append(Defect("error", "wrong-shape", name, None, f"has shape {array.shape}; [N, H, W, 1] is expected"))
        return 0, Unit.UNKNOWN
    return array.shape[0], guess_unit(array[array.shape[0] // 2])


def _check_masks(folder: Path, images: str, masks: str, defects: list[Defect]) -> bool:
    """Whether the masks exist and can be used; a defect says why not."""
    if not (folder / masks).is_file():
        text = f"is missing; the slices of {images} can be predicted, but not learned from or scored"
        defects.append(Defect("warning", "missing-masks", masks, None, text))
        return False
    try:
        shape = read_npy(folder / masks).shape
    except DataError as error:
        defects.append(unreadable(error, masks))
        return False
    if len(shape) != 4 or shape[3] != len(CHANNELS):
        text = f"has shape {shape}; [N, H, W, {len(CHANNELS)}] is expected, one channel a class"
        defects.append(Defect("error", "wrong-shape", masks, None, text))
        return False
    try:
        expected = read_npy(folder / images).shape
    except DataError:  # reported with the images
        return False
    if shape[:3] != expected[:3]:
        text = f"[N, H, W] is {list(shape[:3])}, but {list(expected[:3])} in {images}"
        defects.append(Defect("error", "shape-mismatch", masks, None, text))
        return False
    return True


def _volumes(folder: Path, count: int, defects: list[Defect]) -> dict[int, str]:
    """Row of the Radiopaedia file -> group: its volume by the extra table, or one group for all."""
    everything = dict.fromkeys(range(count), "radiopaedia")
    if not (folder / VOLUMES).is_file():
        text = (
            f"is not there, so the volumes of {count} slices are not known; all of them stay on one side of every split"
        )
        defects.append(Defect("warning", "unknown-volumes", VOLUMES, None, text))
        return everything
    try:
        with open(folder / VOLUMES, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        volumes = [row["volume"].strip() for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError):
        text = "is not a table with a column 'volume'; repair or remove it"
        defects.append(Defect("error", "bad-table", VOLUMES, None, text))
        return everything
    if len(volumes) != count:
        text = f"has {len(volumes)} rows for {count} slices of {PARTS['radiopaedia'][0]}"
        defects.append(Defect("error", "bad-table", VOLUMES, None, text))
        return everything
    certainty = Counter((row.get("class_known") or "").strip().lower() for row in rows)
    if certainty["no"]:
        text = (
            f"{certainty['no']} of {certainty['no'] + certainty['yes']} slices with lesions have class_known=no: "
            "their type of lesion was guessed"
        )
        defects.append(Defect("warning", "guessed-class", VOLUMES, None, text))
    return {row: f"radiopaedia volume {volume}" for row, volume in enumerate(volumes)}
