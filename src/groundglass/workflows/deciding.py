"""A run asked to decide otherwise than its recipe says: by another threshold, or within other lungs."""

from __future__ import annotations

from groundglass.errors import RecipeError
from groundglass.labels import label_set
from groundglass.model.predict import Roi
from groundglass.recipes.settings import Thresholds
from groundglass.run import Run


def as_asked(run: Run, roi: Roi | None, threshold: float | None) -> Run:
    """The run as it would be had its recipe said so; nothing is written. None: as its recipe says.

    roi: what a second stage sees; threshold: of every lesion class. Raises `RecipeError` for a run without a first
    stage, or without lesion classes, and for a threshold outside (0, 1).
    """
    recipe, manifest = run.recipe, run.manifest
    if roi is not None:
        if recipe.first_stage is None:
            raise RecipeError(f"--roi {roi}: run {run.path.name} has no first stage that finds lungs")
        recipe = recipe.model_copy(update={"first_stage": recipe.first_stage.model_copy(update={"roi": roi})})
    if threshold is not None:
        lesions = label_set(recipe.labels).lesions
        if not lesions:
            raise RecipeError(
                f"--threshold {threshold:g}: label set '{recipe.labels}' of {run.path.name} has no lesion"
            )
        if not 0 < threshold < 1:
            raise RecipeError(f"--threshold {threshold:g}: choose a probability between 0 and 1, such as 0.8")
        values = dict.fromkeys(lesions, threshold)
        recipe = recipe.model_copy(update={"decision": Thresholds(name="thresholds", values=values)})
        manifest = manifest.model_copy(update={"thresholds": values})
    return Run(run.path, recipe, run.split, manifest)


def mark(roi: Roi | None, threshold: float | None) -> str:
    """What is added to the name of an evaluation's folder, so that it does not take the place of the usual one."""
    said = f"-roi-{roi}" if roi else ""
    return said if threshold is None else f"{said}-threshold-{threshold:g}"
