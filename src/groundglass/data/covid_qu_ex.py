"""COVID-QU-Ex: chest X-rays with lungs, and some of them with infection, in two trees that the source divides itself.

    Infection Segmentation Data/PART/CLASS/images/NAME.png   infection masks/   lung masks/   of the same names
    Lung Segmentation Data/PART/CLASS/images/NAME.png        lung masks/

PART is Train, Val or Test; CLASS is COVID-19, Non-COVID or Normal. Masks hold 0 and 255, the lungs the infection too.
Nobody looked for infection in the second tree. Its pictures are in part those of the first. Whose they are nobody says.
A `dataset.yaml` in the folder that is given may state the `unit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from groundglass.case import Part
from groundglass.data.dataset import Dataset, Defect, Format
from groundglass.data.folders import need_masks, pair
from groundglass.data.rows import Row, dataset_of
from groundglass.data.settings import read_settings

PARTS: Mapping[str, Part] = MappingProxyType({"Train": "train", "Val": "validation", "Test": "test"})
IMAGES, INFECTION, LUNGS = "images", "infection masks", "lung masks"
VALUES = {0: "background", 255: "lesion"}

# Folders that the archive puts around its trees, some of them twice.
_AROUND = ("covid-qu-ex dataset", "infection segmentation data", "lung segmentation data")
_LEVELS = 4


def recognise(path: Path) -> bool:
    """Whether a tree lies at `path`, or in it below nothing but an archive's folders, and no manifest says more."""
    return path.is_dir() and not (path / "manifest.csv").is_file() and next(_trees(path), None) is not None


def open_folder(location: str) -> Dataset:
    """Open one tree or both; only headers are read. Defects are listed, not raised."""
    folder = Path(location).expanduser()
    settings = read_settings(folder, keys=("unit",))
    rows = [row for tree in _trees(folder) for row in _rows(folder, tree, settings.defects)]
    return dataset_of(rows, location, folder, FORMAT.name, settings, "not known", beside="the trees")


FORMAT = Format(
    "covid-qu-ex",
    "COVID-QU-Ex's chest X-rays: Infection and Lung Segmentation Data, each with Train, Val and Test",
    recognise,
    open_folder,
)


def _rows(folder: Path, tree: Path, defects: list[Defect]) -> Iterator[Row]:
    """The rows of a tree; what it lacks grows `defects`."""
    source = _source(tree)
    below = tree.relative_to(folder)
    there = {part: _folders(tree / part) for part in PARTS if (tree / part).is_dir()}
    classes = {path.name: part for part, paths in there.items() for path in paths}

    def lacks(kind: str, place: str, text: str) -> None:
        defects.append(Defect("error", kind, place, None, text))

    for part, side in PARTS.items():
        if part not in there:
            lacks("missing-file", (below / part).as_posix(), f"is missing; the source has {', '.join(PARTS)}")
            continue
        for name in sorted(classes):
            place = (below / part / name).as_posix()
            if not (tree / part / name).is_dir():
                lacks("missing-file", place, f"is missing, but {classes[name]} has {name}")
                continue
            masks, lungs = f"{place}/{INFECTION}", f"{place}/{LUNGS}"
            paired = pair(folder, defects, f"{place}/{IMAGES}", masks, lungs)
            if not paired:
                lacks("no-images", place, "holds no image")
            if source == "infection":
                need_masks(paired, defects, masks)
            if paired and not any(row.lung for row in paired.values()):
                lacks("missing-file", lungs, "holds no mask")
            for stem, row in paired.items():
                yield replace(
                    row,
                    source=source,
                    id=f"{source}/{part}/{name}/{stem}",
                    values=VALUES,
                    inside="lung" if source == "infection" else "unmarked-lung",
                    modality="X-ray",
                    part=side,
                    cohort=name,
                )


def _source(tree: Path) -> str:
    """`infection` or `lung`: a tree with infection masks, or that says so, is of infection."""
    marked = any((child / INFECTION).is_dir() for part in PARTS for child in _folders(tree / part))
    names = (tree.resolve().name, tree.resolve().parent.name)
    return "infection" if marked or any(name.casefold() == _AROUND[1] for name in names) else "lung"


def _trees(path: Path, levels: int = _LEVELS) -> Iterator[Path]:
    """The folders at and below `path` that hold a part, in order of their names."""
    if any(
        (child / IMAGES).is_dir() and ((child / LUNGS).is_dir() or (child / INFECTION).is_dir())
        for part in PARTS
        for child in _folders(path / part)
    ):
        yield path
    elif levels:
        children = _folders(path)
        for child in children:
            # A folder that is alone adds nothing to what was asked for; beside others it may be another data set.
            if len(children) == 1 or child.name.casefold() in _AROUND:
                yield from _trees(child, levels - 1)


def _folders(path: Path) -> list[Path]:
    """Folders in a folder, without hidden ones; none where it is not there."""
    return sorted(child for child in path.glob("[!.]*") if child.is_dir()) if path.is_dir() else []
