"""What train and evaluate do first: open a data set, see that it fits the recipe, and refuse what is broken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundglass.case import Unit
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.opening import open_dataset, require_clean
from groundglass.errors import DataError, RecipeError
from groundglass.labels import BY_NAME, LABEL_SETS, label_set
from groundglass.recipes import Recipe
from groundglass.show.progress import progress


def open_clean(data: str | Path, recipe: Recipe) -> tuple[Dataset, Scan]:
    """A data set without errors whose labels the recipe can learn, and the scan of all its pixels.

    Raises `DataError` for errors and for labelled images of unknown unit, `RecipeError` for labels that do not fit.
    """
    dataset = open_dataset(data)
    require_clean(dataset, pixels=False)
    check_classes(recipe, dataset)
    unknown = next((case for case in dataset.cases if case.unit is Unit.UNKNOWN), None)
    if unknown is not None:
        raise DataError(
            f"{unknown.place}: its intensity unit cannot be told from its values; write unit: HU or unit: picture into "
            "dataset.yaml beside the data"
        )
    with progress("Checking every image and mask") as bar:
        scan = require_clean(dataset, progress=bar)
    if scan is None:
        raise TypeError("a scan of the pixels was asked for")
    return dataset, scan


def check_classes(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `RecipeError` unless the data's masks and the recipe's label set name the same things."""
    chosen = label_set(recipe.labels)
    if not dataset.cases:
        raise RecipeError(f"{dataset.location}: has no masks; there is nothing to learn from")
    fitting = [s.name for s in LABEL_SETS.values() if s.covers(dataset.classes) and _all_labelled(s.classes, dataset)]
    hint = f"train with --set labels={fitting[0]}" if fitting else "no shipped label set fits this data"
    if not chosen.covers(dataset.classes):
        extra = next(name for name in dataset.classes if name not in chosen.classes and name not in chosen.merges)
        raise RecipeError(
            f"{dataset.location}: labels '{extra}', which label set '{chosen.name}' has no class for; {hint}"
        )
    if not _all_labelled(chosen.classes, dataset):
        missing = next(name for name in chosen.classes if not _labelled(name, dataset))
        raise RecipeError(
            f"{dataset.location}: does not label '{missing}', which label set '{chosen.name}' of recipe "
            f"'{recipe.name}' learns; {hint}"
        )


def _all_labelled(names: Sequence[str], dataset: Dataset) -> bool:
    return all(_labelled(name, dataset) for name in names)


def _labelled(name: str, dataset: Dataset) -> bool:
    if name == "lesion":
        return any(BY_NAME[known].lesion for known in dataset.classes)
    return name in dataset.classes
