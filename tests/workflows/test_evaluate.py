"""`evaluate`: the right cases, the right numbers, and every reason for doubt said aloud."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

import groundglass as gg
from groundglass.data import scan
from groundglass.errors import RunError
from groundglass.run import Run
from groundglass.workflows.evaluate import Evaluation
from tests.conftest import Cli
from tests.data.small import drawn_kaggle

LESIONS = {"ground-glass": 1, "consolidation": 2}


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def scored(result: Evaluation) -> list[str]:
    return list(dict.fromkeys(row["case"] for row in table(result.folder / "cases.csv")))


def quick(runs: list[Run], data: Path, out: Path, **options: Any) -> Evaluation:
    return gg.evaluate(runs, data, out=out, bootstrap=0, figures=False, **options)


def test_held_out_cases_and_no_others_are_scored(run: Run, drawn: Path, tmp_path: Path) -> None:
    result = quick([run], drawn, tmp_path)
    assert scored(result) == list(run.split.validation)
    about = json.loads((tmp_path / "summary.json").read_text())
    assert (about["part"], about["tta"], about["recipe"]) == ("held-out", "none", "demo")
    assert about["data_fingerprints"] == [run.manifest.data_fingerprint]
    assert about["scored_fingerprint"] == run.manifest.data_fingerprint
    assert any("patients are not known" in note for note in about["notes"])
    assert "the kept epoch was chosen on these very cases; expect less on new ones" in about["notes"]
    assert list(result.notes) == about["notes"]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("cases.csv", "summary.csv", "negatives.csv", "cohorts.csv", "summary.json", "measured.json"),
    }


@pytest.mark.parametrize("tta", ["none", "flips"])
def test_the_numbers_are_those_of_what_predict_writes(tta: Any, run: Run, drawn: Path, tmp_path: Path) -> None:
    """scikit-learn on the files of `predict` and the masks of the data set gives the table of `evaluate`."""
    summary = quick([run], drawn, tmp_path / "tables", tta=tta).summary
    cases = [gg.open_dataset(drawn).case(case_id) for case_id in run.split.validation]
    np.save(tmp_path / "held_out.npy", np.stack([case.image() for case in cases]))
    written = gg.predict(run, [tmp_path / "held_out.npy"], tmp_path / "masks", tta=tta)
    predicted = np.load(written[0])
    truth = np.stack([case.labels() for case in cases])
    assert {1, 2} & set(np.unique(predicted)), "a network that finds nothing proves nothing"
    for name, value in LESIONS.items():
        f1 = f1_score(truth.ravel() == value, predicted.ravel() == value, zero_division=0)
        assert summary.row(name, "dice", "pooled").value == pytest.approx(f1, abs=1e-9)
    any_f1 = f1_score(np.isin(truth, (1, 2)).ravel(), np.isin(predicted, (1, 2)).ravel())
    assert summary.row("any lesion", "dice", "pooled").value == pytest.approx(any_f1, abs=1e-9)
    assert any_f1 > 0
    per_image = [
        f1_score(np.isin(t, (1, 2)).ravel(), np.isin(p, (1, 2)).ravel())
        for t, p in zip(truth, predicted, strict=True)
        if np.isin(t, (1, 2)).any()
    ]
    assert summary.row("any lesion", "dice", "per image, positives").value == pytest.approx(np.mean(per_image))
    accuracy = float(np.mean(truth == predicted))
    assert summary.benchmark("pixel_accuracy").value == pytest.approx(accuracy)


def test_tables_and_summary_are_the_same_numbers(run: Run, drawn: Path, tmp_path: Path) -> None:
    result = gg.evaluate([run], drawn, out=tmp_path, bootstrap=40, figures=False)
    rows = table(tmp_path / "summary.csv")
    assert len(rows) == len(result.summary.rows())
    for written, row in zip(rows, result.summary.rows(), strict=True):
        assert written["class"] == row["class"]
        value = float(written["value"] or "nan")
        assert value == pytest.approx(row["value"], rel=1e-5, nan_ok=True)
    drawn_rows = [row for row in rows if row["class"] == "any lesion" and row["low"]]
    assert drawn_rows
    assert all(float(row["low"]) <= float(row["high"]) for row in drawn_rows)


def test_without_resamples_there_are_no_intervals(run: Run, drawn: Path, tmp_path: Path) -> None:
    result = quick([run], drawn, tmp_path)
    assert all(row["low"] == row["high"] == "" for row in table(tmp_path / "summary.csv"))
    assert json.loads((tmp_path / "summary.json").read_text())["averages"][0]["low"] is None
    assert result.summary.n_boot == 0


def test_folds_are_pooled_out_of_fold(folds: list[Run], drawn: Path, tmp_path: Path) -> None:
    """Every case once, by the run that did not train on it, with thresholds that its own fold did not choose: of two
    folds, the other's."""
    pooled = quick(folds, drawn, tmp_path / "pooled")
    together = table(pooled.folder / "cases.csv")
    alone: list[dict[str, str]] = []
    for k, (run, other) in enumerate(zip(folds, folds[::-1], strict=True)):
        crossed = Run.open(shutil.copytree(run.path, tmp_path / f"run{k}"))
        crossed.manifest.thresholds = other.manifest.thresholds
        crossed.save()
        alone += table(quick([crossed], drawn, tmp_path / str(k)).folder / "cases.csv")
    known = {case.id for case in gg.open_dataset(drawn).cases}
    assert set(scored(pooled)) == known
    assert len(scored(pooled)) == len(known)

    def key(row: dict[str, str]) -> tuple[str, str]:
        return row["case"], row["class"]

    assert {row.pop("part") for row in together} == {"out-of-fold"}
    assert {row.pop("part") for row in alone} == {"held-out"}
    assert sorted(together, key=key) == sorted(alone, key=key)
    about = json.loads((pooled.folder / "summary.json").read_text())
    assert about["part"] == pooled.part == "out-of-fold"
    assert any(note.startswith("the kept epoch was chosen on these") for note in about["notes"])
    assert any("tuned on the held-out cases of the other folds" in note for note in about["notes"])


@pytest.mark.slow
def test_each_kind_of_score_has_its_own_name_and_folder(folds: list[Run], drawn: Path, tmp_path: Path) -> None:
    copies = [Run.open(shutil.copytree(run.path, tmp_path / run.path.name)) for run in folds]
    other = drawn_kaggle(tmp_path / "other")
    np.save(other / "images_medseg.npy", np.load(other / "images_medseg.npy") + 1.0)
    named = {}
    for runs in (copies, copies[:1]):
        for data, part in ((drawn, "held-out"), (drawn, "all"), (other, "held-out"), (other, "all")):
            result = gg.evaluate(runs, data, part=part, bootstrap=0, figures=False)
            about = json.loads((result.folder / "summary.json").read_text())
            assert about["part"] == result.part
            assert about["scored_fingerprint"] == scan(gg.open_dataset(data)).fingerprint
            for name in ("cases.csv", "summary.csv", "negatives.csv"):
                assert {row["part"] for row in table(result.folder / name)} == {result.part}
            named[result.part] = result.folder
    assert set(named) == {
        *("out-of-fold", "all-pooled", "ensemble", "ensemble-all"),
        *("held-out", "all", "other-data", "other-data-all"),
    }
    assert len(set(named.values())) == len(named)
    assert all(folder.parent == copies[0].path / "evaluation" for folder in named.values())


@pytest.mark.parametrize("part", ["train", "all"])
def test_anything_but_held_out_is_flagged(part: Any, run: Run, drawn: Path, tmp_path: Path) -> None:
    result = quick([run], drawn, tmp_path, part=part)
    expected = set(run.split.train) | (set(run.split.validation) if part == "all" else set())
    assert set(scored(result)) == expected
    about = json.loads((tmp_path / "summary.json").read_text())
    assert about["part"] == part
    inside = f"{len(run.split.train)} of {len(expected)} cases were trained on: this is not a held-out score"
    assert inside in about["notes"]
    assert "these very cases" not in " ".join(about["notes"])


def test_copies_of_training_cases_in_other_data_are_left_out(run: Run, drawn: Path, tmp_path: Path) -> None:
    other = drawn_kaggle(tmp_path / "other")
    images = np.load(other / "images_medseg.npy")
    images[3:] += 1.0  # rows 0..2 stay exact copies
    np.save(other / "images_medseg.npy", images)
    trained = {i for i in run.split.train if i.startswith("radiopaedia/") or i in {f"medseg/{r:03d}" for r in range(3)}}
    result = quick([run], other, tmp_path / "tables")
    known = {case.id for case in gg.open_dataset(other).cases}
    assert set(scored(result)) == known - trained
    notes = json.loads((tmp_path / "tables" / "summary.json").read_text())["notes"]
    assert f"{len(trained)} cases have the very pixels of a training case and were left out" in notes
    assert any("other data than the run was trained on" in note for note in notes)


def test_nothing_left_to_score_is_an_error(run: Run, drawn: Path, tmp_path: Path) -> None:
    """Other data that hold nothing but training cases."""
    case = next(case for case in gg.open_dataset(drawn).cases if case.id == run.split.train[0])
    np.save(tmp_path / "a.npy", case.image())
    np.save(tmp_path / "a_mask.npy", case.labels())
    (tmp_path / "manifest.csv").write_text("patient,image,mask\np,a.npy,a_mask.npy\n")
    (tmp_path / "dataset.yaml").write_text("labels: {1: ground-glass, 2: consolidation, 3: lung}\n")
    with pytest.raises(RunError, match="no case of this data is held-out"):
        quick([run], tmp_path, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_the_command_prints_what_python_returns(run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    options = ("--data", drawn, "-o", tmp_path / "tables", "--bootstrap", "20", "--no-figures")
    answer = cli("evaluate", run.path, *options, "--json")
    assert answer.code == 0
    result = gg.evaluate([run], drawn, out=tmp_path / "again", bootstrap=20, figures=False)
    printed = json.loads(answer.out)
    stored = json.loads((tmp_path / "tables" / "summary.json").read_text())
    assert printed == {key: stored[key] for key in printed}
    dice = next(row["value"] for row in printed["benchmarks"] if row["metric"] == "any_lesion_dice")
    assert dice == pytest.approx(result.summary.benchmark("any_lesion_dice").value)
    assert (printed["part"], printed["notes"]) == (result.part, list(result.notes))
    shown = cli("evaluate", run.path, *options)
    assert "any_lesion_dice" in shown.out
    assert f"{dice:.3f}" in shown.out
    assert all(f"note: {note}\n" in shown.out for note in result.notes)
    assert str(tmp_path / "tables") in shown.out.replace("\n", "")


@pytest.mark.slow
def test_figures_lie_in_the_run(run: Run, folds: list[Run], drawn: Path, tmp_path: Path) -> None:
    result = gg.evaluate([run], drawn, out=tmp_path / "one", bootstrap=0)
    assert {path.parent for path in result.figures} == {run.figures}
    names = {path.stem for path in result.figures}
    assert {"images", "truth_prediction", "class_map_002", "categories_000", "confusion", "curves"} <= names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in result.figures)
    trained = gg.evaluate([run], drawn, out=tmp_path / "train", bootstrap=0, part="train")
    assert {path.parent for path in trained.figures} == {tmp_path / "train" / "figures"}
    pooled = gg.evaluate(folds, drawn, out=tmp_path / "pooled", bootstrap=0)
    assert {path.parent for path in pooled.figures} == {tmp_path / "pooled" / "figures"}
    assert "curves" not in {path.stem for path in pooled.figures}
