"""Masks as files: values for programs, colours for people, and nothing half written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from groundglass.files import WriteError
from groundglass.labels import LABELS
from groundglass.scans.slices import read_mask_slice
from groundglass.write.masks import write_npy, write_png


def test_png_holds_values_and_shows_colours(tmp_path: Path) -> None:
    labels = np.array([[label.value for label in LABELS]], np.uint8)
    path = write_png(tmp_path / "deep" / "mask.png", labels)
    np.testing.assert_array_equal(read_mask_slice(path, 0), labels)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert ["#" + bytes(colour.tolist()).hex().upper() for colour in colours] == [
        label.colour.upper() for label in LABELS
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int16])
def test_npy_slice_by_slice_equals_numpy(dtype: Any, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(dtype)
    np.save(tmp_path / "numpy.npy", stack)
    # Transposed slices are not contiguous in memory.
    write_npy(tmp_path / "ours.npy", (np.asfortranarray(plane) for plane in stack), 3)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    np.testing.assert_array_equal(np.load(write_npy(tmp_path / "one.npy", [stack[0]], None)), stack[0])


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def breaking() -> Any:
        yield np.zeros((4, 4), np.uint8)
        raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match=r"stack\.npy: cannot be written \(No space left on device\)"):
        write_npy(tmp_path / "stack.npy", breaking(), 2)
    assert list(tmp_path.iterdir()) == []
