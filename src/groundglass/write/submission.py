"""The Kaggle submission: `Id,Predicted`, one row for every pixel and class, the class varying fastest.

Ids count the C-order elements of [image, row, column, class] with classes ground-glass and consolidation, as public
notebooks of the competition write them (`(image * 512 + row) * 512 + column) * 2 + class`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.files import WriteError, atomic
from groundglass.labels import BY_NAME

CLASSES = ("ground-glass", "consolidation")
_HEADER = b"Id,Predicted\n"
_BLOCK = 262_144


def write_submission(
    path: str | Path, label_maps: Iterable[NDArray[np.uint8]], progress: Callable[[int], None] = lambda done: None
) -> int:
    """Write canonical label maps [H, W] uint8, one after another in bounded memory, and verify the file by reading it
    again before it takes its name. Returns the number of rows.

    Raises `DataError` without images, `WriteError` when the disk refuses or the file is not what was meant.
    """
    ones = rows = images = 0
    with atomic(path) as temporary:
        with open(temporary, "wb") as out:
            out.write(_HEADER)
            for images, labels in enumerate(label_maps, start=1):
                values = np.stack([labels == BY_NAME[name].value for name in CLASSES], axis=-1).ravel()
                for block in _lines(rows, values):
                    out.write(block)
                rows += values.size
                ones += int(values.sum())
                progress(images)
        if not images:
            raise DataError("there are no test images to submit")
        if verify(temporary) != (rows, ones):
            raise WriteError(f"{path}: the written file does not read back as it was meant; nothing was changed")
    return rows


def verify(path: str | Path) -> tuple[int, int]:
    """Read a submission in blocks: (rows, rows with 1). Raises `DataError` unless the header is `Id,Predicted`, ids
    count from 0 without gap and every value is 0 or 1."""
    rows = ones = 0
    with open(path, "rb") as file:
        if file.read(len(_HEADER)) != _HEADER:
            raise DataError(f"{path}: does not begin with Id,Predicted")
        rest = b""
        while chunk := file.read(1 << 22):
            text, _, rest = (rest + chunk).rpartition(b"\n")
            if text:
                found, positive = _check_block(path, text, rows)
                rows, ones = rows + found, ones + positive
        if rest:
            raise DataError(f"{path}: the last line is not complete")
    return rows, ones


def _check_block(path: str | Path, text: bytes, first: int) -> tuple[int, int]:
    lines = text.count(b"\n") + 1
    try:
        with warnings.catch_warnings():
            # NumPy only warns where the text stops being numbers.
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromstring(text.replace(b"\n", b","), dtype=np.int64, sep=",")
    except (ValueError, DeprecationWarning):
        raise DataError(f"{path}: holds something that is no whole number near row {first}") from None
    if numbers.size != 2 * lines or text.count(b",") != lines:
        raise DataError(f"{path}: a line near row {first} does not hold two numbers")
    ids, values = numbers[0::2], numbers[1::2]
    if not np.array_equal(ids, np.arange(first, first + ids.size)):
        raise DataError(f"{path}: ids do not count up without gap near row {first}")
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{path}: a value near row {first} is not 0 or 1")
    return ids.size, int(values.sum())


def _lines(first: int, values: NDArray[np.bool_]) -> Iterator[bytes]:
    """Blocks of `id,value` lines for ids from `first`. All ids of a block have equally many digits, so that a block is
    one matrix of characters; seven times faster than the csv module (benchmarks/submission.py)."""
    start, end = first, first + values.size
    while start < end:
        digits = len(str(start))
        stop = min(end, start + _BLOCK, 10**digits)
        ids = np.arange(start, stop)
        block = np.empty((ids.size, digits + 3), np.uint8)
        for column in range(digits - 1, -1, -1):
            block[:, column] = ids % 10 + ord("0")
            ids //= 10
        block[:, digits] = ord(",")
        block[:, digits + 1] = values[start - first : stop - first] + ord("0")
        block[:, digits + 2] = ord("\n")
        yield block.tobytes()
        start = stop
