"""Curves: of one run, of several, and of several networks in one figure; drawn and in numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image

from groundglass.errors import DataError
from groundglass.files import write_csv
from groundglass.show.colours import SERIES
from groundglass.show.curves import Learned, best_epoch, compare_curves, curves, write_compared
from groundglass.show.sheet import figure
from tests.show.test_plots import shows
from tests.show.writing import assert_whole_or_not_at_all


def epochs(n: int = 4, offset: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "learning_rate": 1e-3, "seconds": 2.0}
        | {f"{part}/loss": 1 / e + offset for part in ("train", "validation")}
        | {f"{part}/miou": 1 - 1 / e for part in ("train", "validation")}
        | {f"{part}/f1_consolidation": 0.5 for part in ("train", "validation")}
        | {f"{part}/f1_lesions": 0.4 for part in ("train", "validation")}
        for e in range(1, n + 1)
    ]


PLOTS: tuple[Callable[[Path], Path], ...] = (
    lambda path: curves(epochs(), path),
    lambda path: compare_curves([Learned("a", [epochs()]), Learned("b", [epochs(), epochs(5)])], path, "Folds"),
    lambda path: compare_curves([Learned("a", [epochs(), epochs(5)])], path, "Folds", each=True),
)


@pytest.mark.parametrize("draw", PLOTS)
def test_a_plot_is_written_whole_or_not_at_all(draw: Callable[[Path], Path], tmp_path: Path) -> None:
    assert_whole_or_not_at_all(draw, tmp_path)


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
    with pytest.raises(DataError, match="a: curves: a table is empty"):
        compare_curves([Learned("a", [[]])], path, "Folds")
    assert not path.exists()


# Several networks in one figure ---------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that is made, as Matplotlib knows it."""
    kept: list[Any] = []

    @contextmanager
    def keeping(*arguments: Any) -> Iterator[Any]:
        with figure(*arguments) as canvas:
            yield canvas
            kept.append(canvas)

    monkeypatch.setattr("groundglass.show.curves.figure", keeping)
    return kept


def panels(canvas: Any) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in canvas.subfigs[0].axes}


def legend(canvas: Any) -> list[str]:
    return [text.get_text() for text in canvas.subfigs[1].legends[0].get_texts()]


def test_networks_share_four_panels_with_one_scale_a_row(drawn: list[Any], tmp_path: Path) -> None:
    networks = [
        Learned("wide", [epochs(6), epochs(6, 0.5), epochs(4)], loss="dice"),
        Learned("narrow", [epochs(3, 2.0)], loss="dice"),
    ]
    compare_curves(networks, tmp_path / "curves.png", "Two networks")
    (canvas,) = drawn
    found = panels(canvas)
    assert list(found) == ["Training loss", "Validation loss", "Training Dice", "Validation Dice"]
    for quantity in ("loss", "Dice"):
        assert found[f"Training {quantity}"].get_ylim() == found[f"Validation {quantity}"].get_ylim()
    assert found["Training Dice"].get_ylim() == (0, 1)
    assert legend(canvas) == ["wide (n = 3 folds)", "narrow (n = 1 fold)"]
    for axes in found.values():
        lines = axes.get_lines()
        assert [line.get_color() for line in lines] == list(SERIES[:2])
        assert lines[0].get_linestyle() != lines[1].get_linestyle()
        # Only where there are several runs is there anything to deviate.
        assert [to_hex(band.get_facecolor()) for band in axes.collections] == [SERIES[0].lower()]
    assert "end at different epochs" in canvas.get_supxlabel().replace("\n", " ")
    assert not any("different losses" in axes.get_xlabel() for axes in found.values())


def test_the_numbers_are_those_of_the_lines(drawn: list[Any], tmp_path: Path) -> None:
    runs = [epochs(3), epochs(3, 0.5), epochs(2, 4.0)]
    runs[1][0]["validation/loss"] = None
    compare_curves([Learned("a", runs), Learned("b", [epochs(2)])], tmp_path / "curves.png", "Folds")
    with open(write_compared([Learned("a", runs), Learned("b", [epochs(2)])], tmp_path / "curves.csv")) as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["recipe", "epoch", "part", "measure", "mean", "std", "n"]
    assert {(row["part"], row["measure"]) for row in rows} == {
        (part, measure) for part in ("train", "validation") for measure in ("loss", "f1_lesions")
    }
    mine = [row for row in rows if (row["recipe"], row["part"], row["measure"]) == ("a", "validation", "loss")]
    assert [row["n"] for row in mine] == ["2", "3", "2"]
    values = [(1.0, 5.0), (0.5, 1.0, 4.5), (1 / 3, 1 / 3 + 0.5)]
    assert [float(row["mean"]) for row in mine] == pytest.approx([np.mean(v) for v in values], rel=1e-5)
    assert [float(row["std"]) for row in mine] == pytest.approx([np.std(v, ddof=1) for v in values], rel=1e-5)
    line = panels(drawn[0])["Validation loss"].get_lines()[0]
    assert line.get_ydata() == pytest.approx([float(row["mean"]) for row in mine], rel=1e-5)
    band = panels(drawn[0])["Validation loss"].collections[0].get_paths()[0].vertices
    for row in mine:
        at = band[band[:, 0] == float(row["epoch"]), 1]
        mean, std = float(row["mean"]), float(row["std"])
        assert (at.min(), at.max()) == pytest.approx((mean - std, mean + std), abs=1e-4)
    alone = [row for row in rows if row["recipe"] == "b"]
    assert len(alone) == 8
    assert {(row["n"], row["std"]) for row in alone} == {("1", "")}


def test_what_cannot_be_compared_is_said(drawn: list[Any], tmp_path: Path) -> None:
    lungs = [{key.replace("f1_lesions", "f1_lung"): value for key, value in row.items()} for row in epochs()]
    networks = [
        Learned("one", [epochs()], dice_of="lesion", loss="cross_entropy"),
        Learned("two", [epochs()], dice_of="lesion", loss="the network's own"),
        Learned("lungs", [lungs], "f1_lung", "lung", "cross_entropy"),
    ]
    compare_curves(networks, tmp_path / "curves.png", "Three")
    found = panels(drawn[0])
    for part in ("Training", "Validation"):
        assert found[f"{part} loss"].get_xlabel().startswith("Recipes minimise different losses")
        assert found[f"{part} Dice"].get_xlabel() == "Epoch"
        assert len(found[f"{part} Dice"].get_lines()) == 3
    note = drawn[0].get_supxlabel().replace("\n", " ")
    assert "Losses: cross_entropy (one, lungs); the network's own (two)." in note
    assert "Dice: lesion (one, two); lung (lungs)." in note


def test_a_loss_of_another_size_does_not_press_the_others_flat(drawn: list[Any], tmp_path: Path) -> None:
    large = [row | {f"{part}/loss": 40 * row[f"{part}/loss"] for part in ("train", "validation")} for row in epochs()]
    for networks in ([Learned("small", [epochs()])], [Learned("small", [epochs()]), Learned("large", [large, large])]):
        compare_curves(networks, tmp_path / "curves.png", "Two")
    alone, together = (panels(canvas) for canvas in drawn)
    assert alone["Training loss"].get_ylim()[0] == 0
    assert "logarithmic" not in alone["Training loss"].get_ylabel()
    assert "logarithmic" in together["Training loss"].get_ylabel()
    low, high = together["Validation loss"].get_ylim()
    assert together["Training loss"].get_ylim() == (low, high)
    assert 0 < low < 0.25
    assert high > 40
    shares = [np.log(value / low) / np.log(high / low) for value in (0.25, 1.0)]
    assert shares[1] - shares[0] > 0.15


def test_a_measure_that_no_run_has_is_left_out(drawn: list[Any], tmp_path: Path) -> None:
    """Such as the Dice of lesions where no case that validates has one."""
    rows = epochs()
    for row in rows:
        row["validation/f1_lesions"] = None
    compare_curves([Learned("a", [rows])], tmp_path / "curves.png", "Folds")
    found = panels(drawn[0])
    assert [len(axes.get_lines()) for axes in found.values()] == [1, 1, 1, 0]
    assert legend(drawn[0]) == ["a (n = 1 fold)"]


@pytest.mark.parametrize(("number", "length"), [(1, 60), (4, 20), (4, 60), (8, 16)])
def test_no_two_networks_look_alike_and_no_text_covers_another(
    number: int, length: int, drawn: list[Any], tmp_path: Path
) -> None:
    networks = [Learned(f"{length * 'n'}-{i}", [epochs(), epochs()], loss=str(i)) for i in range(number)]
    compare_curves(networks, tmp_path / "curves.png", "Many")
    (canvas,) = drawn
    looks = [(line.get_color(), line.get_linestyle()) for line in panels(canvas)["Training loss"].get_lines()]
    assert len(set(looks)) == number
    texts = [canvas._suptitle, canvas._supxlabel, canvas.subfigs[1].legends[0], *panels(canvas).values()]
    FigureCanvasAgg(canvas).draw()
    boxes = [text.get_tightbbox() for text in texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= canvas.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
