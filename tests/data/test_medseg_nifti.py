"""MedSeg's own NIfTI stacks."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from groundglass.case import Unit
from groundglass.data import open_dataset, require_clean
from groundglass.labels import BY_NAME
from tests.data.small import medseg_nifti


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("signs", [(-1, -1), (1, 1), (-1, 1)])
def test_slices_as_simpleitk_shows_them(tmp_path: Path, ending: str, signs: tuple[int, int]) -> None:
    dataset = open_dataset(
        medseg_nifti(tmp_path, affine=np.diag([signs[0] * 0.7, signs[1] * 0.8, 1.0, 1.0]), ending=ending)
    )
    assert dataset.format == "medseg-nifti"
    images, masks = (
        sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / f"{name}{ending}")), "LPS"))
        for name in ("tr_im", "tr_mask")
    )
    names = [BY_NAME[name].value for name in ("background", "ground-glass", "consolidation", "pleural-effusion")]
    for row, case in enumerate(dataset.cases):
        assert case.id == f"medseg/{row:03d}"
        assert case.shape == (12, 10)
        assert np.array_equal(case.image(), images[row])
        assert np.array_equal(case.labels(), np.array(names)[masks[row]])
        assert case.geometry.spacing_mm == pytest.approx((0.8, 0.7))
    assert [case.id for case in dataset.test] == ["test/0", "test/1"]
    assert dataset.unit is Unit.HU
    assert require_clean(dataset) is not None


def test_effusion_is_the_canonical_value(tmp_path: Path) -> None:
    labels = open_dataset(medseg_nifti(tmp_path)).cases[0].labels()
    assert BY_NAME["pleural-effusion"].value in labels
    assert BY_NAME["lung"].value not in labels


def test_slices_are_strangers(tmp_path: Path) -> None:
    dataset = open_dataset(medseg_nifti(tmp_path))
    assert len({case.group for case in dataset.cases}) == len(dataset.cases)
    assert [defect.kind for defect in dataset.defects] == ["unknown-patients"]


def test_without_orientation_there_is_a_warning(tmp_path: Path) -> None:
    medseg_nifti(tmp_path)
    for name in ("tr_im", "tr_mask"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        bare = nib.Nifti1Image(np.asarray(image.dataobj), None)
        nib.save(bare, tmp_path / f"{name}.nii.gz")
    assert "unknown-orientation" in [defect.kind for defect in open_dataset(tmp_path).defects]


def test_without_masks(tmp_path: Path) -> None:
    (medseg_nifti(tmp_path) / "tr_mask.nii.gz").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.cases == ()
    assert [case.source for case in dataset.test] == ["medseg", "medseg", "medseg", "test", "test"]
