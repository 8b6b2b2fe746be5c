"""The submission file: byte for byte what a naive writer would write, and refused when it is not."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundglass.errors import DataError
from groundglass.files import WriteError
from groundglass.write import submission
from groundglass.write.submission import verify, write_submission

GROUND_GLASS, CONSOLIDATION = 1, 2


def naive(path: Path, maps: list[np.ndarray[Any, Any]]) -> bytes:
    """One row a pixel and class, the class fastest, with the csv module and nothing clever."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Id", "Predicted"])
        number = 0
        for labels in maps:
            for row in labels:
                for value in row:
                    for wanted in (GROUND_GLASS, CONSOLIDATION):
                        writer.writerow([number, int(value == wanted)])
                        number += 1
    return path.read_bytes()


def random_maps(count: int, shape: tuple[int, int], seed: int = 0) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(seed).integers(0, 6, (count, *shape)).astype(np.uint8))


def test_golden(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    assert write_submission(tmp_path / "s.csv", [labels, labels.T]) == 16
    written = (tmp_path / "s.csv").read_bytes()
    assert written == (
        b"Id,Predicted\n0,0\n1,0\n2,1\n3,0\n4,0\n5,1\n6,0\n7,0\n8,0\n9,0\n10,0\n11,1\n12,1\n13,0\n14,0\n15,0\n"
    )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 30), st.integers(0, 999))
def test_the_same_as_a_naive_writer(tmp_path: Path, count: int, height: int, width: int, seed: int) -> None:
    maps = random_maps(count, (height, width), seed)
    rows = write_submission(tmp_path / "s.csv", iter(maps))
    assert rows == count * height * width * 2
    assert (tmp_path / "s.csv").read_bytes() == naive(tmp_path / "naive.csv", maps)
    ones = sum(int(np.isin(labels, (GROUND_GLASS, CONSOLIDATION)).sum()) for labels in maps)
    assert verify(tmp_path / "s.csv") == (rows, ones)


def test_across_the_borders_of_blocks_and_digits(tmp_path: Path) -> None:
    # 2 x 300 x 300 x 2 rows: ids of one to six digits, more than one block of 262,144.
    maps = random_maps(2, (300, 300))
    assert write_submission(tmp_path / "s.csv", maps) == 360_000
    assert (tmp_path / "s.csv").read_bytes() == naive(tmp_path / "naive.csv", maps)


def test_ten_slices_of_the_competition(tmp_path: Path) -> None:
    maps = random_maps(10, (512, 512))
    done: list[int] = []
    assert write_submission(tmp_path / "s.csv", iter(maps), done.append) == 5_242_880
    assert done == list(range(1, 11))
    content = (tmp_path / "s.csv").read_bytes()
    assert content.count(b"\n") == 5_242_881
    # The formula of the competition's notebooks, at places far from the start.
    lines = content.split(b"\n")
    for image, row, column, channel in ((0, 0, 0, 0), (3, 17, 500, 1), (7, 511, 0, 0), (9, 511, 511, 1)):
        number = ((image * 512 + row) * 512 + column) * 2 + channel
        value = int(maps[image][row, column] == (GROUND_GLASS, CONSOLIDATION)[channel])
        assert lines[1 + number] == b"%d,%d" % (number, value)


def _written(folder: Path) -> Path:
    write_submission(folder / "s.csv", random_maps(2, (8, 8)))
    return folder / "s.csv"


TAMPERED = {
    "header": (lambda b: b.replace(b"Id,Predicted", b"id,predicted"), "does not begin with Id,Predicted"),
    "no-header": (lambda b: b.split(b"\n", 1)[1], "does not begin with Id,Predicted"),
    "carriage-returns": (lambda b: b.replace(b"\n", b"\r\n"), "does not begin with Id,Predicted"),
    "gap": (lambda b: b.replace(b"\n9,", b"\n10,", 1), "ids do not count up"),
    "lost-line": (lambda b: b"\n".join([*b.split(b"\n")[:30], *b.split(b"\n")[31:]]), "ids do not count up"),
    "swapped": (lambda b: b.replace(b"\n3,", b"\nX,").replace(b"\n4,", b"\n3,").replace(b"\nX,", b"\n4,"), "count up"),
    "two": (lambda b: b[:-2] + b"2\n", "is not 0 or 1"),
    "half": (lambda b: b[:-2] + b"0.5\n", "no whole number"),
    "word": (lambda b: b[:-2] + b"yes\n", "no whole number"),
    "three-cells": (lambda b: b[:-1] + b",0\n", "does not hold two numbers"),
    "cut": (lambda b: b[:-1], "the last line is not complete"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_file_is_refused(name: str, tmp_path: Path) -> None:
    change, fragment = TAMPERED[name]
    path = _written(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=fragment):
        verify(path)


def test_nothing_to_submit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no test images"):
        write_submission(tmp_path / "s.csv", [])
    assert list(tmp_path.iterdir()) == []


def test_an_error_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = _written(tmp_path)
    before = path.read_bytes()

    def breaking() -> Any:
        yield np.zeros((4, 4), np.uint8)
        raise DataError("the second image is damaged")

    with pytest.raises(DataError, match="second image"):
        write_submission(path, breaking())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_does_not_read_back_does_not_take_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "verify", lambda path: (128, 0))
    with pytest.raises(WriteError, match="does not read back"):
        write_submission(tmp_path / "s.csv", [np.ones((8, 8), np.uint8)])
    assert list(tmp_path.iterdir()) == []
