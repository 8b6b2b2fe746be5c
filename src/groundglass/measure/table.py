"""Evaluations side by side: one row a run, and for each pair of runs whether one is shown to be better.

Every number is a mean over cases; a measure that a case leaves undefined leaves its mean and is counted, as in
`metrics`. Intervals and tests treat a cluster of cases (patient, volume, near duplicates) as one; see `comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.data.twins import join
from groundglass.errors import RecipeError, RunError, nearest
from groundglass.labels import LabelSet
from groundglass.measure.comparison import (
    FEWEST_TO_DECIDE,
    Difference,
    Spread,
    compare_pair,
    decided,
    holm,
    seed_spread,
    sentence,
)
from groundglass.measure.intervals import bootstrap
from groundglass.measure.metrics import weighted_mean
from groundglass.measure.record import MEASURES, Measure, Record, measured_labels, number_clusters

Array = NDArray[np.float64]

# As in the summary: an interval of fewer than ten clusters is too narrow, of fewer than three there is none.
_FEW_CLUSTERS, _FEWEST_CLUSTERS = 10, 3
_SEED = 0


@dataclass(frozen=True)
class Column:
    """A measure of a class. `name` is what --metric takes, such as `any_lesion_dice`."""

    name: str
    label: str
    measure: Measure


@dataclass(frozen=True)
class Cell:
    """A mean over cases with its interval (NaN where none can be given). n, n_undefined: the cases that it is made of,
    and those of its population that have no value. best: shown to be better than every other run."""

    value: float
    low: float
    high: float
    n: int
    n_undefined: int
    n_clusters: int
    best: bool = False


@dataclass(frozen=True)
class Pair:
    """Two runs by position, their difference in the chosen metric, p corrected for all pairs (Holm), and the verdict in
    plain words. decided: whether one is shown to be better."""

    first: int
    second: int
    difference: Difference
    corrected_p: float
    decided: bool
    text: str


@dataclass(frozen=True)
class Repeats:
    """Runs of one recipe that differ by their seed: their positions, and the spread of the chosen metric."""

    name: str
    runs: tuple[int, ...]
    spread: Spread


@dataclass(frozen=True)
class Comparison:
    """Runs measured on the same cases. columns: of the table; cells: by column name, one a run; metric: the chosen
    column, in which `pairs` are tested; values: of that metric, [runs, N] float64, cases by id; notes: what a reader
    must know."""

    names: tuple[str, ...]
    records: tuple[Record, ...]
    columns: tuple[Column, ...]
    cells: Mapping[str, tuple[Cell, ...]]
    metric: Column
    values: Array
    pairs: tuple[Pair, ...]
    repeats: tuple[Repeats, ...]
    n_clusters: int
    n_boot: int
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        first = self.records[0]
        return {
            "fingerprint": first.fingerprint,
            "label_set": first.label_set,
            "n_cases": len(first.cases),
            "n_clusters": self.n_clusters,
            "metric": self.metric.name,
            "conventions": first.conventions.model_dump(),
            "interval": {"method": "percentile bootstrap of clusters", "level": 0.95, "n_boot": self.n_boot},
            "runs": [
                {
                    "name": name,
                    "kind": record.kind,
                    "recipe": record.name if record.kind == "runs" else None,
                    "part": record.part,
                    "tta": record.tta,
                    "decision": record.decision,
                    "measures": {column: asdict(cells[row]) for column, cells in self.cells.items()},
                    "protocols": [found.model_dump() for found in record.protocols],
                    "cost": record.cost.model_dump(),
                }
                for row, (name, record) in enumerate(zip(self.names, self.records, strict=True))
            ],
            "pairs": [
                {"first": self.names[pair.first], "second": self.names[pair.second]}
                | asdict(pair.difference)
                | {"corrected_p": pair.corrected_p, "decided": pair.decided, "text": pair.text}
                for pair in self.pairs
            ],
            "seeds": [
                {"recipe": found.name, "runs": [self.names[i] for i in found.runs]} | asdict(found.spread)
                for found in self.repeats
            ],
            "notes": list(self.notes),
        }


def columns_of(labels: LabelSet) -> tuple[Column, ...]:
    """What can be compared in a label set: every measure of any lesion and of each class but the background."""
    return tuple(
        Column(f"{label.replace(' ', '_')}_{measure.name}", label, measure)
        for label in measured_labels(labels)
        for measure in MEASURES.values()
    )


def column_named(name: str, labels: LabelSet) -> Column:
    """The column called `name`. Raises `RecipeError` with the nearest valid name."""
    known = {column.name: column for column in columns_of(labels)}
    if name not in known:
        raise RecipeError(f"--metric {name}: label set '{labels.name}' has no such measure; {nearest(name, known)}")
    return known[name]


def estimates(record: Record, columns: Sequence[Column], clusters: Sequence[int], n_boot: int) -> tuple[Cell, ...]:
    """The mean of each column over the cases of a record, with its interval by clusters."""
    values = np.stack([record.values(column.label, column.measure.name) for column in columns], axis=1)
    names = [str(number) for number in clusters]
    mean = weighted_mean(values, np.ones((1, len(values))))[0]
    low, high = bootstrap(lambda weights: weighted_mean(values, weights), names, n_boot, _SEED)
    found = []
    for i, column in enumerate(columns):
        defined = np.isfinite(values[:, i])
        counts = record.counts(column.label)
        population = counts.positive if column.measure.positives else counts.unknown == 0
        n_clusters = len(set(np.asarray(names)[defined]))
        limits = (float(low[i]), float(high[i])) if n_clusters >= _FEWEST_CLUSTERS else (np.nan, np.nan)
        n = int(defined.sum())
        found.append(Cell(float(mean[i]), *limits, n, int(population.sum()) - n, n_clusters))
    return tuple(found)


def compare_records(
    names: Sequence[str], records: Sequence[Record], metric: str | None = None, n_boot: int = 1000
) -> Comparison:
    """Compare evaluations of the same cases. metric: by default the Dice of any lesion, or of the first class of a
    label set without lesions. Raises as `check_same`, and `RecipeError` for an unknown metric."""
    check_same(names, records)
    labels = records[0].labels
    columns = columns_of(labels)
    chosen = columns[0] if metric is None else column_named(metric, labels)
    # By id, so that the order in which runs are named changes no interval.
    ordered = [_in_order(record, sorted(records[0].ids)) for record in records]
    clusters = _joined_clusters(ordered)
    cells = [estimates(record, columns, clusters, n_boot) for record in ordered]
    shown = [str(number) for number in clusters]
    by_column = {}
    for i, column in enumerate(columns):
        row = [found[i] for found in cells]
        best = _best([r.values(column.label, column.measure.name) for r in ordered], shown, column.measure, n_boot)
        by_column[column.name] = tuple(
            Cell(**(asdict(cell) | {"best": position == best})) for position, cell in enumerate(row)
        )
    values = np.stack([record.values(chosen.label, chosen.measure.name) for record in ordered])
    n_clusters = len(set(clusters))
    return Comparison(
        tuple(names),
        tuple(ordered),
        columns,
        by_column,
        chosen,
        values,
        _pairs(names, values, shown, chosen.measure, n_boot),
        _repeats(ordered, [cell.value for cell in by_column[chosen.name]]),
        n_clusters,
        n_boot,
        tuple(_notes(names, ordered, by_column[chosen.name], n_clusters, n_boot)),
    )


def check_same(names: Sequence[str], records: Sequence[Record]) -> None:
    """Raise `RunError` unless there are two evaluations or more, none twice, all of the same cases and references, in
    the same classes, by the same conventions."""
    if len(records) < 2:
        raise RunError("name at least two runs to compare")
    first, a = records[0], names[0]
    for record, b in zip(records[1:], names[1:], strict=True):
        if record.fingerprint != first.fingerprint:
            raise RunError(f"{b}: was scored on other data than {a} (the fingerprints differ); evaluate both on one")
        if record.label_set != first.label_set:
            raise RunError(
                f"{b}: tells other classes apart ('{record.label_set}') than {a} ('{first.label_set}'); compare "
                "findings of any type with --merge lesion"
            )
        if (record.classes, record.codes) != (first.classes, first.codes):
            raise RunError(f"{b}: has other classes in label set '{record.label_set}' than {a}; evaluate both again")
        if set(record.ids) != set(first.ids):
            missing, extra = len(set(first.ids) - set(record.ids)), len(set(record.ids) - set(first.ids))
            raise RunError(
                f"{b}: was scored on other cases than {a} ({missing} of its {len(first.ids)} missing, {extra} more): "
                f"'{first.part}' and '{record.part}'"
            )
        if record.conventions != first.conventions:
            raise RunError(f"{b}: was measured by other conventions than {a} (tolerance or unit); evaluate both again")
        truth = _in_order(record, first.ids).matrices.sum(axis=2)
        differing = np.flatnonzero((truth != first.matrices.sum(axis=2)).any(axis=1))
        if differing.size:
            raise RunError(f"{b}: was scored with another reference of {first.ids[differing[0]]} than {a}")
    for (i, one), (j, other) in combinations(enumerate(records), 2):
        same = (one.kind, one.answers, one.tta, one.thresholds) == (
            other.kind,
            other.answers,
            other.tta,
            other.thresholds,
        )
        if same:
            raise RunError(f"{names[j]}: is the same run as {names[i]}; name each once")


def _in_order(record: Record, ids: Sequence[str]) -> Record:
    if record.ids == tuple(ids):
        return record
    cases = {case.case: case for case in record.cases}
    # model_copy would take the cached matrices along.
    return Record.model_validate(record.model_dump() | {"cases": [cases[i].model_dump() for i in ids]})


def _joined_clusters(records: Sequence[Record]) -> list[int]:
    """One cluster number a case: cases that any record puts together are together."""
    links = [
        [f"{i}/{record.cases[place].cluster}" for i, record in enumerate(records)]
        for place in range(len(records[0].cases))
    ]
    together = {name: names[0] for names in join(links) for name in names}
    return number_clusters([together[names[0]] for names in links])


def _compare(a: Array, b: Array, clusters: Sequence[str], n_boot: int) -> Difference:
    return compare_pair(a, b, clusters, n_boot, _SEED)


def _pairs(
    names: Sequence[str], values: Array, clusters: Sequence[str], measure: Measure, n_boot: int
) -> tuple[Pair, ...]:
    places = list(combinations(range(len(values)), 2))
    differences = [_compare(values[i], values[j], clusters, n_boot) for i, j in places]
    corrected = holm([difference.p for difference in differences])
    higher = measure.higher_is_better
    return tuple(
        Pair(
            i,
            j,
            difference,
            float(p),
            decided(difference, float(p)),
            sentence(difference, (names[i], names[j]), float(p), higher_is_better=higher),
        )
        for (i, j), difference, p in zip(places, differences, corrected, strict=True)
    )


def _best(values: Sequence[Array], clusters: Sequence[str], measure: Measure, n_boot: int) -> int | None:
    """The run that is shown to be better than every other in this column, with p corrected for all pairs."""
    places = list(combinations(range(len(values)), 2))
    differences = {(i, j): _compare(values[i], values[j], clusters, n_boot) for i, j in places}
    corrected = dict(zip(places, holm([found.p for found in differences.values()]), strict=True))

    def beats(i: int, j: int) -> bool:
        key = (i, j) if i < j else (j, i)
        ahead = (differences[key].mean > 0) == (i < j)
        return decided(differences[key], float(corrected[key])) and ahead == measure.higher_is_better

    runs = range(len(values))
    return next((i for i in runs if all(beats(i, j) for j in runs if j != i)), None)


def _repeats(records: Sequence[Record], values: Sequence[float]) -> tuple[Repeats, ...]:
    alike: dict[tuple[str, str, str, bool], list[int]] = {}
    for i, record in enumerate(records):
        if record.method is not None:
            alike.setdefault((record.method, record.part, record.tta, len(record.answers) > 1), []).append(i)
    return tuple(
        Repeats(records[runs[0]].name, tuple(runs), seed_spread([values[i] for i in runs]))
        for runs in alike.values()
        if len({records[i].seed for i in runs}) > 1
    )


def _notes(
    names: Sequence[str], records: Sequence[Record], cells: Sequence[Cell], n_clusters: int, n_boot: int
) -> list[str]:
    """What the table cannot say by itself; notes of the single evaluations come last, equal ones once."""
    notes = []
    deciding = min(cell.n_clusters for cell in cells)
    if n_boot < 1:
        notes.append("no intervals were asked for, and without them no run is called better")
    elif deciding < FEWEST_TO_DECIDE:
        notes.append(f"{deciding} clusters decide the metric: fewer than {FEWEST_TO_DECIDE}, so no test can decide")
    elif deciding < _FEW_CLUSTERS:
        notes.append(f"intervals from fewer than {_FEW_CLUSTERS} clusters ({deciding}) are too narrow")
    if n_clusters == len(records[0].cases):
        notes.append("every image is a cluster of its own: where slices share a patient, intervals are too narrow")
    for what, kinds in (
        ("parts of the data", [record.part for record in records]),
        ("test-time augmentation", [record.tta for record in records]),
        ("decisions", [record.decision or "as made" for record in records]),
        ("processors (times and memory cannot be compared)", [str(record.cost.device) for record in records]),
    ):
        if len(set(kinds)) > 1:
            listed = ", ".join(f"{name}: {kind}" for name, kind in zip(names, kinds, strict=True))
            notes.append(f"the runs differ in {what}: {listed}")
    said: dict[str, list[str]] = {}
    for name, record in zip(names, records, strict=True):
        for note in record.notes:
            said.setdefault(note, []).append(name)
    return notes + [f"{'all' if len(who) == len(names) else ', '.join(who)}: {note}" for note, who in said.items()]
