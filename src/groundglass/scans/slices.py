"""One way to read slices, whatever the file: PNG, JPEG, npy and NIfTI as stacks [N, H, W]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Geometry, Unit
from groundglass.errors import DataError
from groundglass.scans.arrays import guess_unit, read_npy
from groundglass.scans.nifti import read_nifti_slices
from groundglass.scans.pictures import picture_header, read_mask_picture, read_picture

PICTURES = (".png", ".jpg", ".jpeg")
SUFFIXES = (*PICTURES, ".npy", ".nii", ".nii.gz")


@dataclass(frozen=True)
class SliceFile:
    """The header of a file of slices.

    count, shape: N and (H, W); stacked: whether slices are numbered, or the file is one picture;
    unit: `PICTURE` where the file type settles it, else None; axes: see `NiftiStack`, None for other files;
    geometries: what is known of each slice's place, empty when nothing is.
    """

    count: int
    shape: tuple[int, int]
    stacked: bool
    unit: Unit | None = None
    axes: str | None = None
    geometries: tuple[Geometry, ...] = ()

    def geometry(self, index: int) -> Geometry:
        return self.geometries[index] if self.geometries else Geometry()


def suffix_of(path: Path) -> str:
    """The suffix in lower case, with `.nii.gz` as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem_of(path: Path) -> str:
    """The file name without the suffix that `suffix_of` gives."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def open_slices(path: Path) -> SliceFile:
    """Read a header. Raises `DataError` for a missing, unknown or damaged file, and for the wrong number of axes."""
    suffix = suffix_of(path)
    if not path.is_file():
        raise DataError(f"{path}: does not exist")
    if suffix in PICTURES:
        shape, eight_bit = picture_header(path)
        return SliceFile(1, shape, stacked=False, unit=Unit.PICTURE if eight_bit else None)
    if suffix == ".npy":
        array, stacked = _stack(path)
        return SliceFile(array.shape[0], (array.shape[1], array.shape[2]), stacked)
    if suffix in (".nii", ".nii.gz"):
        stack = read_nifti_slices(path)
        count, height, width = stack.shape
        geometries = tuple(stack.slice_geometry(index) for index in range(count))
        return SliceFile(count, (height, width), stacked=count > 1, axes=stack.axes, geometries=geometries)
    raise DataError(f"{path}: is of no known kind; known are {', '.join(SUFFIXES)}")


def read_image_slice(path: Path, index: int) -> NDArray[np.float32]:
    """Intensities [H, W] float32 of slice `index`. Raises `DataError`."""
    return _read(path, index, read_picture).astype(np.float32)


def read_mask_slice(path: Path, index: int) -> NDArray[Any]:
    """Label values [H, W] of slice `index` in the file's own dtype. Raises `DataError`."""
    return _read(path, index, read_mask_picture)


def sample_unit(path: Path, count: int) -> Unit:
    """The unit of a file guessed from its middle slice. Raises `DataError`."""
    return guess_unit(_read(path, count // 2, read_picture))


def _read(path: Path, index: int, picture: Any) -> NDArray[Any]:
    suffix = suffix_of(path)
    if suffix in PICTURES:
        values: NDArray[Any] = picture(path)
        return values
    if suffix == ".npy":
        return np.array(_stack(path)[0][index])
    return read_nifti_slices(path).read(index)


def _stack(path: Path) -> tuple[NDArray[Any], bool]:
    """([N, H, W] view of a .npy file, whether its slices are numbered).

    [H, W] and [H, W, 1] are one picture, [N, H, W] and [N, H, W, 1] are stacks. No slice is 2 to 4 pixels wide, so
    three axes that end so are colours or one-hot classes, and are refused.
    """
    array = read_npy(path)
    last = array.shape[-1] if array.ndim else 0
    if array.ndim == 2:
        return array[np.newaxis], False
    if array.ndim == 3 and last == 1:
        return array[np.newaxis, ..., 0], False
    if array.ndim == 3 and last > 4:
        return array, True
    if array.ndim == 4 and last == 1:
        return array[..., 0], True
    odd = " (colour or one-hot?)" if array.ndim == 3 else ""
    shapes = "[H, W] or [H, W, 1] for one picture, [N, H, W] or [N, H, W, 1] for a stack"
    raise DataError(f"{path}: has shape {array.shape}{odd}; expected is {shapes}")
