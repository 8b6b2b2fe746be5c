"""Which cases are scored, and what is said of them, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundglass as gg
from groundglass import recipes
from groundglass.data import scan
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.splits import Split
from groundglass.errors import RunError
from groundglass.recipes import Recipe
from groundglass.run import Manifest, Run
from groundglass.workflows.choosing import Chosen, check_folds, choose_cases
from tests.data.small import kaggle

MEDSEG = [f"medseg/{row:03d}" for row in range(6)]
# Two volumes of four slices.
RADIOPAEDIA = [f"radiopaedia/{row:04d}" for row in range(8)]
TUNED = ["decision.name=thresholds"]


def opened(folder: Path) -> tuple[Dataset, Scan]:
    dataset = gg.open_dataset(folder)
    return dataset, scan(dataset)


def trained(on: Scan, train: list[str], validation: list[str], fold: str | None = None, recipe: Any = None) -> Run:
    manifest = Manifest(
        state="finished",
        recipe="demo",
        created="",
        groundglass="",
        data_format="covid-segmentation",
        data_fingerprint=on.fingerprint,
        patients_known="not known",
        case_hashes=on.hashes,
    )
    split = Split(kind="kfold", seed=0, train=tuple(train), validation=tuple(validation), fold=fold)
    return Run(Path("runs") / (fold or "one").replace("/", "of"), recipe or recipes.load("demo"), split, manifest)


def ids(chosen: Chosen) -> list[str]:
    return [case.id for case, _ in chosen.cases]


def changed(source: Path, folder: Path, keep: dict[str, list[int]]) -> Path:
    """The data of `source` with other pixels in all rows but those of `keep`."""
    kaggle(folder)
    for name in ("medseg", "radiopedia"):
        images = np.load(source / f"images_{name}.npy")
        images[[row for row in range(len(images)) if row not in keep.get(name, [])]] += 1
        np.save(folder / f"images_{name}.npy", images)
    return folder


@pytest.mark.parametrize(("settings", "what"), [([], "epoch was"), (TUNED, "epoch and the thresholds were")])
def test_what_was_chosen_on_the_scored_cases_is_said(settings: list[str], what: str, tmp_path: Path) -> None:
    dataset, found = opened(kaggle(tmp_path / "data"))
    run = trained(found, RADIOPAEDIA, MEDSEG, recipe=recipes.load("demo", settings))
    held_out = choose_cases([run], dataset, found, "held-out")
    assert f"the kept {what} chosen on these very cases; expect less on new ones" in held_out.notes
    everything = choose_cases([run], dataset, found, "all")
    assert f"the kept {what} chosen on 6 of these cases; expect less on new ones" in everything.notes


LAST = "checkpoint.keep=last"
STOPPING = "early_stopping={metric: validation/loss, patience: 3}"
PLATEAU = "schedule={name: plateau, patience: 2}"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ([LAST], ""),
        ([LAST, "decision={name: thresholds, values: {ground-glass: 0.5, consolidation: 0.5}}"], ""),
        ([LAST, *TUNED], "the thresholds were chosen"),
        ([LAST, STOPPING], "the kept epoch was chosen"),
        ([LAST, PLATEAU], "the kept epoch was chosen"),
    ],
)
def test_where_the_validation_cases_chose_nothing_nothing_is_said(
    settings: list[str], what: str, tmp_path: Path
) -> None:
    dataset, found = opened(kaggle(tmp_path / "data"))
    run = trained(found, RADIOPAEDIA, MEDSEG, recipe=recipes.load("demo", settings))
    told = [note for part in ("held-out", "all") for note in choose_cases([run], dataset, found, part).notes]
    chosen = [note for note in told if "chosen on" in note]
    assert len(chosen) == (2 if what else 0)
    assert all(note.startswith(what) for note in chosen)
    assert not any("expect less" in note for note in choose_cases([run], dataset, found, "train").notes)


def test_given_thresholds_were_not_chosen_on_the_cases(tmp_path: Path) -> None:
    dataset, found = opened(kaggle(tmp_path / "data"))
    recipe: Recipe = recipes.load("demo", ["decision={name: thresholds, values: {ground-glass: 0.4}}"])
    notes = choose_cases([trained(found, RADIOPAEDIA, MEDSEG, recipe=recipe)], dataset, found, "held-out").notes
    assert not any("the thresholds" in note for note in notes)


def test_a_held_out_copy_of_a_training_case_is_counted(tmp_path: Path) -> None:
    folder = kaggle(tmp_path / "data")
    images = np.load(folder / "images_medseg.npy")
    images[0], images[1] = images[4], images[5]
    np.save(folder / "images_medseg.npy", images)
    dataset, found = opened(folder)
    leaky = trained(found, MEDSEG[4:], MEDSEG[:4])
    expected = "2 of 4 cases were not trained on but have the very pixels of a training case: the score is too good"
    assert expected in choose_cases([leaky], dataset, found, "held-out").notes
    # The twins of the two are held out by the same run, and by another the training cases of which are other ones.
    sound = trained(found, MEDSEG[2:4], [*MEDSEG[:2], *MEDSEG[4:]])
    for part in ("held-out", "train"):
        assert not any("very pixels" in note for note in choose_cases([sound], dataset, found, part).notes)


def test_the_patient_of_a_seen_picture_is_left_out_of_other_data(tmp_path: Path) -> None:
    _, found = opened(kaggle(tmp_path / "data"))
    run = trained(found, [*MEDSEG[:2], *RADIOPAEDIA[:4]], MEDSEG[2:])
    other, scanned = opened(changed(tmp_path / "data", tmp_path / "other", {"medseg": [0, 2], "radiopedia": [1, 2, 6]}))
    held_out = choose_cases([run], other, scanned, "held-out")
    assert ids(held_out) == [*MEDSEG[1:], *RADIOPAEDIA[4:]]
    assert "3 cases have the very pixels of a training case and were left out" in held_out.notes
    assert "2 more cases are of the patient or volume of such a copy and were left out" in held_out.notes
    assert "the kept epoch was chosen on copies of 1 of these cases; expect less on new ones" in held_out.notes
    assert held_out.part == "other-data"
    everything = choose_cases([run], other, scanned, "all")
    assert ids(everything) == [*MEDSEG, *RADIOPAEDIA]
    counted = "3 cases have the very pixels of a training case (of 14): this is not a held-out score"
    assert counted in everything.notes
    with pytest.raises(RunError, match="trained on other data"):
        choose_cases([run], other, scanned, "train")


def test_a_picture_without_a_mask_gives_its_patient_away(tmp_path: Path) -> None:
    """A patient who is known by an unlabelled slice is known by all others too."""
    _, found = opened(kaggle(tmp_path / "data", test=0))
    run = trained(found, MEDSEG[:2], MEDSEG[2:])
    folder = tmp_path / "other"
    folder.mkdir()
    seen = np.load(tmp_path / "data" / "images_medseg.npy")[0, ..., 0]
    labels = np.zeros(seen.shape, np.uint8)
    for name, image in (("a0", seen), ("a1", seen + 1), ("b0", seen + 2)):
        np.save(folder / f"{name}.npy", image)
        np.save(folder / f"{name}_mask.npy", labels)
    (folder / "manifest.csv").write_text(
        "patient,image,mask\na,a0.npy,\na,a1.npy,a1_mask.npy\nb,b0.npy,b0_mask.npy\n", encoding="utf-8"
    )
    other, scanned = opened(folder)
    assert [case.patient for case, _ in choose_cases([run], other, scanned, "held-out").cases] == ["b"]


def test_folds_must_be_of_one_division_and_missing_ones_are_named(tmp_path: Path) -> None:
    dataset, found = opened(kaggle(tmp_path / "data"))
    rest = [*MEDSEG, *RADIOPAEDIA]
    one, three = (trained(found, [i for i in rest if i not in part], part, fold) for fold, part in (
        ("1/4", MEDSEG[:3]), ("3/4", MEDSEG[3:])
    ))  # fmt: skip
    check_folds([one, three])
    chosen = choose_cases([one, three], dataset, found, "held-out")
    assert chosen.part == "out-of-fold"
    assert "not all folds are here: 2/4, 4/4 missing" in chosen.notes
    assert not any("folds" in note for note in choose_cases([one], dataset, found, "held-out").notes)
    both = [trained(found, MEDSEG[:3], MEDSEG[3:], "1/2"), trained(found, MEDSEG[3:], MEDSEG[:3], "2/2")]
    assert not any("folds" in note for note in choose_cases(both, dataset, found, "held-out").notes)
    with pytest.raises(RunError, match="1/2 and 3/4 are not of one division"):
        check_folds([both[0], three])
    with pytest.raises(RunError, match="must be different folds"):
        check_folds([one, trained(found, RADIOPAEDIA, MEDSEG)])
