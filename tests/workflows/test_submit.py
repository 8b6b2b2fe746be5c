"""`submit`: the Kaggle file from one run, several runs, or masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundglass as gg
from groundglass.errors import DataError
from groundglass.labels import label_set
from groundglass.model.decide import decide
from groundglass.run import Run
from groundglass.write.masks import write_png
from tests.conftest import Cli
from tests.data.small import kaggle
from tests.write.test_submission import naive


def saved_masks(folder: Path, maps: np.ndarray[Any, Any], suffix: str = ".png") -> Path:
    folder.mkdir()
    for number, labels in enumerate(maps):
        if suffix == ".png":
            write_png(folder / f"test_{number}.png", labels)
        else:
            np.save(folder / f"test_{number}.npy", labels)
    return folder


def test_a_run_and_its_predictions_submit_the_same(run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("submit", run.path, "--data", drawn, "-o", tmp_path / "run.csv")
    assert answer.code == 0
    assert str(tmp_path / "run.csv") in answer.out
    (written,) = gg.predict(run, [drawn / "test_images_medseg.npy"], tmp_path / "predicted")
    maps = np.load(written)
    content = (tmp_path / "run.csv").read_bytes()
    assert content == naive(tmp_path / "naive.csv", list(maps))
    assert b",1\n" in content
    assert gg.submit([tmp_path / "predicted"], drawn, tmp_path / "stack.csv").read_bytes() == content
    for suffix in (".png", ".npy"):
        folder = saved_masks(tmp_path / f"masks{suffix}", maps, suffix)
        assert gg.submit([folder], drawn, tmp_path / f"{suffix}.csv").read_bytes() == content


def test_several_runs_are_averaged_by_probability(folds: list[Run], drawn: Path, tmp_path: Path) -> None:
    for k, run in enumerate(folds):
        gg.predict(run, [drawn / "test_images_medseg.npy"], tmp_path / str(k), save_probabilities=True)
    p, q = (np.load(tmp_path / n / "test_images_medseg_probabilities.npy") for n in "01")
    thresholds = [run.manifest.thresholds or {} for run in folds]
    mean = {name: (thresholds[0][name] + thresholds[1][name]) / 2 for name in thresholds[0]}
    labels = label_set("ct4")
    maps = [labels.decode(decide((a + b) / 2, labels, mean)) for a, b in zip(p, q, strict=True)]
    written = gg.submit([run.path for run in folds], drawn, tmp_path / "both.csv")
    assert written.read_bytes() == naive(tmp_path / "naive.csv", maps)


def test_the_order_is_that_of_the_images_not_of_the_names(tmp_path: Path) -> None:
    data = kaggle(tmp_path / "data", test=11)
    maps = np.zeros((11, 16, 16), np.uint8)
    for number in range(11):
        maps[number, number, 0] = 1 + number % 2
    folder = saved_masks(tmp_path / "masks", maps)
    assert gg.submit([folder], data, tmp_path / "s.csv").read_bytes() == naive(tmp_path / "n.csv", list(maps))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("test_1.npy", (2, 16, 16), "test_1.npy: holds 2 slices, expected 1"),
        ("test_images_medseg.npy", (2, 16, 16), "has test_0.png and test_images_medseg.npy"),
    ],
)
def test_masks_that_could_be_of_two_slices_are_refused(
    name: str, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    data = kaggle(tmp_path / "data", test=2)
    folder = saved_masks(tmp_path / "masks", np.zeros((2, 16, 16), np.uint8))
    if name == "test_1.npy":
        (folder / "test_1.png").unlink()
    np.save(folder / name, np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=re.escape(message)):
        gg.submit([folder], data, tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_a_stack_of_masks_needs_every_slice(tmp_path: Path) -> None:
    data = kaggle(tmp_path / "data", test=3)
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "test_images_medseg.npy", np.zeros((2, 16, 16), np.uint8))
    with pytest.raises(DataError, match="holds 2 slices, expected 3"):
        gg.submit([tmp_path / "masks"], data, tmp_path / "s.csv")


@pytest.mark.parametrize(("test", "side", "said"), [(10, 512, False), (9, 512, True), (10, 500, True)])
def test_what_is_not_kaggles_file_is_named(
    test: int, side: int, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = kaggle(tmp_path / "data", medseg=1, radiopaedia=1, test=test, side=side)
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "test_images_medseg.npy", np.zeros((test, side, side), np.uint8))
    gg.submit([tmp_path / "masks"], data, tmp_path / "s.csv")
    note = f"not the size of Kaggle's file: {2 * test * side**2:,} rows, expected 5,242,880"
    assert (note in capsys.readouterr().err) is said


def test_labels_that_are_not_asked_for_count_as_nothing(tmp_path: Path) -> None:
    data = kaggle(tmp_path / "data", test=1)
    maps = np.full((1, 16, 16), 3, np.uint8)
    maps[0, 0] = 4
    folder = saved_masks(tmp_path / "masks", maps)
    assert b",1" not in gg.submit([folder], data, tmp_path / "s.csv").read_bytes()
