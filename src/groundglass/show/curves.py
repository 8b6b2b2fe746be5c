"""Training and validation curves: one panel a quantity, one or several runs; and several networks in one figure.

A table is what training writes as `curves.csv`, one row an epoch: a column `epoch`, and columns named by part and
quantity such as `train/loss`, `validation/miou` or `validation/f1_consolidation`. Columns of neither part, such as
the learning rate, are not drawn; nor is the F1 of the background, which is close to 1 whatever is learned.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.files import write_csv
from groundglass.show.colours import INK, SERIES, display_name
from groundglass.show.sheet import QUIET, figure, write_title

Table = Sequence[Mapping[str, Any]]
Tables = Sequence[Table | str | Path]

_PARTS = {"train": "Training", "validation": "Validation"}
_DASHES: Mapping[str, Any] = {"train": (0, (4, 1.6)), "validation": "solid"}
_PART_COLOURS = {"train": "#0072B2", "validation": "#D55E00"}
_TITLES = {
    "loss": "loss",
    "accuracy": "pixel accuracy",
    "miou": "mean IoU",
    "f1/train": "F1 (Dice), training",
    "f1/validation": "F1 (Dice), validation",
    "f1_lesions": "F1 (Dice), mean of lesion classes",
}
_LEFT_OUT = ("f1_background",)
# Seven colours and four kinds of line: 28 networks before two look alike.
_STYLES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
_PANELS = {
    ("loss", "train"): "Training loss",
    ("loss", "validation"): "Validation loss",
    ("dice", "train"): "Training Dice",
    ("dice", "validation"): "Validation Dice",
}
_INCHES_PER_CHARACTER = 0.048  # of a legend, on average
# Of the highest mean to the lowest, from which on a linear scale shows only the highest.
_LOSS_RANGE = 20
_OTHER_LOSSES = "Recipes minimise different losses: compare each line with itself only."
_DICE_NOTE = "Dice (F1) is pooled over the pixels of an epoch; in training of the augmented images, by argmax."
_LEGEND_BOX = {"frameon": True, "facecolor": "white", "edgecolor": "none", "framealpha": 0.85}


@dataclass(frozen=True)
class Learned:
    """The runs (folds, seeds) of one network. dice: the quantity that is its Dice, such as `f1_lesions`; dice_of, loss:
    in words, the classes whose mean that is and what is minimised."""

    name: str
    tables: Tables
    dice: str = "f1_lesions"
    dice_of: str = ""
    loss: str = ""


@dataclass(frozen=True)
class _Line:
    """One column of every run. values: [runs, epochs] float64, NaN where a run has no value."""

    part: str
    quantity: str
    values: NDArray[np.float64]

    @property
    def panel(self) -> str:
        """Quantities of one panel share this name: F1 of all classes together, but each part by itself."""
        return f"f1/{self.part}" if self.quantity.startswith("f1_") else self.quantity


def curves(
    tables: Table | str | Path | Tables,
    path: str | Path,
    monitor: str = "validation/loss",
    title: str = "Training and validation",
    kept: int | None = None,
) -> Path:
    """Draw every quantity of one run, or the mean and its standard deviation (n - 1) over several runs.

    tables: rows of one run, the path of its CSV file, or a list of such for several runs (folds, seeds).
    monitor: the column by which the best epoch is marked: a loss by its lowest value, everything else by its highest.
    kept: the epoch whose weights were kept, marked instead where it is not the best (system 000 keeps few).
    At each epoch the mean is over the runs that reached it.
    Raises `DataError` for tables that cannot be read or hold nothing to draw, `WriteError`.
    """
    runs = _runs(tables)
    epochs, lines = _lines(runs)
    panels = list(dict.fromkeys(line.panel for line in lines))
    columns = min(3, len(panels))
    rows = ceil(len(panels) / columns)
    bests = [best for best in (best_epoch(run, monitor) for run in runs) if best is not None]
    if kept is not None and bests != [kept]:
        bests, note = [kept], f"Dotted line: kept epoch {kept}."
    else:
        note = _note(runs, bests, monitor)
    if len(runs) > 1:
        title = f"{title} (mean ± standard deviation of n = {len(runs)} runs)"
    with figure(path, max(3.6, 2.45 * columns), 0.6 + 2.1 * rows) as canvas:
        grid = canvas.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, panel in zip(grid.flat, panels, strict=False):
            mine = [line for line in lines if line.panel == panel]
            for line in mine:
                _draw(axes, epochs, line.values, *_look(line))
            for best in bests:
                axes.axvline(best, color=QUIET, linewidth=0.8, linestyle=":", alpha=1 if len(bests) == 1 else 0.6)
            _finish(axes, _TITLES.get(panel, panel))
            if _within_one(mine):
                axes.set_ylim(0, 1)
            axes.legend(loc="best", handlelength=2.2, labelspacing=0.25, fontsize=6.5, **_LEGEND_BOX)
        write_title(canvas, title, note)
    return Path(path)


def compare_curves(
    networks: Sequence[Learned], path: str | Path, title: str, unit: str = "folds", each: bool = False
) -> Path:
    """Loss above, Dice below, training on the left and validation on the right, as system 004 draws them: of every
    network the mean over its runs and a band of their standard deviation (n - 1).

    unit: what the runs are, `folds` or `runs`; each: also a thin line for every run. A quantity that a network's tables
    lack is left out. Where losses or classes differ, the figure says so.
    Raises `DataError` for tables that cannot be read or hold nothing to draw, `WriteError`.
    """
    found = [_lines_of(network) for network in networks]
    unequal = any(len({len(run) for run in _runs(network.tables)}) > 1 for network in networks)
    notes = (
        [f"{unit.capitalize()} end at different epochs; each mean is over those that reached it."] if unequal else []
    )
    notes += _differences(networks)
    longest = max(len(_with_n(network.name, len(network.tables), unit)) for network in networks)
    fitting = max(1, int(7 / (0.65 + _INCHES_PER_CHARACTER * longest)))
    columns = min(fitting, 2 if len(networks) in (2, 4) else 3)
    legend_rows = ceil(len(networks) / columns)
    with figure(path, 7.2, 5.3 + 0.2 * legend_rows) as canvas:
        panels, below = canvas.subfigures(2, 1, height_ratios=(4.6, 0.2 * legend_rows))
        grid = panels.subplots(2, 2, sharex=True, sharey="row")
        for axes, ((quantity, part), heading) in zip(grid.flat, _PANELS.items(), strict=True):
            for number, (network, (epochs, lines)) in enumerate(zip(networks, found, strict=True)):
                look = SERIES[number % len(SERIES)], _STYLES[number % len(_STYLES)]
                wanted = (network.dice if quantity == "dice" else quantity, part)
                for line in lines:
                    if (line.quantity, line.part) == wanted:
                        _draw(axes, epochs, line.values, _with_n(network.name, len(line.values), unit), *look, each)
            _finish(axes, heading)
        for axes in grid[0]:
            axes.set_xlabel(_OTHER_LOSSES if len({n.loss for n in networks}) > 1 else "", fontsize=6.5, color=QUIET)
        grid[1, 0].set_ylabel("Dice (F1)")
        grid[1, 0].set_ylim(0, 1)
        _scale_losses(grid[0, 0], [line.values for _, lines in found for line in lines if line.quantity == "loss"])
        thin = "; thin lines: each" if each else ""
        write_title(canvas, f"{title} (mean ± standard deviation of n {unit}{thin})", " ".join([*notes, _DICE_NOTE]))
        handles = {
            text: handle for axes in grid.flat for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        below.legend(handles.values(), handles.keys(), loc="center", ncols=columns, handlelength=3.4)
    return Path(path)


def write_compared(networks: Sequence[Learned], path: str | Path) -> Path:
    """The numbers of `compare_curves`, one row for each recipe, epoch, part and measure: mean and standard deviation
    (n - 1) over the n runs that have a value there. Raises `DataError`, `WriteError`."""
    rows = []
    for network in networks:
        epochs, lines = _lines_of(network)
        for line in lines:
            if line.quantity not in ("loss", network.dice):
                continue
            for epoch, mean, spread, n in zip(epochs, *_summed(line.values), strict=True):
                if n:
                    row = {"recipe": network.name, "epoch": int(epoch), "part": line.part, "measure": line.quantity}
                    rows.append(row | {"mean": float(mean), "std": float(spread), "n": int(n)})
    write_csv(path, ["recipe", "epoch", "part", "measure", "mean", "std", "n"], rows)
    return Path(path)


def write_curves(tables: Mapping[str, str | Path], path: str | Path) -> Path:
    """The curves of several runs as one table: a column `fold` with the name of each run, then `mean` and `sd`, the
    standard deviation (n - 1), over the `n` runs that reached the epoch. Raises `DataError`, `WriteError`."""
    runs = {name: _read(table) for name, table in tables.items()}
    columns = list(dict.fromkeys(column for run in runs.values() for row in run for column in row))
    rows: list[dict[str, Any]] = [{"fold": name, "n": 1, **row} for name, run in runs.items() for row in run]
    by_epoch: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs.values():
        for row in run:
            by_epoch.setdefault(row["epoch"], []).append(row)
    for statistic in ("mean", "sd"):
        for epoch, same in sorted(by_epoch.items(), key=lambda item: _number(item[0])):
            values = {c: np.array([_number(row.get(c)) for row in same]) for c in columns if c != "epoch"}
            known = {c: v[~np.isnan(v)] for c, v in values.items()}
            fewest = 1 if statistic == "mean" else 2
            summed = {
                c: float(v.mean() if statistic == "mean" else v.std(ddof=1))
                for c, v in known.items()
                if len(v) >= fewest
            }
            rows.append({"fold": statistic, "n": len(same), "epoch": epoch, **summed})
    write_csv(path, ["fold", "n", *columns], rows)
    return Path(path)


def best_epoch(run: Table, monitor: str = "validation/loss") -> int | None:
    """The epoch with the lowest loss, or the highest of any other column; the first of equals, None without values."""
    scored = [(value, row["epoch"]) for row in run if (value := _number(row.get(monitor))) == value]
    if not scored:
        return None
    choose = min if monitor.endswith("/loss") else max
    return int(_number(choose(scored, key=lambda pair: pair[0])[1]))


def _draw(
    axes: Any,
    epochs: NDArray[np.int64],
    values: NDArray[np.float64],
    name: str,
    colour: str,
    dashes: Any,
    each: bool = False,
) -> None:
    """Mean over runs [runs, epochs], and a band of one standard deviation where at least two runs have a value; with
    `each`, a thin line for every run."""
    if each and len(values) > 1:
        axes.plot(epochs, values.T, color=colour, linewidth=0.5, alpha=0.6)
    mean, spread, _ = _summed(values)
    marker = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, mean, color=colour, linestyle=dashes, label=name, marker=marker, markersize=3)
    if len(values) > 1:
        axes.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)


def _summed(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Of runs [R, E] the mean [E], the standard deviation (n - 1), NaN below two values, and how many have a value."""
    n = np.sum(~np.isnan(values), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=0) / n
        spread = np.where(n > 1, np.sqrt(np.nansum((values - mean) ** 2, axis=0) / (n - 1)), np.nan)
    return mean, spread, n


def _scale_losses(axes: Any, losses: Sequence[NDArray[np.float64]]) -> None:
    """From 0 up, or by powers where one network's loss would press those of others flat."""
    axes.set_ylabel("Loss")
    means = np.concatenate([mean[np.isfinite(mean)] for mean, _, _ in map(_summed, losses)] or [np.zeros(0)])
    if not means.size or means.min() < 0:
        return
    if means.max() <= _LOSS_RANGE * means.min() or means.min() == 0:
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log")
    axes.set_ylabel("Loss (logarithmic)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_ylim(means.min() / 1.3, means.max() * 1.3)


def _with_n(name: str, n: int, unit: str) -> str:
    return f"{name} (n = {n} {unit if n > 1 else unit.removesuffix('s')})"


def _differences(networks: Sequence[Learned]) -> list[str]:
    """Sentences on what several networks do not share: their losses, the classes of their Dice."""
    said = []
    for what, of in (("Losses", [n.loss for n in networks]), ("Dice", [n.dice_of for n in networks])):
        if len(set(of)) > 1:
            shared = {text: [n.name for n, own in zip(networks, of, strict=True) if own == text] for text in of}
            listed = "; ".join(f"{text} ({', '.join(names)})" for text, names in shared.items())
            said.append(f"{what}: {listed}.")
    return said


def _look(line: _Line) -> tuple[str, str, Any]:
    """Text, colour and dashes of a line."""
    if not line.quantity.startswith("f1_"):
        return _PARTS[line.part], _PART_COLOURS[line.part], _DASHES[line.part]
    label = line.quantity.removeprefix("f1_")
    name = "Mean of lesions" if label == "lesions" else display_name(label)
    return name, INK.get(label, "#000000"), "solid"


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title[:1].upper() + title[1:], parse_math=False)
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.margins(x=0.02)
    first, last = axes.get_xlim()
    if last - first < 1:
        axes.set_xlim(first - 0.5, last + 0.5)


def _within_one(lines: Sequence[_Line]) -> bool:
    """Scores from 0 to 1 are drawn on the whole scale, so that small differences look small."""
    if lines[0].quantity == "loss":
        return False
    return all(np.nanmin(line.values) >= 0 and np.nanmax(line.values) <= 1 for line in lines)


def _note(runs: Sequence[Table], bests: Sequence[int], monitor: str) -> str:
    part, _, quantity = monitor.partition("/")
    name = f"{_PARTS.get(part, part).lower()} {_TITLES.get(quantity, quantity)}"
    rule = f"{'lowest' if monitor.endswith('/loss') else 'highest'} {name}"
    notes = []
    if len(bests) == 1:
        notes.append(f"Dotted line: best epoch {bests[0]} ({rule}).")
    elif bests:
        notes.append(f"Dotted lines: best epoch of each run ({rule}).")
    if len({len(run) for run in runs}) > 1:
        notes.append("Runs end at different epochs; each mean is over those that reached the epoch.")
    return " ".join(notes)


def _runs(tables: Any) -> list[Table]:
    if isinstance(tables, str | Path):
        return [_read(tables)]
    if tables and isinstance(tables[0], Mapping):
        return [tables]
    return [_read(item) if isinstance(item, str | Path) else item for item in tables]


def _read(path: str | Path) -> Table:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: curves cannot be read ({error}); give the curves.csv of a run") from error


def _lines_of(network: Learned) -> tuple[NDArray[np.int64], list[_Line]]:
    try:
        return _lines(_runs(network.tables))
    except DataError as error:
        raise DataError(f"{network.name}: {error}") from error


def _lines(runs: Sequence[Table]) -> tuple[NDArray[np.int64], list[_Line]]:
    """Epochs [E] of all runs together, and what is drawn over them."""
    if not runs or not all(runs):
        raise DataError("curves: a table is empty; train at least one epoch")
    numbers = [[_number(row.get("epoch")) for row in run] for run in runs]
    if any(number != number for run in numbers for number in run):
        raise DataError("curves: a row has no number in its column 'epoch'; give the curves.csv of a run")
    epochs = np.array(sorted({int(number) for run in numbers for number in run}), np.int64)
    lines = []
    for column in dict.fromkeys(name for run in runs for row in run for name in row):
        part, _, quantity = str(column).partition("/")
        if part not in _PARTS or not quantity or quantity in _LEFT_OUT:
            continue
        values = np.full((len(runs), len(epochs)), np.nan)
        for number, run in enumerate(runs):
            places = np.searchsorted(epochs, np.array(numbers[number], np.int64))
            values[number, places] = [_number(row.get(column)) for row in run]
        if not np.isnan(values).all():
            lines.append(_Line(part, quantity, values))
    if not lines:
        raise DataError("curves: no column such as train/loss or validation/loss; give the curves.csv of a run")
    return epochs, lines


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
