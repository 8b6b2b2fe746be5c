"""Histograms, confusion matrices, intervals and curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from groundglass.errors import DataError
from groundglass.files import WriteError, write_csv
from groundglass.show.colours import INK, SERIES, rgb
from groundglass.show.curves import best_epoch, compare_curves, curves
from groundglass.show.statistics import confusion_matrix, histograms, metric_intervals, row_percentages

NAMES = ("background", "ground-glass", "consolidation")


def epochs(n: int = 4, offset: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "learning_rate": 1e-3, "seconds": 2.0}
        | {f"{part}/loss": 1 / e + offset for part in ("train", "validation")}
        | {f"{part}/miou": 1 - 1 / e for part in ("train", "validation")}
        | {f"{part}/f1_consolidation": 0.5 for part in ("train", "validation")}
        | {f"{part}/f1_lesions": 0.4 for part in ("train", "validation")}
        for e in range(1, n + 1)
    ]


def measure(name: str, value: float, low: float, high: float, n: int = 24) -> dict[str, Any]:
    return {"class": name, "metric": "dice", "average": "pooled", "value": value, "low": low, "high": high, "n": n}


def shows(path: Path, colour: str) -> bool:
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return bool((picture == rgb(colour)).all(axis=1).any())


PLOTS: tuple[Callable[[Path], Path], ...] = (
    lambda path: curves(epochs(), path),
    lambda path: compare_curves({"a": [epochs()], "b": [epochs(), epochs(5)]}, path),
    lambda path: compare_curves({"a": [epochs(), epochs(5)]}, path, parts=("validation",), each=True),
    lambda path: histograms({"a": np.arange(50.0)}, {"a": np.arange(50.0) / 9}, path, limits=(5, 40)),
    lambda path: confusion_matrix(np.eye(3, dtype=int), NAMES, path),
    lambda path: metric_intervals([measure("lesion", 0.5, 0.4, 0.6)], path),
)


@pytest.mark.parametrize("draw", PLOTS)
def test_a_plot_is_written_whole_or_not_at_all(draw: Callable[[Path], Path], tmp_path: Path) -> None:
    path = draw(tmp_path / "plots" / "plot.png")
    Image.open(path).verify()
    assert [file.name for file in path.parent.iterdir()] == ["plot.png"]
    with pytest.raises(WriteError):
        draw(path / "inside-a-file.png")


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


def test_curves_of_a_table_and_of_its_file_are_the_same(tmp_path: Path) -> None:
    rows = epochs()
    write_csv(tmp_path / "curves.csv", list(rows[0]), rows)
    from_rows = curves(rows, tmp_path / "a.png")
    from_file = curves(tmp_path / "curves.csv", tmp_path / "b.png")
    # The file keeps six digits; no pixel may differ by more than that shows.
    pictures = [np.asarray(Image.open(path).convert("L"), int) for path in (from_rows, from_file)]
    assert np.abs(pictures[0] - pictures[1]).max() < 8


def test_the_best_epoch_is_the_lowest_loss_and_the_highest_score(tmp_path: Path) -> None:
    rows = epochs(5)
    rows[1]["validation/loss"] = 0.01
    rows[3]["validation/loss"] = float("nan")
    rows[2]["validation/miou"] = 0.99
    assert best_epoch(rows) == 2
    assert best_epoch(rows, "validation/miou") == 3
    assert best_epoch(rows, "validation/f1_lesions") == 1
    assert best_epoch(rows, "not/there") is None
    curves(rows, tmp_path / "unmarked.png", monitor="not/there")


def test_runs_of_different_length_and_gaps_are_drawn_together(tmp_path: Path) -> None:
    holed = epochs(6)
    holed[2]["validation/loss"] = None
    del holed[3]["train/loss"]
    path = curves([epochs(3), holed, epochs(1)], tmp_path / "folds.png")
    assert shows(path, "#D55E00")
    curves(epochs(1), tmp_path / "single.png")


def test_a_constant_offset_between_runs_widens_the_band(tmp_path: Path) -> None:
    def pale(offset: float) -> int:
        loss = [{key: row[key] for key in ("epoch", "validation/loss")} for row in epochs(9)]
        other = [{key: row[key] for key in ("epoch", "validation/loss")} for row in epochs(9, offset)]
        picture = np.asarray(Image.open(curves([loss, other], tmp_path / "band.png")).convert("RGB"), int)
        return int(((picture[..., 0] > 230) & (picture[..., 2] < 235) & (picture[..., 1] > 200)).sum())

    assert pale(0.3) > 4 * pale(0.0) + 100


def test_tables_that_hold_nothing_to_draw_say_so(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    with pytest.raises(DataError, match="empty"):
        curves([], path)
    with pytest.raises(DataError, match="'epoch'"):
        curves([{"train/loss": 1.0}], path)
    with pytest.raises(DataError, match="train/loss"):
        curves([{"epoch": 1, "seconds": 2.0}], path)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        curves(tmp_path / "nowhere.csv", path)
    with pytest.raises(DataError, match="'dice'"):
        compare_curves({"a": [epochs()]}, path, quantities=["dice"])
    assert not path.exists()
