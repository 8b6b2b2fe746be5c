"""NIfTI files as stacks of axial slices, seen as a radiologist sees them.

A NIfTI array has the axes the scanner or the last program gave it; only its affine says what they mean. Here every
file is turned to the closest of: column from the patient's right to left, row from front to back, slice from feet to
head, and its axes are reversed to [slice, row, column]. That is radiological view, and the convention of `case.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from groundglass.case import Geometry
from groundglass.errors import DataError
from groundglass.scans.arrays import NUMERIC_KINDS

MAX_VOXELS = 1_000_000_000
# Deflate cannot shrink data further (1032:1), so a smaller .nii.gz cannot hold what its header says.
_DEFLATE_LIMIT = 1032
_RADIOLOGICAL = orientations.axcodes2ornt(("L", "P", "S"))


@dataclass(frozen=True)
class NiftiStack:
    """The header of a NIfTI file, turned to [slice, row, column]; voxels are read slice by slice.

    shape: (N, H, W); axes: what the file's own three axes point to, such as `LPS`; oriented: whether the header
    states an orientation at all; geometry: spacing (slice, row, column) in mm and affine of the turned stack.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    axes: str
    oriented: bool
    geometry: Geometry

    def slice_geometry(self, index: int) -> Geometry:
        """Spacing (row, column) in mm and affine of one slice alone."""
        spacing, affine = self.geometry.spacing_mm, self.geometry.affine
        moved = None
        if affine is not None:
            moved = affine.copy()
            moved[:3, 3] += affine[:3, 2] * index
        return Geometry(None if spacing is None else spacing[1:], moved)

    def read(self, index: int) -> NDArray[Any]:
        """Slice `index` [H, W] with the file's scaling applied: its own dtype, or float64 where scaled.

        Raises `DataError` when the voxels cannot be read.
        """
        voxels, slope, intercept = _voxels(self.path, self.path.stat().st_mtime_ns)
        plane = np.array(voxels[index])
        return plane if (slope, intercept) == (1, 0) else plane * slope + intercept


def read_nifti_slices(path: str | os.PathLike[str]) -> NiftiStack:
    """Open a NIfTI file of two or three dimensions (more are taken when they are 1 long) as a stack of slices.

    Raises `DataError` for a missing or damaged file, time series, colour or complex values, an affine that gives no
    orientation, and more than `MAX_VOXELS` voxels; all before a voxel is read.
    """
    path = Path(path)
    image = _header(path)
    shape = _three(path, image.shape)
    try:
        turn = orientations.ornt_transform(orientations.io_orientation(image.affine), _RADIOLOGICAL)
        affine = image.affine @ orientations.inv_ornt_aff(turn, shape)
        axes = "".join(nib.aff2axcodes(image.affine))
    except (ValueError, TypeError, IndexError, np.linalg.LinAlgError, orientations.OrientationError) as error:
        raise DataError(f"{path}: the header's affine gives no orientation") from error
    column, row, stack = (shape[int(axis)] for axis in np.argsort(turn[:, 0]))
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))[::-1]
    spacing = tuple(float(size) for size in sizes) if np.isfinite(sizes).all() and (sizes > 0).all() else None
    header = image.header
    oriented = int(header.get("qform_code", 0)) > 0 or int(header.get("sform_code", 0)) > 0
    return NiftiStack(
        path, (stack, row, column), image.get_data_dtype(), axes, oriented, Geometry(spacing, affine.astype(float))
    )


def _header(path: Path) -> Any:
    """nibabel's image, header read, voxels not."""
    if not path.is_file():
        raise DataError(f"{path}: does not exist")
    try:
        image = nib.load(path)
        dtype, voxels = image.get_data_dtype(), prod(image.shape)
        size = path.stat().st_size
        space = size * _DEFLATE_LIMIT if path.suffix == ".gz" else size - int(image.dataobj.offset)
    except Exception as error:  # nibabel and gzip raise many things on damaged files
        raise DataError(f"{path}: is not a readable NIfTI file") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise DataError(f"{path}: is not a NIfTI file")
    if dtype.kind not in NUMERIC_KINDS:
        raise DataError(f"{path}: holds colour or complex values; one real number a voxel is expected")
    if voxels <= 0:
        raise DataError(f"{path}: holds no voxels (shape {image.shape})")
    if voxels > MAX_VOXELS:
        raise DataError(f"{path}: {voxels:,} voxels are more than the {MAX_VOXELS:,} allowed")
    if voxels * dtype.itemsize > space:
        raise DataError(f"{path}: is cut short; its header promises {voxels:,} voxels of {dtype}")
    return image


def _three(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) < 2 or prod(shape[3:]) != 1:
        raise DataError(f"{path}: has shape {shape}; a slice or a stack of slices is expected")
    x, y, *rest = shape
    return int(x), int(y), int(rest[0]) if rest else 1


# Small: a case needs image, mask and lungs of one file each; a .nii.gz cannot be read from its middle.
@lru_cache(maxsize=3)
def _voxels(path: Path, _changed: int) -> tuple[NDArray[Any], float, float]:
    """([N, H, W] view of the unscaled voxels, slope, intercept); memory-mapped unless compressed."""
    image = _header(path)
    turn = orientations.ornt_transform(orientations.io_orientation(image.affine), _RADIOLOGICAL)
    try:
        raw = np.asanyarray(image.dataobj.get_unscaled()).reshape(_three(path, image.shape), order="F")
    except Exception as error:  # zlib, gzip, mmap and nibabel each have their own exceptions
        raise DataError(f"{path}: the voxels cannot be read; the file is cut short or damaged") from error
    return orientations.apply_orientation(raw, turn).T, float(image.dataobj.slope), float(image.dataobj.inter)
