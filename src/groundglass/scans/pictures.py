"""PNG and JPEG pictures: decoded only when their size is sane, and only as grey."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from groundglass.errors import DataError

MAX_PIXELS = 100_000_000
# JPEG stores grey as three channels with rounding; larger differences than this are colour.
GREY_TOLERANCE = 8
# No others: some of Pillow's formats start external programs.
_FORMATS = ("PNG", "JPEG")
_ORIENTATION_TAG = 0x0112


def read_picture(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Grey values [H, W] of a PNG or JPEG: uint8, uint16 for 16-bit files.

    RGB(A) and palette pictures are taken when all their channels agree; transparency is ignored; a camera's
    orientation tag is obeyed. Raises `DataError` for a missing or damaged file, real colour, and more than
    `MAX_PIXELS` pixels, which are counted before anything is decoded.
    """
    with _opened(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in ("1", "L", "I", "F") or upright.mode.startswith("I;16"):
            return _grey(upright)
        if upright.mode in ("LA", "La"):
            return _grey(upright.getchannel("L"))
        colours = np.asarray(upright.convert("RGB")).astype(np.int16)
        if int(np.ptp(colours, axis=-1).max()) > GREY_TOLERANCE:
            raise DataError(f"{path}: is a colour picture; a grey CT slice or X-ray is expected")
        return _grey(upright.convert("RGB").convert("L"))


def read_mask_picture(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Label values [H, W] of a PNG mask: like `read_picture`, but a palette's numbers count, not its colours."""
    with _opened(path) as picture:
        if picture.mode == "P":
            return np.array(picture)
    return read_picture(path)


def picture_header(path: str | os.PathLike[str]) -> tuple[tuple[int, int], bool]:
    """((H, W), whether the values are 8-bit) without decoding. Raises `DataError` as `read_picture` does."""
    with _opened(path) as picture:
        width, height = picture.size
        # Not `picture.getexif()`, which decodes a whole PNG to look for a tag behind its pixels.
        if Image.Image.getexif(picture).get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8):
            width, height = height, width
        return (height, width), not picture.mode.startswith(("I", "F"))


def _grey(picture: Image.Image) -> NDArray[Any]:
    values = np.array(picture)
    if values.dtype == np.int32 and values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16)
    return values


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    if not Path(path).is_file():
        raise DataError(f"{path}: does not exist")
    try:
        with warnings.catch_warnings():
            # Pillow warns below our own limit; the limit decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise DataError(f"{path}: {width} x {height} pixels are more than the {MAX_PIXELS:,} allowed")
                yield picture
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: has more pixels than the {MAX_PIXELS:,} allowed") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: is not a PNG or JPEG picture") from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: is damaged and cannot be decoded ({reason})") from error
