"""COVID-19-CT-Seg as pictures: infection of unknown type."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean
from tests.data.small import ct_seg


@pytest.mark.parametrize("table", [False, True])
def test_infection_is_a_lesion_and_the_rest_of_the_lung_is_lung(tmp_path: Path, table: bool) -> None:
    dataset = open_dataset(ct_seg(tmp_path, table))
    assert dataset.format == "covid19-ct-seg"
    assert [case.id for case in dataset.cases] == [
        f"covid19-ct-seg/case_0{case}/{number}" for case in (1, 2) for number in ("003", "005")
    ]
    assert dataset.classes == ("background", "lung", "lesion")
    assert dataset.unit is Unit.PICTURE
    for case in dataset.cases:
        assert np.bincount(case.labels().ravel()).tolist() == [16 * 16 - 49, 0, 0, 44, 0, 5]
        lung = case.lung()
        assert lung is not None
        assert lung.sum() == 49
    assert require_clean(dataset) is not None


def test_cases_are_kept_whole_and_patients_are_not_known(tmp_path: Path) -> None:
    dataset = open_dataset(ct_seg(tmp_path))
    assert len({case.group for case in dataset.cases}) == 2
    assert {case.patient for case in dataset.cases} == {None}
    assert dataset.patients == "not known"


def test_a_case_without_lungs_is_no_background_where_others_have_lungs(tmp_path: Path) -> None:
    folder = ct_seg(tmp_path)
    shutil.rmtree(folder / "lungs" / "case_02")
    dataset = open_dataset(folder)
    with_lungs, without = dataset.cases[0].labels(), dataset.cases[-1].labels()
    assert sorted(np.unique(with_lungs)) == [0, 3, 5]
    assert sorted(np.unique(without)) == [5, 7], "lesion, and what may be background or lung"
    (warning,) = (defect for defect in dataset.defects if defect.kind == "partly-known")
    assert str(warning).startswith("lungs case_02: has no lungs, but other cases do")
    shutil.rmtree(folder / "lungs")
    dataset = open_dataset(folder)
    assert dataset.classes == ("background", "lesion")
    assert not [defect for defect in dataset.defects if defect.kind == "partly-known"]
