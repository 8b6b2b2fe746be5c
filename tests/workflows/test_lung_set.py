"""Label set `lung`, which knows no lesion: every verb goes through it, and no number is one of lesions."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundglass as gg
from groundglass.run import Run
from tests.conftest import TINY, Cli

DATA = "phantom:6"
LUNGS = (*TINY, "labels=lung", "checkpoint.metric=validation/f1_lung", "epochs=2")
# Words that only a table of lesions has.
OF_LESIONS = re.compile(r"lesion|\bnan\b", re.IGNORECASE)


def sets(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="module")
def lungs(tmp_path_factory: pytest.TempPathFactory) -> Run:
    import torch

    torch.set_num_threads(1)
    return gg.train("demo", DATA, out=tmp_path_factory.mktemp("lung") / "run", settings=LUNGS)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_training_reports_the_f1_of_lung(tmp_path: Path, cli: Cli) -> None:
    answer = cli("train", "demo", "--data", DATA, "-o", tmp_path / "run", *sets(*LUNGS, "epochs=1"))
    assert answer.code == 0, answer.err
    assert re.search(r"validation F1 of lung 0\.\d{3}", answer.out + answer.err)
    assert not OF_LESIONS.search(answer.out + answer.err)
    assert "validation/f1_lesions" not in (tmp_path / "run" / "curves.csv").read_text()


def test_a_metric_of_lesions_is_refused_before_training(tmp_path: Path, cli: Cli) -> None:
    settings = sets(*LUNGS, "checkpoint.metric=validation/f1_lesions")
    answer = cli("train", "demo", "--data", DATA, "-o", tmp_path / "run", *settings)
    assert (answer.code, answer.out) == (2, "")
    assert "unknown metric 'validation/f1_lesions'" in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_evaluate_prints_and_writes_lungs_and_nothing_of_lesions(lungs: Run, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "tables"
    answer = cli("evaluate", lungs.path, "--data", DATA, "-o", out, "--bootstrap", 20, "--no-figures")
    assert answer.code == 0, answer.err
    assert not OF_LESIONS.search(answer.out)
    for metric in ("dice", "iou", "precision", "recall"):
        assert re.search(rf"┃ {metric}\s+┃ pooled\s+┃ per image\s+┃ per patient\s+┃", answer.out), metric
    assert re.search(r"HD95 \(mm\).*surface Dice", answer.out)
    assert {path.name for path in out.iterdir()} == {
        *("cases.csv", "summary.csv", "negatives.csv", "summary.json", "measured.json"),
    }
    assert {row["class"] for row in rows_of(out / "summary.csv")} == {"background", "lung", "benchmark"}
    about = json.loads((out / "summary.json").read_text())
    assert about["cohorts"] is None
    measures = {(row["class"], row["measure"]) for row in about["boundaries"]["rows"]}
    assert measures == {("lung", "hd95"), ("lung", "surface_dice"), ("lung", "area_error")}
    assert about["protocols"] == []


def test_the_mean_over_images_is_the_mean_of_the_images(lungs: Run, tmp_path: Path) -> None:
    """System 003's Dice and IoU of lungs: means over the test images, here by scikit-learn's definition."""
    seen: list[tuple[float, float]] = []

    def keep(case: Any, _: Any, decided: Any) -> None:
        truth, found = case.lung(), decided == 1
        both = (truth & found).sum()
        seen.append((2 * both / (truth.sum() + found.sum()), both / (truth | found).sum()))

    from groundglass.workflows.evaluate import score
    from groundglass.workflows.opening import open_clean

    dataset, scan = open_clean(DATA, lungs.recipe)
    summary = score([lungs], dataset, scan, tmp_path, bootstrap=0, figures=False, keep=keep).summary
    for metric, expected in zip(("dice", "iou"), np.mean(seen, axis=0), strict=True):
        assert summary.row("lung", metric, "per image").value == pytest.approx(expected)
    assert np.mean(seen) > 0.1, "a network that finds nothing proves nothing"


@pytest.mark.slow
def test_figures_are_of_lungs(lungs: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from groundglass.show import figures

    titles: list[str] = []
    drawn = figures.truth_prediction

    def spy(panels: Any, *arguments: Any, **options: Any) -> Path:
        titles.extend(panel.title for panel in panels)
        assert options["names"] == ("lung",)
        return drawn(panels, *arguments, **options)

    monkeypatch.setattr(figures, "truth_prediction", spy)
    result = gg.evaluate([lungs], DATA, out=tmp_path, part="all", bootstrap=0)
    names = {path.stem for path in result.figures}
    assert {"images", "truth_prediction", "confusion", "measures"} <= names
    assert not names & {"extremes", "categories_000", "agreement_000"}
    assert titles
    assert all(re.search(r", lung Dice \d\.\d\d$", title) for title in titles)


def test_compare_takes_the_dice_of_lung_by_default(lungs: Run, tmp_path: Path, cli: Cli) -> None:
    runs = [lungs.path, shutil.copytree(lungs.path, tmp_path / "flipped")]
    folders = [tmp_path / "a", tmp_path / "b"]
    for run, folder, tta in zip(runs, folders, ("none", "flips"), strict=True):
        gg.evaluate([run], DATA, out=folder, tta=tta, bootstrap=0, figures=False)
    answer = cli("compare", *folders, "--bootstrap", 20, "-o", tmp_path / "c", "--latex")
    assert answer.code == 0, answer.err
    assert "Paired differences in lung_dice:" in answer.out
    assert not OF_LESIONS.search(answer.out + (tmp_path / "c" / "comparison.tex").read_text())
    assert all(row["lung_dice"] for row in rows_of(tmp_path / "c" / "comparison.csv"))
    refused = cli("compare", *folders, "--merge", "lesion", "-o", tmp_path / "d")
    assert (refused.code, refused.out) == (2, "")
    assert "label set 'lung' of 'demo' knows no lesion to merge" in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_a_cross_validation_of_lungs_has_a_score(tmp_path: Path, cli: Cli) -> None:
    settings = sets(*LUNGS, "epochs=1", "image_size=32")
    answer = cli("cv", "demo", "--data", "phantom:4", "-o", tmp_path / "cv", "--folds", 2, *settings)
    assert answer.code == 0, answer.err
    assert "Dice of lung, mean over the n images that hold it" in answer.out.replace("\n", " ").replace("  ", " ")
    stored = json.loads((tmp_path / "cv" / "demo" / "out-of-fold" / "summary.json").read_text())
    row = next(
        row
        for row in stored["averages"]
        if (row["class"], row["metric"], row["average"]) == ("lung", "dice", "per image, positives")
    )
    assert f"{row['value']:.3f}" in answer.out
    assert (tmp_path / "cv" / "curves.png").is_file()
