"""Radiopaedia's volumes as pictures: what is certain, what was guessed, and what is empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean
from groundglass.labels import BY_NAME
from tests.data.small import radiopaedia_jpeg


def test_marks_mean_what_the_table_says_of_their_slice(tmp_path: Path) -> None:
    dataset = open_dataset(radiopaedia_jpeg(tmp_path))
    assert dataset.format == "radiopaedia"
    assert dataset.unit is Unit.PICTURE
    assert dataset.classes == ("background", "ground-glass", "consolidation", "lung", "lesion")
    counts = {case.id: np.bincount(case.labels().ravel(), minlength=9).tolist() for case in dataset.cases}
    outside = 16 * 16 - 49
    assert counts == {
        "radiopaedia/1_001": [outside, 0, 0, 49, 0, 0, 0, 0, 0],
        "radiopaedia/1_002": [outside, 0, 0, 44, 0, 5, 0, 0, 0],
        "radiopaedia/1_003": [outside, 4, 1, 44, 0, 0, 0, 0, 0],
        "radiopaedia/2_001": [outside, 4, 1, 44, 0, 0, 0, 0, 0],
    }
    lung = dataset.case("radiopaedia/1_002").lung()
    assert lung is not None
    assert lung.sum() == 49
    found = require_clean(dataset)
    assert found is not None
    assert found.n_with_lesion == 3
    assert found.pixels["lesion"] == 5


def test_volumes_are_kept_whole_and_patients_are_not_known(tmp_path: Path) -> None:
    dataset = open_dataset(radiopaedia_jpeg(tmp_path))
    assert [case.group for case in dataset.cases] == ["radiopaedia volume 1"] * 3 + ["radiopaedia volume 2"]
    assert {case.patient for case in dataset.cases} == {None}
    assert dataset.patients == "not known"
    (defect,) = dataset.defects
    assert defect.kind == "unknown-patients"
    assert "2 volumes are kept whole" in defect.message


def test_only_guessed_types_are_lesions_of_unknown_type(tmp_path: Path) -> None:
    path = radiopaedia_jpeg(tmp_path) / "slices.csv"
    path.write_text(path.read_text().replace(",yes", ",no"))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("background", "lung", "lesion")
    marked = [np.isin(case.labels(), (1, 2)).any() for case in dataset.cases]
    assert not any(marked)
    assert sum((case.labels() == BY_NAME["lesion"].value).any() for case in dataset.cases) == 3
