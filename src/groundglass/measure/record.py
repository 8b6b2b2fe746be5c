"""What one evaluation measured, case by case, in one file: `measured.json`, which a comparison reads.

A record holds counts and distances, no pictures and no patient's name: clusters of cases (patients, volumes, near
duplicates) are numbers in order of appearance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from groundglass.errors import DataError, RunError
from groundglass.files import finite, write_text
from groundglass.labels import BY_NAME, LABEL_SETS, LabelSet
from groundglass.measure.counts import CaseCounts, Counts, class_counts, membership
from groundglass.measure.metrics import METRICS
from groundglass.measure.protocols import INF_NET, ProtocolResult
from groundglass.measure.summary import ANY_LESION

Array = NDArray[np.float64]

FILE = "measured.json"
FORMAT_VERSION = 1
# Of the rule for empty masks in `metrics` and `boundary`: numbers of two rules cannot be compared.
EMPTY_RULE = 1


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Conventions(_Stored):
    """How distances and areas were taken. unit: of distances, `mm` where every case has a spacing, else `px`;
    tolerances: of the surface Dice, in that unit, by class."""

    empty_rule: int = EMPTY_RULE
    unit: Literal["mm", "px"]
    tolerances: dict[str, float]

    @property
    def area_unit(self) -> str:
        return "mm²" if self.unit == "mm" else "px"


class Extent(_Stored):
    """Outline and size of one class in one case. hd95, surface_dice: None where both masks are empty; reference,
    predicted: areas."""

    hd95: float | None
    surface_dice: float | None
    reference: float
    predicted: float


class MeasuredCase(_Stored):
    """confusion: [R][K], rows the codes of the reference, columns the predicted channels, see `counts.confusion`;
    extents: by class, without those of which only a part of the reference is known."""

    case: str
    source: str
    cluster: int
    confusion: tuple[tuple[int, ...], ...]
    extents: dict[str, Extent]


class ProtocolNumbers(_Stored):
    """What a published protocol says of one class; see `protocols.ProtocolResult`. n, n_dropped: of images, or of
    volumes where the protocol scores whole ones; n_partly_known: as many left out since only a part of their reference
    is known."""

    name: str
    source: str
    label: str
    numbers: dict[str, float | None]
    n: int
    n_dropped: int
    n_partly_known: int
    settings: dict[str, str | float | bool]


class Cost(_Stored):
    """What an answer costs. None: not known, as for masks of another tool.

    networks: how many answer for one image (their mean is taken); parameters, gflops: of one of them, gflops for one
    forward pass of one image on the square of `side` pixels (a multiplication and an addition are two).
    seconds_per_epoch: median over the epochs of all runs; seconds_per_image: median of this evaluation, from the image
    in memory to the decided classes; threads: of that. peak_memory_mb: the most memory that the whole process
    ever held (peak RSS). device: the kind of processor.
    """

    networks: int | None = None
    parameters: int | None = None
    gflops: float | None = None
    side: int | None = None
    seconds_per_epoch: float | None = None
    seconds_per_image: float | None = None
    threads: int | None = None
    peak_memory_mb: float | None = None
    device: str | None = None


class Record(_Stored):
    """One evaluation.

    name: of the recipe, or of the folder of masks. method: sha256 of the recipe without its name and seed, None for
    masks; seed: of the recipe. answers: sha256 of the weights of each run, or of the masks. classes, codes: of the
    label set. decision: `argmax` or `thresholds`, None for masks. part: as in the tables of `evaluate`.
    fingerprint: of the data.
    """

    format_version: int = FORMAT_VERSION
    kind: Literal["runs", "masks"]
    name: str
    method: str | None = None
    seed: int | None = None
    answers: tuple[str, ...]
    fingerprint: str
    part: str
    label_set: str
    classes: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]
    tta: str = "none"
    decision: str | None = None
    thresholds: tuple[dict[str, float] | None, ...] = ()
    conventions: Conventions
    cases: tuple[MeasuredCase, ...]
    protocols: tuple[ProtocolNumbers, ...] = ()
    cost: Cost = Cost()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> LabelSet:
        """The label set. Raises `RunError` unless this groundglass has one of the same name and classes."""
        known = LABEL_SETS.get(self.label_set)
        if known is None or (known.classes, known.codes) != (self.classes, self.codes):
            raise RunError(
                f"label set '{self.label_set}' of the record of '{self.name}' is not the one of this groundglass; "
                "evaluate again"
            )
        return known

    @cached_property
    def matrices(self) -> NDArray[np.int64]:
        """Confusion matrices [N, R, K] int64."""
        shape = (len(self.cases), len(self.codes), len(self.classes))
        return np.array([case.confusion for case in self.cases], np.int64).reshape(shape)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(case.case for case in self.cases)

    def counts(self, label: str) -> Counts:
        """Counts [N] of a class or of any lesion."""
        return class_counts(self.matrices, channels_of(label, self.labels), self.labels)

    def values(self, label: str, measure: str) -> Array:
        """One measure of `MEASURES` in each case, [N] float64; NaN where it is undefined, or does not count because
        the reference is known not to hold the class."""
        counts = self.counts(label)
        if measure in METRICS:
            return np.where(counts.positive, METRICS[measure](counts), np.nan)
        extents = [case.extents.get(label) for case in self.cases]
        if measure == "area_error":
            return np.array([np.nan if e is None else abs(e.predicted - e.reference) for e in extents])
        found = [None if e is None else getattr(e, measure) for e in extents]
        values = np.array([np.nan if value is None else value for value in found], np.float64)
        return np.where(counts.positive, values, np.nan)

    def protocol(self, label: str, name: str = INF_NET.name) -> ProtocolNumbers | None:
        """What the protocol called `name` says of a class; None where it was not asked."""
        return next((found for found in self.protocols if (found.label, found.name) == (label, name)), None)


@dataclass(frozen=True)
class Measure:
    """A measure of one class in one case. positives: whether only cases count whose reference holds the class."""

    name: str
    heading: str
    higher_is_better: bool = True
    positives: bool = True


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            Measure("dice", "Dice"),
            Measure("precision", "precision"),
            Measure("recall", "recall"),
            Measure("iou", "IoU"),
            Measure("hd95", "HD95", higher_is_better=False),
            Measure("surface_dice", "surface Dice"),
            Measure("area_error", "area error", higher_is_better=False, positives=False),
        )
    }
)


def measured_labels(labels: LabelSet) -> tuple[str, ...]:
    """What distances are taken of: any lesion, and every class but background; a lone lesion class is any lesion."""
    lesions = labels.lesions if len(labels.lesions) > 1 else ()
    others = [name for name in labels.classes if not BY_NAME[name].lesion and name != "background"]
    return (*([ANY_LESION] if labels.lesions else []), *lesions, *others)


def main_label(labels: LabelSet) -> str:
    """What a label set is foremost scored by: any lesion, or its first class where it knows no lesion."""
    return ANY_LESION if labels.lesions else labels.targets[0]


def shown_labels(labels: LabelSet) -> tuple[str, ...]:
    """What a reader sees first: the lesions and any lesion, or the other classes where the set knows no lesion."""
    return (*labels.targets, ANY_LESION) if labels.lesions else labels.targets


def channels_of(label: str, labels: LabelSet) -> tuple[int, ...]:
    """Channels of a class or of any lesion."""
    return labels.lesion_channels if label == ANY_LESION else (labels.classes.index(label),)


def merged(record: Record) -> Record:
    """The same evaluation with all findings merged into one, in label set `lesion`: only any lesion is left.

    Raises `RunError` where the label set knows no finding."""
    labels, target = record.labels, LABEL_SETS["lesion"]
    if not labels.lesions:
        raise RunError(f"--merge lesion: label set '{labels.name}' of '{record.name}' knows no lesion to merge")
    inside, outside = membership(labels.lesion_channels, labels)
    # Rows by what is known of any lesion: no, yes, and nobody knows.
    rows = np.stack([outside, inside, ~(inside | outside)]).astype(np.int64)
    lesion = np.isin(np.arange(len(labels.classes)), labels.lesion_channels)
    columns = np.stack([~lesion, lesion]).astype(np.int64)
    matrices = rows @ record.matrices @ columns.T

    def only(extents: dict[str, Any]) -> dict[str, Any]:
        return {label: value for label, value in extents.items() if label == ANY_LESION}

    cases = tuple(
        case.model_copy(update={"confusion": tuple(map(tuple, matrix.tolist())), "extents": only(case.extents)})
        for case, matrix in zip(record.cases, matrices, strict=True)
    )
    conventions = record.conventions.model_copy(update={"tolerances": only(record.conventions.tolerances)})
    return Record.model_validate(
        record.model_dump()
        | {
            "label_set": target.name,
            "classes": target.classes,
            "codes": target.codes,
            "conventions": conventions.model_dump(),
            "cases": [case.model_dump() for case in cases],
            "protocols": [found.model_dump() for found in record.protocols if found.label == ANY_LESION],
        }
    )


def measured_case(counts: CaseCounts, cluster: int, extents: Mapping[str, Extent]) -> MeasuredCase:
    """The stored form of a measured case."""
    confusion = tuple(tuple(int(n) for n in row) for row in counts.confusion)
    return MeasuredCase(
        case=counts.case, source=counts.source, cluster=cluster, confusion=confusion, extents=dict(extents)
    )


def protocol_numbers(
    result: ProtocolResult, label: str, n_partly_known: int, settings: Mapping[str, str | float | bool] | None = None
) -> ProtocolNumbers:
    """The stored form of what a protocol says of a class. settings: more of them than the protocol's own."""
    return ProtocolNumbers(
        name=result.name,
        source=result.source,
        label=label,
        numbers={name: None if isnan(value) else value for name, value in result.numbers.items()},
        n=result.n,
        n_dropped=result.n_dropped,
        n_partly_known=n_partly_known,
        settings={**result.settings, **(settings or {})},
    )


def number_clusters(groups: Sequence[str]) -> list[int]:
    """Numbers from 1, in order of appearance, for names."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups), start=1)}
    return [numbers[name] for name in groups]


def write_record(folder: Path, record: Record) -> Path:
    """Write measured.json into `folder`. Raises `WriteError`."""
    path = folder / FILE
    write_text(path, json.dumps(finite(record.model_dump(mode="json")), ensure_ascii=False) + "\n")
    return path


def read_record(path: Path) -> Record:
    """Read a measured.json. Raises `RunError` when it is missing, damaged or of another format version."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw.get("format_version")
        if version != FORMAT_VERSION:
            raise RunError(
                f"{path}: has record format {version}; this groundglass reads {FORMAT_VERSION}; evaluate again"
            )
        record = Record.model_validate(raw)
        if not record.cases:
            raise DataError("it holds no cases")
        _ = record.matrices
    except (OSError, ValueError, AttributeError, ValidationError, DataError) as error:
        raise RunError(f"{path}: is damaged ({' '.join(str(error).split())[:120]}); evaluate again") from None
    return record
