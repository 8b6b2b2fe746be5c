"""Instances: kept by `predict`, shown by `evaluate`, on the image's own grid, of networks that tell them apart."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import groundglass as gg
from groundglass.case import Unit
from groundglass.learning.engine import model_of
from groundglass.model.instances import Instance, instances, numbered
from groundglass.run import Run
from tests.conftest import Cli
from tests.learning import tiny

BRIGHT = {"name": "tests.networks.own:Bright"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = tiny.recipe(
        labels="lesion",
        architecture=BRIGHT,
        intensity={"clip_hu": [-1000, 200], "scale": {"name": "unit"}},
        epochs=1,
        checkpoint={"metric": "validation/loss"},
    )
    return tiny.fitted(tmp_path_factory.mktemp("bright") / "run", recipe, train=4, validation=2)


def scan(shape: tuple[int, int] = (64, 128)) -> np.ndarray[Any, Any]:
    """HU [H, W]: air, and a bright block in each half of the width, the right one the smaller."""
    height, width = shape
    image = np.full(shape, -1000, np.float32)
    image[height // 4 : height // 2, width // 8 : 3 * width // 8] = 200
    image[height // 2 : 3 * height // 4, 5 * width // 8 : 13 * width // 16] = 200
    return image


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "instances.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("shape", [(32, 32), (64, 128), (128, 64), (96, 96)])
def test_boxes_and_masks_come_back_to_the_image_s_own_grid(run: Run, shape: tuple[int, int]) -> None:
    found = instances(model_of(run, "cpu"), scan(shape), Unit.HU)
    assert found is not None
    assert [each.score for each in found] == [0.9, 0.6]
    height, width = shape
    # A pixel of the network's 32 is so many of the image's.
    coarse = max(shape) / 32
    expected = [
        (width / 8, height / 4, 3 * width / 8, height / 2),
        (5 * width / 8, height / 2, 13 * width / 16, 3 * height / 4),
    ]
    for each, box in zip(found, expected, strict=True):
        assert each.mask.shape == shape
        assert np.abs(np.subtract(each.box, box)).max() <= coarse
        rows, columns = np.nonzero(each.mask > 0.5)
        inside = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(inside, each.box)).max() <= coarse


def test_a_network_that_tells_none_apart_has_none(tmp_path: Path) -> None:
    plain = tiny.fitted(tmp_path / "run", tiny.recipe(epochs=1), train=4, validation=2)
    assert instances(model_of(plain, "cpu"), scan(), Unit.HU) is None
    np.save(tmp_path / "a.npy", scan())
    gg.predict(plain, [tmp_path / "a.npy"], tmp_path / "out", unit="HU")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npy", "areas.csv"]


def test_a_pixel_belongs_to_the_instance_that_claims_it_most_and_to_none_outside_the_lesion() -> None:
    one, two = np.zeros((2, 3, 4), np.float32)
    one[:, :3], two[:, 1:] = 0.6, (0.5, 0.9, 0.9)
    lesion = np.ones((3, 4), np.bool_)
    lesion[2] = False
    box = (0.0, 0.0, 4.0, 3.0)
    numbers = numbered([Instance(box, 0.9, one), Instance(box, 0.8, two)], lesion)
    assert numbers.dtype == np.uint8
    assert numbers.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0]]
    assert not numbered([], lesion).any()
    assert not numbered([Instance(box, 0.9, one * 0)], lesion).any()


def test_predict_keeps_them_beside_the_label_map(run: Run, tmp_path: Path) -> None:
    stack = np.stack([scan(), np.full((64, 128), -1000, np.float32)])
    np.save(tmp_path / "stack.npy", stack)
    np.save(tmp_path / "single.npy", scan())
    picture = np.clip((scan() + 1000) / 1200 * 255, 0, 255).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    out = tmp_path / "out"
    names = ["stack.npy", "single.npy", "picture.png"]
    written = gg.predict(run, [tmp_path / name for name in names], out, unit=None, save_probabilities=True)
    assert [path.name for path in written] == names
    maps = {name: np.load(out / f"{name}_instances.npy") for name in ("stack", "single")}
    with Image.open(out / "picture_instances.png") as image:
        assert image.mode == "P"
        maps["picture"] = np.asarray(image)
        colours = np.asarray(image.convert("RGB"))
    assert maps["stack"].shape == (2, 64, 128)
    assert maps["single"].shape == maps["picture"].shape == (64, 128)
    assert np.array_equal(maps["stack"][0], maps["single"])
    assert not maps["stack"][1].any()
    assert len({tuple(colours[maps["picture"] == number][0]) for number in (0, 1, 2)}) == 3
    for name, numbers in maps.items():
        assert numbers.dtype == np.uint8
        labels = np.load(out / f"{name}.npy") if name != "picture" else np.asarray(Image.open(out / "picture.png"))
        # Here every lesion pixel is an instance's.
        assert np.array_equal(numbers > 0, labels > 0)
        assert set(np.unique(numbers)) == {0, 1, 2}
    rows = rows_of(out)
    assert [(row["file"], row["slice"], row["instance"]) for row in rows] == [
        (name, "0", number) for name in names for number in "12"
    ]
    for row in rows:
        numbers = maps[row["file"].split(".")[0]]
        numbers = numbers[int(row["slice"])] if numbers.ndim == 3 else numbers
        assert int(row["pixels"]) == np.sum(numbers == int(row["instance"]))
        assert float(row["score"]) == {"1": 0.9, "2": 0.6}[row["instance"]]
        x1, y1, x2, y2 = (float(row[end]) for end in ("x1", "y1", "x2", "y2"))
        places = np.argwhere(numbers == int(row["instance"]))
        assert (places[:, 1] >= x1 - 2).all()
        assert (places[:, 1] <= x2 + 2).all()
        assert (places[:, 0] >= y1 - 2).all()
        assert (places[:, 0] <= y2 + 2).all()


def test_nothing_found_is_a_table_without_rows(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((40, 40), -900, np.float32))
    gg.predict(run, [tmp_path / "a.npy"], tmp_path / "out", unit="HU")
    assert rows_of(tmp_path / "out") == []
    assert not np.load(tmp_path / "out" / "a_instances.npy").any()


def test_several_runs_have_no_common_instances(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", scan())
    gg.predict([run, run], [tmp_path / "a.npy"], tmp_path / "out", unit="HU")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.npy", "areas.csv"]


def test_an_input_of_the_name_of_an_output_is_refused(run: Run, tmp_path: Path, cli: Cli) -> None:
    for name in ("a", "a_instances"):
        np.save(tmp_path / f"{name}.npy", scan())
    answer = cli("predict", run.path, tmp_path / "a.npy", tmp_path / "a_instances.npy", "--out", tmp_path / "out")
    assert answer.code == 2, answer
    assert len(answer.err.strip().splitlines()) == 1
    assert "would be written to the same name" in answer.err
    assert not (tmp_path / "out").exists()


def test_masks_are_compared_without_the_maps_of_instances(tmp_path: Path) -> None:
    from groundglass.workflows.masks import _files

    for name in ("a", "a_instances", "a_probabilities", "b_instances"):
        np.save(tmp_path / f"{name}.npy", np.zeros((4, 4), np.uint8))
    assert [path.stem for path in _files(tmp_path)] == ["a", "b_instances"]


@pytest.mark.slow
def test_evaluate_draws_them(tmp_path: Path) -> None:
    settings = ["image_size=64", "architecture={name: 'tests.networks.own:Bright'}", "labels=lesion"]
    settings += ["loss=[{name: cross_entropy}]", "checkpoint.metric=validation/loss", "epochs=1", "precision=fp32"]
    trained = gg.train("demo", "phantom:4", out=tmp_path / "run", settings=settings)
    gg.evaluate([trained], "phantom:4", bootstrap=0)
    drawn = trained.path / "figures" / "instances.png"
    assert Image.open(drawn).size[0] > 300
