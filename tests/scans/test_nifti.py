"""NIfTI stacks against SimpleITK, which turns files to LPS by its own code."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from groundglass.errors import DataError
from groundglass.scans import nifti
from groundglass.scans.nifti import read_nifti_slices

AXES = ["".join(axes) for order in itertools.permutations(("LR", "AP", "SI")) for axes in itertools.product(*order)]


def write(
    path: Path, axes: str, dtype: str = "int16", zooms: tuple[float, float, float] = (0.5, 0.8, 2.0)
) -> np.ndarray:  # type: ignore[type-arg]
    """A random volume whose array axes point to `axes`; returns its voxels."""
    voxels = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(dtype)
    signs = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, name in enumerate(axes):
        row, sign = signs[name]
        affine[row, column] = sign * zooms[column]
    affine[:3, 3] = (10, -20, 30)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return voxels


@pytest.mark.parametrize("axes", AXES)
def test_same_as_simpleitk(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "a.nii.gz"
    write(path, axes)
    stack = read_nifti_slices(path)
    ours = np.stack([stack.read(index) for index in range(stack.shape[0])])
    theirs = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    assert stack.axes == axes
    assert np.array_equal(ours, sitk.GetArrayFromImage(theirs))
    assert stack.geometry.spacing_mm == pytest.approx(theirs.GetSpacing()[::-1])
    # A voxel of slice 3 lies where SimpleITK says (LPS against RAS: the first two coordinates change sign).
    point = stack.slice_geometry(3).affine @ [1, 2, 0, 1]  # type: ignore[operator]
    assert point[:3] * [-1, -1, 1] == pytest.approx(theirs.TransformIndexToPhysicalPoint((1, 2, 3)))


def test_top_row_is_the_front_and_left_column_the_patients_right(tmp_path: Path) -> None:
    voxels = np.zeros((4, 5, 2), np.int16)
    voxels[3, 4, 1] = 7  # axes grow towards right, front and head, so this corner is all three
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "ras.nii")
    stack = read_nifti_slices(tmp_path / "ras.nii")
    assert stack.shape == (2, 5, 4)
    assert stack.read(1)[0, 0] == 7
    assert stack.read(1).sum() == 7


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_scaling_is_applied(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scaled{ending}"
    image = nib.Nifti1Image(np.arange(24).reshape(2, 3, 4).astype(np.int16), np.diag([-1, -1, 1, 1]))
    image.header.set_slope_inter(2, -1000)
    nib.save(image, path)
    expected = np.asarray(nib.load(path).dataobj)
    assert np.array_equal(read_nifti_slices(path).read(2), expected[..., 2].T)


def test_one_slice_of_two_axes(tmp_path: Path) -> None:
    plane = np.arange(12).reshape(4, 3).astype(np.float32)
    nib.save(nib.Nifti1Image(plane, np.diag([-2.0, -3.0, 1.0, 1.0])), tmp_path / "plane.nii.gz")
    stack = read_nifti_slices(tmp_path / "plane.nii.gz")
    assert stack.shape == (1, 3, 4)
    assert np.array_equal(stack.read(0), plane.T)
    assert stack.slice_geometry(0).spacing_mm == (3.0, 2.0)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    for value in (1, 2):
        nib.save(nib.Nifti1Image(np.full((3, 3, 3), value, np.int16), np.eye(4)), path)
        assert read_nifti_slices(path).read(0).max() == value


def test_a_header_that_lies_is_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "lie.nii.gz"
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((900, 900, 900))
    with gzip.open(path, "wb") as file:
        file.write(header.binaryblock + bytes(1000))
    with pytest.raises(DataError, match="cut short"):
        read_nifti_slices(path)


def test_too_many_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.nii", "LPS")
    monkeypatch.setattr(nifti, "MAX_VOXELS", 100)
    with pytest.raises(DataError, match="more than the 100 allowed"):
        read_nifti_slices(tmp_path / "a.nii")


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_colour_and_complex_are_refused(tmp_path: Path, dtype: np.dtype) -> None:  # type: ignore[type-arg]
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), dtype), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match="one real number"):
        read_nifti_slices(tmp_path / "a.nii")


def test_an_affine_without_direction_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    image.header.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    image.header.set_qform(None, code=0)
    path = tmp_path / "flat.nii"
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[296:312] = bytes(16)  # srow_y: nothing moves from front to back
    path.write_bytes(content)
    with pytest.raises(DataError, match="orientation"):
        read_nifti_slices(path)
