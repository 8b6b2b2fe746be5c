"""From answers to what is measured of them: counts, outlines, sizes, protocols. Runs and masks both go this way."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, prod
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.data.twins import join
from groundglass.labels import BY_NAME, LabelSet
from groundglass.measure.boundary import boundary
from groundglass.measure.cohorts import Reference, whole_lung
from groundglass.measure.counts import CaseCounts, confusion, count, membership
from groundglass.measure.protocols import LESION_TOLERANCE_MM, LUNG_TOLERANCE_MM, InfNet
from groundglass.measure.record import (
    Conventions,
    Extent,
    MeasuredCase,
    ProtocolNumbers,
    channels_of,
    measured_case,
    measured_labels,
    number_clusters,
    protocol_numbers,
)
from groundglass.measure.summary import ANY_LESION
from groundglass.show.progress import progress
from groundglass.workflows.volumes import VolumeScores

# Tolerance of the surface Dice where nobody says how large a pixel is.
TOLERANCE_PX = 2.0


@dataclass(frozen=True)
class Answer:
    """What was said of a case: channels [H, W] uint8, probabilities [K, H, W] float32 (None for masks), and the seconds
    that it took, where they were measured."""

    case: Case
    prediction: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Measurement:
    """counts: with clusters as groups, for `summarise`; references: of the same cases, for `cohort_table`; the rest as
    `Record` stores it."""

    counts: tuple[CaseCounts, ...]
    references: tuple[Reference, ...]
    cases: tuple[MeasuredCase, ...]
    conventions: Conventions
    protocols: tuple[ProtocolNumbers, ...]
    seconds_per_image: float | None


def measure(
    answers: Iterable[Answer],
    cases: Sequence[Case],
    dataset: Dataset,
    labels: LabelSet,
    groups: Mapping[str, str],
    title: str,
) -> Measurement:
    """Measure the answers to `cases` of a data set, one at a time. groups: the cluster of each case, by id.

    Of the answers only label maps of volumes that are not complete yet are kept.
    """
    conventions = conventions_of(cases, labels)
    gauges = [_Gauge(label, labels, conventions) for label in measured_labels(labels)]
    volumes = VolumeScores(cases, dataset, labels)
    counts: list[CaseCounts] = []
    references: list[Reference] = []
    extents: list[dict[str, Extent]] = []
    seconds: list[float] = []
    with progress(title, len(cases)) as bar:
        for done, answer in enumerate(answers, start=1):
            codes = labels.encode(answer.case.labels())
            counted = count(answer.case, codes, answer.prediction, labels)
            counts.append(replace(counted, group=groups[answer.case.id]))
            references.append(_reference(answer.case, codes, labels))
            found = {gauge.label: gauge.add(answer, codes) for gauge in gauges}
            extents.append({label: extent for label, extent in found.items() if extent is not None})
            volumes.add(answer.case, codes, answer.prediction)
            seconds += [] if answer.seconds is None else [answer.seconds]
            bar(done)
    numbers = number_clusters([case.group for case in counts])
    return Measurement(
        tuple(counts),
        tuple(references),
        tuple(measured_case(*parts) for parts in zip(counts, numbers, extents, strict=True)),
        conventions,
        (*(result for gauge in gauges if (result := gauge.protocol()) is not None), *volumes.results()),
        median(seconds) if seconds else None,
    )


def _reference(case: Case, codes: NDArray[np.uint8], labels: LabelSet) -> Reference:
    """What the reader of a case says besides its codes, as far as the label set knows lesions."""
    if not labels.lesions:
        return Reference(case.cohort)
    lung = case.lung()
    inside, _ = membership(labels.lesion_channels, labels)
    return Reference(
        case.cohort,
        None if lung is None else confusion(codes, whole_lung(lung, labels), labels),
        int(ndimage.label(inside[codes])[1]),
    )


class _Gauge:
    """Measures one class, or any lesion, case by case."""

    def __init__(self, label: str, labels: LabelSet, conventions: Conventions) -> None:
        self.label = label
        self.channels = list(channels_of(label, labels))
        self.inside, self.outside = membership(self.channels, labels)
        self.in_mm, self.tolerance = conventions.unit == "mm", conventions.tolerances[label]
        lesion = label == ANY_LESION or BY_NAME[label].lesion
        self.inf_net = InfNet(drop_empty=True) if lesion else None
        self.n_partly_known = 0

    def add(self, answer: Answer, codes: NDArray[np.uint8]) -> Extent | None:
        """Outline and size of the class in one case; None where only a part of its reference is known."""
        if not (self.inside | self.outside)[codes].all():
            self.n_partly_known += 1
            return None
        truth, predicted = self.inside[codes], np.isin(answer.prediction, self.channels)
        if self.inf_net is not None:
            p = answer.probabilities
            # Sums of softmax outputs may pass 1 by a rounding.
            self.inf_net.add(predicted if p is None else np.clip(p[self.channels].sum(axis=0), 0, 1), truth)
        spacing = _spacing(answer.case) if self.in_mm else (1.0,) * truth.ndim
        surface = boundary(truth, predicted, spacing, self.tolerance)
        pixel = prod(spacing)
        hd95, dice = (None if isnan(value) else value for value in surface)
        return Extent(
            hd95=hd95, surface_dice=dice, reference=float(truth.sum()) * pixel, predicted=float(predicted.sum()) * pixel
        )

    def protocol(self) -> ProtocolNumbers | None:
        if self.inf_net is None:
            return None
        return protocol_numbers(self.inf_net.result(), self.label, self.n_partly_known)


def conventions_of(cases: Sequence[Case], labels: LabelSet) -> Conventions:
    """Millimetres where every case says how large its pixels are, with the tolerances of COVID-19-CT-Seg; else pixels.

    Tolerances of Ma et al. 2021, see `protocols`: 3 mm for findings, 1 mm for lung.
    """
    names = measured_labels(labels)
    if not all(case.geometry.spacing_mm for case in cases):
        return Conventions(unit="px", tolerances=dict.fromkeys(names, TOLERANCE_PX))
    lesions = {ANY_LESION, *labels.lesions}
    return Conventions(
        unit="mm", tolerances={name: LESION_TOLERANCE_MM if name in lesions else LUNG_TOLERANCE_MM for name in names}
    )


def _spacing(case: Case) -> tuple[float, ...]:
    """Millimetres along each axis of the case's label map."""
    return (case.geometry.spacing_mm or ())[-len(case.shape) :]


def joined_groups(dataset: Dataset, clusters: Sequence[Sequence[str]]) -> dict[str, str]:
    """The cluster of each case, by id: its group (patient, volume), one name for all groups that twins join."""
    group = {case.id: case.group for case in (*dataset.cases, *dataset.test)}
    links = [[group[case_id] for case_id in ids if case_id in group] for ids in clusters]
    together = join([*([name] for name in group.values()), *(names for names in links if names)])
    first = {name: names[0] for names in together for name in names}
    return {case_id: first[name] for case_id, name in group.items()}


def peak_memory_mb() -> float | None:
    """The most memory that this process ever held, in MB (peak RSS); None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (1e6 if sys.platform == "darwin" else 1e3)
