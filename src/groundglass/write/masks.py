"""Label maps and probabilities as files, in the form in which the images came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.files import atomic
from groundglass.labels import LABELS


def write_png(path: str | Path, labels: NDArray[np.uint8], colours: Sequence[str] | None = None) -> Path:
    """Canonical label map [H, W] uint8 as a palette PNG: readers get the values, viewers the colours.

    colours: of each value, of a map of other things.
    """
    image = Image.fromarray(labels, mode="P")
    palette = np.zeros((256, 3), np.uint8)
    named = {label.value: label.colour for label in LABELS} if colours is None else dict(enumerate(colours))
    for value, colour in named.items():
        palette[value] = tuple(bytes.fromhex(colour[1:]))
    image.putpalette(palette.ravel().tolist())
    with atomic(path) as temporary:
        image.save(temporary, format="PNG")
    return Path(path)


def write_npy(path: str | Path, arrays: Iterable[NDArray[np.generic]], count: int | None) -> Path:
    """Arrays of one shape and dtype as one .npy [count, ...], written one after another in bounded memory; count None:
    the single array as it is.

    Raises `WriteError` when the disk refuses; then nothing is left behind.
    """
    items = iter(arrays)
    first = next(items)
    shape = first.shape if count is None else (count, *first.shape)
    with atomic(path) as temporary, open(temporary, "wb") as out:
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        out.write(np.ascontiguousarray(first).data)
        for item in items:
            out.write(np.ascontiguousarray(item).data)
    return Path(path)
