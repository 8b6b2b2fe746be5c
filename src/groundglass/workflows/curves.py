"""The learning curves of several recipes, or runs, in one figure and one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from groundglass.labels import label_set
from groundglass.recipes import Recipe
from groundglass.run import Run

if TYPE_CHECKING:
    from groundglass.show.curves import Learned


def learned(name: str, runs: Sequence[Run]) -> Learned:
    """The curves of the runs of one recipe, and what its loss and its Dice are of: all lesion classes, or the first
    class of a label set without lesions."""
    from groundglass.show.curves import Learned

    recipe = runs[0].recipe
    labels = label_set(recipe.labels)
    classes = labels.lesions or labels.targets[:1]
    dice = "f1_lesions" if labels.lesions else f"f1_{classes[0]}"
    of = classes[0] if len(classes) == 1 else f"mean of {' and '.join(classes)}"
    return Learned(name, [run.curves for run in runs], dice, of, _loss(recipe))


def draw_together(runs: Mapping[str, Sequence[Run]], picture: Path, title: str, unit: str = "folds") -> None:
    """Draw the curves of all, by name, to `picture`, and write its numbers to a table beside it, of the same name with
    the suffix .csv. Raises `DataError`, `WriteError`."""
    from groundglass.show.curves import compare_curves, write_compared

    networks = [learned(name, found) for name, found in runs.items()]
    write_compared(networks, picture.with_suffix(".csv"))
    compare_curves(networks, picture, title, unit)


def _loss(recipe: Recipe) -> str:
    """What is minimised, in words; of two recipes for which they are equal, losses can be compared."""
    if recipe.own_loss:
        return "the network's own"
    terms = []
    for term in recipe.loss:
        given = term.class_weights
        weights = ", ".join(f"{k} {v:g}" for k, v in given.items()) if isinstance(given, dict) else given
        text = f"{term.name} with class weights ({weights})" if weights else term.name
        terms.append(f"{term.weight:g} {text}" if len(recipe.loss) > 1 else text)
    return f"{' + '.join(terms)} over {len(label_set(recipe.labels).classes)} classes"
