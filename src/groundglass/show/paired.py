"""Runs side by side: the blocks of the table for the terminal and for LaTeX, and the picture of paired cases."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from groundglass.measure.protocols import COVID_CT_SEG, INF_NET
from groundglass.measure.record import MEASURES, Record
from groundglass.measure.summary import ANY_LESION
from groundglass.measure.table import Cell, Column, Comparison
from groundglass.show.colours import SERIES, display_name
from groundglass.show.sheet import QUIET, figure, write_title

# Dots joined over more runs than these cannot be followed by eye.
SHOWN = 4
_OVERLAP = ("dice", "precision", "recall", "iou")
# Of a published protocol one number is shown: its column, the protocol, the number.
_PROTOCOLS = (("Inf-Net mean Dice", INF_NET.name, "meanDic"), ("volume DSC", COVID_CT_SEG.name, "DSC"))
_MARKED = "shown to be better than every other run (paired test by clusters, p corrected for all pairs below 0.05)"


@dataclass(frozen=True)
class Entry:
    """A number as it is written, its interval in brackets (empty: none), and whether it is marked as best."""

    value: str
    interval: str = ""
    best: bool = False

    def __str__(self) -> str:
        return " ".join(part for part in (self.value, self.interval, "*" if self.best else "") if part)


@dataclass(frozen=True)
class Block:
    """A part of the table. columns: headings beside the run's; rows: entries of each run in the same order."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]


def blocks(comparison: Comparison) -> list[Block]:
    """The table in parts that fit a page: any lesion, its outline and size, each class, and what answers cost."""
    labels = list(dict.fromkeys(column.label for column in comparison.columns))
    main = ANY_LESION if ANY_LESION in labels else labels[0]
    found = [_overlap(comparison, main), _outline(comparison, main)]
    for label in labels:
        if label != main:
            found += [_overlap(comparison, label), _outline(comparison, label)]
    return [*found, _cost(comparison.records)]


def heading(column: Column, comparison: Comparison) -> str:
    """A measure's name with its unit, or the tolerance that belongs to it."""
    conventions = comparison.records[0].conventions
    extra = {
        "hd95": conventions.unit,
        "surface_dice": f"{conventions.tolerances.get(column.label, 0):g} {conventions.unit}",
        "area_error": conventions.area_unit,
    }.get(column.measure.name)
    return column.measure.heading + (f" ({extra})" if extra else "")


def caption(comparison: Comparison) -> str:
    """What the table's numbers are: cases, means, intervals, tolerance, mark."""
    n, conventions = len(comparison.records[0].cases), comparison.records[0].conventions
    tolerances = ", ".join(f"{label} {size:g} {conventions.unit}" for label, size in conventions.tolerances.items())
    interval = "95 % intervals by bootstrap of clusters" if comparison.n_boot else "no intervals"
    return (
        f"{n} images in {comparison.n_clusters} clusters; means over the images whose reference holds the class, of "
        f"the area error (absolute) over all; {interval}. Surface Dice with a tolerance of: {tolerances}. "
        f"*: {_MARKED}."
    )


def _columns(comparison: Comparison, label: str, measures: Sequence[str]) -> list[Column]:
    return [c for m in measures for c in comparison.columns if (c.label, c.measure.name) == (label, m)]


def _overlap(comparison: Comparison, label: str) -> Block:
    columns = _columns(comparison, label, _OVERLAP)
    counted = comparison.cells[columns[0].name]
    rows = tuple(
        (*(_entry(comparison.cells[c.name][i]) for c in columns), Entry(str(counted[i].n)))
        for i in range(len(comparison.names))
    )
    return Block(display_name(label), (*(heading(c, comparison) for c in columns), "n"), rows)


def _outline(comparison: Comparison, label: str) -> Block:
    columns = _columns(comparison, label, [name for name in MEASURES if name not in _OVERLAP])
    headings = [heading(c, comparison) for c in columns]
    rows = [[_entry(comparison.cells[c.name][i]) for c in columns] for i in range(len(comparison.names))]
    for title, name, number in _PROTOCOLS:
        protocols = [record.protocol(label, name) for record in comparison.records]
        if any(protocols):
            headings.append(title)
            for row, found in zip(rows, protocols, strict=True):
                row.append(Entry(_number(found.numbers.get(number) if found else None)))
    return Block(f"{display_name(label)}: outline and size", tuple(headings), tuple(map(tuple, rows)))


def _cost(records: Sequence[Record]) -> Block:
    columns = ("parameters (M)", "GFLOPs", "s/epoch", "s/image", "peak RSS (MB)", "threads", "networks")
    rows = []
    for record in records:
        c = record.cost
        millions = None if c.parameters is None else c.parameters / 1e6
        numbers = (millions, c.gflops, c.seconds_per_epoch, c.seconds_per_image, c.peak_memory_mb)
        rows.append((*(Entry(_number(n)) for n in numbers), *(Entry(_whole(n)) for n in (c.threads, c.networks))))
    return Block("What an answer costs", columns, tuple(rows))


def _entry(cell: Cell) -> Entry:
    interval = "" if isnan(cell.low) or isnan(cell.high) else f"[{_number(cell.low, 2)}, {_number(cell.high, 2)}]"
    return Entry(_number(cell.value), interval, cell.best)


def _number(value: float | None, decimals: int = 3) -> str:
    """Fewer decimals for larger numbers, an exponent where decimals would make zero of one."""
    if value is None or isnan(value):
        return "n/a"
    if value and abs(value) < 0.5 * 10**-decimals:
        return f"{value:.1e}"
    if abs(value) >= 10:
        return f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{value:.{decimals}f}"


def _whole(value: int | None) -> str:
    return "n/a" if value is None else str(value)


# ---- LaTeX -----------------------------------------------------------------------------------------------------------

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "²": r"\textsuperscript{2}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(comparison: Comparison) -> str:
    """One `table*` environment for a paper; needs the package booktabs. Best values are bold instead of starred."""
    lines = [
        r"% Made by groundglass compare. Needs \usepackage{booktabs}.",
        r"\begin{table*}[t]",
        r"  \centering\footnotesize",
        rf"  \caption{{{_escape(caption(comparison).replace('*: ', 'Bold: '))}}}",
        r"  \label{tab:comparison}",
    ]
    for block in blocks(comparison):
        lines += ["", *(f"  {line}" for line in _tabular(comparison.names, block)), r"  \par\medskip"]
    return "\n".join([*lines[:-1], r"\end{table*}", ""])


def _tabular(names: Sequence[str], block: Block) -> list[str]:
    """A run takes two lines: its values, and their intervals in small print where there are any."""
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(block.columns)}}}",
        r"  \toprule",
        "  " + _row([rf"\textit{{{_escape(block.title)}}}", *map(_escape, block.columns)]),
        r"  \midrule",
    ]
    for name, entries in zip(names, block.rows, strict=True):
        values = [rf"\textbf{{{e.value}}}" if e.best else _escape(e.value) for e in entries]
        lines.append("  " + _row([_escape(name), *values]))
        if any(e.interval for e in entries):
            # Braces: a bracket that begins a line after \\ would be read as its argument.
            lines.append("  " + _row(["", *(rf"{{\scriptsize {e.interval}}}" if e.interval else "" for e in entries)]))
    return [*lines, r"  \bottomrule", r"\end{tabular}"]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


# ---- the picture -----------------------------------------------------------------------------------------------------


def paired(comparison: Comparison, path: str | Path) -> Path:
    """Left: the chosen metric of every case, dots of one case joined over the runs, with each run's mean and interval.
    Right: the mean difference of each pair with its interval, filled where one is shown to be better.

    Of more than four runs the four with the best means are drawn. Raises `WriteError`.
    """
    metric, cells = comparison.metric, comparison.cells[comparison.metric.name]
    order = sorted(range(len(cells)), key=lambda i: _rank(cells[i].value, metric.measure.higher_is_better))
    shown = sorted(order[:SHOWN])
    pairs = [pair for pair in comparison.pairs if pair.first in shown and pair.second in shown]
    values = comparison.values[shown]
    complete = np.isfinite(values).all(axis=0)
    name = f"{heading(metric, comparison)} of {display_name(metric.label).lower()}"
    with figure(path, 7.2, max(3.4, 1.5 + 0.5 * len(pairs))) as canvas:
        left, right = canvas.subplots(1, 2, gridspec_kw={"width_ratios": (0.8 + 0.35 * len(shown), 1.5)})
        places = np.arange(len(shown))
        alpha = float(np.clip(12 / max(1, complete.sum()), 0.12, 0.6))
        left.plot(places, values[:, complete], color="#888888", linewidth=0.6, alpha=alpha, zorder=1)
        for place, run in enumerate(shown):
            drawn = values[place][np.isfinite(values[place])]
            left.plot(
                np.full(drawn.size, place), drawn, "o", color=SERIES[place], markersize=3.2, alpha=0.75, mew=0, zorder=2
            )
            _mean(left, place + 0.16, cells[run])
        left.set_xticks(places, [_wrapped(f"{comparison.names[run]}\n(n = {cells[run].n})", 14) for run in shown])
        left.set_xlim(-0.4, len(shown) - 0.6 + 0.2)
        left.set(title="Each image", ylabel=name[:1].upper() + name[1:])
        left.grid(axis="x", visible=False)
        for height, pair in enumerate(reversed(pairs)):
            d = pair.difference
            if not isnan(d.low):
                right.plot([d.low, d.high], [height, height], color="black", linewidth=1.4, solid_capstyle="butt")
            face = "black" if pair.decided else "white"
            right.plot(d.mean, height, "D", color="black", markerfacecolor=face, markersize=5)
        texts = [
            f"{_wrapped(comparison.names[p.first], 20)}\n\u2212 {_wrapped(comparison.names[p.second], 20)}"
            for p in reversed(pairs)
        ]
        right.axvline(0, color=QUIET, linewidth=0.8, linestyle=":")
        right.set_yticks(range(len(pairs)), texts)
        right.set_ylim(-0.6, len(pairs) - 0.4)
        right.xaxis.set_major_locator(MaxNLocator(nbins=5))
        right.set(title="Mean paired difference", xlabel=f"Difference in {name}")
        right.grid(axis="y", visible=False)
        write_title(canvas, f"{name[:1].upper() + name[1:]}, paired by image", _note(comparison, len(shown)))
    return Path(path)


def _rank(value: float, higher_is_better: bool) -> float:
    return float("inf") if isnan(value) else -value if higher_is_better else value


def _mean(axes: Any, place: float, cell: Cell) -> None:
    style: dict[str, Any] = {"color": "black", "markersize": 5, "linewidth": 1.2, "zorder": 3, "clip_on": False}
    if not isnan(cell.low):
        axes.plot([place, place], [cell.low, cell.high], **{**style, "solid_capstyle": "butt"})
    axes.plot(place, cell.value, "D", **style)


def _note(comparison: Comparison, shown: int) -> str:
    many = len(comparison.names) > shown
    left_out = f" The {shown} best of {len(comparison.names)} runs; all are in pairs.csv." if many else ""
    ends = "95 % intervals by bootstrap" if comparison.n_boot else "no intervals"
    n = len(comparison.records[0].cases)
    return (
        f"n = {n} images in {comparison.n_clusters} clusters. Diamonds: means, with {ends}. "
        f"Filled on the right: one is shown to be better (corrected p < 0.05).{left_out}"
    )


def _wrapped(text: str, width: int) -> str:
    return "\n".join("\n".join(textwrap.wrap(line, width)) for line in text.splitlines())
