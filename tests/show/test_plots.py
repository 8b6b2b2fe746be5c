"""Histograms, confusion matrices and intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from groundglass.errors import DataError
from groundglass.show.colours import INK, SERIES, rgb
from groundglass.show.statistics import confusion_matrix, histograms, metric_intervals, row_percentages
from tests.show.writing import assert_whole_or_not_at_all

NAMES = ("background", "ground-glass", "consolidation")


def measure(name: str, value: float, low: float, high: float, n: int = 24) -> dict[str, Any]:
    return {"class": name, "metric": "dice", "average": "pooled", "value": value, "low": low, "high": high, "n": n}


def shows(path: Path, colour: str) -> bool:
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return bool((picture == rgb(colour)).all(axis=1).any())


PLOTS: tuple[Callable[[Path], Path], ...] = (
    lambda path: histograms({"a": np.arange(50.0)}, {"a": np.arange(50.0) / 9}, path, limits=(5, 40)),
    lambda path: confusion_matrix(np.eye(3, dtype=int), NAMES, path),
    lambda path: metric_intervals([measure("lesion", 0.5, 0.4, 0.6)], path),
)


@pytest.mark.parametrize("draw", PLOTS)
def test_a_plot_is_written_whole_or_not_at_all(draw: Callable[[Path], Path], tmp_path: Path) -> None:
    assert_whole_or_not_at_all(draw, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_percentages_of_a_row_sum_to_100(seed: int) -> None:
    matrix = np.random.default_rng(seed).integers(0, 10**9, (4, 4))
    percentages = row_percentages(matrix)
    assert percentages.sum(axis=1) == pytest.approx(100)
    assert row_percentages(matrix * 7) == pytest.approx(percentages)


def test_a_class_without_pixels_has_no_percentages(tmp_path: Path) -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    percentages = row_percentages(matrix)
    assert np.isnan(percentages[1]).all()
    assert percentages[0].tolist() == [75, 25, 0]
    confusion_matrix(matrix, NAMES, tmp_path / "matrix.png")


def test_names_that_do_not_fit_the_matrix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 class names"):
        confusion_matrix(np.eye(4, dtype=int), NAMES, tmp_path / "matrix.png")


def test_histograms_of_arrays_and_of_their_counts_are_the_same(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 20, 20))
    counted = np.histogram(values, bins=160)
    whole = histograms({"a": values}, {"a": values}, tmp_path / "a.png")
    precomputed = histograms({"a": counted}, {"a": counted}, tmp_path / "b.png")
    assert whole.read_bytes() == precomputed.read_bytes()


def test_histograms_show_every_source_and_ignore_what_is_no_number(tmp_path: Path) -> None:
    first, second = np.array([0.0, 1.0, np.nan, np.inf]), np.array([2.0, 3.0])
    path = histograms({"a": first, "b": second}, {"a": first, "b": second}, tmp_path / "h.png")
    assert shows(path, SERIES[0])
    assert shows(path, SERIES[1])
    with pytest.raises(DataError, match="no pixels"):
        histograms({"a": np.array([np.nan])}, {"a": second}, tmp_path / "h.png")


def test_intervals_draw_each_class_in_its_colour_and_values_that_are_no_number_not_at_all(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        measure("consolidation", 0.6, 0.5, 0.7),
        measure("lung", nan, nan, nan),
        measure("lesion", 0.7, nan, nan, 9),
    ]
    path = metric_intervals(rows, tmp_path / "i.png")
    assert shows(path, INK["consolidation"])
    assert shows(path, INK["lesion"])
    assert not shows(path, INK["lung"])
    with pytest.raises(DataError, match="no measures"):
        metric_intervals([], tmp_path / "i.png")


def test_ways_to_average_and_models_get_places_of_their_own(tmp_path: Path) -> None:
    row = measure("lesion", 0.5, 0.4, 0.6)
    sizes = [
        Image.open(metric_intervals(rows, tmp_path / "i.png")).size
        for rows in ([row], [row, row | {"average": "per image"}], [row | {"model": "a"}, row | {"model": "b"}])
    ]
    assert sizes[1][0] > sizes[0][0]
    assert sizes[2][1] > sizes[0][1]
