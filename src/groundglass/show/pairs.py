"""Pairs of images that show the same thing, one above the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundglass.case import Case
from groundglass.show.overlay import grey
from groundglass.show.samples import window_of
from groundglass.show.sheet import Cell, Strip, draw_sheet

# Pairs drawn at most; the tables hold all.
SHOWN = 4


def draw_pairs(
    pairs: Sequence[tuple[Case, Case, str]], path: Path, title: str, sides: tuple[str, str] = ("First", "Second")
) -> Path:
    """Up to `SHOWN` pairs (first, second, what they are) as columns of a PNG, the first above the second; returns
    `path`. sides: what the rows are called.

    Raises `DataError` when an image cannot be read, `WriteError` when the file cannot be written.
    """
    shown = pairs[:SHOWN]
    rows: tuple[list[Cell], list[Cell]] = ([], [])
    for first, second, _ in shown:
        for row, case in zip(rows, (first, second), strict=True):
            image = case.image()
            row.append(Cell(grey(image, window_of(case, image))))
    strips = [
        Strip(rows[0], sides[0], [f"{what}: {first.place}" for first, _, what in shown]),
        Strip(rows[1], sides[1], [second.place for _, second, _ in shown]),
    ]
    draw_sheet(path, strips, f"{title} ({len(shown)} of n = {len(pairs):,} pairs)")
    return path
