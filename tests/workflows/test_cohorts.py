"""`evaluate` says what a mean over all images hides: by cohort and beside trivial answers, printed and in files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import groundglass as gg
from groundglass.case import Case
from groundglass.labels import BY_NAME, LESION_VALUES
from groundglass.measure.cohorts import ALL, COLUMNS, NOTHING, PREDICTION, WHOLE_LUNG
from groundglass.run import Run
from groundglass.write.masks import write_npy, write_png
from tests.conftest import Cli
from tests.data.small import covid_qu_ex

Labels = NDArray[np.uint8]
LESION = BY_NAME["lesion"].value


@pytest.fixture(scope="module")
def xrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn X-rays with infection masks, from the three cohorts of the source."""
    folder = covid_qu_ex(tmp_path_factory.mktemp("xrays"), count=40)
    shutil.rmtree(folder / "Lung Segmentation Data")
    return folder


def answers(data: Path, folder: Path, answer: Callable[[Case], Labels]) -> Path:
    """A folder of masks: what `answer` says of every case."""
    for case in gg.open_dataset(data).cases:
        write_png(folder / f"{case.stem}.png", answer(case))
    return folder


def nothing(case: Case) -> Labels:
    return np.zeros(case.shape, np.uint8)


def expert(case: Case) -> Labels:
    return np.where(np.isin(case.labels(), LESION_VALUES), LESION, 0).astype(np.uint8)


def shifted(case: Case) -> Labels:
    """Half right, and with a false alarm in every third image that holds nothing."""
    found = np.roll(expert(case), 3, axis=0)
    if not found.any() and int(case.stem[-1]) % 3 == 0:
        found[:2, :2] = LESION
    return found


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def by_hand(cases: list[Case], answer: Callable[[Case], Labels]) -> dict[str, float]:
    dices, of_sick, alarms = [], [], []
    both = sizes = 0
    for case in cases:
        truth, found = expert(case) > 0, answer(case) > 0
        size = int(truth.sum() + found.sum())
        dices.append(2 * int((truth & found).sum()) / size if size else 1.0)
        both, sizes = both + int((truth & found).sum()), sizes + size
        if truth.any():
            of_sick.append(dices[-1])
        else:
            alarms.append(bool(found.any()))
    return {
        "any_lesion_dice_empty1": float(np.mean(dices)),
        "any_lesion_dice": float(np.mean(of_sick)) if of_sick else np.nan,
        "any_lesion_dice_pooled": 2 * both / sizes if sizes else np.nan,
        "false_positive_rate": float(np.mean(alarms)) if alarms else np.nan,
    }


def test_the_table_is_that_of_the_pixels_cohort_by_cohort(xrays: Path, tmp_path: Path, cli: Cli) -> None:
    masks = answers(xrays, tmp_path / "masks", shifted)
    answer = cli("evaluate", masks, "--data", xrays, "-o", tmp_path / "out", "--bootstrap", 50, "--labels", "lesion")
    assert answer.code == 0, answer.err
    cases = gg.open_dataset(xrays).cases
    rivals: dict[str, Callable[[Case], Labels]] = {
        PREDICTION: shifted,
        WHOLE_LUNG: lambda case: np.asarray(case.lung(), np.uint8),
        NOTHING: nothing,
    }
    rows = table(tmp_path / "out" / "cohorts.csv")
    assert tuple(rows[0]) == ("part", *COLUMNS)
    cohorts = dict.fromkeys(case.cohort for case in cases)
    assert {"COVID-19", "Normal", "Non-COVID"} == set(cohorts)
    assert [(row["cohort"], row["answer"]) for row in rows] == [(c, a) for c in (ALL, *cohorts) for a in rivals]
    for row in rows:
        chosen = [case for case in cases if row["cohort"] in (ALL, case.cohort)]
        assert int(row["n"]) == len(chosen)
        for name, value in by_hand(chosen, rivals[row["answer"]]).items():
            assert float(row[name] or "nan") == pytest.approx(value, rel=1e-5, nan_ok=True), (row["cohort"], name)

    stored = json.loads((tmp_path / "out" / "summary.json").read_text())["cohorts"]
    assert len(stored["rows"]) == len(rows)
    printed = answer.out.replace("\n", "")
    assert all(sentence in printed for sentence in stored["sentences"])
    for heading in (
        "prediction by cohort",
        "COVID-19",
        "Non-COVID",
        "false alarms",
        "Dice, pooled",
        "whole lung",
    ):
        assert heading in answer.out
    pooled = float(rows[0]["any_lesion_dice_pooled"])
    assert f"{pooled:.3f}" in answer.out
    assert "nan" not in answer.out.lower()


def test_an_answer_of_nothing_is_found_out_and_the_expert_is_not(xrays: Path, tmp_path: Path, cli: Cli) -> None:
    said = {}
    for name, answer in (("nothing", nothing), ("expert", expert)):
        folder = answers(xrays, tmp_path / name, answer)
        found = cli("evaluate", folder, "--data", xrays, "-o", tmp_path / f"{name} out", "--labels", "lesion")
        assert found.code == 0, found.err
        said[name] = found.out.replace("\n", "")
    assert "the prediction is worse than 'the whole lung is infected' by" in said["nothing"]
    assert "the prediction is better than 'the whole lung is infected' by" in said["expert"]
    idle, ideal = (table(tmp_path / f"{name} out" / "cohorts.csv") for name in said)
    names = [name for name in COLUMNS if name not in ("answer",)]
    assert [idle[0][name] for name in names] == [idle[2][name] for name in names]
    # The mean over all images praises it all the same.
    share = int(idle[0]["n_empty"]) / int(idle[0]["n"])
    assert float(idle[0]["any_lesion_dice_empty1"]) == pytest.approx(share, rel=1e-5)
    assert f"predicting nothing at all would score {share:.2f} by the mean over all images" in said["nothing"]
    assert float(ideal[0]["any_lesion_dice_empty1"]) == 1


def test_data_without_cohorts_have_the_baseline_where_lungs_are_known(run: Run, drawn: Path, tmp_path: Path) -> None:
    result = gg.evaluate([run], drawn, out=tmp_path, bootstrap=0, figures=False)
    assert result.cohorts is not None
    assert result.cohorts.informative
    assert {row.cohort for row in result.cohorts.rows} == {ALL}
    lung = result.cohorts.row(answer=WHOLE_LUNG).numbers["any_lesion_dice_pooled"].value
    cases = [gg.open_dataset(drawn).case(case_id) for case_id in run.split.validation]
    both = sizes = 0
    for case in cases:
        truth, inside = np.isin(case.labels(), LESION_VALUES), case.lung()
        assert inside is not None
        both, sizes = both + int((truth & inside).sum()), sizes + int(truth.sum() + inside.sum())
    assert lung == pytest.approx(2 * both / sizes)
    ours = result.summary.benchmark("any_lesion_dice_pooled").value
    assert result.cohorts.pooled_difference is not None
    assert result.cohorts.pooled_difference.value == pytest.approx(ours - lung)


def test_nothing_is_printed_where_it_would_say_nothing(tmp_path: Path, cli: Cli) -> None:
    """No lungs, no cohorts, a lesion in every image."""
    data, masks = tmp_path / "data", tmp_path / "masks"
    truth = np.zeros((16, 16), np.uint8)
    truth[4:9, 4:9] = 1
    for name in "abc":
        write_npy(data / f"{name}.npy", [np.random.default_rng(ord(name)).normal(-600, 90, (16, 16))], None)
        write_npy(data / f"{name}_mask.npy", [truth], None)
    listed = "".join(f"{name},{name}.npy,{name}_mask.npy\n" for name in "abc")
    (data / "manifest.csv").write_text("patient,image,mask\n" + listed)
    (data / "dataset.yaml").write_text("labels: {1: ground-glass}\n")
    for case in gg.open_dataset(data).cases:
        write_npy(masks / f"{case.stem}.npy", [truth], None)
    answer = cli("evaluate", masks, "--data", data, "-o", tmp_path / "out", "--bootstrap", 0)
    assert answer.code == 0, answer.err
    assert "whole lung" not in answer.out
    assert "false alarms" not in answer.out
    rows = table(tmp_path / "out" / "cohorts.csv")
    assert [row["answer"] for row in rows] == [PREDICTION, NOTHING]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["cohorts"]["minus_whole_lung"] is None


@pytest.mark.slow
def test_extremes_are_drawn_by_their_references(
    run: Run, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from groundglass.workflows import figures

    shown: dict[str, str] = {}
    original = figures.extremes

    def spy(panels: dict[str, figures.sheets.Panel], path: Path, **options: object) -> Path:
        shown.update({kind: panel.title for kind, panel in panels.items()})
        return original(panels, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(figures, "extremes", spy)
    result = gg.evaluate([run], drawn, out=tmp_path, part="all", bootstrap=0)
    assert tmp_path / "figures" / "extremes.png" in result.figures
    shares = {}
    for case in gg.open_dataset(drawn).cases:
        lung = case.lung()
        assert lung is not None
        if lung.any():
            shares[case.id] = float(np.isin(case.labels(), LESION_VALUES)[lung].mean())
    assert f" {max(shares, key=lambda i: shares[i])} (all)" in shown["severe"]
    least = min(share for share in shares.values() if share)
    assert shares[shown["mild"].split(": ")[1].split(" (all)")[0]] == pytest.approx(least)
    if "normal" in shown:
        assert shown["normal"].startswith("Normal (no lesion): ")
        assert shares[shown["normal"].split(": ")[1].split(" (all)")[0]] == 0
