"""All that is reported of a set of measured cases: each class, metric and way to average, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
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
ROW_COLUMNS = ("class", "metric", "average", "value", "low", "high", "n", "n_undefined")
CASE_COLUMNS = (
    "case",
    "patient",
    "source",
    "class",
    *METRICS,
    "truth_pixels",
    "predicted_pixels",
    "fp_pixels_on_empty_reference",
)
# Below this many clusters a percentile interval is known to be too narrow; the summary says so.
_FEW_CLUSTERS = 10


@dataclass(frozen=True)
class Row:
    """One averaged number. `label`: a class, `any lesion`, or `benchmark` for a named score.

    low, high: limits of the interval, NaN where none can be given. n: the images (for a mean over patients: patients)
    that the number is made of; n_undefined: those that left the mean because the metric is undefined for them (for a
    named score: those that have no part in it).
    """

    label: str
    metric: str
    average: str
    value: float
    low: float
    high: float
    n: int
    n_undefined: int

    def to_dict(self) -> dict[str, Any]:
        """By `ROW_COLUMNS`."""
        return dict(zip(ROW_COLUMNS, asdict(self).values(), strict=True))


@dataclass(frozen=True)
class Negatives:
    """What happens in images whose reference lacks a class. mean_fp_pixels: over all of them, NaN if there are none."""

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

        Patients are numbered in order of appearance unless `identifiers` asks for what the data set calls them.
        """
        matrices = stack(self.cases)
        known = dict.fromkeys(case.patient for case in self.cases if case.patient is not None)
        shown = {patient: patient if identifiers else f"patient {i}" for i, patient in enumerate(known, start=1)}
        tables = []
        for label, channels in _groups(self.labels).items():
            counts = class_counts(matrices, channels)
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
                "fp_pixels_on_empty_reference": None if counts.tp[i] + counts.fn[i] else int(counts.fp[i]),
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
    return Summary(
        labels,
        tuple(cases),
        averages,
        benchmarks,
        tuple(_negatives(label, class_counts(matrices, group)) for label, group in _groups(labels).items()),
        clusters,
        n_clusters,
        0.95,
        n_boot,
        seed,
        _notes(benchmarks, n_clusters, n_boot),
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
        return "image (patients unknown)", None
    return "patient or volume where known, else image", ("per group", _codes(groups))


def _codes(names: Sequence[str]) -> NDArray[np.intp]:
    return np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)[1]


@dataclass(frozen=True)
class _Column:
    """A row to be: the mean of `values` [N] (NaN: undefined) over images, or over units of images."""

    label: str
    metric: str
    average: str
    values: Array
    population: NDArray[np.bool_]
    unit: NDArray[np.intp]


class _Table:
    """All averages as one vectorised statistic of case weights, so that a resample costs one matrix product."""

    def __init__(
        self, matrices: NDArray[np.int64], labels: LabelSet, units: tuple[str, NDArray[np.intp]] | None
    ) -> None:
        self.groups = _groups(labels)
        self.flat = matrices.reshape(len(matrices), -1).astype(np.float64)
        self.shape = matrices.shape[1:]
        image = np.arange(len(matrices))
        self.pooled: list[_Column] = []
        self.means: list[_Column] = []
        for label, channels in self.groups.items():
            counts = class_counts(matrices, channels)
            everyone = np.ones(len(matrices), np.bool_)
            positive = counts.tp + counts.fn > 0
            for metric, function in METRICS.items():
                values = function(counts)
                self.pooled.append(_Column(label, metric, "pooled", values, everyone, image))
                for average, unit in (("per image", image), *((units,) if units else ())):
                    of_positives = np.where(positive, values, np.nan)
                    self.means.append(_Column(label, metric, average, values, everyone, unit))
                    self.means.append(_Column(label, metric, f"{average}, positives", of_positives, positive, unit))
        self.values = np.stack([column.values for column in self.means], axis=1)
        # A mean of the units' means is a mean of images, each weighing 1 / (defined images of its unit): a cluster
        # is drawn whole, so all images of a unit share their weight.
        self.share = np.stack([_share(column) for column in self.means], axis=1)

    def estimate(self, weights: Array) -> Array:
        """Weights [B, N] -> values [B, pooled rows, then means]."""
        total = (weights @ self.flat).reshape(-1, *self.shape)
        pooled = [
            metric(counts)
            for counts in (class_counts(total, channels) for channels in self.groups.values())
            for metric in METRICS.values()
        ]
        return np.concatenate([np.stack(pooled, axis=1), weighted_mean(self.values, weights, self.share)], axis=1)

    def rows(self, values: Array, low: Array, high: Array, clusters: NDArray[np.intp]) -> tuple[Row, ...]:
        rows = []
        for column, value, lower, upper in zip((*self.pooled, *self.means), values, low, high, strict=True):
            defined = np.isfinite(column.values)
            # Where one cluster alone decides the number there is nothing to resample.
            sure = len(np.unique(clusters[defined])) > 1
            n = len(np.unique(column.unit[defined]))
            n_population = len(np.unique(column.unit[column.population]))
            if column.average == "pooled":
                n = n_population
            limits = (float(lower), float(upper)) if sure else (np.nan, np.nan)
            rows.append(Row(column.label, column.metric, column.average, float(value), *limits, n, n_population - n))
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
    sure = len(set(np.asarray(groups)[used])) > 1
    limits = (float(low), float(high)) if sure else (np.nan, np.nan)
    n = int(used.sum())
    return Row(BENCHMARK, score.name, "as named", float(value[0]), *limits, n, len(matrices) - n)


def _negatives(label: str, counts: Counts) -> Negatives:
    negative = counts.tp + counts.fn == 0
    fp = counts.fp[negative]
    mean = float(fp.mean()) if fp.size else np.nan
    return Negatives(label, int((~negative).sum()), int(negative.sum()), int((fp > 0).sum()), mean)


def _notes(benchmarks: Sequence[Row], n_clusters: int, n_boot: int) -> tuple[str, ...]:
    notes = [
        f"{row.metric} is undefined: a class that it averages is in no reference and in no prediction"
        for row in benchmarks
        if np.isnan(row.value)
    ]
    if n_boot < 1:
        notes.append("no intervals were asked for")
    elif n_clusters < 2:
        notes.append("no intervals: all images belong to one cluster, and nothing says how clusters differ")
    elif n_clusters < _FEW_CLUSTERS:
        notes.append(f"intervals from only {n_clusters} clusters are too narrow")
    return tuple(notes)
