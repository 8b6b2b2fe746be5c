"""What train and evaluate do first: open a data set, see that it fits the recipe, and refuse what is broken."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from groundglass.case import MODALITIES, Case, Decoded, Unit
from groundglass.data.album import Album
from groundglass.data.dataset import Dataset, Locations
from groundglass.data.defects import Scan, Visit, scan
from groundglass.data.opening import open_dataset, refuse_errors
from groundglass.errors import DataError, RecipeError
from groundglass.labels import BY_NAME, LABEL_SETS, LabelSet, label_set
from groundglass.recipes import Recipe
from groundglass.show.progress import progress


def open_clean(data: Locations, recipe: Recipe, twins: bool = False) -> tuple[Dataset, Scan]:
    """A data set, or several as one, without errors, whose labels the recipe can learn, and the scan of all its pixels.

    twins: also search for near duplicates (`Scan.twins`).
    Raises `DataError` for errors and for labelled images of unknown unit, `RecipeError` for labels that do not fit.
    """
    dataset = open_dataset(data)
    refuse_errors(dataset.defects)
    check_modality(recipe, dataset)
    check_classes(recipe, dataset)
    unknown = next((case for case in dataset.cases if case.unit is Unit.UNKNOWN), None)
    if unknown is not None:
        raise DataError(
            f"{unknown.place}: its intensity unit cannot be told from its values; write unit: HU or unit: picture into "
            "dataset.yaml beside the data"
        )
    return dataset, look(dataset, twins)


def look(dataset: Dataset, twins: bool, visit: Visit | None = None, refuse: bool = True) -> Scan:
    """Read every image and mask once, and search for near duplicates if `twins`; with progress.

    visit: called with every case as it is read. Raises `DataError` for errors in the data, unless `refuse` is False;
    of data with errors nothing is searched.
    """
    with ExitStack() as stack:
        album = stack.enter_context(Album()) if twins else None
        watching = [watch for watch in (visit, album.visit if album else None) if watch is not None]

        def see(case: Case, image: NDArray[np.float32] | None, labels: Decoded | None) -> None:
            for watch in watching:
                watch(case, image, labels)

        with progress("Reading every image and mask") as bar:
            found = scan(dataset, bar, see)
        errors = any(defect.severity == "error" for defect in (*dataset.defects, *found.defects))
        if refuse:
            refuse_errors(found.defects)
        if album is None or errors:
            return found
        with progress("Searching for near duplicates") as bar:
            return replace(found, twins=album.search(dataset, found.hashes, bar))


def check_modality(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `RecipeError` where a data set holds images of another kind than the recipe is for."""
    other = next((case for case in dataset.cases if case.modality != recipe.modality), None)
    if other is not None:
        raise RecipeError(
            f"{other.place}: is {MODALITIES[other.modality]}, and recipe '{recipe.name}' is for "
            f"{MODALITIES[recipe.modality]}"
        )


def check_classes(recipe: Recipe, dataset: Dataset) -> None:
    """Raise `RecipeError` unless the recipe's label set has a place for every mark, and some masks know each class.

    Of several data sets one is enough to know a class: where the others know it in part, they are learned in part.
    """
    chosen = label_set(recipe.labels)
    if not dataset.cases:
        raise RecipeError(f"{dataset.location}: has no masks; there is nothing to learn from")
    # Who wants lesions is not helped by a set that has none.
    alike = [s for s in LABEL_SETS.values() if bool(s.lesions) == bool(chosen.lesions)]
    fitting = [s.name for s in alike if s.covers(dataset.classes) and not _unknown(s, dataset)]
    if fitting:
        hint = f"train with --set labels={fitting[0]}"
    elif "unmarked-lung" in dataset.classes:
        hint = (
            "nobody looked for lesions in its lungs, so open it together with data that mark them, or learn the lungs "
            "alone with --set labels=lung"
        )
    else:
        hint = "no shipped label set fits this data"
    if unknown := _unknown(chosen, dataset):
        raise RecipeError(
            f"{dataset.location}: does not label '{unknown[0]}', which label set '{chosen.name}' of recipe "
            f"'{recipe.name}' learns; {hint}"
        )


def _unknown(labels: LabelSet, dataset: Dataset) -> list[str]:
    """The classes that no mask of `dataset` marks for sure."""
    values = [BY_NAME[name].value for name in dataset.classes]
    known = set(labels.encode(np.array(values, np.uint8)).tolist())
    return [name for channel, name in enumerate(labels.classes) if channel not in known]
