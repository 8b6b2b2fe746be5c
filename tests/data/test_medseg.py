"""MedSeg's slices as pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean
from tests.data.small import medseg_png


def test_slices_with_lungs_and_sizes_of_their_own(tmp_path: Path) -> None:
    dataset = open_dataset(medseg_png(tmp_path))
    assert dataset.format == "medseg"
    assert [case.id for case in dataset.cases] == ["medseg/000", "medseg/001", "medseg/004"]
    assert [(case.id, case.source) for case in dataset.test] == [("test/002", "test")]
    assert [case.shape for case in dataset.cases] == [(16, 20), (17, 20), (20, 20)]
    assert dataset.classes == ("background", "ground-glass", "consolidation", "lung")
    assert dataset.unit is Unit.PICTURE
    for case in dataset.cases:
        assert np.bincount(case.labels().ravel()).tolist() == [case.shape[0] * 20 - 49, 4, 1, 44]
        lung = case.lung()
        assert lung is not None
        assert lung.sum() == 49, "lesions are inside the lung"
    assert require_clean(dataset) is not None


def test_nobody_is_known_and_every_slice_is_a_stranger(tmp_path: Path) -> None:
    dataset = open_dataset(medseg_png(tmp_path))
    assert dataset.patients == "not known"
    assert {case.patient for case in (*dataset.cases, *dataset.test)} == {None}
    assert len({case.group for case in dataset.cases}) == 3
    assert [defect.kind for defect in dataset.defects] == ["unknown-patients"]


def test_without_lungs_there_is_background(tmp_path: Path) -> None:
    shutil.rmtree(medseg_png(tmp_path) / "lungs")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("background", "ground-glass", "consolidation")
    assert dataset.cases[0].lung() is None


@pytest.mark.parametrize("table", ["slice\n1\n", "name,age\nx,1\n"])
def test_another_slices_csv_does_not_make_a_folder_medseg(tmp_path: Path, table: str) -> None:
    (medseg_png(tmp_path) / "slices.csv").write_text(table)
    assert open_dataset(tmp_path).format == "manifest"


def test_a_manifest_says_more_than_the_layout(tmp_path: Path) -> None:
    (medseg_png(tmp_path) / "manifest.csv").write_text("patient,image,mask\np,images/000.png,masks/000.png\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.patients) == ("manifest", "given")
