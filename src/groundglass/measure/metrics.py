"""Metrics of counted pixels, and the named scores of the systems and benchmarks that groundglass compares itself with.

One rule for empty masks: a metric whose formula is 0/0 is undefined (NaN), leaves every mean, and is counted. So is
one of a class of which nobody says whether the reference holds it.
`docs/metrics.md` spells out what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import RecipeError, nearest
from groundglass.labels import LabelSet
from groundglass.measure.counts import CaseCounts, Counts, class_counts, stack

Array = NDArray[np.float64]


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, float64; NaN where the denominator is 0."""
    result = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result


def dice(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """Dice coefficient, which is the F1 of pixels (Dice 1945). Undefined when reference and prediction are empty."""
    return ratio(2 * tp, 2 * tp + fp + fn)


def iou(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """Intersection over union (Jaccard 1912). Undefined when reference and prediction are empty."""
    return ratio(tp, tp + fp + fn)


def precision(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """Share of the predicted pixels that are right. Undefined when the prediction is empty."""
    return ratio(tp, tp + fp)


def recall(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """Share of the reference that is found (sensitivity). Undefined when the reference is empty."""
    return ratio(tp, tp + fn)


def specificity(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """Share of the pixels outside the reference that are left alone. Undefined when the reference fills the image."""
    return ratio(tn, tn + fp)


def accuracy(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """Share of all pixels on whose membership of the class both agree; near 1 for any small class."""
    return ratio(tp + tn, tp + fp + fn + tn)


@dataclass(frozen=True)
class Metric:
    """One metric of counts. `function(tp, fp, fn, tn)`: arrays [...] -> [...] float64, NaN where it is 0/0.

    Called with `Counts`, it is undefined too where nobody says whether the reference holds the class: there a false
    alarm cannot be told from a find.
    """

    name: str
    function: Callable[[Array, Array, Array, Array], Array]
    description: str
    formula: str

    def __call__(self, counts: Counts) -> Array:
        values = self.function(counts.tp, counts.fp, counts.fn, counts.tn)
        return np.where(counts.undecided, np.nan, values)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("dice", dice, "overlap, the F1 of pixels", "2 tp / (2 tp + fp + fn)"),
            Metric("iou", iou, "intersection over union", "tp / (tp + fp + fn)"),
            Metric("precision", precision, "share of the predicted pixels that are right", "tp / (tp + fp)"),
            Metric("recall", recall, "share of the reference that is found (sensitivity)", "tp / (tp + fn)"),
            Metric("specificity", specificity, "share of the rest that is left alone", "tn / (tn + fp)"),
            Metric("accuracy", accuracy, "share of pixels right, class or not", "(tp + tn) / all pixels"),
        )
    }
)


def weighted_mean(values: Array, weights: Array, share: Array | float = 1.0) -> Array:
    """Means [B] or [B, R] of the defined `values` [N] or [N, R] under `weights` [B, N]; NaN where none is defined.

    share: further weights of the shape of `values`, such as one over the number of images of a patient.
    """
    defined = np.isfinite(values)
    return ratio(weights @ (np.where(defined, values, 0.0) * share), weights @ (defined * share))


# ---- named scores ----------------------------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """A score under B sets of weights: values [B] float64, and the cases [N] bool that took part in it."""

    values: Array
    used: NDArray[np.bool_]


ScoreFunction = Callable[[NDArray[np.int64], LabelSet, Array], Estimate]
"""(confusion matrices [N, R, K], label set, weights of the cases [B, N]) -> Estimate. Weights of 1: the plain score."""

_KAGGLE = ("ground-glass", "consolidation")
_FOUR = ("background", "ground-glass", "consolidation", "lung")


def kaggle_pooled(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """F1 from tp, fp, fn summed over all images, for ground-glass and consolidation, then their mean (system 001)."""
    return _pooled("dice", confusion, labels, _channels(labels, _KAGGLE), weights)


def kaggle_per_image(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """F1 of ground-glass and of consolidation in each image; mean over the classes of an image, then over images (002).

    A class that is empty in reference and prediction leaves its image's mean (scikit-learn's macro F1 with
    zero_division=nan); an image with neither class leaves the mean over images.
    """
    return _per_image(_by_class("dice", confusion, labels, _channels(labels, _KAGGLE)), weights)


def kaggle_per_image_empty1(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """As `kaggle_per_image`, but a class that is empty in reference and prediction counts as 1."""
    return _per_image(_empty_is_one("dice", confusion, labels, _channels(labels, _KAGGLE)), weights)


def pixel_accuracy(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """Share of all pixels of all images whose class is right (000); of partly known pixels, none count."""
    known = confusion[:, : len(labels.classes)]
    total = _weighted_sum(known, weights)
    values = ratio(np.trace(total, axis1=-2, axis2=-1), total.sum(axis=(-2, -1)))
    return Estimate(values, np.asarray(known.any(axis=(1, 2))))


def miou_2(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """IoU pooled over all pixels of all images, mean of ground-glass and consolidation (000 by its text)."""
    return _pooled("iou", confusion, labels, _channels(labels, _KAGGLE), weights)


def miou_4(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """IoU pooled over all pixels of all images, mean of the four classes (000 by the ancestry of its code)."""
    return _pooled("iou", confusion, labels, _channels(labels, _FOUR), weights)


def any_lesion_dice(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """Dice of all lesion classes merged, mean over the images whose reference holds a lesion."""
    counts = class_counts(confusion, labels.lesion_channels, labels)
    return _per_image(np.where(counts.positive, METRICS["dice"](counts), np.nan)[:, None], weights)


def any_lesion_dice_pooled(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """Dice of all lesion classes merged, from tp, fp, fn summed over all images."""
    return _pooled("dice", confusion, labels, [labels.lesion_channels], weights)


def any_lesion_dice_empty1(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """Dice of all lesion classes merged, mean over all images; 1 where reference and prediction are empty (003)."""
    return _per_image(_empty_is_one("dice", confusion, labels, [labels.lesion_channels]), weights)


def any_lesion_iou_empty1(confusion: NDArray[np.int64], labels: LabelSet, weights: Array) -> Estimate:
    """IoU of all lesion classes merged, mean over all images; 1 where reference and prediction are empty (003)."""
    return _per_image(_empty_is_one("iou", confusion, labels, [labels.lesion_channels]), weights)


def _channels(labels: LabelSet, names: Sequence[str]) -> list[tuple[int, ...]]:
    return [(labels.classes.index(name),) for name in names]


def _weighted_sum(confusion: NDArray[np.int64], weights: Array) -> Array:
    """[N, R, K] under [B, N] -> [B, R, K]."""
    return np.tensordot(weights, confusion.astype(np.float64), axes=1)


def _pooled(
    metric: str, confusion: NDArray[np.int64], labels: LabelSet, groups: Sequence[Sequence[int]], weights: Array
) -> Estimate:
    """A class that nobody marked makes the whole score NaN: a mean of fewer classes would be another score."""
    values = _by_class(metric, _weighted_sum(confusion, weights), labels, groups).mean(axis=1)
    return Estimate(values, np.ones(len(confusion), np.bool_))


def _per_image(values: Array, weights: Array) -> Estimate:
    """values [N, C]: mean of what is defined over the classes of an image, then over images."""
    defined = np.isfinite(values)
    image = ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
    return Estimate(weighted_mean(image, weights), np.isfinite(image))


def _by_class(
    metric: str, confusion: NDArray[np.int64] | Array, labels: LabelSet, groups: Sequence[Sequence[int]]
) -> Array:
    """A metric of G classes, each a group of channels, from each of N confusion matrices, [N, G]."""
    return np.stack([METRICS[metric](class_counts(confusion, group, labels)) for group in groups], axis=1)


def _empty_is_one(
    metric: str, confusion: NDArray[np.int64], labels: LabelSet, groups: Sequence[Sequence[int]]
) -> Array:
    """As `_by_class`, with 1 where reference and prediction are empty; still NaN where nobody knows the reference."""
    values = _by_class(metric, confusion, labels, groups)
    undecided = np.stack([class_counts(confusion, group, labels).undecided for group in groups], axis=1)
    return np.where(np.isnan(values) & ~undecided, 1.0, values)


@dataclass(frozen=True)
class Score:
    """A named score. It applies to label sets that hold all classes of `needs` and, if `lesion`, any finding.

    pooled: made of its classes' counts summed over all images, so that the images that hold the rarest decide it.
    """

    name: str
    function: ScoreFunction
    description: str
    needs: tuple[str, ...] = ()
    lesion: bool = False
    pooled: bool = False

    def applies(self, labels: LabelSet) -> bool:
        return set(self.needs) <= set(labels.classes) and (bool(labels.lesions) or not self.lesion)


SCORES: Mapping[str, Score] = MappingProxyType(
    {
        score.name: score
        for score in (
            Score(
                "kaggle_pooled",
                kaggle_pooled,
                "F1 of pooled pixels, mean of ground-glass and consolidation",
                _KAGGLE,
                pooled=True,
            ),
            Score(
                "kaggle_per_image",
                kaggle_per_image,
                "F1 per class and image, mean over classes, then images; both empty: left out",
                _KAGGLE,
            ),
            Score("kaggle_per_image_empty1", kaggle_per_image_empty1, "the same; both empty: counts as 1", _KAGGLE),
            Score("pixel_accuracy", pixel_accuracy, "share of all pixels whose class is right"),
            Score("miou_2", miou_2, "pooled IoU, mean of ground-glass and consolidation", _KAGGLE, pooled=True),
            Score(
                "miou_4",
                miou_4,
                "pooled IoU, mean of background, ground-glass, consolidation and lung",
                _FOUR,
                pooled=True,
            ),
            Score(
                "any_lesion_dice", any_lesion_dice, "Dice of all lesions merged, mean of positive images", lesion=True
            ),
            Score(
                "any_lesion_dice_pooled",
                any_lesion_dice_pooled,
                "Dice of all lesions merged, pooled",
                lesion=True,
                pooled=True,
            ),
            Score(
                "any_lesion_dice_empty1",
                any_lesion_dice_empty1,
                "Dice of all lesions merged, mean of all images; both empty: counts as 1",
                lesion=True,
            ),
            Score(
                "any_lesion_iou_empty1",
                any_lesion_iou_empty1,
                "IoU of all lesions merged, mean of all images; both empty: counts as 1",
                lesion=True,
            ),
        )
    }
)


def applicable(labels: LabelSet) -> tuple[Score, ...]:
    """The named scores that exist for a label set, in the order of `SCORES`; the others are absent, never NaN."""
    return tuple(score for score in SCORES.values() if score.applies(labels))


def score(name: str, cases: Sequence[CaseCounts], labels: LabelSet) -> float:
    """The named score of these cases; NaN where its formula is 0/0.

    Raises `RecipeError` when there is no such score or it does not apply to the label set, `DataError` without cases.
    """
    if name not in SCORES:
        raise RecipeError(f"unknown score '{name}'; {nearest(name, SCORES)}")
    if not SCORES[name].applies(labels):
        options = [known.name for known in applicable(labels)]
        raise RecipeError(f"score '{name}' needs classes that label set '{labels.name}' lacks; {nearest('', options)}")
    matrices = stack(cases)
    return float(SCORES[name].function(matrices, labels, np.ones((1, len(cases)))).values[0])
