"""All that is reported of a set of measured cases: each class, metric and way to average, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.labels import LabelSet
from groundglass.measure.counts import CaseCounts, Counts, class_counts, stack
from groundglass.measure.intervals import bootstrap
from groundglass.measure.metrics import METRICS, Score, applicable, weighted_mean

Array = NDArray[np.float64]

ANY_LESION = "any lesion"
BENCHMARK = "benchmark"
ROW_COLUMNS = ("class", "metric", "average", "value", "low", "high", "n", "n_undefined", "n_clusters")
CASE_COLUMNS = (
    "case",
    "patient",
    "source",
    "class",
    *METRICS,
    "truth_pixels",
    "predicted_pixels",
    "fp_pixels_on_empty_reference",
    "unknown_pixels",
)
# A percentile interval of fewer than ten clusters is known to be too narrow: the summary says so. Of fewer than three
# there is nothing to resample.
_FEW_CLUSTERS, _FEWEST_CLUSTERS = 10, 3
_BY_IMAGE = "image (patients unknown)"
# Sums over all images that move only with the images in which the class is.
_OF_THE_CLASS = frozenset({"dice", "iou", "precision", "recall"})


@dataclass(frozen=True)
class Row:
    """One averaged number. `label`: a class, `any lesion`, or `benchmark` for a named score.

    low, high: limits of the interval, NaN where none can be given. n: the images (for a mean over patients: patients)
    that the number is made of; n_undefined: those that left the mean because the metric is undefined for them (for a
    named score: those that have no part in it). n_clusters: the clusters that decide it: those whose reference holds
    the class where counts are summed (of several classes the rarest), else those in which it is defined.
    """

    label: str
    metric: str
    average: str
    value: float
    low: float
    high: float
    n: int
    n_undefined: int
    n_clusters: int

    def to_dict(self) -> dict[str, Any]:
        """By `ROW_COLUMNS`."""
        return dict(zip(ROW_COLUMNS, asdict(self).values(), strict=True))


@dataclass(frozen=True)
class Negatives:
    """What happens in images whose reference lacks a class. mean_fp_pixels: over all of them, NaN if there are none.

    Images of which nobody says whether they hold the class are neither positive nor negative.
    """

    label: str
    n_positive: int
    n_negative: int
    n_with_false_positives: int
    mean_fp_pixels: float

    def to_dict(self) -> dict[str, Any]:
        fields = asdict(self)
        return {"class": fields.pop("label"), **fields}


@dataclass(frozen=True)
class Summary:
    """The measures of a set of cases.

    averages: one row per class, metric and average; benchmarks: the named scores that apply to the label set.
    clusters: what was resampled: `patient`, `image (patients unknown)` or `patient or volume where known, else image`.
    notes: what a reader must know to read the numbers rightly, such as why there are no intervals.
    """

    labels: LabelSet
    cases: tuple[CaseCounts, ...]
    averages: tuple[Row, ...]
    benchmarks: tuple[Row, ...]
    negatives: tuple[Negatives, ...]
    clusters: str
    n_clusters: int
    level: float
    n_boot: int
    seed: int
    notes: tuple[str, ...]

    def row(self, label: str, metric: str, average: str) -> Row:
        """The average of a metric of a class (or `any lesion`). Raises `KeyError` where there is none."""
        for row in self.averages:
            if (row.label, row.metric, row.average) == (label, metric, average):
                return row
        raise KeyError((label, metric, average))

    def benchmark(self, name: str) -> Row:
        """A named score. Raises `KeyError` where it does not apply to the label set."""
        for row in self.benchmarks:
            if row.metric == name:
                return row
        raise KeyError(name)

    def rows(self) -> list[dict[str, Any]]:
        """Averages, then benchmark scores, by `ROW_COLUMNS`; for `write_csv`."""
        return [row.to_dict() for row in (*self.averages, *self.benchmarks)]

    def per_case_rows(self, identifiers: bool = False) -> list[dict[str, Any]]:
        """One row per case and class, by `CASE_COLUMNS`; undefined metrics are NaN.

        unknown_pixels: those that may or may not be of the class; the other counts are of the rest.
        Patients are numbered in order of appearance unless `identifiers` asks for what the data set calls them.
        """
        matrices = stack(self.cases)
        known = dict.fromkeys(case.patient for case in self.cases if case.patient is not None)
        shown = {patient: patient if identifiers else f"patient {i}" for i, patient in enumerate(known, start=1)}
        tables = []
        for label, channels in _groups(self.labels).items():
            counts = class_counts(matrices, channels, self.labels)
            tables.append((label, counts, {name: metric(counts) for name, metric in METRICS.items()}))
        return [
            {
                "case": case.case,
                "patient": shown[case.patient] if case.patient is not None else None,
                "source": case.source,
                "class": label,
                **{name: float(values[i]) for name, values in metrics.items()},
                "truth_pixels": int(counts.tp[i] + counts.fn[i]),
                "predicted_pixels": int(counts.tp[i] + counts.fp[i]),
                "fp_pixels_on_empty_reference": int(counts.fp[i]) if counts.negative[i] else None,
                "unknown_pixels": int(counts.unknown[i]),
            }
            for i, case in enumerate(self.cases)
            for label, counts, metrics in tables
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the cases, for `write_json`."""
        return {
            "label_set": self.labels.name,
            "n_cases": len(self.cases),
            "clusters": self.clusters,
            "n_clusters": self.n_clusters,
            "interval": {"method": "percentile bootstrap of clusters", "level": self.level, "n_boot": self.n_boot}
            | {"seed": self.seed},
            "benchmarks": [row.to_dict() for row in self.benchmarks],
            "averages": [row.to_dict() for row in self.averages],
            "negatives": [row.to_dict() for row in self.negatives],
            "notes": list(self.notes),
        }


def summarise(cases: Sequence[CaseCounts], labels: LabelSet, seed: int, n_boot: int = 1000) -> Summary:
    """All measures of `cases`, with 95 % intervals from `n_boot` resamples of their groups (0: no intervals).

    Averages of a metric, each an own row: `pooled` (counts summed over images first), `per image`, and `per patient`
    (mean over a patient's images, then over patients); the last two also over positive images only, those whose
    reference holds the class. `per patient` exists only where every case has a patient; where only larger groups
    such as volumes are known it is called `per group`; where not even these are, it is absent.
    Raises `DataError` without cases.
    """
    matrices = stack(cases)
    groups = [case.group for case in cases]
    n_clusters = len(set(groups))
    clusters, units = _units(cases)
    table = _Table(matrices, labels, units)
    ones = np.ones((1, len(cases)))

    scores = applicable(labels)
    low, high = bootstrap(table.estimate, groups, n_boot, seed)
    averages = table.rows(table.estimate(ones)[0], low, high, _codes(groups))
    benchmarks = tuple(_benchmark(score, matrices, labels, groups, n_boot, seed) for score in scores)
    by_class = {label: class_counts(matrices, group, labels) for label, group in _groups(labels).items()}
    partly = _partly_known(matrices, by_class, labels)
    notes = [
        *_undefined(benchmarks, bool(partly)),
        *partly,
        *_few((*averages, *benchmarks), clusters, n_clusters, n_boot),
    ]
    return Summary(
        labels,
        tuple(cases),
        averages,
        benchmarks,
        tuple(_negatives(label, counts) for label, counts in by_class.items()),
        clusters,
        n_clusters,
        0.95,
        n_boot,
        seed,
        tuple(notes),
    )


def _groups(labels: LabelSet) -> dict[str, tuple[int, ...]]:
    """Channels of every class, and of all lesions merged."""
    single = {name: (channel,) for channel, name in enumerate(labels.classes)}
    return single | ({ANY_LESION: labels.lesion_channels} if labels.lesions else {})


def _units(cases: Sequence[CaseCounts]) -> tuple[str, tuple[str, NDArray[np.intp]] | None]:
    """What the clusters are, and the unit (name, code of each case [N]) of means that give each patient one voice."""
    if all(case.patient is not None for case in cases):
        return "patient", ("per patient", _codes([case.patient or "" for case in cases]))
    groups = [case.group for case in cases]
    if len(set(groups)) == len(cases):
        return _BY_IMAGE, None
    return "patient or volume where known, else image", ("per group", _codes(groups))


def _codes(names: Sequence[str]) -> NDArray[np.intp]:
    return np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)[1]


@dataclass(frozen=True)
class _Column:
    """A row to be: the mean of `values` [N] (NaN: undefined) over images, or over units of images; `deciding` [N]: the
    images whose clusters count."""

    label: str
    metric: str
    average: str
    values: Array
    population: NDArray[np.bool_]
    unit: NDArray[np.intp]
    deciding: NDArray[np.bool_]


class _Table:
    """All averages as one vectorised statistic of case weights, so that a resample costs one matrix product."""

    def __init__(
        self, matrices: NDArray[np.int64], labels: LabelSet, units: tuple[str, NDArray[np.intp]] | None
    ) -> None:
        self.labels, self.groups = labels, _groups(labels)
        self.flat = matrices.reshape(len(matrices), -1).astype(np.float64)
        self.shape = matrices.shape[1:]
        image = np.arange(len(matrices))
        self.pooled: list[_Column] = []
        self.means: list[_Column] = []
        for label, channels in self.groups.items():
            counts = class_counts(matrices, channels, labels)
            everyone = np.ones(len(matrices), np.bool_)
            positive = counts.positive
            for metric, function in METRICS.items():
                values = function(counts)
                of_positives = np.where(positive, values, np.nan)
                defined, both = np.isfinite(values), np.isfinite(of_positives)
                decides = positive if metric in _OF_THE_CLASS else defined
                self.pooled.append(_Column(label, metric, "pooled", values, everyone, image, decides))
                for average, unit in (("per image", image), *((units,) if units else ())):
                    positives = f"{average}, positives"
                    self.means.append(_Column(label, metric, average, values, everyone, unit, defined))
                    self.means.append(_Column(label, metric, positives, of_positives, positive, unit, both))
        self.values = np.stack([column.values for column in self.means], axis=1)
        # A mean of the units' means is a mean of images, each weighing 1 / (defined images of its unit): a cluster
        # is drawn whole, so all images of a unit share their weight.
        self.share = np.stack([_share(column) for column in self.means], axis=1)

    def estimate(self, weights: Array) -> Array:
        """Weights [B, N] -> values [B, pooled rows, then means]."""
        total = (weights @ self.flat).reshape(-1, *self.shape)
        pooled = [
            metric(counts)
            for counts in (class_counts(total, channels, self.labels) for channels in self.groups.values())
            for metric in METRICS.values()
        ]
        return np.concatenate([np.stack(pooled, axis=1), weighted_mean(self.values, weights, self.share)], axis=1)

    def rows(self, values: Array, low: Array, high: Array, clusters: NDArray[np.intp]) -> tuple[Row, ...]:
        rows = []
        for column, value, lower, upper in zip((*self.pooled, *self.means), values, low, high, strict=True):
            n = len(np.unique(column.unit[np.isfinite(column.values)]))
            n_population = len(np.unique(column.unit[column.population]))
            if column.average == "pooled":
                n = n_population
            n_clusters = len(np.unique(clusters[column.deciding]))
            limits = interval_limits(lower, upper, n_clusters)
            names = (column.label, column.metric, column.average)
            rows.append(Row(*names, float(value), *limits, n, n_population - n, n_clusters))
        order = {key: i for i, key in enumerate((label, metric) for label in self.groups for metric in METRICS)}
        return tuple(sorted(rows, key=lambda row: order[row.label, row.metric]))


def _share(column: _Column) -> Array:
    defined = np.isfinite(column.values)
    per_unit = np.bincount(column.unit[defined], minlength=int(column.unit.max()) + 1)
    return np.where(defined, 1.0 / np.maximum(per_unit[column.unit], 1), 0.0)


def _benchmark(
    score: Score, matrices: NDArray[np.int64], labels: LabelSet, groups: Sequence[str], n_boot: int, seed: int
) -> Row:
    value, used = score.function(matrices, labels, np.ones((1, len(matrices))))
    low, high = bootstrap(lambda weights: score.function(matrices, labels, weights).values, groups, n_boot, seed)
    deciding = [used]
    if score.pooled:
        single = [(labels.classes.index(name),) for name in score.needs]
        channels: list[tuple[int, ...]] = [*single] or [labels.lesion_channels]
        deciding = [class_counts(matrices, group, labels).positive for group in channels]
    n_clusters = min(len(set(np.asarray(groups)[images])) for images in deciding)
    limits = interval_limits(low, high, n_clusters)
    n = int(used.sum())
    return Row(BENCHMARK, score.name, "as named", float(value[0]), *limits, n, len(matrices) - n, n_clusters)


def interval_limits(low: Array, high: Array, n_clusters: int) -> tuple[float, float]:
    """Limits of an interval, NaN where too few clusters decide the number to give one."""
    return (float(low), float(high)) if n_clusters >= _FEWEST_CLUSTERS else (np.nan, np.nan)


def _negatives(label: str, counts: Counts) -> Negatives:
    fp = counts.fp[counts.negative]
    mean = float(fp.mean()) if fp.size else np.nan
    return Negatives(label, int(counts.positive.sum()), fp.size, int((fp > 0).sum()), mean)


def _undefined(benchmarks: Sequence[Row], partly_known: bool) -> list[str]:
    or_unknown = ", or nobody says whether a reference holds it" if partly_known else ""
    return [
        f"{row.metric} is undefined: a class that it averages is in no reference and in no prediction{or_unknown}"
        for row in benchmarks
        if np.isnan(row.value)
    ]


def _partly_known(matrices: NDArray[np.int64], by_class: Mapping[str, Counts], labels: LabelSet) -> list[str]:
    """How many images have pixels that are only partly known, and what that means for which classes."""
    n = int(matrices[:, len(labels.classes) :].any(axis=(1, 2)).sum())
    if not n:
        return []
    found = []
    for label, counts in by_class.items():
        partly, undecided = int((counts.unknown > 0).sum()), int(counts.undecided.sum())
        if partly:
            found.append(f"{label} in {partly}" + (f" ({undecided} of them without a value)" if undecided else ""))
    return [
        f"{n} of {len(matrices)} images are only partly known; pixels that may or may not be of a class do not count "
        f"for it: {', '.join(found)}"
    ]


def _few(rows: Sequence[Row], clusters: str, n_clusters: int, n_boot: int) -> list[str]:
    """Which intervals are too narrow, or not there, for want of clusters."""
    if n_boot < 1:
        return ["no intervals were asked for"]
    if n_clusters < _FEWEST_CLUSTERS:
        count = "one cluster" if n_clusters == 1 else f"{n_clusters} clusters"
        return [f"no intervals: all images belong to {count}, too few to say how clusters differ"]
    notes = ["patients are not known: intervals by image are too narrow"] if clusters == _BY_IMAGE else []
    known = [row for row in rows if not np.isnan(row.value)]
    lacking = [row for row in known if row.n_clusters < _FEWEST_CLUSTERS]
    narrow = [row for row in known if _FEWEST_CLUSTERS <= row.n_clusters < _FEW_CLUSTERS]
    if n_clusters < _FEW_CLUSTERS:
        notes.append(f"intervals from only {n_clusters} clusters are too narrow")
    elif narrow:
        notes.append(
            f"fewer than {_FEW_CLUSTERS} clusters decide these, whose intervals are too narrow: {_named(narrow)}"
        )
    if lacking:
        notes.append(f"fewer than {_FEWEST_CLUSTERS} clusters decide these, which have no interval: {_named(lacking)}")
    return notes


def _named(rows: Sequence[Row]) -> str:
    """`consolidation (dice, iou pooled; recall per image and per patient)`: rows by class, metrics and average."""
    names: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        names.setdefault(row.label, {}).setdefault(row.average, []).append(row.metric)
    classes = []
    for label, averages in names.items():
        shared: dict[str, list[str]] = {}
        for average, metrics in averages.items():
            shared.setdefault("all" if len(metrics) == len(METRICS) else ", ".join(metrics), []).append(average)
        parts = (text if label == BENCHMARK else f"{text} {' and '.join(found)}" for text, found in shared.items())
        classes.append(f"{label} ({'; '.join(parts)})")
    return ", ".join(classes)
