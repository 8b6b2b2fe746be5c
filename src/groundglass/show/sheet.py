"""How a figure is laid out and saved: one style, one place where files are written, and sheets of pictures.

Figures are made with Matplotlib's object interface; pyplot and its global state are never touched.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from groundglass.errors import DataError
from groundglass.files import WriteError, atomic
from groundglass.show.overlay import Picture

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that figures look the same everywhere
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "figure.titlesize": 9.5,
    "figure.titleweight": "bold",
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # text stays text
}
QUIET = "#555555"

Entry = tuple[str, str] | tuple[str, str, bool]  # text and colour of a legend; whether the colour is hatched

_PAGE_WIDTH = 7.2  # inches: two columns of most journals
_MARGIN, _GAP, _LINE = 0.10, 0.05, 0.155
_SMALLEST, _LARGEST = 1.1, 1.9
_POINTS_PER_CHARACTER = 0.60  # of the font size, DejaVu Sans


@dataclass(frozen=True)
class Boxed:
    """A rectangle on a picture. edges: (x1, y1, x2, y2) in pixels, 0 at the picture's left and upper edge."""

    edges: tuple[float, float, float, float]
    text: str
    colour: str


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet. pixels: [H, W, 3] or [H, W, 4] uint8; spacing_mm: (row, column) or None;
    scale: draw a scale bar; boxes: drawn over it."""

    pixels: Picture
    spacing_mm: tuple[float, float] | None = None
    scale: bool = False
    boxes: Sequence[Boxed] = ()

    @property
    def tallness(self) -> float:
        """Height by width as it is drawn."""
        rows, columns = self.pixels.shape[:2]
        down, across = self.spacing_mm or (1.0, 1.0)
        return float(rows * down / (columns * across))


@dataclass(frozen=True)
class Strip:
    """One row of a sheet: cells from left to right, a text on its left, one above each cell, or one above all."""

    cells: Sequence[Cell]
    side: str = ""
    titles: Sequence[str] = ()
    heading: str = ""


@contextmanager
def figure(
    path: str | Path, width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Any]:
    """Yield an empty figure of `width` x `height` inches in the common style and write it to `path` at the end.

    The suffix of `path` chooses PNG (150 dpi) or PDF. Raises `WriteError`; then nothing is left behind.
    """
    target = Path(path)
    if target.suffix not in (".png", ".pdf"):
        raise WriteError(f"{target}: figures are written as .png or .pdf; change the suffix")
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(width, height), layout=layout, facecolor="white")
        yield canvas
        with atomic(target) as temporary:
            # Dates are left out, so that the same figure is the same file.
            metadata = {"CreationDate": None} if target.suffix == ".pdf" else {}
            canvas.savefig(temporary, dpi=300 if target.suffix == ".pdf" else 150, metadata=metadata)


def write_title(canvas: Any, title: str, note: str = "") -> None:
    """Title above and note below a plot made with `figure`, broken into lines that fit its width, taken literally."""
    width = canvas.get_figwidth() - 2 * _MARGIN
    canvas.suptitle("\n".join(_wrap(title, width, 9.5)), parse_math=False)
    canvas.supxlabel("\n".join(_wrap(note, width, 7)), fontsize=7, color=QUIET, parse_math=False)


def draw_sheet(
    path: str | Path, strips: Sequence[Strip], title: str, legend: Sequence[Sequence[Entry]] = (), note: str = ""
) -> Path:
    """Write strips of pictures under a title, with a legend and a note below. Returns the path.

    legend: groups of (text, colour), each on lines of its own; an entry without a colour is only text, one with a
    third member that is true is hatched.
    Places are computed in inches from the sizes of the pictures, so that nothing overlaps whatever their number.
    Raises `DataError` without strips, `WriteError` when the file cannot be written.
    """
    if not any(strip.cells for strip in strips):
        raise DataError("no cases to draw")
    columns = max(len(strip.cells) for strip in strips)
    side = 0.22 if any(strip.side for strip in strips) else 0.0
    room = _PAGE_WIDTH - 2 * _MARGIN - side - (columns - 1) * _GAP
    cell = min(_LARGEST, max(_SMALLEST, room / columns))
    grid = side + columns * cell + (columns - 1) * _GAP
    width = max(3.6, grid + 2 * _MARGIN)
    left = (width - grid) / 2 + side

    title_lines = _wrap(title, width - 2 * _MARGIN, 9.5)
    note_lines = _wrap(note, width - 2 * _MARGIN, 7)
    legend_lines = [line for group in legend for line in _legend_lines(group, width - 2 * _MARGIN)]
    tops = [_MARGIN + 0.18 * len(title_lines)]
    for strip in strips:
        tops.append(tops[-1] + _above(strip, cell) + _tallness(strip) * cell + _GAP)
    legend_top = tops[-1] + 0.04
    note_top = legend_top + (0.19 * len(legend_lines) + 0.07 if legend_lines else 0.0)
    height = note_top + 0.135 * len(note_lines) + _MARGIN

    with figure(path, width, height, layout=None) as canvas:
        write = _writer(canvas, width, height)
        for number, line in enumerate(title_lines):
            write(width / 2, _MARGIN + 0.18 * number, line, fontsize=9.5, fontweight="bold", ha="center")
        for strip, (top, end) in zip(strips, pairwise(tops), strict=True):
            _draw_strip(canvas, write, strip, (width, height), left, top, end - _GAP, cell)
        for number, entries in enumerate(legend_lines):
            canvas.legend(
                handles=[_swatch(*entry) for entry in entries],
                loc="upper center",
                bbox_to_anchor=(0.5, 1 - (legend_top + 0.19 * number) / height),
                ncols=len(entries),
                handlelength=1.2,
                handleheight=0.9,
                columnspacing=1.4,
                borderpad=0.1,
                borderaxespad=0.0,
            )
        for number, line in enumerate(note_lines):
            write(width / 2, note_top + 0.135 * number, line, fontsize=7, color=QUIET, ha="center")
    return Path(path)


def _draw_strip(
    canvas: Any, write: Any, strip: Strip, size: tuple[float, float], left: float, top: float, end: float, cell: float
) -> None:
    width, height = size
    for number, line in enumerate(_heading_lines(strip, cell)):
        write(left, top + _LINE * (0.5 + 0.85 * number), line, fontsize=8, fontweight="bold")
    first = end - _tallness(strip) * cell
    if strip.side:
        write(left - 0.12, (first + end) / 2, strip.side, rotation=90, va="center", ha="center", fontsize=8)
    for number, item in enumerate(strip.cells):
        x = left + number * (cell + _GAP)
        if number < len(strip.titles):
            lines = _wrap(strip.titles[number], cell, 7.5)
            for line_number, line in enumerate(reversed(lines)):
                write(
                    x + cell / 2,
                    first - 0.03 - _LINE * 0.85 * line_number,
                    line,
                    va="bottom",
                    ha="center",
                    fontsize=7.5,
                )
        axes = canvas.add_axes((x / width, 1 - end / height, cell / width, (end - first) / height))
        down, across = item.spacing_mm or (1.0, 1.0)
        axes.imshow(item.pixels, aspect=down / across, interpolation_stage="rgba")
        axes.set_axis_off()
        if item.scale:
            _scale_bar(axes, item)
        for box in item.boxes:
            _draw_box(axes, box)


def _scale_bar(axes: Any, cell: Cell) -> None:
    """A white bar of a round length, at most a third of the width, in mm where the spacing is known, else in px."""
    rows, columns = cell.pixels.shape[:2]
    per_pixel, unit = (cell.spacing_mm[1], "mm") if cell.spacing_mm else (1.0, "px")
    rounds = [digit * 10**power for power in range(-1, 5) for digit in (1, 2, 5)]
    length = max((n for n in rounds if n <= columns * per_pixel / 3), default=columns * per_pixel / 3)
    x, y = 0.05 * columns, 0.955 * rows
    bar = Rectangle(
        (x, y - 0.014 * rows), length / per_pixel, 0.014 * rows, facecolor="white", edgecolor="black", lw=0.4
    )
    axes.add_patch(bar)
    outlined = [withStroke(linewidth=1.6, foreground="black")]
    axes.text(x, y - 0.04 * rows, f"{length:g} {unit}", color="white", fontsize=6.5, va="bottom", path_effects=outlined)


def _draw_box(axes: Any, box: Boxed) -> None:
    # Matplotlib counts from the centre of the first pixel.
    x1, y1, x2, y2 = (end - 0.5 for end in box.edges)
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=box.colour, lw=0.8))
    readable = [withStroke(linewidth=0.9, foreground="black")]
    style = {"color": box.colour, "fontsize": 5.5, "va": "bottom", "path_effects": readable, "parse_math": False}
    axes.text(x1, y1, box.text, clip_on=True, **style)


def _writer(canvas: Any, width: float, height: float) -> Any:
    def write(x: float, y: float, text: str, **style: Any) -> None:
        """Text at inches from the top left corner, taken literally: `$` starts no formula."""
        canvas.text(x / width, 1 - y / height, text, **{"va": "top", "parse_math": False, **style})

    return write


def _tallness(strip: Strip) -> float:
    return max((cell.tallness for cell in strip.cells), default=0.0)


def _above(strip: Strip, cell: float) -> float:
    lines = max((len(_wrap(title, cell, 7.5)) for title in strip.titles), default=0)
    written = len(_heading_lines(strip, cell))
    heading = _LINE * (0.65 + 0.85 * written) if written else 0.0
    return heading + (_LINE * 0.85 * lines + 0.08 if lines else 0.0)


def _heading_lines(strip: Strip, cell: float) -> list[str]:
    """The heading over all cells of a strip; bold letters are a tenth wider."""
    return _wrap(strip.heading, len(strip.cells) * (cell + _GAP) - _GAP, 8 * 1.1) if strip.heading else []


def _swatch(text: str, colour: str, hatched: bool = False) -> Any:
    if not colour:
        return Line2D([], [], linestyle="none", label=text)
    if hatched:
        return Patch(facecolor="#333333", edgecolor=colour, linewidth=0.5, hatch="////", label=text)
    return Patch(facecolor=colour, edgecolor="#777777", linewidth=0.5, label=text)


def _legend_lines(group: Sequence[Entry], inches: float) -> list[list[Entry]]:
    """Entries of one group, as many on a line as fit into `inches`."""
    lines: list[list[Entry]] = []
    used = inches
    for entry in group:
        width = (len(entry[0]) * _POINTS_PER_CHARACTER * 7.5 + 28) / 72
        if used + width > inches:
            lines.append([])
            used = 0.0
        lines[-1].append(entry)
        used += width
    return lines


def _wrap(text: str, inches: float, points: float) -> list[str]:
    return textwrap.wrap(text, max(8, int(inches * 72 / (points * _POINTS_PER_CHARACTER))))
