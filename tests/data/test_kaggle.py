"""The competition's files: ids, groups, one-hot masks, and reading one slice at a time."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean
from groundglass.data.kaggle import CHANNELS
from groundglass.data.masks import decode_one_hot
from groundglass.labels import BY_NAME, PRECEDENCE
from tests.data.small import kaggle, one_hot


def kinds(dataset) -> list[str]:  # type: ignore[no-untyped-def]
    return [defect.kind for defect in dataset.defects]


def test_cases(tmp_path: Path) -> None:
    dataset = open_dataset(kaggle(tmp_path))
    assert dataset.format == "covid-segmentation"
    assert dataset.sources == ("medseg", "radiopaedia")
    assert [case.id for case in dataset.cases[4:8]] == [
        "medseg/004",
        "medseg/005",
        "radiopaedia/0000",
        "radiopaedia/0001",
    ]
    assert [case.id for case in dataset.test] == ["test/0", "test/1"]
    assert {case.unit for case in dataset.cases} == {Unit.HU}
    assert dataset.patients == "not known"
    assert kinds(dataset) == ["unknown-patients", "unknown-patients"]
    case = dataset.case("radiopaedia/0005")
    assert (case.place, case.group, case.patient) == ("images_radiopedia.npy row 5", "radiopaedia volume 2", None)
    assert dataset.case("medseg/003").group == "medseg/003"
    assert require_clean(dataset) is not None


def test_pixels_are_the_files(tmp_path: Path) -> None:
    images = np.load(kaggle(tmp_path) / "images_medseg.npy")
    masks = np.load(tmp_path / "masks_medseg.npy")
    case = open_dataset(tmp_path).case("medseg/002")
    assert case.image().dtype == np.float32
    assert np.array_equal(case.image(), images[2, ..., 0])
    values = np.array([BY_NAME[name].value for name in CHANNELS])
    assert np.array_equal(case.labels(), values[masks[2].argmax(-1)])
    lung = case.lung()
    assert lung is not None
    assert np.array_equal(lung, masks[2, ..., 3] == 0)


@pytest.mark.parametrize("dtype", ["float64", "int16"])
@pytest.mark.parametrize("mask_dtype", ["bool", "float32", "uint8"])
def test_dtypes(tmp_path: Path, dtype: str, mask_dtype: str) -> None:
    kaggle(tmp_path, radiopaedia=0, test=0)
    for name, kind in (("images", dtype), ("masks", mask_dtype)):
        np.save(tmp_path / f"{name}_medseg.npy", np.load(tmp_path / f"{name}_medseg.npy").astype(kind))
    case = open_dataset(tmp_path).cases[0]
    assert case.image().dtype == np.float32
    assert set(np.unique(case.labels())) == {0, 1, 2, 3}


def test_without_the_table_radiopaedia_is_one_group(tmp_path: Path) -> None:
    dataset = open_dataset(kaggle(tmp_path, table=False))
    assert "unknown-volumes" in kinds(dataset)
    assert {case.group for case in dataset.cases if case.source == "radiopaedia"} == {"radiopaedia"}


def test_without_masks_slices_can_only_be_predicted(tmp_path: Path) -> None:
    (kaggle(tmp_path) / "masks_medseg.npy").unlink()
    dataset = open_dataset(tmp_path)
    assert "missing-masks" in kinds(dataset)
    assert dataset.sources == ("radiopaedia",)
    assert [case.source for case in dataset.test].count("medseg") == 6


def test_an_unknown_unit_is_told_for_each_part_and_can_be_stated(tmp_path: Path) -> None:
    kaggle(tmp_path)
    for name in ("images_medseg.npy", "test_images_medseg.npy"):
        np.save(tmp_path / name, np.load(tmp_path / name) / 2000 + 0.5)
    found = [d for d in open_dataset(tmp_path).defects if d.kind == "unknown-unit"]
    assert [(d.severity, d.file) for d in found] == [
        ("warning", "images_medseg.npy"),
        ("warning", "test_images_medseg.npy"),
    ]
    assert "6 images of 'medseg' fit neither HU" in found[0].message
    assert "2 images of 'test' fit neither HU" in found[1].message
    assert "'unit: HU' or 'unit: picture' into dataset.yaml beside the npy files" in found[0].message
    (tmp_path / "dataset.yaml").write_text("unit: picture\n")
    dataset = open_dataset(tmp_path)
    assert {case.unit for case in (*dataset.cases, *dataset.test)} == {dataset.unit} == {Unit.PICTURE}
    assert "unknown-unit" not in kinds(dataset)


def test_guessed_classes_are_told(tmp_path: Path) -> None:
    table = kaggle(tmp_path) / "radiopaedia_slices.csv"
    table.write_text(table.read_text().replace("yes", "no", 3))
    defect = next(d for d in open_dataset(tmp_path).defects if d.kind == "guessed-class")
    assert "3 of 8" in defect.message


def test_cases_travel_to_worker_processes(tmp_path: Path) -> None:
    case = open_dataset(kaggle(tmp_path)).cases[0]
    parcel = pickle.dumps(case)
    assert len(parcel) < 5000, "paths travel, pixels do not"
    assert np.array_equal(pickle.loads(parcel).image(), case.image())


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(4)), elements=st.integers(0, 1)))
def test_one_hot_by_the_rule(mask: np.ndarray) -> None:  # type: ignore[type-arg]
    decoded = decode_one_hot(mask, CHANNELS)
    lost = 0
    for row, column in np.ndindex(mask.shape[:2]):
        claims = [name for name in PRECEDENCE if name in CHANNELS and mask[row, column, CHANNELS.index(name)]]
        assert decoded.labels[row, column] == (BY_NAME[claims[0]].value if claims else 0)
        lost += max(0, len(claims) - 1)
    assert sum(decoded.overlaps.values()) == lost
    assert decoded.unlabelled == int((mask.sum(-1) == 0).sum())
    assert decoded.bad_values == ()


def test_one_hot_round_trip_and_bad_values() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (1, 9, 9))
    mask = one_hot(labels)[0].astype(float)
    assert decode_one_hot(mask, CHANNELS).overlaps == {}
    mask[0, 0, 0], mask[1, 1, 1] = 0.5, -3
    assert decode_one_hot(mask, CHANNELS).bad_values == (-3.0, 0.5)


@pytest.mark.realdata
@pytest.mark.slow
def test_the_real_files(covid_segmentation: Path) -> None:
    dataset = open_dataset(covid_segmentation)
    assert (len(dataset.cases), len(dataset.test)) == (462, 10)
    assert len({case.group for case in dataset.cases if case.source == "radiopaedia"}) == 7
    found = require_clean(dataset)
    assert found is not None
    assert found.n_with_lesion == 50 + 179
    assert sum(found.shares.values()) == pytest.approx(1)
    # Most of a chest slice is not lung, and most of the lung is not lesion.
    assert (
        found.shares["background"] > found.shares["lung"] > found.shares["ground-glass"] > found.shares["consolidation"]
    )
    assert (found.minimum, found.maximum) == (-1350, 400)
