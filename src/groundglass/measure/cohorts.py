"""What a mean over all images hides: scores by cohort, beside two answers that need no network at all.

Where an empty prediction on an empty reference counts as 1, a mean over all images is for the larger part the share of
empty images, and predicting nothing earns it. So every cohort is scored by several measures, false alarms are counted
where nothing is to be found, and two rivals answer the same images: "the whole lung is infected" and "nothing is
infected". What does not beat them has learned nothing about lesions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from groundglass.labels import LabelSet
from groundglass.measure.comparison import Difference, compare_pair, decided
from groundglass.measure.counts import CaseCounts, Counts, class_counts, stack
from groundglass.measure.intervals import bootstrap
from groundglass.measure.metrics import METRICS, SCORES, Estimate, Score, ratio, weighted_mean
from groundglass.measure.summary import interval_limits

Array = NDArray[np.float64]
Matrices = NDArray[np.int64]
Kind = Literal["severe", "mild", "normal"]

ALL = "all images"
UNSAID = "not said"
PREDICTION, WHOLE_LUNG, NOTHING = "prediction", "whole lung is infected", "nothing is infected"
KINDS: tuple[Kind, ...] = get_args(Kind)
# Of the cohorts that sources name, the one whose lungs hold nothing.
_NORMAL = "normal"


def false_positive_rate(confusion: Matrices, labels: LabelSet, weights: Array) -> Estimate:
    """Share of the images whose reference holds no lesion in which one is predicted all the same."""
    counts = class_counts(confusion, labels.lesion_channels, labels)
    return _over_empty((counts.fp > 0).astype(np.float64), counts, weights)


def false_positive_pixels(confusion: Matrices, labels: LabelSet, weights: Array) -> Estimate:
    """Pixels predicted as lesion, mean over the images whose reference holds none."""
    counts = class_counts(confusion, labels.lesion_channels, labels)
    return _over_empty(counts.fp, counts, weights)


def _over_empty(values: Array, counts: Counts, weights: Array) -> Estimate:
    return Estimate(weighted_mean(np.where(counts.negative, values, np.nan), weights), counts.negative)


MEASURES: tuple[Score, ...] = (
    *(SCORES[f"any_lesion_{name}"] for name in ("dice_empty1", "iou_empty1", "dice", "dice_pooled")),
    Score(
        "false_positive_rate",
        false_positive_rate,
        "share of the images without a lesion in which one is predicted",
        lesion=True,
    ),
    Score(
        "false_positive_pixels",
        false_positive_pixels,
        "pixels predicted as lesion, mean of the images without one",
        lesion=True,
    ),
)
COLUMNS = (
    *("cohort", "answer", "n", "n_lesion", "n_empty"),
    *(f"{measure.name}{end}" for measure in MEASURES for end in ("", "_low", "_high", "_n", "_n_clusters")),
)


@dataclass(frozen=True, eq=False)
class Reference:
    """What is known of an image besides its counts.

    cohort: see `Case`; whole_lung: [R, K] int64, the confusion matrix of answering that the whole lung is one lesion,
    None where nobody says where the lungs are; n_parts: connected lesions in the reference.
    """

    cohort: str = ""
    whole_lung: Matrices | None = None
    n_parts: int = 0


@dataclass(frozen=True)
class Number:
    """A value with its 95 % interval (NaN where none can be given), the images that it is made of, and the clusters
    that decide it."""

    value: float
    low: float
    high: float
    n: int
    n_clusters: int


@dataclass(frozen=True)
class CohortRow:
    """One answer to the images of one cohort. n: its images; n_lesion, n_empty: those whose reference is known to hold
    a lesion, and those known to hold none; numbers: by the names of `MEASURES`."""

    cohort: str
    answer: str
    n: int
    n_lesion: int
    n_empty: int
    numbers: Mapping[str, Number]

    def to_dict(self) -> dict[str, Any]:
        """By `COLUMNS`."""
        row: dict[str, Any] = {name: getattr(self, name) for name in COLUMNS[:5]}
        for name, found in self.numbers.items():
            row |= {name if key == "value" else f"{name}_{key}": value for key, value in asdict(found).items()}
        return row


@dataclass(frozen=True)
class Extreme:
    """An image that stands for many. share: of its lung, or of the image, that the reference marks as lesion."""

    kind: Kind
    case: str
    share: float


@dataclass(frozen=True)
class CohortTable:
    """The answers side by side.

    rows: all images first, then each cohort; in each the prediction and its rivals. mean_difference: Dice of the
    prediction minus Dice of the whole lung, image by image where the reference holds a lesion; pooled_difference: the
    same of summed counts. Both None where the lungs of `n_without_lung` images are not known.
    extremes: see `extreme_cases`; share_of: what their shares are of.
    """

    rows: tuple[CohortRow, ...]
    mean_difference: Difference | None
    pooled_difference: Number | None
    n_without_lung: int
    extremes: tuple[Extreme, ...]
    share_of: Literal["lung", "image"]

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The cohorts, without all images together."""
        return tuple(dict.fromkeys(row.cohort for row in self.rows if row.cohort != ALL))

    @property
    def informative(self) -> bool:
        """Whether the table says more than the means of the summary."""
        return len(self.cohorts) > 1 or self.n_without_lung == 0 or self.row().n_empty > 0

    def row(self, cohort: str = ALL, answer: str = PREDICTION) -> CohortRow:
        """One answer to the images of one cohort. Raises `KeyError` where there is none."""
        for row in self.rows:
            if (row.cohort, row.answer) == (cohort, answer):
                return row
        raise KeyError((cohort, answer))

    def sentences(self) -> tuple[str, ...]:
        """Why the mean over all images misleads here, and whether the prediction beats the whole lung."""
        everyone = self.row()
        known, said = everyone.n_lesion + everyone.n_empty, []
        if everyone.n_empty:
            name = MEASURES[0].name
            idle, ours = (row.numbers[name].value for row in (self.row(answer=NOTHING), everyone))
            said.append(
                f"{everyone.n_empty} of {known} images hold no lesion: predicting nothing at all would score "
                f"{idle:.2f} by the mean over all images (this prediction: {ours:.2f}), so this mean alone misleads"
            )
        return (*said, self._against_lung())

    def _against_lung(self) -> str:
        mean, pooled, n = self.mean_difference, self.pooled_difference, self.row().n
        if mean is None or pooled is None:
            which = "no image says" if self.n_without_lung == n else f"{self.n_without_lung} of {n} images do not say"
            return f"{which} where the lungs are: there is no score of 'the {WHOLE_LUNG}' to beat"
        if not mean.n:
            return f"no image holds a lesion, on which the prediction could beat 'the {WHOLE_LUNG}'"
        worse = decided(mean) and mean.mean < 0
        verdict = "not shown to beat" if not decided(mean) else "worse than" if worse else "better than"
        return (
            f"the prediction is {verdict} 'the {WHOLE_LUNG}'{'' if decided(mean) else ': it differs'} "
            f"by {_with_interval(mean.mean, mean.low, mean.high, worse)} in mean Dice of images with a "
            f"lesion (n = {mean.n}), by {_with_interval(pooled.value, pooled.low, pooled.high, worse)} in pooled Dice"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "minus_whole_lung": None
            if self.mean_difference is None or self.pooled_difference is None
            else {
                "any_lesion_dice": asdict(self.mean_difference) | {"decided": decided(self.mean_difference)},
                "any_lesion_dice_pooled": asdict(self.pooled_difference),
            },
            "n_without_lung": self.n_without_lung,
            "extremes": [asdict(extreme) | {"share_of": self.share_of} for extreme in self.extremes],
            "sentences": list(self.sentences()),
        }


def cohort_table(
    cases: Sequence[CaseCounts], references: Sequence[Reference], labels: LabelSet, seed: int, n_boot: int = 1000
) -> CohortTable | None:
    """Scores of the prediction and its rivals by cohort, with 95 % intervals by resampling the groups of the cases.

    references: of the same cases, in one order. The rival that calls the whole lung infected answers only where the
    lungs of all cases are known: scores of different images cannot be compared. None where the label set knows no
    lesion. Raises `DataError` without cases.
    """
    if not labels.lesions:
        return None
    predicted = stack(cases)
    groups = np.array([case.group for case in cases], np.str_)
    answers = {PREDICTION: predicted}
    lungs = _lungs(references)
    if lungs is not None:
        answers[WHOLE_LUNG] = lungs
    answers[NOTHING] = nothing(predicted, labels)

    named = [reference.cohort or UNSAID for reference in references]
    present = list(dict.fromkeys(named)) if any(reference.cohort for reference in references) else []
    rows: list[CohortRow] = []
    for cohort in (ALL, *present):
        chosen = np.array([cohort in (ALL, name) for name in named], np.bool_)
        part = {answer: matrices[chosen] for answer, matrices in answers.items()}
        rows += _rows(cohort, part, labels, groups[chosen], seed, n_boot)
    mean = pooled = None
    if lungs is not None:
        ours, theirs = (_on_lesions(matrices, labels) for matrices in (predicted, lungs))
        mean = compare_pair(ours, theirs, groups.tolist(), n_boot, seed)
        pooled = _pooled_difference(predicted, lungs, labels, groups, seed, n_boot)
    missing = sum(reference.whole_lung is None for reference in references)
    of: Literal["lung", "image"] = "image" if lungs is None else "lung"
    return CohortTable(tuple(rows), mean, pooled, missing, extreme_cases(cases, references, labels), of)


def nothing(matrices: Matrices, labels: LabelSet) -> Matrices:
    """Confusion matrices [N, R, K] int64 of the answer that no image holds a lesion: all pixels are of the first class
    that is none."""
    found = np.zeros_like(matrices)
    found[..., _healthy(labels)] = matrices.sum(axis=-1)
    return found


def whole_lung(lung: NDArray[np.bool_], labels: LabelSet) -> NDArray[np.uint8]:
    """The answer that a whole lung [...] bool is one lesion, as channels [...] uint8."""
    return np.where(lung, labels.lesion_channels[0], _healthy(labels)).astype(np.uint8)


def extreme_cases(
    cases: Sequence[CaseCounts], references: Sequence[Reference], labels: LabelSet
) -> tuple[Extreme, ...]:
    """A severe, a mild and a normal image, as far as there are such; chosen by their references alone.

    severe: the largest share of the lung is lesion (of the image, unless all lungs are known); mild: the smallest
    share above 0, of equal ones that in most parts; normal: no lesion, of those called normal if there are any, with
    the largest lung. Of equal ones the first.
    """
    counts = class_counts(stack(cases), labels.lesion_channels, labels)
    lungs = _lungs(references)
    if lungs is None:
        area = np.ones(len(cases))
        share = ratio(counts.tp + counts.fn, counts.tp + counts.fp + counts.fn + counts.tn)
    else:
        of_lung = class_counts(lungs, labels.lesion_channels, labels)
        area = of_lung.tp + of_lung.fp
        # Of what a whole lung claims, as much is right as is lesion.
        share = np.nan_to_num(METRICS["precision"](of_lung))
    sick = [int(i) for i in np.flatnonzero(counts.positive & (share > 0))]
    empty = [int(i) for i in np.flatnonzero(counts.negative)]
    normal = [i for i in empty if references[i].cohort.casefold() == _NORMAL] or empty
    chosen: dict[int, Kind] = {}
    # A lone sick image is the severe one.
    if sick:
        chosen[min(sick, key=lambda i: (share[i], -references[i].n_parts))] = "mild"
        chosen[max(sick, key=lambda i: share[i])] = "severe"
    if normal:
        chosen[max(normal, key=lambda i: area[i])] = "normal"
    found = {kind: Extreme(kind, cases[i].case, float(share[i])) for i, kind in chosen.items()}
    return tuple(found[kind] for kind in KINDS if kind in found)


def _lungs(references: Sequence[Reference]) -> Matrices | None:
    """Answers of the rival that calls the whole lung infected, [N, R, K]; None unless all lungs are known."""
    known = [reference.whole_lung for reference in references if reference.whole_lung is not None]
    return np.stack(known) if known and len(known) == len(references) else None


def _healthy(labels: LabelSet) -> int:
    return next(channel for channel in range(len(labels.classes)) if channel not in labels.lesion_channels)


def _rows(
    cohort: str, answers: Mapping[str, Matrices], labels: LabelSet, groups: NDArray[np.str_], seed: int, n_boot: int
) -> list[CohortRow]:
    """All answers to one cohort in one bootstrap, so that each resample is drawn once."""

    def statistic(weights: Array) -> Array:
        return np.stack(
            [m.function(matrices, labels, weights).values for matrices in answers.values() for m in MEASURES], axis=1
        )

    values = statistic(np.ones((1, len(groups))))[0]
    low, high = bootstrap(statistic, groups.tolist(), n_boot, seed)
    known = class_counts(next(iter(answers.values())), labels.lesion_channels, labels)
    n_lesion, n_empty = int(known.positive.sum()), int(known.negative.sum())
    rows = []
    for start, (answer, matrices) in zip(range(0, len(values), len(MEASURES)), answers.items(), strict=True):
        numbers = {}
        for i, measure in enumerate(MEASURES, start):
            used = measure.function(matrices, labels, np.ones((1, len(groups)))).used
            n_clusters = len(set(groups[known.positive if measure.pooled else used]))
            ends = interval_limits(low[i], high[i], n_clusters)
            numbers[measure.name] = Number(float(values[i]), *ends, int(used.sum()), n_clusters)
        rows.append(CohortRow(cohort, answer, len(groups), n_lesion, n_empty, numbers))
    return rows


def _on_lesions(matrices: Matrices, labels: LabelSet) -> Array:
    """Dice [N] of the images whose reference holds a lesion, NaN for others."""
    counts = class_counts(matrices, labels.lesion_channels, labels)
    return np.where(counts.positive, METRICS["dice"](counts), np.nan)


def _pooled_difference(
    ours: Matrices, theirs: Matrices, labels: LabelSet, groups: NDArray[np.str_], seed: int, n_boot: int
) -> Number:
    pooled = SCORES["any_lesion_dice_pooled"].function

    def difference(weights: Array) -> Array:
        return pooled(ours, labels, weights).values - pooled(theirs, labels, weights).values

    low, high = bootstrap(difference, groups.tolist(), n_boot, seed)
    positive = class_counts(ours, labels.lesion_channels, labels).positive
    n_clusters = len(set(groups[positive]))
    value = float(difference(np.ones((1, len(groups))))[0])
    return Number(value, *interval_limits(low, high, n_clusters), len(groups), n_clusters)


def _with_interval(value: float, low: float, high: float, turned: bool) -> str:
    """turned: of the difference the other way round."""
    if turned:
        value, low, high = -value, -high, -low
    interval = "no interval" if np.isnan(low) else f"95 % interval {low:.3f} to {high:.3f}"
    return f"{value:.3f} ({interval})"
