"""`cv`: the same folds for all, each case scored once by a run that did not see it, and nothing done twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import groundglass as gg
from groundglass import recipes
from groundglass.errors import RunError
from groundglass.learning.engine import model_of
from groundglass.model.decide import decide
from groundglass.model.predict import mean_thresholds, probabilities
from groundglass.run import Run
from groundglass.workflows.cv import CrossValidation
from tests.cli.test_bad_input import assert_refused, untouched
from tests.conftest import TINY, Cli
from tests.data.small import drawn_kaggle, kaggle

SETTINGS = [*TINY, "epochs=2", "decision.name=thresholds"]
SET = [part for setting in SETTINGS for part in ("--set", setting)]


@pytest.fixture(scope="module")
def whole(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    """Two folds of recipe `demo` and a test part, in one go. Copy it before changing it."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole") / "cv"
    return gg.cv(["demo"], drawn, out, folds=2, test=6, settings=SETTINGS, save_probabilities=True, figures=False)


def command(drawn: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("cv", "demo", "--data", drawn, "-o", out, "--folds", "2", "--test", "6", "--no-figures", *SET, *more)


def runs_of(out: Path, recipe: str = "demo") -> list[Run]:
    return [Run.open(out / recipe / f"fold{k}of2") for k in (1, 2)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return dict(torch.load(run.best, weights_only=True)["weights"])


def assert_same_runs(ours: Path, theirs: Path) -> None:
    for one, other in zip(runs_of(ours), runs_of(theirs), strict=True):
        a, b = weights(one), weights(other)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
        assert one.manifest.thresholds == other.manifest.thresholds
        assert one.split == other.split


def scored_cases(folder: Path) -> set[str]:
    with open(folder / "cases.csv", newline="") as file:
        return {row["case"] for row in csv.DictReader(file)}


# Who trains, validates and tests --------------------------------------------------------------------------------------


def test_each_case_validates_once_and_nobody_touches_the_test_part(whole: CrossValidation, drawn: Path) -> None:
    cases = {case.id: case for case in gg.open_dataset(drawn).cases}
    runs = runs_of(whole.folder)
    aside = set(runs[0].split.test)
    assert len(aside) >= 6
    assert all(set(run.split.test) == aside for run in runs)
    validated = [i for run in runs for i in run.split.validation]
    assert sorted(validated) == sorted(set(cases) - aside)
    for run in runs:
        sides = [{cases[i].group for i in ids} for ids in (run.split.train, run.split.validation, run.split.test)]
        assert len(set().union(*sides)) == sum(len(side) for side in sides)
    folder = whole.folder / "demo"
    assert scored_cases(folder / "out-of-fold") == set(validated)
    assert scored_cases(folder / "test") == aside


def test_the_folder_holds_what_its_docstring_lists(whole: CrossValidation) -> None:
    plan = json.loads((whole.folder / "cv.json").read_text())
    run = runs_of(whole.folder)[0]
    assert (plan["folds"], plan["seed"], plan["test"]) == (2, 0, 6)
    assert plan["data_fingerprint"] == run.manifest.data_fingerprint
    assert set(plan["test_ids"]) == set(run.split.test)
    assert plan["recipes"]["demo"] == run.recipe.model_dump(mode="json")
    for name in ("curves.csv", "curves.png", "demo/curves.csv", "demo/curves.png", "demo/test/summary.json"):
        assert (whole.folder / name).is_file(), name
    assert not list(whole.folder.rglob(".*"))


def test_curves_hold_every_fold_and_their_mean(whole: CrossValidation) -> None:
    with open(whole.folder / "demo" / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["fold"], row["epoch"]) for row in rows] == [(f, e) for f in ("1/2", "2/2", "mean", "sd") for e in "12"]
    first, second, mean, sd = (np.array([float(row["train/loss"]) for row in rows[i : i + 2]]) for i in (0, 2, 4, 6))
    np.testing.assert_allclose(mean, (first + second) / 2, rtol=1e-4)
    np.testing.assert_allclose(sd, abs(first - second) / np.sqrt(2), rtol=1e-2)
    assert [row["n"] for row in rows] == ["1"] * 4 + ["2"] * 4


def test_curves_of_all_recipes_are_the_means_of_each(whole: CrossValidation) -> None:
    with open(whole.folder / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(whole.folder / "demo" / "curves.csv", newline="") as file:
        theirs = {(row["fold"], row["epoch"]): row for row in csv.DictReader(file)}
    assert {(row["part"], row["measure"]) for row in rows} == {
        (part, measure) for part in ("train", "validation") for measure in ("loss", "f1_lesions")
    }
    assert len(rows) == 8
    for row in rows:
        assert (row["recipe"], row["n"]) == ("demo", "2")
        column = f"{row['part']}/{row['measure']}"
        assert row["mean"] == theirs["mean", row["epoch"]][column]
        assert row["std"] == theirs["sd", row["epoch"]][column]


def test_curves_that_are_missing_are_drawn_again(whole: CrossValidation, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    """As in a folder of an earlier groundglass, which drew them without a table."""
    out = Path(shutil.copytree(whole.folder, tmp_path / "cv"))
    (out / "curves.csv").unlink()
    (out / "curves.png").write_bytes(b"old")
    answer = cli(*command(drawn, out))
    assert answer.code == 0, answer.err
    for name in ("curves.csv", "curves.png"):
        assert (out / name).read_bytes() == (whole.folder / name).read_bytes()


# Scores that can be made again by hand --------------------------------------------------------------------------------


def test_each_prediction_is_by_the_run_that_held_the_case_out(whole: CrossValidation, drawn: Path) -> None:
    dataset, folder = gg.open_dataset(drawn), whole.folder / "demo" / "out-of-fold" / "predictions"
    for run in runs_of(whole.folder):
        model = model_of(run, "cpu")
        for case_id in run.split.validation[:3]:
            case = dataset.case(case_id)
            p = probabilities([model], case.image(), case.unit)
            written = np.load(folder / f"{case.stem}_probabilities.npy", allow_pickle=False)
            assert written.dtype == np.float16
            np.testing.assert_array_equal(written, p.astype(np.float16))
            shown = np.array(Image.open(folder / f"{case.stem}.png"))
            np.testing.assert_array_equal(shown, model.labels.decode(decide(p, model.labels, model.thresholds)))


def test_the_ensemble_is_the_mean_probability(whole: CrossValidation, drawn: Path) -> None:
    dataset = gg.open_dataset(drawn)
    models = [model_of(run, "cpu") for run in runs_of(whole.folder)]
    dice = []
    for case_id in runs_of(whole.folder)[0].split.test:
        case = dataset.case(case_id)
        p = np.mean([probabilities([model], case.image(), case.unit) for model in models], axis=0)
        folder = whole.folder / "demo" / "test" / "predictions"
        np.testing.assert_allclose(np.load(folder / f"{case.stem}_probabilities.npy"), p, atol=1e-3)
        lesions = models[0].labels.lesion_channels
        found = np.isin(decide(p.astype(np.float32), models[0].labels, mean_thresholds(models)), lesions)
        truth = np.isin(models[0].labels.encode(case.labels()), lesions)
        if truth.any():
            dice.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    test = whole.recipes[0].test
    assert test is not None
    assert test.n == len(dice)
    assert test.value == pytest.approx(np.mean(dice), abs=1e-4)


def test_evaluate_scores_the_test_part_too(whole: CrossValidation, drawn: Path, tmp_path: Path) -> None:
    runs = runs_of(whole.folder)
    both = gg.evaluate(runs, drawn, out=tmp_path / "both", part="test", bootstrap=0, figures=False)
    test = whole.recipes[0].test
    assert test is not None
    assert both.summary.benchmark("any_lesion_dice").value == pytest.approx(test.value)
    assert both.part == "test-ensemble"
    assert any("no run trained on these" in note for note in both.notes)
    held_out = gg.evaluate(runs[:1], drawn, out=tmp_path / "one", bootstrap=0, figures=False)
    assert scored_cases(held_out.folder) == set(runs[0].split.validation)
    everything = gg.evaluate(runs[:1], drawn, out=tmp_path / "all", part="all", bootstrap=0, figures=False)
    n = len(runs[0].split.test)
    assert any(f"{n} of 36 cases are the test part" in note for note in everything.notes)


def test_other_data_do_not_show_the_test_part_either(whole: CrossValidation, drawn: Path, tmp_path: Path) -> None:
    """The same images with one more make another fingerprint; who was put aside stays so."""
    other = Path(shutil.copytree(drawn, tmp_path / "other"))
    images, masks = (np.load(other / f"{name}_medseg.npy") for name in ("images", "masks"))
    np.save(other / "images_medseg.npy", np.concatenate([images, images[:1] + 7]))
    np.save(other / "masks_medseg.npy", np.concatenate([masks, masks[:1]]))
    run = runs_of(whole.folder)[0]
    result = gg.evaluate([run], other, out=tmp_path / "out", bootstrap=0, figures=False)
    assert not scored_cases(result.folder) & set(run.split.test)
    assert any("test part" in note and "left out" in note for note in result.notes)
    with pytest.raises(RunError, match="trained on other data"):
        gg.evaluate([run], other, out=tmp_path / "out", part="test", bootstrap=0, figures=False)


# Folds that leak by choice --------------------------------------------------------------------------------------------


def test_ungrouped_folds_divide_single_slices_and_say_so(drawn: Path, tmp_path: Path, cli: Cli) -> None:
    settings = [part for setting in (*TINY, "epochs=1", "checkpoint.keep=last") for part in ("--set", setting)]
    out = tmp_path / "cv"
    words = ("cv", "demo", "--data", drawn, "-o", out, "--folds", "2", "--no-figures", *settings)
    answer = cli(*words, "--ungrouped")
    assert answer.code == 0, answer.err
    cases = {case.id: case for case in gg.open_dataset(drawn).cases}
    runs = runs_of(out)
    assert sorted(i for run in runs for i in run.split.validation) == sorted(cases)
    for run in runs:
        assert not set(run.split.train) & set(run.split.validation)
        assert {cases[i].group for i in run.split.train} & {cases[i].group for i in run.split.validation}
        assert run.split.leaky.startswith("leaky by choice: the split divides ")
        certificate = run.certificate()
        assert certificate is not None
        assert (certificate.verdict, certificate.searched) == ("leaky by choice", True)
    kept = json.loads((out / "demo" / "out-of-fold" / "summary.json").read_text())
    assert sum("leaky by choice" in note for note in kept["notes"]) == 2
    assert sum("leak certificate: leaky by choice" in line for line in kept["certificate"]) == 2
    assert scored_cases(out / "demo" / "out-of-fold") == set(cases)
    shown = cli("evaluate", runs[0].path, "--data", drawn, "-o", tmp_path / "one", "--bootstrap", 0, "--no-figures")
    assert "leak certificate: leaky by choice" in shown.out.splitlines()
    assert any(line.startswith("note: fold1of2: leaky by choice") for line in shown.out.splitlines())
    # With the last epoch and argmax the held-out cases chose nothing.
    assert "chosen on" not in shown.out
    with untouched(out):
        assert_refused(cli(*words), "--ungrouped True, not False")


def test_grouped_folds_are_not_continued_without_groups(whole: CrossValidation, drawn: Path, cli: Cli) -> None:
    with untouched(whole.folder):
        assert_refused(cli(*command(drawn, whole.folder, "--ungrouped")), "--ungrouped False, not True")


# Going on -------------------------------------------------------------------------------------------------------------


def test_a_finished_cross_validation_is_left_alone(whole: CrossValidation, drawn: Path, cli: Cli) -> None:
    def stamps() -> dict[Path, int]:
        found = (path for path in whole.folder.rglob("*") if path.is_file() and path.name != "cv.json")
        return {path: path.stat().st_mtime_ns for path in found}

    before = stamps()
    answer = cli(*command(drawn, whole.folder, "--json"))
    assert answer.code == 0, answer.err
    assert json.loads(answer.out) == json.loads(json.dumps(whole.to_dict()).replace("NaN", "null"))
    assert "2 are finished already" in answer.err
    assert stamps() == before


def test_resumed_equals_uninterrupted(whole: CrossValidation, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "cv"
    stopped = cli(*command(drawn, out, "--max-time", "0.01s"))
    assert stopped.code == 0, stopped.err
    assert [run.manifest.epochs_done for run in runs_of(out)] == [1, 1]
    assert "folds 1/2, 2/2 are not finished" in stopped.out
    # Of folds that are not finished nothing is claimed.
    assert not (out / "demo" / "out-of-fold").exists()
    went_on = cli(*command(drawn, out))
    assert went_on.code == 0, went_on.err
    assert_same_runs(out, whole.folder)
    ours, theirs = (
        json.loads((folder / "demo" / "out-of-fold" / "summary.json").read_text())["benchmarks"]
        for folder in (out, whole.folder)
    )
    assert ours == theirs


def test_one_fold_of_another_recipe_in_the_same_folder(
    whole: CrossValidation, drawn: Path, tmp_path: Path, cli: Cli
) -> None:
    """Whatever its own seed, it has the same folds; its score is of that fold alone, and says so."""
    out = Path(shutil.copytree(whole.folder, tmp_path / "cv"))
    other = recipes.load("demo", [*SETTINGS, "name=other", "seed=7", "epochs=1"])
    (tmp_path / "other.yaml").write_text(other.to_yaml())
    shown = cli(
        *("cv", tmp_path / "other.yaml", "--data", drawn, "-o", out, "--folds", "2", "--test", "6"),
        *("--fold", "2", "--no-figures"),
    )
    assert shown.code == 0, shown.err
    run = Run.open(out / "other" / "fold2of2")
    assert run.split == runs_of(out)[1].split
    assert not (out / "other" / "fold1of2").exists()
    assert not (out / "other" / "test").exists()
    assert scored_cases(out / "other" / "out-of-fold") == set(run.split.validation)
    notes = json.loads((out / "other" / "out-of-fold" / "summary.json").read_text())["notes"]
    assert any("those of folds 1/2 wait" in note for note in notes)
    assert "note: other: folds 1/2 are not finished" in shown.out
    # The table is of all recipes in the folder.
    assert "demo" in shown.out


def _workers(parent: int) -> list[int]:
    """Training processes of `parent`, in the order in which they started."""
    found = []
    for thread in Path(f"/proc/{parent}/task").glob("*/children"):
        found += [int(pid) for pid in thread.read_text().split()]
    return sorted(pid for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a process by /proc")
def test_a_killed_worker_loses_only_its_own_fold(whole: CrossValidation, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "cv"
    words = [sys.executable, "-m", "groundglass", *map(str, command(drawn, out, "--jobs", "2"))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not (out / "demo" / "fold1of2" / "run.json").exists() and running.poll() is None:
            time.sleep(0.01)
        os.kill(_workers(running.pid)[0], signal.SIGKILL)
        _, err = running.communicate(timeout=300)
    assert running.returncode == 2, err
    assert err.splitlines()[-1].startswith("groundglass: demo fold 1/2: its process was killed (signal 9)")
    assert "Traceback" not in err
    assert [run.manifest.state for run in runs_of(out)] == ["training", "finished"]
    again = cli(*command(drawn, out, "--jobs", "2"))
    assert again.code == 0, again.err
    assert_same_runs(out, whole.folder)


@pytest.mark.slow
def test_a_polite_kill_leaves_all_resumable(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "cv"
    words = [sys.executable, "-m", "groundglass", *map(str, command(drawn, out, "--jobs", "2", "--set", "epochs=500"))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not all((out / "demo" / f"fold{k}of2" / "weights" / "last.ckpt").exists() for k in (1, 2)):
            assert running.poll() is None
            time.sleep(0.05)
        workers = _workers(running.pid)
        running.terminate()
        _, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert [run.manifest.state for run in runs_of(out)] == ["interrupted", "interrupted"]
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


# What is refused ------------------------------------------------------------------------------------------------------


def _other_name(folder: Path, name: str, *settings: str) -> Path:
    (folder / f"{name}.yaml").write_text(recipes.load("demo", [*SETTINGS, f"name={name}", *settings]).to_yaml())
    return folder / f"{name}.yaml"


PHANTOMS = ("--data", "phantom:4", "--folds", "2")
TYPED: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown-recipe": (("demoo", *PHANTOMS), "unknown recipe 'demoo'"),
    "no-recipe": (PHANTOMS, "missing argument"),
    "one-fold": (("demo", "--data", "phantom:4", "--folds", "1"), "--folds 1: a cross-validation needs at least 2"),
    "fold-6-of-5": (("demo", "--data", "phantom:4", "--folds", "5", "--fold", "6"), "--fold 6: there are folds 1 to 5"),
    "fold-0": (("demo", *PHANTOMS, "--fold", "0"), "--fold 0: there are folds 1 to 2"),
    "no-job": (("demo", *PHANTOMS, "--jobs", "0"), "--jobs 0"),
    "negative-test": (("demo", *PHANTOMS, "--test", "-1"), "--test -1"),
    "negative-seed": (("demo", *PHANTOMS, "--seed", "-1"), "--seed"),
    "max-time": (("demo", *PHANTOMS, "--max-time", "soon"), "--max-time soon"),
    "two-of-one-name": (("demo", "demo", *PHANTOMS), "two recipes are called 'demo'"),
    "other-validation": (("demo", "unet", *PHANTOMS), "validate on different sources (all; medseg)"),
    "no-such-source": (("demo", *PHANTOMS, "--validate-on", "medseg"), "no labelled source 'medseg'"),
    "test-too-large": (("demo", *PHANTOMS, "--test", "24"), "--test 24: only 24 cases may validate"),
    "test-leaves-one-patient": (("demo", *PHANTOMS, "--test", "18"), "2 parts need 2 groups"),
    "one-patient": (("demo", "--data", "phantom:1", "--folds", "5"), "5 parts need 5 groups"),
    "data": (("demo", "--data", "nowhere"), "nowhere: does not exist"),
}


@pytest.mark.parametrize("name", TYPED)
def test_typing_errors(name: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, fragment = TYPED[name]
    monkeypatch.chdir(tmp_path)
    with untouched(tmp_path):
        assert_refused(cli("cv", *arguments), fragment)


def test_train_refuses_a_test_part_that_cannot_be(tmp_path: Path, drawn: Path, cli: Cli) -> None:
    with untouched(tmp_path):
        train = ("train", "demo", "--data", "phantom:4", "-o", tmp_path / "run", "--test")
        assert_refused(cli(*train, "24"), "--test 24: only 24 cases may validate")
        assert_refused(cli(*train, "-1"), "--test")
        rows = ("train", "effnet-b2", "--data", drawn, "-o", tmp_path / "run", "--test", "3")
        assert_refused(cli(*rows, "--set", "split.rows={medseg: 0..5}"), "names the rows that validate")


def test_another_cross_validation_in_the_folder(whole: CrossValidation, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    out = Path(shutil.copytree(whole.folder, tmp_path / "cv"))
    other = drawn_kaggle(tmp_path / "kaggle", side=32)
    changes: list[tuple[tuple[Any, ...], str]] = [
        (("--folds", "3"), "--folds 2, not 3"),
        (("--seed", "1"), "--seed 0, not 1"),
        (("--test", "7"), "--test 6, not 7"),
        (("--validate-on", "medseg"), "--validate-on of all sources, not medseg"),
        (("--set", "epochs=3"), "another recipe 'demo' ('epochs' differs)"),
        (("--data", other), "cross-validation of other data"),
    ]
    with untouched(tmp_path):
        for more, fragment in changes:
            assert_refused(cli(*command(drawn, out, *more)), fragment)
        assert_refused(cli(*command(drawn, out / "demo" / "fold1of2")), "is a run folder")
        assert_refused(cli(*command(drawn, out / "cv.json")), "is a file")
    (out / "cv.json").write_text("{")
    with untouched(tmp_path):
        assert_refused(cli(*command(drawn, out)), "cv.json: is damaged")


def test_a_fold_whose_data_changed_is_not_resumed(
    whole: CrossValidation, drawn: Path, tmp_path: Path, cli: Cli
) -> None:
    """Also where cv.json is lost: each run knows its data."""
    out = Path(shutil.copytree(whole.folder, tmp_path / "cv"))
    path = out / "demo" / "fold2of2" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "interrupted"}))
    changed = Path(shutil.copytree(drawn, tmp_path / "changed"))
    images = np.load(changed / "images_medseg.npy")
    images[0] += 1
    np.save(changed / "images_medseg.npy", images)
    with untouched(tmp_path):
        assert_refused(cli(*command(changed, out)), "cross-validation of other data")
    (out / "cv.json").unlink()
    with untouched(tmp_path):
        assert_refused(cli(*command(changed, out)), "fold1of2: was trained on other data")
        assert_refused(cli(*command(drawn, out, "--seed", "5")), "cases are others than those of this division")


def test_weights_are_looked_for_before_anything_is_written(tmp_path: Path, cli: Cli) -> None:
    kaggle(tmp_path / "data")
    recipe = _other_name(tmp_path, "mine", "architecture={name: unet, encoder: resnet18}", "image_size=32")
    with untouched(tmp_path):
        answer = cli("cv", recipe, "--data", tmp_path / "data", "-o", tmp_path / "cv", "--folds", "2")
    assert_refused(answer, "resnet18")


def test_one_recipe_that_fails_stops_no_other(drawn: Path, tmp_path: Path, cli: Cli) -> None:
    wild = _other_name(tmp_path, "wild", "optimiser.learning_rate=1e30", "epochs=3")
    tame = _other_name(tmp_path, "tame", "epochs=1")
    words = ("cv", wild, tame, "--data", drawn, "-o", tmp_path / "cv", "--folds", "2", "--fold", "1", "--no-figures")
    answer = cli(*words)
    assert answer.code == 2
    last = answer.err.splitlines()[-1]
    assert last.startswith("groundglass: wild fold 1/2: ")
    assert "no longer a number" in last
    assert "Traceback" not in answer.err
    assert Run.open(tmp_path / "cv" / "tame" / "fold1of2").manifest.state == "finished"
    assert (tmp_path / "cv" / "tame" / "out-of-fold" / "summary.json").is_file()
