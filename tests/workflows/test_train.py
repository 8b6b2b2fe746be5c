"""`train`: what a run folder holds, and that it says the truth."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import groundglass as gg
from groundglass import recipes
from groundglass.data import require_clean
from groundglass.errors import RecipeError
from groundglass.run import Run
from groundglass.workflows.dividing import parse_fold
from groundglass.workflows.train import default_folder, parse_duration
from tests.conftest import TINY, Cli


def test_the_folder_holds_what_its_docstring_lists(run: Run) -> None:
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    for name in ("run.json", "recipe.yaml", "split.json", "weights/best.pt", "weights/last.ckpt", "curves.csv"):
        assert name in found
    assert "curves.png" in found
    assert any(name.startswith("tensorboard/") for name in found)
    assert not any("partial" in name for name in found)


def test_the_manifest_tells_the_truth(run: Run, drawn: Path) -> None:
    opened = Run.open(run.path)
    m = opened.manifest
    dataset = gg.open_dataset(drawn)
    scan = require_clean(dataset)
    assert scan is not None
    assert (m.state, m.why_ended, m.epochs_done) == ("finished", "all 4 epochs", 4)
    assert m.data_fingerprint == scan.fingerprint
    assert m.case_hashes == scan.hashes
    assert (m.data_format, m.patients_known, m.recipe) == ("covid-segmentation", "not known", "demo")
    assert any("unknown-patients" in warning for warning in m.data_warnings)
    with open(run.curves, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    scores = [float(row[opened.recipe.checkpoint.metric] or "nan") for row in rows]
    assert m.kept_epoch == 1 + int(np.nanargmax(scores))
    assert m.kept_value == pytest.approx(np.nanmax(scores), rel=1e-5)
    counted = np.zeros(4, int)
    for case_id in opened.split.train:
        counted += np.bincount(dataset.case(case_id).labels().ravel(), minlength=4)
    assert list(m.class_pixels.values()) == counted.tolist()
    assert m.thresholds is None
    assert m.seconds > 0
    assert {"torch", "python", "device"} <= set(m.environment)
    # Nothing of the machine's folders is told on.
    assert str(run.path.parent) not in (run.path / "run.json").read_text()


def test_the_recipe_is_stored_whole(run: Run) -> None:
    stored = recipes.load(run.path / "recipe.yaml")
    assert stored == recipes.load("demo", [*TINY, "epochs=4"])
    assert "seed: 0" in (run.path / "recipe.yaml").read_text()


def test_the_split_divides_no_volume(run: Run, folds: list[Run], drawn: Path) -> None:
    cases = {case.id: case for case in gg.open_dataset(drawn).cases}
    for one in (run, *folds):
        train, validation = set(one.split.train), set(one.split.validation)
        assert train | validation == set(cases)
        assert not {cases[i].group for i in train} & {cases[i].group for i in validation}
    assert set(folds[0].split.validation) == set(folds[1].split.train)
    assert len(run.split.validation) == pytest.approx(len(cases) / 4, abs=3)


def test_default_folders(folds: list[Run]) -> None:
    assert [run.path.parts[-2:] for run in folds] == [("runs", "demo-fold1of2"), ("runs", "demo-fold2of2")]
    assert [run.split.fold for run in folds] == ["1/2", "2/2"]
    assert default_folder(recipes.load("unet"), None) == Path("runs/unet")


def test_tuned_thresholds_are_stored(folds: list[Run]) -> None:
    for run in folds:
        assert run.manifest.thresholds is not None
        assert set(run.manifest.thresholds) == {"ground-glass", "consolidation"}
        assert all(0 < value <= 1 for value in run.manifest.thresholds.values())


def test_stopped_by_time_and_resumed(drawn: Path, tmp_path: Path, cli: Cli) -> None:
    settings = [part for setting in (*TINY, "epochs=3") for part in ("--set", setting)]
    command = ("train", "demo", "--data", drawn, "-o", tmp_path / "run", *settings)
    stopped = cli(*command, "--max-time", "0.01s")
    assert stopped.code == 0
    assert "--resume" in stopped.err
    run = Run.open(tmp_path / "run")
    assert (run.manifest.state, run.manifest.epochs_done) == ("interrupted", 1)
    # It has weights, but whoever scores it is told.
    early = gg.evaluate([run], drawn, bootstrap=0, figures=False)
    about = json.loads((early.folder / "summary.json").read_text())
    assert any("not finished" in note for note in about["notes"])
    assert cli(*command, "--resume").code == 0
    resumed = Run.open(tmp_path / "run")
    assert (resumed.manifest.state, resumed.manifest.epochs_done) == ("finished", 3)
    again = cli(*command, "--resume")
    assert again.code == 0
    assert "is finished already" in again.err
    assert Run.open(tmp_path / "run").manifest == resumed.manifest


def test_every_line_on_the_terminal_is_ours(drawn: Path, tmp_path: Path, cli: Cli) -> None:
    settings = [part for setting in (*TINY, "epochs=1") for part in ("--set", setting)]
    answer = cli("train", "demo", "--data", drawn, "-o", tmp_path / "run", *settings)
    lines = answer.err.splitlines()
    assert answer.code == 0
    assert lines[0].startswith("demo: 27 slices train, 9 validate")
    assert [line for line in lines if line.startswith("epoch ")] == [lines[-2]]
    assert lines[-1].startswith("all 1 epochs; kept epoch 1")
    assert all(line.startswith("  data warning: ") for line in lines[1:-2]), answer.err


def test_a_recipe_from_a_file_equals_its_settings(run: Run, drawn: Path, tmp_path: Path) -> None:
    """`recipe.yaml` of a run trains the same run again: same seed, same numbers."""
    again = gg.train(run.path / "recipe.yaml", drawn, out=tmp_path / "again", device="cpu")
    ours, theirs = (shutil.copy(r.curves, tmp_path / f"{i}.csv") for i, r in enumerate((run, again)))
    with open(ours, newline="") as a, open(theirs, newline="") as b:
        for first, second in zip(csv.DictReader(a), csv.DictReader(b), strict=True):
            first.pop("seconds"), second.pop("seconds")
            assert first == second


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20", 1200), (20, 1200), (0.5, 30), ("90s", 90), ("20m", 1200), ("3h", 10800), ("1.5 h", 5400), (None, None)],
)
def test_durations(text: str | float | None, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "0", "-5", "20 minutes", "1h30m", "nan", "inf"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(RecipeError, match="--max-time"):
        parse_duration(text)


def test_folds_as_text() -> None:
    assert parse_fold("2/5") == (2, 5)
    for text in ("0/5", "6/5", "1/1", "1", "a/b", "1/5/2", "-1/5", " 1/5"):
        with pytest.raises(RecipeError, match="--fold"):
            parse_fold(text)
