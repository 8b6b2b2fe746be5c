"""Scored slices stacked into the volumes that they are of, and protocol COVID-19-CT-Seg over these volumes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.labels import LabelSet
from groundglass.measure.counts import membership
from groundglass.measure.protocols import (
    LESION_TOLERANCE_MM,
    LUNG_TOLERANCE_MM,
    VolumeScore,
    covid_ct_seg,
    covid_ct_seg_case,
)
from groundglass.measure.record import ProtocolNumbers, protocol_numbers
from groundglass.measure.summary import ANY_LESION

Codes = NDArray[np.uint8]

_LAST_NUMBER = re.compile(r"([0-9]{1,9})$")


@dataclass(frozen=True)
class Volume:
    """Scored slices of one volume.

    ids: of their cases, from first to last; of: slices that the volume has, as far as the data set shows;
    spacing_mm: (slice, row, column), None where it is not known; gaps: whether some between the scored ones are
    missing.
    """

    name: str
    ids: tuple[str, ...]
    of: int
    spacing_mm: tuple[float, ...] | None
    gaps: bool


def find_volumes(cases: Sequence[Case], dataset: Dataset) -> tuple[list[Volume], dict[str, int]]:
    """(volumes with at least two of the scored `cases`, how many scored slices are in none, by the reason).

    A volume is a file of many slices, or what the data set names as a volume; files of one patient need not be of one
    scan.
    """
    # Where the data set says so, nobody knows which of its slices are of one volume.
    unknown = {Path(defect.file).parent for defect in dataset.defects if defect.kind == "unknown-volumes"}
    scored = {case.id for case in cases}
    members: dict[tuple[str, str, str], list[Case]] = defaultdict(list)
    outside: Counter[str] = Counter()
    for case in (*dataset.cases, *dataset.test):
        key = None if Path(case.file).parent in unknown else _volume_of(case)
        if key is not None:
            members[key].append(case)
        elif case.id in scored:
            outside["of no volume"] += 1
    volumes = []
    for everyone in members.values():
        chosen = [case for case in everyone if case.id in scored]
        if len(everyone) == 1:
            outside["of no volume"] += len(chosen)
        elif len(chosen) == 1:
            outside["alone of their volume"] += 1
        elif len({case.shape for case in chosen}) > 1:
            outside["of volumes whose slices differ in size"] += len(chosen)
        elif chosen:
            volumes.append(_volume(chosen, everyone))
    return volumes, dict(outside)


class VolumeScores:
    """Gathers the scored slices; a volume is measured, and its label maps let go, as soon as its last slice is there.

    Any lesion, and lung with the lesions in it, as the benchmark's lungs are, where the label set knows lung.
    """

    def __init__(self, cases: Sequence[Case], dataset: Dataset, labels: LabelSet) -> None:
        self.volumes, self.outside = find_volumes(cases, dataset)
        self.why_no_nsd = _why_no_nsd(self.volumes)
        lung = [labels.classes.index("lung")] if "lung" in labels.classes else []
        lesion = list(labels.lesion_channels)
        self._targets = [
            _Target(label, *membership(channels, labels), tolerance)
            for label, channels, tolerance in (
                (ANY_LESION, lesion, LESION_TOLERANCE_MM),
                ("lung", lung and [*lung, *lesion], LUNG_TOLERANCE_MM),
            )
            if channels
        ]
        self._place = {case_id: place for place, volume in enumerate(self.volumes) for case_id in volume.ids}
        self._waiting: dict[int, dict[str, tuple[Codes, Codes]]] = defaultdict(dict)
        self._scores: dict[str, list[VolumeScore]] = defaultdict(list)
        self._partly_known: Counter[str] = Counter()

    def add(self, case: Case, codes: Codes, prediction: Codes) -> None:
        """One slice: codes of its reference, as `LabelSet.encode` gives them, and predicted channels, [H, W] uint8."""
        place = self._place.get(case.id)
        if place is None:
            return
        self._waiting[place][case.id] = codes, prediction
        volume = self.volumes[place]
        if len(self._waiting[place]) == len(volume.ids):
            waiting = self._waiting.pop(place)
            self._measure([waiting[case_id] for case_id in volume.ids], None if self.why_no_nsd else volume.spacing_mm)

    def _measure(self, slices: Sequence[tuple[Codes, Codes]], spacing: tuple[float, ...] | None) -> None:
        for target in self._targets:
            known = target.inside | target.outside
            if not all(known[codes].all() for codes, _ in slices):
                self._partly_known[target.label] += 1
                continue
            # Slice by slice: an index takes eight bytes a pixel for a while.
            truth = np.stack([target.inside[codes] for codes, _ in slices])
            predicted = np.stack([target.inside[prediction] for _, prediction in slices])
            self._scores[target.label].append(covid_ct_seg_case(truth, predicted, spacing, target.tolerance_mm))

    def results(self) -> tuple[ProtocolNumbers, ...]:
        """The protocol's numbers by class; none where the slices form no volume. settings: what is not as it was
        published, in words: `partial` (volumes of which a part was scored), `nsd` (why there is none), `left_out`."""
        if not self.volumes:
            return ()
        partial = [f"{v.name} ({len(v.ids)} slices of {v.of})" for v in self.volumes if len(v.ids) < v.of]
        said = {
            "partial": "; ".join(partial),
            "nsd": self.why_no_nsd,
            "left_out": "; ".join(f"slices {why}: {n}" for why, n in self.outside.items() if n),
        }
        settings = {name: text for name, text in said.items() if text}
        found = []
        for target in self._targets:
            result = covid_ct_seg(self._scores[target.label], target.tolerance_mm)
            found.append(protocol_numbers(result, target.label, self._partly_known[target.label], settings))
        return tuple(found)


@dataclass(frozen=True)
class _Target:
    """What is measured: channels merged into one class. inside, outside: what each code says of it, see
    `counts.membership`; the first codes are the channels."""

    label: str
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    tolerance_mm: float


def _volume_of(case: Case) -> tuple[str, str, str] | None:
    """What all slices of a volume share; None where the case is a file of its own and of no named volume."""
    if len(case.shape) != 2:
        return None
    if case.row is not None:
        return case.source, case.group, case.file
    # A group without a patient is a volume, see `Case`.
    return (case.source, case.group, "") if case.patient is None else None


def _volume(scored: list[Case], everyone: list[Case]) -> Volume:
    """The volume of slices in the order of the data set, or of their rows."""
    chosen = sorted(scored, key=lambda case: case.row or 0)
    numbers = [_number(case) for case in chosen]
    spacings = {_voxel_mm(case) for case in chosen}
    first = chosen[0]
    return Volume(
        # A patient's name is for nobody to read; the ids of the slices begin with the name of their file.
        name=first.group if first.patient is None else first.id.rpartition("/")[0],
        ids=tuple(case.id for case in chosen),
        of=_count(everyone),
        spacing_mm=spacings.pop() if len(spacings) == 1 else None,
        gaps=any(a is None or b is None or b - a != 1 for a, b in pairwise(numbers)),
    )


def _count(everyone: list[Case]) -> int:
    """Slices of a volume: those in the data set, with those that are missing between them by their numbers."""
    numbers = [number for case in everyone if case.row is None and (number := _number(case)) is not None]
    if len(set(numbers)) < len(everyone):
        return len(everyone)
    return max(numbers) - min(numbers) + 1


def _number(case: Case) -> int | None:
    """The number of a slice in its volume: its row, else the one that its id ends with."""
    if case.row is not None:
        return case.row
    found = _LAST_NUMBER.search(case.id)
    return None if found is None else int(found[1])


def _voxel_mm(case: Case) -> tuple[float, ...] | None:
    """(slice, row, column) in mm; the affine of a slice of a stack knows the step to the next one."""
    spacing, affine = case.geometry.spacing_mm, case.geometry.affine
    if spacing is None or len(spacing) == 3:
        return spacing
    if affine is None or case.row is None:
        return None
    step = float(np.linalg.norm(affine[:3, 2]))
    return (step, *spacing) if 0 < step < np.inf else None


def _why_no_nsd(volumes: Sequence[Volume]) -> str:
    """Why surfaces cannot be measured, empty where they can: a mean needs the same volumes as that of the Dice."""
    for why, count in (
        (
            "the distance between slices, or the size of pixels, in mm is not known",
            [v.spacing_mm for v in volumes].count(None),
        ),
        ("slices between the scored ones are missing", [v.gaps for v in volumes].count(True)),
    ):
        if count:
            return f"undefined: {why} ({count} of {len(volumes)} volumes)"
    return ""
