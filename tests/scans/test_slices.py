"""npy files as slices: which shapes are one picture, which a stack, and which are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from groundglass.errors import DataError
from groundglass.scans.slices import open_slices, read_image_slice, read_mask_slice


def save(tmp_path: Path, *shape: int) -> tuple[Path, np.ndarray]:  # type: ignore[type-arg]
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    return tmp_path / "a.npy", array


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 1), (7, 3)])
def test_one_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, array = save(tmp_path, *shape)
    header = open_slices(path)
    assert (header.count, header.shape, header.stacked) == (1, shape[:2], False)
    for read in (read_image_slice, read_mask_slice):
        assert np.array_equal(read(path, 0), array.reshape(shape[:2]))


@pytest.mark.parametrize("shape", [(2, 7, 6), (2, 7, 6, 1), (1, 7, 5), (1, 7, 6, 1)])
def test_a_stack(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, array = save(tmp_path, *shape)
    header = open_slices(path)
    assert (header.count, header.shape, header.stacked) == (shape[0], shape[1:3], True)
    for index in range(shape[0]):
        assert np.array_equal(read_image_slice(path, index), array[index].reshape(shape[1:3]))


@pytest.mark.parametrize("shape", [(7, 6, 2), (7, 6, 3), (7, 6, 4)])
def test_colours_and_one_hot_classes_are_no_stack(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, _ = save(tmp_path, *shape)
    for read in (open_slices, lambda file: read_mask_slice(file, 0)):
        with pytest.raises(
            DataError, match=r"a\.npy: has shape \(7, 6, \d\) \(colour or one-hot\?\); expected is"
        ) as caught:
            read(path)
        assert "[H, W] or [H, W, 1] for one picture, [N, H, W] or [N, H, W, 1] for a stack" in str(caught.value)


@pytest.mark.parametrize("shape", [(), (9,), (2, 7, 6, 3), (1, 2, 7, 6, 1)])
def test_other_numbers_of_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, _ = save(tmp_path, *shape)
    with pytest.raises(DataError, match=r"expected is \[H, W\]") as caught:
        open_slices(path)
    assert "colour" not in str(caught.value)
