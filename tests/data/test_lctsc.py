"""CT volumes with lung masks and nothing said of lesions."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean
from tests.data.small import lctsc


def test_a_case_a_slice_of_known_patients_in_hounsfield_units(tmp_path: Path) -> None:
    dataset = open_dataset(lctsc(tmp_path))
    assert dataset.format == "lctsc"
    assert [case.id for case in dataset.cases] == [f"lctsc/P-{n}/00{k}" for n in (101, 201) for k in range(3)]
    assert [case.patient for case in dataset.cases] == ["P-101"] * 3 + ["P-201"] * 3
    assert (dataset.patients, dataset.unit, dataset.test) == ("given", Unit.HU, ())
    volume = np.asarray(nib.load(tmp_path / "P-101" / "ct.nii.gz").dataobj)
    for index, case in enumerate(dataset.cases[:3]):
        assert np.array_equal(case.image(), volume[:, :, index].T)
        assert case.geometry.spacing_mm == pytest.approx((1.95, 1.95))
    assert require_clean(dataset) is not None


@pytest.mark.parametrize(("says", "name", "value"), [("", "unmarked-lung", 6), ("lesions: none\n", "lung", 3)])
def test_lungs_are_known_and_lesions_only_where_somebody_says_so(
    tmp_path: Path, says: str, name: str, value: int
) -> None:
    (lctsc(tmp_path) / "dataset.yaml").write_text(says or "{}")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("background", name)
    for case in dataset.cases:
        lung = case.lung()
        assert lung is not None
        assert lung.sum() == 4 * 6
        assert np.array_equal(case.labels(), np.where(lung, value, 0))
