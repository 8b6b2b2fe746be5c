"""`predict`: the same pixels give the same map, whatever file they came in, on the grid they came in."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import groundglass as gg
from groundglass.labels import label_set
from groundglass.model.decide import decide
from groundglass.run import Run
from tests.conftest import Cli

CLASSES = label_set("ct4").classes


@pytest.fixture(scope="module")
def slices(drawn: Path) -> np.ndarray[Any, Any]:
    """[6, 64, 64] float32 HU that the runs have not seen."""
    return np.asarray(np.load(drawn / "test_images_medseg.npy")[..., 0])


def predict(run: Run, source: Path, out: Path, **options: Any) -> np.ndarray[Any, Any]:
    (written,) = gg.predict(run, [source], out, **options)
    assert written.parent == out
    return np.load(written) if written.suffix == ".npy" else np.asarray(Image.open(written))


def save(path: Path, array: np.ndarray[Any, Any]) -> Path:
    np.save(path, array)
    return path


def test_npy_shapes(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    """[H, W], [N, H, W] and [N, H, W, 1], of several dtypes, in row or column order, give the same maps."""
    stack = predict(run, save(tmp_path / "a.npy", slices), tmp_path / "a")
    assert (stack.shape, stack.dtype) == ((6, 64, 64), np.uint8)
    assert len(np.unique(stack)) > 2
    np.testing.assert_array_equal(predict(run, save(tmp_path / "b.npy", slices[..., None]), tmp_path / "b"), stack)
    np.testing.assert_array_equal(predict(run, save(tmp_path / "c.npy", slices[2]), tmp_path / "c"), stack[2])
    columns = np.asfortranarray(slices.astype(np.float64))
    np.testing.assert_array_equal(predict(run, save(tmp_path / "d.npy", columns), tmp_path / "d"), stack)


def test_pictures_and_arrays_of_the_same_pixels(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    grey = np.clip((slices[2] + 1000) / 1400 * 255, 0, 255).round().astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).convert("RGB").save(tmp_path / "rgb.png")
    Image.fromarray(grey).save(tmp_path / "photo.jpg", quality=95)
    from_png = predict(run, tmp_path / "grey.png", tmp_path / "png")
    np.testing.assert_array_equal(predict(run, save(tmp_path / "a.npy", grey), tmp_path / "npy"), from_png)
    as_float = save(tmp_path / "f.npy", grey.astype(np.float32))
    np.testing.assert_array_equal(predict(run, as_float, tmp_path / "float"), from_png)
    np.testing.assert_array_equal(predict(run, tmp_path / "rgb.png", tmp_path / "rgb"), from_png)
    # JPEG loses a little, and so may the map.
    assert np.mean(predict(run, tmp_path / "photo.jpg", tmp_path / "jpg") == from_png) > 0.9
    # Both were laid over the recipe's window, so the picture is nearly the slice in HU.
    from_hu = predict(run, save(tmp_path / "hu.npy", slices[2]), tmp_path / "hu")
    assert np.mean(from_hu == from_png) > 0.9


def test_a_palette_picture_holds_canonical_values(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    grey = np.clip((slices[2] + 1000) / 1400 * 255, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    (written,) = gg.predict(run, [tmp_path / "grey.png"], tmp_path / "out")
    with Image.open(written) as picture:
        assert picture.mode == "P"
        values = np.asarray(picture)
    assert set(np.unique(values)) <= {0, 1, 2, 3}
    assert len(np.unique(values)) > 1


@pytest.mark.parametrize("shape", [(64, 40), (33, 64), (150, 90), (1, 64), (5, 5)])
def test_the_map_has_the_grid_of_the_image(
    shape: tuple[int, int], run: Run, slices: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    image = np.asarray(Image.fromarray(slices[3]).resize((shape[1], shape[0])))
    labels = predict(run, save(tmp_path / "a.npy", image), tmp_path / "a", save_probabilities=True, unit="HU")
    assert labels.shape == shape
    assert np.load(tmp_path / "a" / "a_probabilities.npy").shape == (4, *shape)
    Image.fromarray(np.full(shape, 90, np.uint8)).save(tmp_path / "b.png")
    assert predict(run, tmp_path / "b.png", tmp_path / "b").shape == shape


def test_padding_does_not_shift_the_map(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    """Air added left and right in equal parts is what the network's own padding would be."""
    wide = np.full((64, 64), -1000, np.float32)
    wide[:, 12:52] = slices[2][:, 12:52]
    whole = predict(run, save(tmp_path / "a.npy", wide), tmp_path / "a")
    narrow = predict(run, save(tmp_path / "b.npy", slices[2][:, 12:52]), tmp_path / "b")
    np.testing.assert_array_equal(narrow, whole[:, 12:52])


def test_probabilities(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    labels = predict(run, save(tmp_path / "a.npy", slices), tmp_path / "a", save_probabilities=True)
    p = np.load(tmp_path / "a" / "a_probabilities.npy")
    assert (p.shape, p.dtype) == ((6, 4, 64, 64), np.float32)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert p.min() >= 0
    np.testing.assert_array_equal(label_set("ct4").decode(p.argmax(axis=1)), labels)
    Image.fromarray(np.full((20, 30), 90, np.uint8)).save(tmp_path / "b.png")
    gg.predict(run, [tmp_path / "b.png"], tmp_path / "b", save_probabilities=True)
    assert np.load(tmp_path / "b" / "b_probabilities.npy").shape == (4, 20, 30)


def test_stored_thresholds_decide(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    thresholds = {"ground-glass": 0.05, "consolidation": 0.3}
    copy = Path(shutil.copytree(run.path, tmp_path / "run"))
    manifest = json.loads((copy / "run.json").read_text()) | {"thresholds": thresholds}
    (copy / "run.json").write_text(json.dumps(manifest))
    source = save(tmp_path / "a.npy", slices)
    by_argmax = predict(run, source, tmp_path / "a")
    labels = predict(Run.open(copy), source, tmp_path / "b", save_probabilities=True)
    p = np.load(tmp_path / "b" / "a_probabilities.npy")
    expected = np.stack([decide(plane, label_set("ct4"), thresholds) for plane in p])
    np.testing.assert_array_equal(labels, label_set("ct4").decode(expected))
    assert np.isin(labels, (1, 2)).sum() > np.isin(by_argmax, (1, 2)).sum()


@pytest.mark.parametrize("axis", [-1, -2])
def test_flips_at_test_time_make_the_answer_flip_with_the_image(
    axis: int, run: Run, slices: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"tta": "flips", "save_probabilities": True}
    predict(run, save(tmp_path / "a.npy", slices), tmp_path / "a", **options)
    predict(run, save(tmp_path / "b.npy", np.flip(slices, axis)), tmp_path / "b", **options)
    p, q = (np.load(tmp_path / n / f"{n}_probabilities.npy") for n in "ab")
    np.testing.assert_allclose(np.flip(q, axis), p, atol=1e-4)
    predict(run, tmp_path / "a.npy", tmp_path / "c", save_probabilities=True)
    assert np.abs(np.load(tmp_path / "c" / "a_probabilities.npy") - p).max() > 1e-3


def test_areas_are_shares_of_the_map(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    save(source / "stack.npy", slices)
    Image.fromarray(np.full((20, 30), 90, np.uint8)).save(source / "one.png")
    (source / "notes.txt").write_text("not an image")
    written = gg.predict(run, [source], tmp_path / "out")
    assert [path.name for path in written] == ["one.png", "stack.npy"]
    with open(tmp_path / "out" / "areas.csv", newline="") as file:
        table = csv.DictReader(file)
        rows = list(table)
    assert table.fieldnames == ["file", "slice", *CLASSES]  # in channel order, as docs/data.md says
    assert [(row["file"], row["slice"]) for row in rows] == [("one.png", "0")] + [
        ("stack.npy", str(k)) for k in range(6)
    ]
    labels = np.load(tmp_path / "out" / "stack.npy")
    for k, row in enumerate(rows[1:]):
        assert sum(float(row[name]) for name in CLASSES) == pytest.approx(1, abs=1e-4)
        for value, name in enumerate(CLASSES):
            assert float(row[name]) == pytest.approx(np.mean(labels[k] == value), abs=1e-5)


def test_several_runs_are_averaged(folds: list[Run], slices: np.ndarray[Any, Any], tmp_path: Path, cli: Cli) -> None:
    source = save(tmp_path / "a.npy", slices)
    for k, run in enumerate(folds):
        predict(run, source, tmp_path / str(k), save_probabilities=True)
    names = ",".join(str(run.path) for run in folds)
    answer = cli("predict", names, source, "-o", tmp_path / "both", "--probabilities")
    assert answer.code == 0
    assert "1 label maps" in answer.out
    assert "not a medical device" in answer.out
    p, q, both = (np.load(tmp_path / n / "a_probabilities.npy") for n in ("0", "1", "both"))
    np.testing.assert_allclose(both, (p + q) / 2, atol=1e-6)
    thresholds = [run.manifest.thresholds or {} for run in folds]
    mean = {name: (thresholds[0][name] + thresholds[1][name]) / 2 for name in thresholds[0]}
    expected = np.stack([decide(plane, label_set("ct4"), mean) for plane in both])
    np.testing.assert_array_equal(np.load(tmp_path / "both" / "a.npy"), label_set("ct4").decode(expected))


def test_the_unit_can_be_stated(run: Run, slices: np.ndarray[Any, Any], tmp_path: Path) -> None:
    dim = save(tmp_path / "dim.npy", np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64))
    assert predict(run, dim, tmp_path / "hu", unit="hu").shape == (64, 64)
    assert predict(run, dim, tmp_path / "picture", unit="picture").shape == (64, 64)
