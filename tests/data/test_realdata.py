"""The real data sets in their own formats: how many cases, and what their marks mean."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from groundglass.case import Case, Unit
from groundglass.data import Dataset, open_dataset
from groundglass.labels import LABELS, label_set
from tests.conftest import UNPACK

pytestmark = pytest.mark.realdata

NAMES = ("medseg", "radiopaedia", "covid19-ct-seg", "ct-lungs-hu", "lctsc")


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the five data sets."""
    if not UNPACK.is_file():
        pytest.skip("the real data packs are not here (../shared/data/unpack.py)")
    folder = tmp_path_factory.mktemp("packs")
    subprocess.run([sys.executable, str(UNPACK), str(folder), *NAMES], check=True, capture_output=True)
    return folder


def marks(case: Case) -> frozenset[str]:
    """The labels in a case's map."""
    present = set(np.unique(case.labels()).tolist())
    return frozenset(label.name for label in LABELS if label.value in present)


def facts(dataset: Dataset) -> tuple[str, int, int, Unit, str]:
    return dataset.format, len(dataset.cases), len(dataset.test), dataset.unit, dataset.patients


def test_medseg(packs: Path) -> None:
    dataset = open_dataset(packs / "medseg")
    assert facts(dataset) == ("medseg", 50, 10, Unit.PICTURE, "not known")
    assert len({case.shape for case in dataset.cases}) > 40, "each is cropped to its chest"
    found = Counter(name for case in dataset.cases for name in marks(case))
    assert found["lung"] == found["background"] == 50
    assert found["ground-glass"] > found["consolidation"] > 25
    assert set(found) == set(dataset.classes)


@pytest.mark.slow
def test_radiopaedia(packs: Path) -> None:
    dataset = open_dataset(packs / "radiopaedia")
    assert facts(dataset) == ("radiopaedia", 412, 0, Unit.PICTURE, "not known")
    assert len({case.group for case in dataset.cases}) == 7
    found = [marks(case) for case in dataset.cases]
    typed = sum(bool(names & {"ground-glass", "consolidation"}) for names in found)
    untyped = sum("lesion" in names for names in found)
    assert (typed, untyped, len(found) - typed - untyped) == (103, 76, 233)


@pytest.mark.slow
def test_covid19_ct_seg(packs: Path) -> None:
    dataset = open_dataset(packs / "covid19-ct-seg")
    assert facts(dataset) == ("covid19-ct-seg", 429, 0, Unit.PICTURE, "not known")
    assert len({case.group for case in dataset.cases}) == 8
    assert {marks(case) for case in dataset.cases[::8]} == {frozenset({"background", "lung", "lesion"})}


def test_ct_lungs_hu(packs: Path) -> None:
    dataset = open_dataset(packs / "ct-lungs-hu")
    assert facts(dataset) == ("manifest", 200, 0, Unit.HU, "given")
    assert len({case.patient for case in dataset.cases}) == 200
    assert {marks(case) for case in dataset.cases[::4]} == {frozenset({"background", "unmarked-lung"})}


def test_lctsc(packs: Path) -> None:
    dataset = open_dataset(packs / "lctsc")
    assert facts(dataset) == ("lctsc", 378, 0, Unit.HU, "given")
    assert len({case.patient for case in dataset.cases}) == 3
    assert dataset.cases[0].geometry.spacing_mm == pytest.approx((1.953125, 1.953125))
    middle = dataset.cases[65]
    assert marks(middle) == {"background", "unmarked-lung"}
    lung = middle.lung()
    assert lung is not None
    assert middle.image()[lung].mean() < -600, "what is marked as lung is air, mostly"


@pytest.mark.slow
def test_covid_qu_ex(tmp_path: Path) -> None:
    if not UNPACK.is_file():
        pytest.skip("the real data packs are not here (../shared/data/unpack.py)")
    subprocess.run([sys.executable, str(UNPACK), str(tmp_path), "covid-qu-ex"], check=True, capture_output=True)
    dataset = open_dataset(tmp_path / "covid-qu-ex")
    assert facts(dataset) == ("covid-qu-ex", 2580, 0, Unit.PICTURE, "not known")
    assert Counter(case.source for case in dataset.cases) == {"infection": 1660, "lung": 920}
    assert {case.part for case in dataset.cases} == {"train", "validation", "test"}
    for case in dataset.cases[::20]:
        # Severe infection may fill the lungs wholly.
        found = marks(case) - {"background", "lung"}
        if case.source == "lung":
            assert found == {"unmarked-lung"}
        else:
            assert found == ({"lesion"} if case.cohort == "COVID-19" else set())


@pytest.mark.slow
def test_all_of_them_are_one_data_set_for_four_classes(packs: Path) -> None:
    dataset = open_dataset([packs / name for name in NAMES])
    assert len(dataset.cases) == 50 + 412 + 429 + 200 + 378
    assert dataset.sources == ("medseg", "radiopaedia", "covid19-ct-seg", "data", "lctsc")
    assert len({case.stem for case in (*dataset.cases, *dataset.test)}) == len(dataset.cases) + 10
    assert [defect.kind for defect in dataset.defects] == ["unknown-patients"] * 3
    ct4 = label_set("ct4")
    for case in dataset.cases[::40]:
        assert ct4.encode(case.labels()).max() < len(ct4.codes)
