"""A folder of finished masks, from `groundglass predict` or another tool: which file answers for which case."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.errors import DataError, RecipeError
from groundglass.labels import BY_NAME, LABEL_SETS, LABELS, LabelSet, label_set
from groundglass.scans.slices import open_slices, read_mask_slice, stem_of, suffix_of

_SUFFIXES = (".png", ".npy", ".nii.gz", ".nii")
# What lies in a run folder, even a damaged one, and in a cross-validation: their pictures are no masks.
_OWN = ("run.json", "recipe.yaml", "cv.json")
# What `predict` writes beside a label map.
_BESIDE = ("_probabilities", "_instances")


@dataclass(frozen=True)
class Masks:
    """Masks of certain cases. place: file and slice of each, by case id; names: the labels that occur in any of them;
    digest: sha256 of all their pixels."""

    folder: Path
    place: dict[str, tuple[Path, int]]
    names: tuple[str, ...]
    digest: str

    def channels(self, case: Case, labels: LabelSet) -> NDArray[np.uint8]:
        """The mask of a case as channel numbers [H, W] of a label set that `choose_labels` allowed."""
        return labels.encode(_read(*self.place[case.id]))


def is_mask_folder(path: Path) -> bool:
    """Whether `path` is a folder, not of groundglass itself, and holds files that may be masks."""
    ours = any((path / name).exists() for name in _OWN) or bool(fold_folders(path))
    return path.is_dir() and not ours and bool(_files(path))


def fold_folders(path: Path) -> list[Path]:
    """Runs of the folds in a recipe's folder of a cross-validation, in order; empty where `path` is none."""
    if (path / "run.json").is_file():
        return []
    return sorted(run.parent for run in path.glob("fold*of*/run.json"))


def open_masks(folder: Path, cases: Sequence[Case], dataset: Dataset) -> Masks:
    """The masks of exactly these `cases` of a data set.

    One file a case, named by the case's id (`medseg_007.png` for `medseg/007`) or by its image's file; or, where many
    cases lie in one file, one stack [N, H, W] named by it, as `predict` writes it. Values as in docs/data.md.
    Raises `DataError` for a mask that is missing, there twice, of no case, of another size, or holds no label.
    """
    files: dict[str, Path] = {}
    for path in _files(folder):
        other = files.setdefault(stem_of(path), path)
        if other is not path:
            raise DataError(f"{folder}: has {other.name} and {path.name} for one case; keep one of them")
    everyone = (*dataset.cases, *dataset.test)
    sources = {case.file: stem_of(Path(case.file)) for case in everyone}
    holders = Counter(sources.values())
    slices = Counter(case.file for case in everyone)
    place: dict[str, tuple[Path, int]] = {}
    for case in cases:
        shared = sources[case.file] if holders[sources[case.file]] == 1 else case.stem
        found = [files[stem] for stem in dict.fromkeys((case.stem, shared)) if stem in files]
        if not found:
            raise DataError(f"{folder}: has no mask of {case.place}; name it {case.stem}.png, .npy or .nii.gz")
        if len(found) > 1:
            raise DataError(f"{folder}: has {found[0].name} and {found[1].name} for {case.place}; keep one of them")
        stack = case.row is not None and stem_of(found[0]) == shared != case.stem
        _check_header(found[0], case, slices[case.file] if stack else 1)
        place[case.id] = found[0], case.row if stack and case.row is not None else 0
    extra = sorted(set(files.values()) - {file for file, _ in place.values()})
    if extra:
        raise DataError(
            f"{extra[0]}: is the mask of no scored case ({len(extra)} such files, {len(cases)} cases); remove it"
        )
    names, digest = _look(place)
    return Masks(folder, place, names, digest)


def choose_labels(masks: Masks, dataset: Dataset, wanted: str | None = None) -> LabelSet:
    """The label set to score masks in: `wanted`, else the shipped one that merges the fewest classes of data and masks,
    and of those the smallest. Raises `RecipeError` for one that cannot express them, `DataError` where none can."""
    if wanted is not None:
        chosen = label_set(wanted)
        if why := _unfit(chosen, masks, dataset):
            raise RecipeError(f"--labels {wanted}: {why}")
        return chosen
    fitting = [labels for labels in LABEL_SETS.values() if _unfit(labels, masks, dataset) is None]
    if not fitting:
        raise DataError(f"{masks.folder}: no label set fits: {_unfit(next(iter(LABEL_SETS.values())), masks, dataset)}")
    named = {*dataset.classes, *masks.names}
    return min(fitting, key=lambda labels: (len(named - set(labels.classes)), len(labels.classes)))


def _unfit(labels: LabelSet, masks: Masks, dataset: Dataset) -> str | None:
    """Why masks or data cannot be expressed in a label set; None where they can."""
    lost = next((name for name in dataset.classes if not labels.covers([name])), None)
    if lost:
        return f"label set '{labels.name}' has no class for '{lost}', which the data hold"
    for name in masks.names:
        value = np.array([BY_NAME[name].value], np.uint8)
        if not labels.covers([name]) or labels.encode(value)[0] >= len(labels.classes):
            return f"label set '{labels.name}' has no class for '{name}' ({value[0]}), which the masks hold"
    return None


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_file() and suffix_of(path) in _SUFFIXES)
    stems = {stem_of(path) for path in found}
    return [path for path in found if not _is_beside(stem_of(path), stems)]


def _is_beside(stem: str, stems: set[str]) -> bool:
    return any(stem.endswith(ending) and stem.removesuffix(ending) in stems for ending in _BESIDE)


def _check_header(file: Path, case: Case, slices: int) -> None:
    header = open_slices(file)
    if header.count != slices:
        raise DataError(f"{file}: holds {header.count} slices, expected {slices}, as many as {Path(case.file).name}")
    if header.shape != case.shape:
        sizes = ["x".join(map(str, shape)) for shape in (header.shape, case.shape)]
        raise DataError(f"{file}: is {sizes[0]}, but its image {case.place} is {sizes[1]}; save it on the image's grid")


def _look(place: dict[str, tuple[Path, int]]) -> tuple[tuple[str, ...], str]:
    """Labels that occur, and the digest."""
    digest, present = hashlib.sha256(), np.zeros(256, np.bool_)
    for case_id in sorted(place):
        labels = _read(*place[case_id])
        present[np.unique(labels)] = True
        digest.update(f"{case_id} {labels.shape}".encode())
        digest.update(np.ascontiguousarray(labels).data)
    return tuple(label.name for label in LABELS if present[label.value]), digest.hexdigest()


def _read(file: Path, index: int) -> NDArray[np.uint8]:
    values = read_mask_slice(file, index)
    strange = values[~np.isin(values, [label.value for label in LABELS])]
    if strange.size:
        raise DataError(f"{file}: holds {strange[0]:g}, which is no label; masks hold 0 to {LABELS[-1].value}")
    return values.astype(np.uint8)
