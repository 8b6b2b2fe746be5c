"""NumPy files: opened without trust in their header, and what their intensities may mean."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from groundglass.case import Unit
from groundglass.errors import DataError

# Booleans, integers and floats: the only kinds that can be intensities or labels.
NUMERIC_KINDS = "biuf"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Memory-map a .npy file read-only; no pixel is read yet.

    Returns an array of any shape whose dtype is boolean, integer or float. Raises `DataError` for a missing file,
    another kind of file, Python objects (never loaded), other dtypes, no values, and a header whose shape does not
    give the file's size exactly.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
                raise DataError(f"{path}: is not a .npy file")
            file.seek(0)
            shape, _, dtype = _HEADERS[npy.read_magic(file)](file)
            start = file.tell()
        size = path.stat().st_size
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy's header parser meets arbitrary bytes and raises many things
        raise DataError(f"{path}: the .npy header cannot be read; the file is damaged or too new") from error
    if dtype.hasobject:
        raise DataError(f"{path}: holds Python objects, which are never loaded; save plain numbers instead")
    if dtype.kind not in NUMERIC_KINDS:
        raise DataError(f"{path}: holds {dtype} values; integers or real numbers are expected")
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise DataError(f"{path}: the header gives an impossible shape {shape}")
    if prod(shape) == 0:
        raise DataError(f"{path}: holds no values (shape {shape})")
    expected = start + prod(shape) * dtype.itemsize
    if size != expected:
        state = "cut short" if size < expected else "longer than its header says"
        raise DataError(f"{path}: is {state}: {size} bytes, but shape {shape} of {dtype} needs {expected}")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be mapped into memory ({error})") from error
    return array


def guess_unit(sample: NDArray[Any]) -> Unit:
    """What the intensities of `sample` (any shape, real numbers) seem to be, by their range alone.

    0..255 is a picture; anything below -200 is taken for Hounsfield units, since air is near -1000; the rest is
    unknown, and so are floats within 0..1, which somebody has scaled already.
    """
    values = sample[np.isfinite(sample)]
    if values.size == 0:
        return Unit.UNKNOWN
    low, high = float(values.min()), float(values.max())
    if low < -200:
        return Unit.HU
    if low >= 0 and high <= 255 and (high > 1 or values.dtype.kind != "f"):
        return Unit.PICTURE
    return Unit.UNKNOWN
