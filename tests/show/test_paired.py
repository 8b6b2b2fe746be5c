"""The table in parts, as LaTeX, and the picture of paired images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundglass.files import WriteError
from groundglass.measure.record import Conventions
from groundglass.measure.table import Comparison, compare_records
from groundglass.show.colours import SERIES, rgb
from groundglass.show.paired import SHOWN, blocks, caption, heading, latex, paired
from tests.measure.records import record

TP = np.arange(20, 80, 3)


def compared(shift: int = 10, names: tuple[str, ...] = ("plain_unet", "R&D 50%"), n_boot: int = 200) -> Comparison:
    return compare_records(names, [record(name, TP + shift * i) for i, name in enumerate(names)], n_boot=n_boot)


def test_blocks_hold_the_cells_and_the_cost() -> None:
    found = compared()
    overlap, outline, cost = blocks(found)
    cell = found.cells["any_lesion_dice"][1]
    assert str(overlap.rows[1][0]) == f"{cell.value:.3f} [{cell.low:.2f}, {cell.high:.2f}] *"
    assert outline.columns == ("HD95 (px)", "surface Dice (2 px)", "area error (px)", "Inf-Net mean Dice")
    assert str(outline.rows[0][-1]) == "0.250"
    assert [str(entry) for entry in cost.rows[0]] == ["1.250", "2.500", "n/a", "0.040", "n/a", "1", "1"]
    assert all(len(row) == len(block.columns) for block in blocks(found) for row in block.rows)


def test_the_tolerance_and_the_unit_stand_in_heading_and_caption() -> None:
    in_mm = {"conventions": Conventions(unit="mm", tolerances={"any lesion": 3.0})}
    found = compare_records(["a", "b"], [record("a", TP, **in_mm), record("b", TP + 1, **in_mm)], n_boot=0)
    headings = {column.measure.name: heading(column, found) for column in found.columns}
    assert headings["surface_dice"] == "surface Dice (3 mm)"
    assert headings["hd95"] == "HD95 (mm)"
    assert headings["area_error"] == "area error (mm²)"
    assert "any lesion 3 mm" in caption(found)
    assert "no intervals" in caption(found)


def test_latex_is_balanced_and_bold_where_a_run_is_better() -> None:
    text = latex(compared())
    for name in ("table*", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
    assert text.count("{") == text.count("}")
    for part in re.findall(r"\\begin\{tabular\}\{(lr+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in part[1].splitlines() if line.rstrip().endswith(r"\\")]
        assert len(rows) >= 3
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(part[0]) - 1}
    assert r"plain\_unet" in text
    assert r"R\&D 50\%" in text
    assert not re.search(r"(?<!\\)[%#$](?! Made)", text)
    assert text.count(r"\textbf") == sum(cell.best for cells in compared().cells.values() for cell in cells) > 0
    assert r"\textbf" not in latex(compared(n_boot=0))


def test_the_picture_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = paired(compared(), tmp_path / "plots" / "paired.png")
    assert [file.name for file in path.parent.iterdir()] == ["paired.png"]
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    for colour in SERIES[:2]:  # dots are translucent: near their colour
        assert (np.abs(pixels - rgb(colour)).max(axis=1) < 70).any()
    with pytest.raises(WriteError):
        paired(compared(), path / "inside-a-file.png")


def test_of_many_runs_the_best_are_drawn(tmp_path: Path) -> None:
    few = paired(compared(3, tuple("abcd"), 0), tmp_path / "few.png")
    many = paired(compared(3, tuple("abcdefgh"), 0), tmp_path / "many.png")
    assert SHOWN == 4
    with Image.open(few) as one, Image.open(many) as other:
        assert one.size == other.size


def test_one_image_without_a_value_draws_too(tmp_path: Path) -> None:
    a, b = record("a", TP[:3]), record("b", TP[:3] * 0)
    assert paired(compare_records(["a", "b"], [a, b], "any_lesion_precision"), tmp_path / "x.png").is_file()
