"""The competition's real slices, where they are at hand: the whole path, small."""

from __future__ import annotations

from pathlib import Path

import pytest

import groundglass as gg
from groundglass import recipes
from groundglass.data import explicit
from groundglass.recipes.settings import Rows
from groundglass.workflows.dividing import make_split
from groundglass.workflows.opening import check_classes, open_clean
from groundglass.write.submission import verify

pytestmark = pytest.mark.realdata


def test_the_data_are_sound(covid_segmentation: Path) -> None:
    report = gg.check(covid_segmentation)
    facts = report.to_dict()
    assert report.errors == ()
    assert (facts["cases"], facts["unlabelled"]) == (462, 10)
    assert facts["sources"]["test"] == 10
    assert facts["classes"] == ["background", "ground-glass", "consolidation", "lung"]


def test_the_rows_of_system_000_validate(covid_segmentation: Path) -> None:
    recipe = recipes.load("effnet-b2")
    dataset = gg.open_dataset(covid_segmentation)
    check_classes(recipe, dataset)
    assert isinstance(recipe.split, Rows)
    split = explicit(dataset.cases, recipe.split.rows)
    assert split.validation == tuple(f"medseg/{row:03d}" for row in range(24))
    assert len(split.train) == 462 - 24


def test_train_evaluate_and_submit(covid_segmentation: Path, tmp_path: Path) -> None:
    settings = [
        "image_size=64",
        "architecture.base_width=4",
        "architecture.depth=2",
        "batch_size=16",
        "epochs=1",
        "optimiser.learning_rate=1e-2",
    ]
    run = gg.train("unet", covid_segmentation, out=tmp_path / "run", settings=settings)
    assert {i.split("/")[0] for i in (*run.split.train, *run.split.validation)} == {"medseg"}
    result = gg.evaluate([run], covid_segmentation, bootstrap=20, figures=False)
    assert [case.case for case in result.summary.cases] == list(run.split.validation)
    assert 0 <= result.summary.benchmark("any_lesion_dice_pooled").value <= 1
    submission = gg.submit([run], covid_segmentation, tmp_path / "submission.csv")
    assert verify(submission)[0] == 5_242_880
    # A split made again from the data is the split of the run.
    dataset, searched = open_clean(covid_segmentation, run.recipe, twins=True)
    assert make_split(run.recipe, dataset, searched, None) == run.split
