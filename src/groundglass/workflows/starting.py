"""Training that begins where another run ended, or behind one: its weights, and the cases that it has seen."""

from __future__ import annotations

from pathlib import Path

from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.splits import Split
from groundglass.errors import RecipeError, RunError
from groundglass.recipes import Recipe
from groundglass.run import Run
from groundglass.workflows.measuring import joined_groups


def start_run(start_from: str | Path, fold: str | None, split: Split, dataset: Dataset, scan: Scan) -> Run:
    """The run to begin from: `start_from` itself, or of a cross-validation's folder the same fold.

    Raises `RunError` when there is none, or when it has trained on a case that validates or tests here, or on the
    patient, volume or twin of one: no score of the new run would be held out.
    """
    folder = Path(start_from)
    if fold is not None and not (folder / "run.json").is_file():
        k, n = fold.split("/")
        folder = folder / f"fold{k}of{n}"
    start = Run.open(folder)
    start.need_weights()
    leaked = _seen(start, split, dataset, scan)
    if leaked:
        raise RunError(
            f"--start-from {folder}: has trained on {len(leaked)} of the cases that are held out here, or on "
            f"their like, such as {leaked[0]}; start from a run of the same fold and division"
        )
    return start


def open_first_stage(first_stage: str | Path | None, recipe: Recipe, begun: Run | None) -> Run | None:
    """The run that finds the lungs, None where the recipe has no first stage.

    begun: the run to go on with, which has its own copy. Raises `RecipeError` or `RunError` for a first stage that is
    missing, not wanted, or of other images, classes or size.
    """
    if recipe.first_stage is None:
        if first_stage is not None:
            raise RecipeError(f"--first-stage {first_stage}: recipe '{recipe.name}' has no first_stage")
        return None
    if begun is not None:
        return begun.first_stage()
    if first_stage is None:
        raise RecipeError(
            f"recipe '{recipe.name}' is a second stage and needs the first, which finds the lungs: --first-stage RUN"
        )
    first = Run.open(first_stage)
    first.need_weights()
    theirs = first.recipe
    wanted = (
        ("modality", theirs.modality, recipe.modality),
        ("label set", theirs.labels, "lung"),
        ("image_size", theirs.image_size, recipe.image_size),
    )
    for what, found, needed in wanted:
        if found != needed:
            raise RunError(f"--first-stage {first_stage}: has {what} {found}, and {needed} is needed")
    return first


def stamped(split: Split, first: Run, dataset: Dataset, scan: Scan) -> Split:
    """The split, stamped where `first` has trained on held-out cases of a division that is the source's own.

    Raises `RunError` where it knows held-out cases of our division.
    """
    leaked = _seen(first, split, dataset, scan)
    if not leaked:
        return split
    if split.kind != "parts":
        raise RunError(
            f"--first-stage {first.path}: has trained on {len(leaked)} of the cases that are held out here, or on "
            f"their like, such as {leaked[0]}"
        )
    held_out = len(split.validation) + len(split.test)
    stamp = f"leaky by source: the first stage has trained on the like of {len(leaked)} of {held_out} held-out cases"
    return split.model_copy(update={"leaky": f"{split.leaky}; {stamp}" if split.leaky else stamp})


def _seen(run: Run, split: Split, dataset: Dataset, scan: Scan) -> list[str]:
    """The held-out cases on which, or on the patient, volume or twin of which, `run` has trained."""
    seen = run.trained_hashes()
    group = joined_groups(dataset, scan.twins.clusters if scan.twins else ())
    known = {group[case_id] for case_id, digest in scan.hashes.items() if digest in seen}
    return [case_id for case_id in (*split.validation, *split.test) if group[case_id] in known]
