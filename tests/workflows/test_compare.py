"""`compare`: evaluate's own numbers side by side, masks of anyone included, and nothing that cannot be compared."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import groundglass as gg
from groundglass.errors import RunError
from groundglass.files import WriteError
from groundglass.measure.record import FILE, Record, read_record
from groundglass.run import Run
from groundglass.workflows.compare import compare
from groundglass.write.masks import write_npy, write_png
from tests.cli.test_bad_input import assert_refused, untouched
from tests.conftest import TINY, Cli

ROWS = "split={name: rows, rows: {medseg: 0..11}}"


@pytest.fixture(scope="module")
def seeds(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of one recipe that differ by their seed, and a smaller network; all evaluated on the medseg slices."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("seeds")
    made = []
    for name, settings in (
        ("seed0", ["epochs=4"]),
        ("seed1", ["epochs=4", "seed=1"]),
        ("small", ["epochs=1", "architecture.base_width=2"]),
    ):
        run = gg.train("demo", drawn, out=folder / name, settings=[*TINY, ROWS, *settings])
        gg.evaluate([run], drawn, bootstrap=60, figures=False)
        made.append(run.path)
    return made


@pytest.fixture
def copies(seeds: list[Path], tmp_path: Path) -> list[Path]:
    """The same where they may be changed."""
    return [Path(shutil.copytree(path, tmp_path / "runs" / path.name)) for path in seeds]


@pytest.fixture
def masks(seeds: list[Path], drawn: Path, tmp_path: Path) -> Path:
    """What `predict` writes for the held-out slices of the first run, each by itself."""
    folder = tmp_path / "slices"
    cases = gg.open_dataset(drawn)
    for case_id in Run.open(seeds[0]).split.validation:
        case = cases.case(case_id)
        write_npy(folder / f"{case.stem}.npy", [case.image()], None)
    gg.predict(seeds[0], [folder], tmp_path / "masks", save_probabilities=True)
    return tmp_path / "masks"


def summary(run: Path, part: str = "held-out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation" / part / "summary.json").read_text())
    return found


def number(value: float | None) -> float:
    return np.nan if value is None else value


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# The numbers ----------------------------------------------------------------------------------------------------------


def test_the_table_holds_what_evaluate_says(seeds: list[Path], tmp_path: Path) -> None:
    found = compare(seeds, out=tmp_path / "out", bootstrap=0).comparison
    assert found.names == ("seed0", "seed1", "small")
    for row, run in enumerate(seeds):
        said = summary(run)
        scores = {score["metric"]: score["value"] for score in said["benchmarks"]}
        assert found.cells["any_lesion_dice"][row].value == pytest.approx(scores["any_lesion_dice"])
        for average in said["averages"]:
            name = f"{average['class'].replace(' ', '_')}_{average['metric']}"
            if average["average"] == "per image, positives" and name in found.cells:
                cell = found.cells[name][row]
                assert cell.value == pytest.approx(number(average["value"]), nan_ok=True)
                assert cell.n == average["n"]
        for boundary in said["boundaries"]["rows"]:
            cell = found.cells[f"{boundary['class'].replace(' ', '_')}_{boundary['measure']}"][row]
            assert cell.value == pytest.approx(number(boundary["value"]), nan_ok=True)
    assert found.cells["any_lesion_dice"][0].value > 0, "a network that finds nothing proves nothing"


def test_the_files_say_the_same(seeds: list[Path], tmp_path: Path) -> None:
    done = compare(seeds[:2], out=tmp_path / "out", latex=True, csv=tmp_path / "table.csv", bootstrap=50)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"comparison.csv", "pairs.csv", "comparison.json", "comparison.tex", "learning.csv"}
    assert files == tables | {"paired.png", "learning.png"}
    rows = table(tmp_path / "table.csv")
    assert rows == table(tmp_path / "out" / "comparison.csv")
    cells = done.comparison.cells["lung_surface_dice"]
    assert [float(row["lung_surface_dice"]) for row in rows] == [pytest.approx(c.value, rel=1e-5) for c in cells]
    assert {row["any_lesion_tolerance"] for row in rows} == {"2"}
    assert {row["distance_unit"] for row in rows} == {"px"}
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert stored["pairs"][0]["text"] == table(tmp_path / "out" / "pairs.csv")[0]["text"]
    assert stored["runs"][1]["measures"]["any_lesion_dice"]["value"] == pytest.approx(
        done.comparison.cells["any_lesion_dice"][1].value
    )
    compare(seeds[:2], out=tmp_path / "out", bootstrap=0)
    assert not (tmp_path / "out" / "comparison.tex").exists(), "a table of another comparison beside this one's"


def test_a_record_holds_cost_protocol_and_no_patient(seeds: list[Path]) -> None:
    record = read_record(seeds[0] / "evaluation" / "held-out" / FILE)
    run = Run.open(seeds[0])
    assert set(record.ids) == set(run.split.validation)
    assert record.cost.parameters == run.manifest.parameters
    seconds = sorted(float(row["seconds"]) for row in table(run.curves))
    assert record.cost.seconds_per_epoch == pytest.approx(np.median(seconds), rel=1e-4)
    assert (record.cost.networks, record.cost.side) == (1, 64)
    assert min(record.cost.gflops or 0, record.cost.seconds_per_image or 0, record.cost.peak_memory_mb or 0) > 0
    assert {found.label for found in record.protocols} == {"any lesion", "ground-glass", "consolidation"}
    assert summary(seeds[0])["protocols"][0]["n"] == record.protocols[0].n
    assert [case.cluster for case in record.cases] == list(range(1, 13))


def test_repeats_are_grouped(seeds: list[Path], tmp_path: Path, cli: Cli) -> None:
    found = compare(seeds, out=tmp_path / "out", bootstrap=0).comparison
    (repeats,) = found.repeats
    values = [cell.value for cell in found.cells["any_lesion_dice"][:2]]
    assert (repeats.name, repeats.runs, repeats.spread.n) == ("demo", (0, 1), 2)
    assert repeats.spread.mean == pytest.approx(np.mean(values))
    assert repeats.spread.sd == pytest.approx(np.std(values, ddof=1))
    answer = cli("compare", *seeds, "-o", tmp_path / "out", "--bootstrap", 0)
    assert answer.code == 0
    assert "repeats with other seeds" in answer.out
    assert all(f"  {pair.text}\n" in answer.out for pair in found.pairs)
    assert all(f"note: {note}\n" in answer.out for note in found.notes)


def test_the_command_prints_what_it_writes(seeds: list[Path], tmp_path: Path, cli: Cli) -> None:
    options = ("--bootstrap", "30", "--metric", "ground-glass_recall", "-o", tmp_path / "out", "--json")
    answer = cli("compare", *seeds[:2], *options)
    assert json.loads(answer.out) == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert json.loads(answer.out)["metric"] == "ground-glass_recall"


def test_what_was_learned_is_drawn_of_runs_that_have_curves(
    copies: list[Path], masks: Path, drawn: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for named in (copies[:2], [path / "evaluation" / "held-out" for path in copies[:2]]):
        done = compare(named, out=out, bootstrap=0).comparison
        rows = table(out / "learning.csv")
        assert [row["recipe"] for row in rows] == [name for name in done.names for _ in range(16)]
        own = table(Run.open(copies[1]).curves)
        last = next(row for row in reversed(rows) if (row["part"], row["measure"]) == ("train", "f1_lesions"))
        assert (last["epoch"], last["mean"], last["n"]) == ("4", own[-1]["train/f1_lesions"], "1")
        assert (out / "learning.png").is_file()
        (out / "learning.csv").unlink()
    # Masks have none, nor have the weights of an evaluation that were trained on since.
    compare([copies[0], masks], drawn, out=out, bootstrap=0)
    assert {row["recipe"] for row in table(out / "learning.csv")} == {"seed0"}
    weights = copies[0] / "weights" / "best.pt"
    weights.write_bytes(weights.read_bytes() + b"more")
    compare([copies[0] / "evaluation" / "held-out", masks], drawn, out=out, bootstrap=0)
    assert not list(out.glob("learning.*")), "curves of another comparison beside this one's tables"


def test_damaged_curves_are_refused(copies: list[Path], tmp_path: Path, cli: Cli) -> None:
    (copies[1] / "curves.csv").write_text("epoch,train/loss\nsoon,1\n")
    with untouched(tmp_path):
        answer = cli("compare", *copies[:2], "-o", tmp_path / "none")
    assert_refused(answer, "seed1: curves: a row has no number in its column 'epoch'")


# Masks ----------------------------------------------------------------------------------------------------------------


def test_masks_of_predict_differ_from_their_run_by_nothing(
    seeds: list[Path], masks: Path, drawn: Path, tmp_path: Path
) -> None:
    found = compare([seeds[0], masks], drawn, "lung_dice", tmp_path / "out", bootstrap=40).comparison
    for cells in found.cells.values():
        assert cells[0].value == pytest.approx(cells[1].value, nan_ok=True)
    assert (found.pairs[0].difference.mean, found.pairs[0].difference.p) == (0, 1)
    assert "is not shown to be better" in found.pairs[0].text
    notes = " ".join(found.notes)
    assert "masks: masks from elsewhere: nobody knows which of these cases their maker has seen" in notes
    assert "masks carry no probabilities" in notes
    assert found.records[1].cost.parameters is None
    soft, hard = (record.protocol("any lesion") for record in found.records)
    assert soft is not None
    assert hard is not None
    assert soft.n == hard.n
    assert found.records[0].cases[0].confusion == found.records[1].cases[0].confusion


def test_masks_can_be_a_stack_named_by_the_file_of_images(
    seeds: list[Path], masks: Path, drawn: Path, tmp_path: Path
) -> None:
    """As `predict` writes it for images_medseg.npy."""
    gg.predict(seeds[0], [drawn / "images_medseg.npy"], tmp_path / "stacked")
    single, stacked = (
        compare([named, seeds[1]], drawn, out=tmp_path / "out", bootstrap=0).comparison
        for named in (masks, tmp_path / "stacked")
    )
    assert single.records[0].cases == stacked.records[0].cases
    with pytest.raises(RunError, match="stacked: is the same run as masks"):
        compare([masks, tmp_path / "stacked", seeds[1]], drawn, out=tmp_path / "out")


def phantoms(
    folder: Path, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda labels: labels
) -> Path:
    for case in gg.open_dataset("phantom:4").cases:
        write_png(folder / f"{case.stem}.png", change(case.labels()))
    return folder


def test_masks_alone_are_scored_without_a_run(tmp_path: Path, cli: Cli) -> None:
    """The reference itself is perfect; moved by two pixels it is two pixels off, in millimetres."""
    perfect = phantoms(tmp_path / "perfect")
    result = gg.evaluate([perfect], "phantom:4", bootstrap=0)
    assert result.summary.benchmark("any_lesion_dice").value == 1
    rows = {(r["class"], r["measure"]): r["value"] for r in result.boundaries()["rows"]}
    assert (rows["any lesion", "hd95"], rows["lung", "surface_dice"], rows["lung", "area_error"]) == (0, 1, 0)
    assert result.boundaries()["tolerances"] == {
        "any lesion": 3.0,
        "ground-glass": 3.0,
        "consolidation": 3.0,
        "lung": 1.0,
    }
    assert result.boundaries()["unit"] == "mm"
    moved = phantoms(tmp_path / "moved", lambda labels: np.roll(labels, 2, axis=1))
    answer = cli("evaluate", moved, "--data", "phantom:4", "--bootstrap", 0, "--json", "-o", tmp_path / "tables")
    said = json.loads(answer.out)
    spacing = gg.open_dataset("phantom:4").cases[0].geometry.spacing_mm
    assert spacing is not None
    hd95 = {(r["class"], r["measure"]): r["value"] for r in said["boundaries"]["rows"]}["any lesion", "hd95"]
    assert 0.5 * spacing[1] < hd95 <= 2 * spacing[1] + 1e-9
    assert said["part"] == "masks"
    record = read_record(tmp_path / "tables" / FILE)
    case = gg.open_dataset("phantom:4").case(record.cases[0].case)
    lesion = np.isin(case.labels(), (1, 2)).sum() * spacing[0] * spacing[1]
    assert record.cases[0].extents["any lesion"].reference == pytest.approx(lesion)
    both = compare([tmp_path / "tables", perfect / "evaluation"], out=tmp_path / "out", bootstrap=0).comparison
    assert both.cells["any_lesion_dice"][1].value == 1


def test_the_label_set_of_masks_is_the_one_that_merges_least(tmp_path: Path) -> None:
    def merge(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.where(np.isin(labels, (1, 2)), 5, 0).astype(np.uint8)

    lesions = phantoms(tmp_path / "lesions", merge)
    typed = phantoms(tmp_path / "typed")
    assert gg.evaluate([lesions], "phantom:4", bootstrap=0).record.label_set == "lesion"
    assert gg.evaluate([typed], "phantom:4", bootstrap=0).record.label_set == "ct4"
    assert gg.evaluate([typed], "phantom:4", bootstrap=0, labels="ct3").record.label_set == "ct3"
    merged = compare([lesions, typed], "phantom:4", out=tmp_path / "out", bootstrap=0, merge="lesion").comparison
    assert merged.pairs[0].difference.mean == 0
    assert merged.cells["any_lesion_dice"][0].value == 1


# Cross-validation and missing evaluations -----------------------------------------------------------------------------


def test_a_recipe_of_a_cross_validation_is_compared_out_of_fold(folds: list[Run], drawn: Path, tmp_path: Path) -> None:
    recipe, other = tmp_path / "cv" / "demo", tmp_path / "cv" / "again"
    for k, run in enumerate(folds, start=1):
        shutil.copytree(run.path, recipe / f"fold{k}of2")
    gg.evaluate([recipe / "fold1of2", recipe / "fold2of2"], drawn, recipe / "out-of-fold", bootstrap=0, figures=False)
    dataset = gg.open_dataset(drawn)
    for case in dataset.cases:
        write_npy(other / f"{case.stem}.npy", [case.labels()], None)
    found = compare([recipe, other], drawn, out=tmp_path / "out", bootstrap=0).comparison
    assert found.names == ("demo", "again")
    assert set(found.records[0].ids) == {case.id for case in dataset.cases}
    assert found.cells["any_lesion_dice"][1].value == 1
    assert {(row["recipe"], row["n"]) for row in table(tmp_path / "out" / "learning.csv")} == {("demo", "2")}
    assert found.n_clusters == 16  # twelve slices of unknown patients and four volumes
    # Without the pooled tables the folds are evaluated, and the same comes out.
    shutil.rmtree(recipe / "out-of-fold")
    again = compare([recipe, other], drawn, out=tmp_path / "out", bootstrap=0).comparison
    assert again.records[0].cases == found.records[0].cases
    assert (recipe / "fold1of2" / "evaluation" / "out-of-fold" / FILE).is_file()


def test_what_was_not_evaluated_is_with_data(copies: list[Path], drawn: Path, tmp_path: Path, cli: Cli) -> None:
    before = compare(copies[:2], out=tmp_path / "out", bootstrap=0).comparison
    shutil.rmtree(copies[0] / "evaluation")
    with untouched(tmp_path):
        answer = cli("compare", *copies[:2], "-o", tmp_path / "none")
    assert_refused(answer, f"run: groundglass evaluate {copies[0]} --data DATA")
    after = compare(copies[:2], drawn, out=tmp_path / "out", bootstrap=0).comparison
    assert [record.cases for record in after.records] == [record.cases for record in before.records]
    assert summary(copies[0])["benchmarks"]


def test_an_evaluation_of_older_weights_does_not_count(copies: list[Path], tmp_path: Path, cli: Cli) -> None:
    weights = copies[0] / "weights" / "best.pt"
    weights.write_bytes(weights.read_bytes() + b"more")
    with untouched(tmp_path):
        assert_refused(cli("compare", *copies[:2], "-o", tmp_path / "none"), "was trained on after it was evaluated")


def test_a_certificate_that_tells_of_leaks_is_repeated(copies: list[Path], tmp_path: Path) -> None:
    certificate = {
        "data_fingerprint": Run.open(copies[0]).manifest.data_fingerprint,
        "patients": "not known",
        "groups": "by hand",
        "searched": True,
        "divided": "rows 0..3 divide a volume",
        "clusters": [],
    }
    (copies[0] / "leaks.json").write_text(json.dumps(certificate))
    for named in (copies[0], copies[0] / "evaluation" / "held-out"):
        found = compare([named, copies[1]], out=tmp_path / "out", bootstrap=0).comparison
        leaks = [note for note in found.notes if "its split leaks" in note]
        assert len(leaks) == 1
        assert leaks[0].endswith("rows 0..3 divide a volume")
    (copies[0] / "leaks.json").write_text(json.dumps(certificate | {"data_fingerprint": "another", "divided": "x"}))
    assert not any("leaks" in note for note in compare(copies[:2], out=tmp_path / "out", bootstrap=0).comparison.notes)


def test_near_duplicates_of_the_certificate_are_one_cluster(copies: list[Path], drawn: Path, tmp_path: Path) -> None:
    run = Run.open(copies[0])
    twins = list(run.split.validation[:3])
    certificate = {
        "data_fingerprint": run.manifest.data_fingerprint,
        "patients": "not known",
        "groups": "",
        "searched": True,
        "clusters": [twins],
    }
    (copies[0] / "leaks.json").write_text(json.dumps(certificate))
    gg.evaluate([run], drawn, bootstrap=0, figures=False)
    record = read_record(copies[0] / "evaluation" / "held-out" / FILE)
    assert len({case.cluster for case in record.cases if case.case in twins}) == 1
    assert len({case.cluster for case in record.cases}) == 10
    assert compare(copies[:2], out=tmp_path / "out", bootstrap=0).comparison.n_clusters == 10


# Refusals -------------------------------------------------------------------------------------------------------------


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "evaluation" / "held-out" / FILE
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    Record.model_validate(raw)
    return folder


OTHER: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "cases": (lambda raw: raw["cases"].pop(), "was scored on other cases than seed0"),
    "data": (lambda raw: raw.update(fingerprint="0" * 64), "was scored on other data than seed0"),
    "tolerance": (lambda raw: raw["conventions"]["tolerances"].update(lung=9), "by other conventions than seed0"),
    "label-set": (lambda raw: raw.update(label_set="ct3"), "--merge lesion"),
    "classes": (lambda raw: raw["classes"].reverse(), "has other classes"),
    "answers": (lambda raw: raw.update(answers=[]), "was trained on after it was evaluated"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_evaluations_are_refused(name: str, copies: list[Path], tmp_path: Path, cli: Cli) -> None:
    change, fragment = OTHER[name]
    edit(copies[1], change)
    with untouched(tmp_path):
        answer = cli("compare", *copies[:2], "-o", tmp_path / "none")
    assert_refused(answer, fragment)


def test_names_that_mean_nothing_are_refused(copies: list[Path], drawn: Path, tmp_path: Path, cli: Cli) -> None:
    a, b = copies[:2]
    twin = shutil.copytree(a, tmp_path / "runs" / "twin")
    (tmp_path / "empty").mkdir()
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "cv.json").write_text("{}")
    damaged = edit(Path(shutil.copytree(b, tmp_path / "runs" / "damaged")), lambda raw: None)
    (damaged / "evaluation" / "held-out" / FILE).write_text("{")
    mask_folder = tmp_path / "some"
    write_npy(mask_folder / "a.npy", [np.zeros((4, 4), np.uint8)], None)
    for arguments, fragment in (
        ((a,), "at least two runs"),
        ((a, a), "is named twice"),
        ((a, twin), "twin: is the same run as seed0"),
        ((a, tmp_path / "nowhere"), "nowhere: does not exist"),
        ((a, tmp_path / "empty"), "is no run, no recipe's folder"),
        ((a, whole), "name the folders of its recipes"),
        ((a, damaged), "measured.json: is damaged"),
        ((a, mask_folder), "give the data they are of with --data"),
        ((a, b, "--metric", "any_lesion_dise"), "did you mean 'any_lesion_dice'?"),
        ((a, b, "--merge", "all"), "'--merge'"),
        ((a, b, "--bootstrap", "-1"), "--bootstrap"),
        ((a, b, "--csv", tmp_path), "is a folder"),
        ((a, b, "--data", tmp_path / "nowhere"), "nowhere: does not exist"),
    ):
        with untouched(tmp_path):
            answer = cli("compare", *arguments, "-o", tmp_path / "none")
        assert_refused(answer, fragment)


def _resize(folder: Path) -> None:
    write_npy(folder / "medseg_000.npy", [np.zeros((32, 64), np.uint8)], None)


def _nifti(folder: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 2), np.uint8), np.eye(4)), folder / "medseg_000.nii.gz")
    (folder / "medseg_000.npy").unlink()


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: (f / "medseg_003.npy").unlink(), "has no mask of images_medseg.npy row 3"),
    "extra": (
        lambda f: shutil.copy(f / "medseg_003.npy", f / "medseg_099.npy"),
        "medseg_099.npy: is the mask of no scored",
    ),
    "twice": (
        lambda f: write_png(f / "medseg_003.png", np.zeros((64, 64), np.uint8)),
        "has medseg_003.npy and medseg_003.png for one case",
    ),
    "resized": (_resize, "medseg_000.npy: is 32x64, but its image images_medseg.npy row 0 is 64x64"),
    "stacked": (_nifti, "medseg_000.nii.gz: holds 2 slices, expected 1"),
    "value": (
        lambda f: write_npy(f / "medseg_000.npy", [np.full((64, 64), 9, np.uint8)], None),
        "holds 9, which is no",
    ),
    "fraction": (lambda f: write_npy(f / "medseg_000.npy", [np.full((64, 64), 0.5)], None), "holds 0.5, which is no"),
    "type-unknown": (
        lambda f: write_npy(f / "medseg_000.npy", [np.full((64, 64), 5, np.uint8)], None),
        "has no class for 'lesion' (5), which the masks hold",
    ),
    "not-an-array": (lambda f: (f / "medseg_000.npy").write_bytes(b"hello"), "medseg_000.npy"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_masks_are_refused(
    name: str, seeds: list[Path], masks: Path, drawn: Path, tmp_path: Path, cli: Cli
) -> None:
    spoil, fragment = SPOILT[name]
    spoil(masks)
    with untouched(tmp_path):
        answer = cli("compare", seeds[0], masks, "--data", drawn, "-o", tmp_path / "none")
    assert_refused(answer, fragment)


FOLDERS: dict[str, tuple[Callable[[Path, str], object], str]] = {
    "missing": (lambda folder, stem: (folder / f"{stem}.png").unlink(), "has no mask of "),
    "extra": (
        lambda folder, stem: shutil.copy(folder / f"{stem}.png", folder / "someone.png"),
        "someone.png: is the mask of no scored",
    ),
    "resized": (
        lambda folder, stem: write_png(folder / f"{stem}.png", np.zeros((32, 64), np.uint8)),
        ".png: is 32x64, but its image ",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_evaluate_refuses_folders_that_do_not_fit_the_data(name: str, tmp_path: Path, cli: Cli) -> None:
    spoil, fragment = FOLDERS[name]
    folder = phantoms(tmp_path / "masks")
    spoil(folder, gg.open_dataset("phantom:4").cases[5].stem)
    with untouched(tmp_path):
        answer = cli("evaluate", folder, "--data", "phantom:4")
    assert_refused(answer, fragment)


def test_evaluate_refuses_what_masks_cannot_have(masks: Path, run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    for arguments, fragment in (
        ((masks,), "has no mask of images_radiopedia.npy row 0"),
        ((masks, "--part", "all"), "leave out --part, --tta, --roi and --threshold"),
        ((masks, "--tta", "flips"), "leave out --part, --tta, --roi and --threshold"),
        ((masks, "--threshold", "0.5"), "leave out --part, --tta, --roi and --threshold"),
        ((masks, "--roi", "truth"), "leave out --part, --tta, --roi and --threshold"),
        ((run.path, "--labels", "ct3"), "is for masks"),
    ):
        with untouched(tmp_path):
            answer = cli("evaluate", *arguments, "--data", drawn)
        assert_refused(answer, fragment)
    perfect = phantoms(tmp_path / "perfect")
    for labels, fragment in (("ct5", "unknown label set 'ct5'"), ("ct4", "has no class for 'lesion' (5)")):
        if labels == "ct4":
            perfect = phantoms(tmp_path / "merged", lambda x: np.where(x == 1, 5, x).astype(np.uint8))
        with untouched(tmp_path):
            answer = cli("evaluate", perfect, "--data", "phantom:4", "--labels", labels)
        assert_refused(answer, fragment)


def test_an_out_that_is_a_file_leaves_no_table_elsewhere(seeds: list[Path], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(WriteError):
        compare(seeds[:2], out=tmp_path / "taken", csv=tmp_path / "table.csv", bootstrap=0)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_record_names_the_thresholds_that_decided(folds: list[Run], drawn: Path, tmp_path: Path) -> None:
    found = gg.evaluate(folds, drawn, out=tmp_path, bootstrap=0, figures=False)
    assert found.record.thresholds == tuple(found.about["thresholds"])
