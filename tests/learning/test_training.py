"""A training that was stopped and went on is the training that was never stopped; and what a run folder promises."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import groundglass as gg
from groundglass.errors import DataError, RunError
from groundglass.labels import label_set
from groundglass.learning import training
from groundglass.learning.keeping import Keeper
from groundglass.learning.learner import Learner, Tally
from groundglass.measure.counts import stack
from groundglass.recipes import Recipe
from groundglass.run import MAX_TIME, Run
from groundglass.workflows import opening
from groundglass.workflows import train as workflow
from tests.learning import killed, tiny

AT_ONCE = 1e-9  # seconds: stop, resumable, after each epoch
ROOT = Path(__file__).parents[2]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.last, weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def kept(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.best, weights_only=True)["weights"]  # type: ignore[no-any-return]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def rows(run: Run) -> list[dict[str, str]]:
    """curves.csv as text, without the only column that may differ."""
    with open(run.curves, newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same(one: Run, other: Run) -> None:
    assert equal(weights(one), weights(other))
    assert equal(kept(one), kept(other))
    assert rows(one) == rows(other)
    ours, theirs = (Run.open(run.path).manifest for run in (one, other))
    for fact in ("state", "why_ended", "kept_epoch", "kept_value", "epochs_done", "mean", "std", "parameters"):
        assert getattr(ours, fact) == getattr(theirs, fact), fact


SCHEDULES: list[dict[str, Any]] = [
    {"name": "constant"},
    {"name": "onecycle", "step": "batch"},
    {"name": "onecycle", "step": "epoch"},
    {"name": "cosine", "step": "batch"},
    {"name": "cosine", "step": "epoch"},
    {"name": "plateau", "patience": 0, "metric": "train/f1_consolidation"},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s['name']}-{s.get('step', '')}")
def test_a_resumed_training_equals_an_uninterrupted_one(schedule: dict[str, Any], tmp_path: Path) -> None:
    recipe = tiny.recipe(
        schedule=schedule, augmentation=tiny.MOVES, architecture={**tiny.OWN, "dropout": 0.4}, epochs=4
    )
    whole = tiny.fitted(tmp_path / "whole", recipe)
    parts = tiny.fitted(tmp_path / "parts", recipe, max_seconds=AT_ONCE)
    assert (parts.manifest.state, parts.manifest.epochs_done) == ("interrupted", 1)
    assert not equal(weights(parts), weights(whole))
    parts = tiny.resumed(parts, max_seconds=AT_ONCE)
    assert parts.manifest.epochs_done == 2
    parts = tiny.resumed(parts)
    assert parts.manifest.why_ended == f"all {recipe.epochs} epochs"
    assert_same(parts, whole)
    rates = {row["learning_rate"] for row in rows(whole)}
    assert (len(rates) == 1) == (schedule["name"] == "constant")


@pytest.mark.parametrize("optimiser", [{"name": "sgd", "momentum": 0.9}, {"name": "adamw", "weight_decay": 0.1}])
def test_early_stopping_kept_improvements_and_momentum_survive_a_resume(
    optimiser: dict[str, Any], tmp_path: Path
) -> None:
    recipe = tiny.recipe(
        optimiser={"learning_rate": 0.02, **optimiser},
        epochs=8,
        early_stopping={"metric": "validation/loss", "patience": 2, "min_delta": 0.05},
        checkpoint={"metric": "validation/loss", "every_improvement": 2},
    )
    whole = tiny.fitted(tmp_path / "whole", recipe)
    parts = tiny.fitted(tmp_path / "parts", recipe, max_seconds=AT_ONCE)
    while parts.manifest.why_ended == MAX_TIME:
        parts = tiny.resumed(parts, max_seconds=AT_ONCE)
    assert_same(parts, whole)


def test_the_same_seed_gives_the_same_training_and_another_does_not(tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> Run:
        return tiny.fitted(tmp_path / name, tiny.recipe(seed=seed, augmentation=tiny.MOVES, epochs=2))

    one, again, other = trained("one", 3), trained("again", 3), trained("other", 4)
    assert_same(one, again)
    assert not equal(weights(one), weights(other))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["tu-tf_efficientnet_lite0", "efficientnet-b0"])
def test_an_efficientnet_with_drop_path_resumes_to_the_bit(encoder: str, tmp_path: Path) -> None:
    recipe = tiny.recipe(
        architecture={"name": "unet", "encoder": encoder, "encoder_weights": "none"},
        augmentation=tiny.MOVES,
        schedule={"name": "onecycle"},
        image_size=64,
        epochs=2,
    )
    whole = tiny.fitted(tmp_path / "whole", recipe, train=6, validation=2)
    parts = tiny.fitted(tmp_path / "parts", recipe, train=6, validation=2, max_seconds=AT_ONCE)
    assert_same(tiny.resumed(parts, train=6, validation=2), whole)


class Broken(Exception):
    pass


def test_an_error_in_the_middle_of_an_epoch_leaves_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.recipe(augmentation=tiny.MOVES, schedule={"name": "onecycle"}, architecture=tiny.OWN)
    whole = tiny.fitted(tmp_path / "whole", recipe)
    step, calls = Learner.training_step, []

    def breaking(self: Learner, batch: Any, index: int) -> torch.Tensor:
        calls.append(index)
        if len(calls) == 5:  # the second batch of the second epoch
            raise Broken
        return step(self, batch, index)

    monkeypatch.setattr(Learner, "training_step", breaking)
    with pytest.raises(Broken):
        tiny.fitted(tmp_path / "parts", recipe)
    monkeypatch.undo()
    left = Run.open(tmp_path / "parts")
    assert (left.manifest.state, left.manifest.epochs_done) == ("interrupted", 1)
    assert_same(tiny.resumed(left), whole)


def test_ctrl_c_is_raised_again_after_the_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(architecture=tiny.OWN)
    whole = tiny.fitted(tmp_path / "whole", recipe)
    step, calls = Learner.training_step, []

    def pressing(self: Learner, batch: Any, index: int) -> torch.Tensor:
        calls.append(index)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(Learner, "training_step", pressing)
    with pytest.raises(KeyboardInterrupt):
        tiny.fitted(tmp_path / "parts", recipe)
    monkeypatch.undo()
    left = Run.open(tmp_path / "parts")
    assert (left.manifest.state, left.manifest.why_ended) == ("interrupted", "stopped by the user")
    assert_same(tiny.resumed(left), whole)


def test_a_tiny_training_learns(tmp_path: Path) -> None:
    recipe = tiny.recipe(epochs=15, optimiser={"name": "adam", "learning_rate": 0.02})
    run = tiny.fitted(tmp_path / "run", recipe, train=12, validation=4)
    with open(run.curves, newline="", encoding="utf-8") as file:
        curve = [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(file)]
    assert curve[-1]["train/loss"] < 0.6 * curve[0]["train/loss"]
    assert curve[-1]["validation/f1_lesions"] > curve[0]["validation/f1_lesions"] + 0.1
    assert run.manifest.kept_value == max(row["validation/f1_lesions"] for row in run_rows(run))


def run_rows(run: Run) -> list[dict[str, float]]:
    """Every epoch's numbers, unrounded, as the checkpoint holds them."""
    state = torch.load(run.last, weights_only=True)["callbacks"]
    return next(value["rows"] for key, value in state.items() if key.startswith("Keeper"))  # type: ignore[no-any-return]


# --- early stopping and kept weights, on scores that are given --------------------------------------------------------


def scripted(
    folder: Path, recipe: Recipe, losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, list[int]]:
    """A real training whose validation loss is told; the epochs at which weights were kept."""
    told = iter(losses)
    scores, written = Tally.scores, []

    def tell(self: Tally) -> dict[str, float]:
        found = scores(self)
        # The keeper asks for the training part first, then for validation.
        tell.calls += 1  # type: ignore[attr-defined]
        return {**found, "loss": next(told)} if tell.calls % 2 == 0 else found  # type: ignore[attr-defined]

    tell.calls = 0  # type: ignore[attr-defined]
    write = Keeper._write

    def writing(path: Path, content: Any) -> None:
        written.append(tell.calls // 2)  # type: ignore[attr-defined]
        write(path, content)

    monkeypatch.setattr(Tally, "scores", tell)
    monkeypatch.setattr(Keeper, "_write", staticmethod(writing))
    return tiny.fitted(folder, recipe, train=4, validation=1), written


def watched(patience: int | None, every: int, epochs: int) -> Recipe:
    stopping = None if patience is None else {"metric": "validation/loss", "patience": patience}
    return tiny.recipe(
        architecture=tiny.OWN,
        epochs=epochs,
        early_stopping=stopping,
        checkpoint={"metric": "validation/loss", "every_improvement": every},
    )


def test_training_stops_after_its_patience_without_a_better_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Improves in epochs 1, 2 and 5; three stale epochs after that.
    losses = [1.0, 0.8, 0.9, 0.8, 0.7, 0.75, 0.7, 0.9, 0.1, 0.1]
    run, _ = scripted(tmp_path / "run", watched(3, 1, 10), losses, monkeypatch)
    assert run.manifest.epochs_done == 8
    assert run.manifest.why_ended == "early stopping: 3 epochs without a better validation/loss"
    assert (run.manifest.kept_epoch, run.manifest.kept_value) == (5, 0.7)


def test_without_early_stopping_all_epochs_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, written = scripted(tmp_path / "run", watched(None, 1, 5), [1.0, 2.0, 3.0, 4.0, 0.5], monkeypatch)
    assert (run.manifest.epochs_done, run.manifest.why_ended) == (5, "all 5 epochs")
    assert written == [1, 5]


def test_system_000_keeps_every_fifth_improvement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Improvements, counted: epochs 1, 2, 4, 5, 6 (the fifth), 7, 9, 10, 11, 12 (the tenth), 13.
    losses = [1.0, 0.9, 0.95, 0.8, 0.7, 0.6, 0.55, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3]
    run, written = scripted(tmp_path / "run", watched(7, 5, 13), losses, monkeypatch)
    assert written == [1, 6, 12]
    assert (run.manifest.kept_epoch, run.manifest.kept_value) == (12, 0.35)


def test_the_last_epoch_is_kept_whatever_its_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = watched(None, 1, 4)
    recipe = recipe.model_copy(update={"checkpoint": recipe.checkpoint.model_copy(update={"keep": "last"})})
    run, written = scripted(tmp_path / "run", recipe, [0.3, 0.2, 0.9, 0.8], monkeypatch)
    assert written == [1, 2, 3, 4]
    assert (run.manifest.kept_epoch, run.manifest.kept_value) == (4, 0.8)


# --- what a run folder promises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["version", "missing", "empty", "torn"])
def test_a_checkpoint_that_cannot_be_resumed_is_one_line(fault: str, tmp_path: Path) -> None:
    run = tiny.fitted(tmp_path / "run", tiny.recipe(architecture=tiny.OWN), max_seconds=AT_ONCE)
    if fault == "version":
        checkpoint = torch.load(run.last, weights_only=True)
        torch.save({**checkpoint, "groundglass_format": 99}, run.last)
    elif fault == "missing":
        run.last.unlink()
    else:
        run.last.write_bytes(run.last.read_bytes()[:100] if fault == "torn" else b"")
    with pytest.raises(RunError) as caught:
        tiny.resumed(run)
    assert str(run.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert fault != "version" or "has format 99; this groundglass resumes format 1" in str(caught.value)


def test_statistics_come_from_the_training_part_and_its_named_sources() -> None:
    data = tiny.dataset(4, 4)
    rule = {"name": "standardise", "percentiles": [5, 95], "sources": ["radiopaedia"]}
    recipe = tiny.recipe(intensity={"clip_hu": [-1000, 200], "scale": rule})
    mean, std = training.measure_training_part(recipe, data.cases)
    values = np.concatenate([np.clip(case.image(), -1000, 200).ravel() for case in data.cases[4:]])
    low, high = np.percentile(values, (5, 95))
    inside = values[(values >= low) & (values <= high)]
    assert (mean, std) == (pytest.approx(inside.mean(), abs=0.01), pytest.approx(inside.std(), abs=0.01))
    with pytest.raises(DataError, match="no training case comes from radiopaedia"):
        training.measure_training_part(recipe, data.cases[:4])
    assert training.measure_training_part(tiny.recipe(), data.cases) == (None, None)


def test_classes_are_counted_over_the_training_part() -> None:
    part = tiny.cases(3)
    counts = training.count_classes(label_set("ct4"), part)
    every = np.concatenate([case.labels().ravel() for case in part])
    assert list(counts.values()) == np.bincount(every, minlength=4).tolist()


def test_validation_while_training_is_what_evaluate_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "open_dataset", lambda _: tiny.dataset(10, 4))
    monkeypatch.setattr(workflow, "curves", lambda *_, **__: None)
    recipe = tiny.recipe(epochs=1, augmentation=tiny.MOVES, optimiser={"name": "adam", "learning_rate": 0.03})
    run = gg.train(recipe, "tiny", tmp_path / "run", device="cpu")
    (measured,) = run_rows(run)
    summary = gg.evaluate([run], "tiny", bootstrap=0, figures=False, device="cpu").summary
    assert {case.case for case in summary.cases} == set(run.split.validation)
    tally = Tally(summary.labels)
    tally.matrix = stack(summary.cases).sum(axis=0)
    expected = {k: v for k, v in tally.scores().items() if k != "loss"}
    assert {k: measured[f"validation/{k}"] for k in expected} == expected
    for name in summary.labels.classes:
        assert summary.row(name, "dice", "pooled").value == pytest.approx(expected[f"f1_{name}"])
    pooled = [summary.row(name, "iou", "pooled").value for name in summary.labels.classes]
    assert expected["miou"] == pytest.approx(np.nanmean(pooled))


# --- ends that nobody announces ---------------------------------------------------------------------------------------

EXPECTED = {"run.json", "recipe.yaml", "split.json", "curves.csv", "weights/best.pt", "weights/last.ckpt"}


def visible(folder: Path) -> set[str]:
    """Files that a reader would take for real: not hidden, not TensorBoard's growing logs."""
    found = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")}
    return {name for name in found if not name.startswith("tensorboard/")}


@pytest.mark.slow
def test_a_killed_training_leaves_whole_files_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.learning.killed", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        assert child.stdout.readline() == "2\n"
        time.sleep(0.05)  # within the third epoch
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert visible(folder) == EXPECTED
    left = Run.open(folder)
    assert left.manifest.state == "training"
    assert 2 <= left.manifest.epochs_done < 6
    json.loads((folder / "run.json").read_text())
    assert len(rows(left)) == left.manifest.epochs_done
    whole = tiny.fitted(tmp_path / "whole", killed.RECIPE, train=40)
    assert_same(tiny.resumed(left, train=40), whole)


def limited(size: int) -> Any:
    """Runs in the child: no file may grow beyond `size` bytes, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_exit_code_2_and_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small = ["image_size=32", "architecture={name: plain-unet, base_width: 8}", "epochs=2", "batch_size=8"]
    first = gg.train("demo", "phantom:4", folder, max_time="0.001s", device="cpu", settings=small)
    assert first.manifest.epochs_done == 1
    before = {name: (folder / name).read_bytes() for name in visible(folder)}
    size = first.last.stat().st_size
    command = [sys.executable, "-m", "groundglass", "train", "demo", "--data", "phantom:4", "-o", str(folder)]
    command += ["--resume", "--device", "cpu", *(word for setting in small for word in ("--set", setting))]
    done = subprocess.run(command, preexec_fn=limited(size // 2), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("groundglass:")]
    assert len(errors) == 1
    assert "cannot be written" in errors[0]
    assert "Traceback" not in done.stderr
    for name in ("weights/last.ckpt", "curves.csv", "recipe.yaml", "split.json"):
        assert (folder / name).read_bytes() == before[name], name
    assert not [f for f in folder.rglob(".*") if f.is_file()]
    finished = gg.train("demo", "phantom:4", folder, resume=True, device="cpu", settings=small)
    assert (finished.manifest.state, finished.manifest.epochs_done) == ("finished", 2)
    whole = gg.train("demo", "phantom:4", tmp_path / "whole", device="cpu", settings=small)
    assert equal(weights(finished), weights(whole))
