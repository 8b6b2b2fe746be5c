"""Plots of numbers: intensity histograms, confusion matrices, measures with their intervals, classes and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.labels import BY_NAME
from groundglass.show.colours import INK, SERIES, display_name
from groundglass.show.sheet import QUIET, figure, write_title
from groundglass.show.tables import format_value

Counted = tuple[NDArray[np.integer], NDArray[np.floating]]
Intensities = Mapping[str, NDArray[Any] | Counted]

# Lines are told apart without colour too, on a grey print.
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
# So are areas; what is partly known is hatched crosswise.
_HATCHES: Mapping[str, str] = {"ground-glass": "", "consolidation": "////", "lung": "..", "pleural-effusion": "----"}
_PARTLY = "xxxx"

_BLUES = LinearSegmentedColormap.from_list("groundglass_blues", ["#FFFFFF", "#9CCBEA", "#0072B2", "#00436B"])


def histograms(
    before: Intensities,
    after: Intensities,
    path: str | Path,
    unit: str = "HU",
    limits: tuple[float, float] | None = None,
    bins: int = 160,
    title: str = "Intensities before and after preprocessing",
) -> Path:
    """Density of intensities in percent of pixels, one line a source, before and after preprocessing.

    before, after: by source, an array of any shape, or (counts [B], edges [B + 1]) where pixels do not fit in memory;
    limits: the interval that preprocessing clips to, in `unit`, shaded in the left panel.
    The vertical axis is logarithmic: air fills most of a slice, and findings would vanish on a linear one.
    Raises `DataError` without pixels, `WriteError`.
    """
    with figure(path, 7.2, 2.9) as canvas:
        panels = canvas.subplots(1, 2)
        for axes, parts, name, label in (
            (panels[0], before, "Before", f"Intensity ({unit})" if unit else "Intensity"),
            (panels[1], after, "After", "Normalised intensity"),
        ):
            for number, (source, (counts, edges)) in enumerate(_counted(parts, bins).items()):
                share = 100 * counts / counts.sum() / np.diff(edges)
                text = f"{source} (n = {_short(int(counts.sum()))} px)"
                axes.stairs(share, edges, color=SERIES[number % len(SERIES)], linewidth=1.1, label=text)
            axes.set_yscale("log")
            axes.set(title=name, xlabel=label)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
            axes.legend(loc="upper right", fontsize=7)
        panels[0].set_ylabel(f"Pixels (% per {unit})" if unit else "Pixels (% per unit)")
        panels[1].set_ylabel("Pixels (% per unit)")
        note = ""
        if limits is not None:
            panels[0].axvspan(*limits, color="#000000", alpha=0.05, linewidth=0, label="_kept")
            for limit in limits:
                panels[0].axvline(limit, color=QUIET, linewidth=0.8, linestyle=":")
            low, high = (f"{end:g}".replace("-", "\u2212") for end in limits)
            note = f"Shaded: kept interval {low} to {high} {unit}."
        # Room for the legend above the highest peak.
        for axes in panels:
            low, high = axes.get_ylim()
            axes.set_ylim(low, high * 6)
        write_title(canvas, title, note)
    return Path(path)


def class_shares(
    shares: Mapping[str, Mapping[str, float]],
    counts: Mapping[str, str],
    path: str | Path,
    title: str = "Classes by source",
) -> Path:
    """Two bars a source: all labelled pixels by class, and beside it the findings alone on a scale of their own.

    shares: by source and canonical class name, parts of the source's labelled pixels (0..1); counts: by source, what
    was counted, such as `50 images`. Partly known classes are hatched crosswise.
    Raises `DataError` without sources, `WriteError`.
    """
    if not shares:
        raise DataError("no labelled source to draw")
    names = [name for name in BY_NAME if any(part.get(name) for part in shares.values())]
    findings = [name for name in names if BY_NAME[name].lesion]
    with figure(path, 7.2, 1.35 + 0.34 * len(shares)) as canvas:
        panels = canvas.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (1.25, 1)})
        for axes, drawn, label in (
            (panels[0], names, "All classes (% of labelled pixels)"),
            (panels[1], findings, "Findings alone (% of labelled pixels)"),
        ):
            for place, part in enumerate(shares.values()):
                start = 0.0
                for name in drawn:
                    width = 100 * part.get(name, 0.0)
                    axes.barh(place, width, 0.62, start, **_area(name))
                    start += width
            axes.set(xlabel=label)
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
            axes.set_xlim(0, 100 if axes is panels[0] else None)
        panels[0].set_yticks(range(len(shares)), [f"{s} (n = {counts[s]})" for s in shares], parse_math=False)
        panels[0].set_ylim(len(shares) - 0.5, -0.5)
        handles = [Patch(label=_class_name(name), **_area(name)) for name in names]
        canvas.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=2.2, handleheight=1.1)
        write_title(canvas, title)
    return Path(path)


def cumulative_sizes(
    panels: Mapping[str, Mapping[str, Mapping[float, int]]], path: str | Path, what: Mapping[str, str], title: str
) -> Path:
    """One panel a quantity, one line a source: how much of the source's things (percent) is at most so large.

    panels: by axis label, then by source, how often each positive size occurs; what: by axis label, what n counts.
    The horizontal axis is logarithmic. Raises `DataError` without sizes, `WriteError`.
    """
    drawn = {label: parts for label, parts in panels.items() if any(parts.values())}
    if not drawn:
        raise DataError("no sizes to draw")
    sources = list(dict.fromkeys(source for parts in drawn.values() for source in parts))
    columns = 3 if len(drawn) % 3 == 0 else 2
    down = ceil(len(drawn) / columns)
    with figure(path, 7.2, (3.3 if columns == 2 else 2.9) * down) as canvas:
        grid = list(canvas.subplots(down, columns, squeeze=False).flat)
        for axes, (label, parts) in zip(grid, drawn.items(), strict=False):
            for source, counted in parts.items():
                if not counted:
                    continue
                sizes = sorted(counted)
                upto = np.cumsum([counted[size] for size in sizes])
                style = _line(sources.index(source))
                text = f"{source} (n = {upto[-1]:,} {what[label]})"
                axes.step([sizes[0], *sizes], [0, *(100 * upto / upto[-1])], where="post", label=text, **style)
            axes.set(
                xscale="log", xlabel=label, ylabel=f"{what[label].capitalize()} up to this size (%)", ylim=(0, 100)
            )
            _legend_below(axes, len(parts))
        for axes in grid[len(drawn) :]:
            axes.set_axis_off()
        write_title(canvas, title)
    return Path(path)


def source_intensities(
    panels: Mapping[str, Mapping[str, NDArray[np.floating]]], path: str | Path, title: str, bins: int = 80
) -> Path:
    """Density of intensities in percent of pixels, one panel a unit, one line a source; all of a panel share an axis.

    panels: by unit as the axis names it, then by source, sampled intensities of any shape. The axis ends where all but
    0.1 % of a panel's pixels lie; the vertical axis is logarithmic. Bins of whole numbers begin at halves, so that
    none catches more of them than the next. Raises `DataError` without pixels, `WriteError`.
    """
    drawn = {unit: {s: x for s, x in parts.items() if x.size} for unit, parts in panels.items()}
    drawn = {unit: parts for unit, parts in drawn.items() if parts}
    if not drawn:
        raise DataError("histograms: no pixels to count")
    sources = list(dict.fromkeys(source for parts in drawn.values() for source in parts))
    with figure(path, 7.2, 3.1 * len(drawn)) as canvas:
        for axes, (unit, parts) in zip(canvas.subplots(len(drawn), 1, squeeze=False).flat, drawn.items(), strict=True):
            everything = np.concatenate([x.ravel() for x in parts.values()])
            low, high = (float(end) for end in np.percentile(everything, (0.05, 99.95)))
            if high - low > bins and np.array_equal(everything, np.rint(everything)):
                edges = np.arange(
                    np.floor(low) - 0.5, high + np.ceil((high - low) / bins), np.ceil((high - low) / bins)
                )
            else:
                edges = np.linspace(low, high if high > low else low + 1, bins + 1)
            for source, values in parts.items():
                counts, _ = np.histogram(values, edges)
                density = np.append(100 * counts / values.size / np.diff(edges), np.nan)
                text = f"{source} (n = {_short(values.size)} px sampled)"
                shown = np.where(density > 0, density, np.nan)
                axes.plot(edges, shown, drawstyle="steps-post", label=text, **_line(sources.index(source)))
            axes.set(
                yscale="log", xlabel=f"Intensity ({unit})", ylabel=f"Pixels (% per {unit})", xlim=(edges[0], edges[-1])
            )
            _legend_below(axes, len(parts))
        write_title(canvas, title)
    return Path(path)


def _line(number: int) -> dict[str, Any]:
    return {"color": SERIES[number % len(SERIES)], "linestyle": LINES[number % len(LINES)], "linewidth": 1.2}


def _area(name: str) -> dict[str, Any]:
    """How a class is filled: background is paper, as a black bar would drown the rest."""
    colour = "#F2F2F2" if name == "background" else INK[name]
    hatch = _PARTLY if BY_NAME[name].possible else _HATCHES.get(name, "")
    return {"facecolor": colour, "edgecolor": "#222222", "hatch": hatch, "linewidth": 0.5}


def _class_name(name: str) -> str:
    return display_name(name, bool(BY_NAME[name].possible))


def _legend_below(axes: Any, entries: int) -> None:
    """Below the axes, where no line can be hidden by it."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=7, ncols=1 if entries < 4 else 2)


def row_percentages(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """Confusion matrix [K, K] of counts -> percentages of each row [K, K]; NaN in rows without pixels."""
    totals = matrix.sum(axis=1, keepdims=True, dtype=np.float64)
    percentages = np.full(matrix.shape, np.nan)
    np.divide(100.0 * matrix, totals, out=percentages, where=totals > 0)
    return percentages


def confusion_matrix(
    matrix: NDArray[np.integer], names: Sequence[str], path: str | Path, title: str = "Confusion matrix", n: str = ""
) -> Path:
    """Counts of pixels [K, K], expert's class in rows and predicted class in columns, with the percentage of each row.

    names: K class names; n: what was counted, such as `24 slices of 12 patients`, for the title.
    Raises `DataError` where names and matrix do not fit, `WriteError`.
    """
    if matrix.shape != (len(names), len(names)):
        raise DataError(f"confusion matrix of shape {matrix.shape} does not fit {len(names)} class names")
    percentages = row_percentages(matrix)
    size = 0.92 * len(names)
    with figure(path, max(3.6, size + 1.3), size + 1.1) as canvas:
        axes = canvas.subplots()
        axes.imshow(np.nan_to_num(percentages), cmap=_BLUES, vmin=0, vmax=100)
        for (row, column), percentage in np.ndenumerate(percentages):
            empty = np.isnan(percentage)
            ink = "white" if percentage > 45 else "black"
            place = {"ha": "center", "color": ink}
            axes.text(column, row - 0.08, "n/a" if empty else f"{percentage:.1f}%", va="center", fontsize=9, **place)
            axes.text(column, row + 0.24, f"{matrix[row, column]:,}", va="center", fontsize=6.5, **place)
        shown = [display_name(name) for name in names]
        axes.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in shown], parse_math=False)
        axes.set_yticks(range(len(names)), shown, parse_math=False)
        axes.set(xlabel="Predicted", ylabel="Expert")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        edges = np.arange(len(names) + 1) - 0.5
        axes.hlines(edges, edges[0], edges[-1], color="#D0D5DA", linewidth=0.8)
        axes.vlines(edges, edges[0], edges[-1], color="#D0D5DA", linewidth=0.8)
        axes.set(xlim=(edges[0] - 0.02, edges[-1] + 0.02), ylim=(edges[-1] + 0.02, edges[0] - 0.02))
        axes.tick_params(length=0)
        counted = n or f"{_short(int(matrix.sum()))} pixels"
        write_title(canvas, f"{title} (n = {counted})", "Percent of the row; below it, pixels.")
    return Path(path)


def metric_intervals(
    rows: Sequence[Mapping[str, Any]], path: str | Path, title: str = "Measures with 95% confidence intervals"
) -> Path:
    """A dot and its interval for every class, one panel a metric.

    rows: `class`, `metric`, `value`, `low`, `high`, `n`, as a summary of measures gives them; `average` where a metric
    is averaged in several ways, each then a panel; `model` where several are compared. A value that is no number is
    written as n/a, an interval that is none is left out. Metrics within 0 to 1 share that scale.
    Raises `DataError` without rows, `WriteError`.
    """
    if not rows:
        raise DataError("no measures to draw")
    metrics = list(dict.fromkeys(_metric(row) for row in rows))
    keys = list(dict.fromkeys((str(row["class"]), str(row.get("model", ""))) for row in rows))
    counts = {row["n"] for row in rows}
    columns = min(2, len(metrics))
    down = ceil(len(metrics) / columns)
    size = (1.1 + 3.05 * columns, 0.45 + down * (0.55 + 0.24 * len(keys)))
    with figure(path, *size) as canvas:
        grid = canvas.subplots(down, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(metrics) :]:
            axes.set_axis_off()
        for axes, metric in zip(grid.flat, metrics, strict=False):
            mine = [row for row in rows if _metric(row) == metric]
            for row in mine:
                place = keys.index((str(row["class"]), str(row.get("model", ""))))
                _draw_interval(axes, place, row, with_n=len(counts) > 1)
            axes.set_title(metric, parse_math=False)
            names = [" · ".join(filter(None, (display_name(name), model))) for name, model in keys]
            axes.set_yticks(range(len(keys)), names, parse_math=False)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="y", visible=False)
            axes.spines["left"].set_visible(False)
            ends = np.array([[row["value"], row["low"], row["high"]] for row in mine], np.float64)
            if np.isnan(ends).all() or (np.nanmin(ends) >= 0 and np.nanmax(ends) <= 1):
                axes.set_xlim(0, 1)
            else:
                axes.margins(x=0.1)
        grid[0, 0].set_ylim(len(keys) - 0.4, -0.6)
        write_title(canvas, f"{title} (n = {counts.pop()})" if len(counts) == 1 else title)
    return Path(path)


def _metric(row: Mapping[str, Any]) -> str:
    return ", ".join(str(row[key]) for key in ("metric", "average") if row.get(key))


def _draw_interval(axes: Any, place: int, row: Mapping[str, Any], with_n: bool) -> None:
    value, low, high = (float(row[key]) for key in ("value", "low", "high"))
    colour = INK.get(str(row["class"]), SERIES[0])
    if not (np.isnan(low) or np.isnan(high)):
        axes.plot([low, high], [place, place], color=colour, linewidth=2.4, alpha=0.55, solid_capstyle="butt")
    if not np.isnan(value):
        axes.plot([value], [place], "o", color=colour, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)
    text = format_value((value, low, high)) + (f", n = {row['n']}" if with_n else "")
    # Beside the axes, in one column as in a table; never over a dot.
    beside = axes.get_yaxis_transform()
    axes.text(1.04, place, text, transform=beside, va="center", fontsize=7, color=QUIET, clip_on=False)


def _counted(parts: Intensities, bins: int) -> dict[str, Counted]:
    """Counts and edges by source; arrays share their edges, so that their lines can be compared."""
    arrays = {name: np.asarray(part) for name, part in parts.items() if not isinstance(part, tuple)}
    finite = [array[np.isfinite(array)] for array in arrays.values()]
    filled = [array for array in finite if array.size]
    counted: dict[str, Counted] = {}
    if filled:
        ends = min(float(array.min()) for array in filled), max(float(array.max()) for array in filled)
        counted = {
            name: np.histogram(array, bins=bins, range=ends)
            for name, array in zip(arrays, finite, strict=True)
            if array.size
        }
    for name, part in parts.items():
        if isinstance(part, tuple) and part[0].sum():
            counted[name] = part
    if not counted:
        raise DataError("histograms: no pixels to count")
    return {name: counted[name] for name in parts if name in counted}


def _short(count: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
