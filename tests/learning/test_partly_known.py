"""Trainings on cases of which only some is known: lesions of unknown type, lungs in which nobody looked for lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from groundglass.labels import label_set
from groundglass.learning import training
from groundglass.learning.learner import Tally
from groundglass.measure.counts import confusion
from groundglass.networks.building import build
from groundglass.run import Run
from tests.learning import tiny


def run_rows(run: Run) -> list[dict[str, float]]:
    """Every epoch's numbers, unrounded, as the checkpoint holds them."""
    state = torch.load(run.last, weights_only=True)["callbacks"]
    return next(value["rows"] for key, value in state.items() if key.startswith("Keeper"))  # type: ignore[no-any-return]


def test_a_training_half_of_which_is_partly_known_learns_lesions(tmp_path: Path) -> None:
    loss = [{"name": "cross_entropy", "weight": 0.5}, {"name": "dice", "weight": 0.5}]
    recipe = tiny.recipe(epochs=15, optimiser={"name": "adam", "learning_rate": 0.02}, loss=loss)
    part, held_out = tiny.cases(16), tiny.cases(4, 50)
    part[::2] = [tiny.partly_known(case, unmarked=i % 2 == 0) for i, case in enumerate(part[::2])]
    run = tiny.new_run(tmp_path / "run", recipe, part, held_out)
    training.fit(run, build(recipe), part, held_out, "cpu")
    curve = run_rows(run)
    assert all(np.isfinite(value) for row in curve for value in row.values())
    assert curve[-1]["train/loss"] < 0.6 * curve[0]["train/loss"]
    assert curve[-1]["validation/f1_lesions"] > 0.5


def test_validation_on_partly_known_cases_scores_what_is_known(tmp_path: Path) -> None:
    part = tiny.cases(8)
    untyped, unmarked = ([tiny.partly_known(case, kind) for case in tiny.cases(2, 50)] for kind in (False, True))
    known = {}
    for name, held_out in (("untyped", untyped), ("unmarked", unmarked), ("whole", tiny.cases(2, 50))):
        run = tiny.new_run(tmp_path / name, tiny.recipe(epochs=1), part, held_out)
        training.fit(run, build(run.recipe), part, held_out, "cpu")
        (known[name],) = run_rows(run)
    # Of background everything is known in all three, of lung not where nobody looked for lesions, of lesions nothing.
    for name, defined in (("untyped", ["background", "lung"]), ("unmarked", ["background"])):
        for label in ("background", "lung", "ground-glass", "consolidation"):
            measured, whole = (known[which][f"validation/f1_{label}"] for which in (name, "whole"))
            assert measured == whole if label in defined else np.isnan(measured)
        assert np.isnan(known[name]["validation/f1_lesions"])
        assert np.isfinite(known[name]["validation/loss"])


def test_the_accuracy_of_an_epoch_is_of_the_pixels_whose_class_is_known() -> None:
    labels, random = label_set("ct4"), np.random.default_rng(0)
    codes, answer = random.integers(0, len(labels.codes), 500, np.uint8), random.integers(0, 4, 500, np.uint8)
    tally = Tally(labels)
    tally.add(1.0, 1, confusion(codes, answer, labels))
    assert tally.scores()["accuracy"] == np.mean((codes == answer)[codes < 4])


def test_partly_known_pixels_are_counted_for_no_class() -> None:
    labels, part = label_set("ct4"), tiny.cases(3)
    counts = training.count_classes(labels, part)
    untyped = [tiny.partly_known(case, unmarked=False) for case in part]
    assert training.count_classes(labels, untyped) == {**counts, "ground-glass": 0, "consolidation": 0}
