"""npy files and the guess at their unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from groundglass.case import Unit
from groundglass.errors import DataError
from groundglass.scans.arrays import guess_unit, read_npy
from tests.data.small import Trap, npy_header


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", ">i2", "float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_what_numpy_wrote(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, dtype=dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", array)
    back = read_npy(tmp_path / "a.npy")
    assert isinstance(back, np.memmap)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    with pytest.raises(ValueError):
        back[0, 0, 0] = 1


@given(
    content=st.binary(max_size=300), prefix=st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
)
def test_any_bytes_are_refused_politely(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, prefix: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.npy"
    path.write_bytes(prefix + content)
    with pytest.raises(DataError, match=r"^[^\n]*bytes\.npy: [^\n]+$"):
        read_npy(path)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "trap.npy", np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        read_npy(tmp_path / "trap.npy")
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "trap.npy", allow_pickle=True)
    assert (tmp_path / "sprung").exists(), "the trap itself must work"


@pytest.mark.parametrize("shape", [(10**9, 10**9), (2**62, 8), (2**32, 2**32), (7,)])
def test_a_header_that_lies_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "lie.npy").write_bytes(npy_header(shape) + bytes(24))
    with pytest.raises(DataError, match="cut short"):
        read_npy(tmp_path / "lie.npy")


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([0, 255], Unit.PICTURE),
        ([0, 1], Unit.PICTURE),
        ([0.0, 0.4, 1.0], Unit.UNKNOWN),
        ([0.0, 128.5], Unit.PICTURE),
        ([-1024, 3071], Unit.HU),
        ([-1500.0, np.nan, 40.0], Unit.HU),
        ([-100, 300], Unit.UNKNOWN),
        ([0, 4095], Unit.UNKNOWN),
        ([np.nan, np.inf], Unit.UNKNOWN),
        ([], Unit.UNKNOWN),
    ],
)
def test_unit_by_range(values: list[float], unit: Unit) -> None:
    assert guess_unit(np.array(values)) is unit


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(width=32)))
def test_unit_never_fails(sample: np.ndarray) -> None:  # type: ignore[type-arg]
    assert guess_unit(sample) in Unit
