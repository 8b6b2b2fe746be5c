"""Folders of pictures in which equal names belong together."""

from __future__ import annotations

from pathlib import Path

from groundglass.data.dataset import Defect
from groundglass.data.rows import Row
from groundglass.scans.slices import SUFFIXES, stem_of, suffix_of


def pair(
    folder: Path, defects: list[Defect], images: str = "images", masks: str = "masks", lungs: str = "lungs"
) -> dict[str, Row]:
    """Stem -> row of every image in folder/`images`, with the mask and the lung of its name.

    A folder of partners that is there at all must hold one for each image, and none for no image; else `defects` grow.
    """
    found = files_in(folder, images, defects)
    partners = {name: files_in(folder, name, defects) for name in (masks, lungs)}
    for name, files in partners.items():
        for stem, file in files.items():
            if stem not in found:
                text = f"has no image of that name in {images}/"
                defects.append(Defect("error", "missing-partner", file, None, text))
        for stem, file in found.items():
            if files and stem not in files:
                defects.append(Defect("error", "missing-partner", file, None, f"has no file of that name in {name}/"))
    return {
        stem: Row(file, partners[masks].get(stem), partners[lungs].get(stem)) for stem, file in sorted(found.items())
    }


def files_in(folder: Path, name: str, defects: list[Defect]) -> dict[str, str]:
    """Stem -> path relative to `folder`, of every readable kind of file in folder/name."""
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


def need_masks(rows: dict[str, Row], defects: list[Defect], masks: str = "masks") -> None:
    """A defect where no image has a mask: a format that always has them would pass for one without."""
    if rows and not any(row.mask for row in rows.values()):
        defects.append(Defect("error", "missing-file", masks, None, "holds no mask"))
