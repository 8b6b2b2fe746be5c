"""What only the pixels show: broken values, marks where no lesion can be, pictures that are there twice.

One pass reads every image and mask once; it also counts what there is and takes the data set's fingerprint, so that
no later step has to read everything again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case, Decoded, Unit
from groundglass.data.dataset import Dataset, Defect, unreadable
from groundglass.data.twins import Twins
from groundglass.errors import GroundglassError
from groundglass.labels import LABELS, LESION_VALUES

# Air is -1000 HU; the densest lesion-free lung is about -950, the usual limit for emphysema.
AIR_HU = -950.0
# Below this share of a lesion, stray air pixels are the rough edge of a contour.
AIR_SHARE = 0.01
# A larger part of an X-ray's infection outside its lungs shows that masks were mixed up. Of the 930 infection masks of
# COVID-QU-Ex that were measured none leaves the lungs by a pixel; laid on the lungs of another, 78 % pass this bar.
STRAY_SHARE = 0.2
PERCENTILES = (0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5)
# Percentiles come from at most this many pixels, drawn evenly from all images with a fixed seed.
_SAMPLE = 4_000_000

Visit = Callable[[Case, NDArray[np.float32] | None, Decoded | None], None]


@dataclass(frozen=True)
class Scan:
    """What a pass over all pixels found.

    pixels: labelled pixels by canonical name, shares: the same as parts of all labelled pixels.
    minimum, maximum: exact, over finite intensities; percentiles: estimated from a sample, keyed `5`, `99.5`;
    histogram: 256 equal bins of that sample, (edges [257], counts [256]).
    lesion: by id of labelled case, the share of its pixels that is lesion.
    hashes: by case id, sha256 of the float32 image pixels; fingerprint: sha256 over ids, images and labels, the same
    wherever the folder lies and in whatever order it is read. twins: near duplicates and slices of one scan, None where
    they were not searched for (`groundglass.data.album`).
    """

    n_cases: int
    n_test: int
    n_with_lesion: int
    pixels: dict[str, int]
    shares: dict[str, float]
    minimum: float | None
    maximum: float | None
    percentiles: dict[str, float]
    histogram: tuple[tuple[float, ...], tuple[int, ...]]
    lesion: dict[str, float]
    hashes: dict[str, str]
    fingerprint: str
    defects: tuple[Defect, ...]
    twins: Twins | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for JSON."""
        return asdict(self)


def scan(
    dataset: Dataset,
    progress: Callable[[int, int], None] | None = None,
    visit: Visit | None = None,
) -> Scan:
    """Read every image and mask of `dataset` once. Memory stays bounded: one case and a sample of pixels at a time.

    `progress` is called with (cases done, all cases), `visit` with every case and what was read of it.
    Raises nothing for bad data: what cannot be read is a defect.
    Error kinds: `unreadable`, `not-a-number`, `wrong-shape`, `bad-mask-values`, `undeclared-class`,
    `mixed-up-triplet`. Warning kinds: `overlapping-classes`, `unlabelled-pixels`, `lesion-on-air`, `constant-image`,
    `exact-duplicate`.
    """
    cases = (*dataset.cases, *dataset.test)
    random = np.random.default_rng(0)
    per_case = max(16, min(4096, _SAMPLE // max(1, len(cases))))
    defects: list[Defect] = []
    samples: list[NDArray[np.float32]] = []
    counts = np.zeros(256, np.int64)
    lesion: dict[str, float] = {}
    hashes: dict[str, str] = {}
    digests: dict[str, str] = {}
    low, high = np.inf, -np.inf
    first: dict[str, Case] = {}
    for done, case in enumerate(cases, start=1):
        image, labels = _read(case, defects)
        if visit:
            visit(case, image, labels)
        if image is not None:
            hashes[case.id] = digests[case.id] = _digest(image)
            finite = image[np.isfinite(image)]
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
                samples.append(finite[random.integers(0, finite.size, per_case)])
            defects += _image_defects(case, image, finite.size)
            twin = first.setdefault(hashes[case.id], case)
            if twin is not case:
                defects.append(_duplicate(case, twin, {c.id for c in dataset.test}))
        if labels is not None:
            digests[case.id] = digests.get(case.id, "") + _digest(labels.labels)
            present = np.bincount(labels.labels.ravel(), minlength=256)
            counts += present
            lesion[case.id] = float(present[list(LESION_VALUES)].sum() / labels.labels.size)
            defects += _label_defects(case, labels, present, dataset.classes)
            if image is not None and image.shape == labels.labels.shape:
                defects += _air_defects(case, image, labels.labels)
            if case.modality == "X-ray":
                defects += _triplet_defects(case, labels.labels)
        if progress:
            progress(done, len(cases))
    total = max(1, int(counts.sum()))
    shown = [label for label in LABELS if label.name in dataset.classes or counts[label.value]]
    sample = np.concatenate(samples) if samples else np.zeros(0, np.float32)
    return Scan(
        n_cases=len(dataset.cases),
        n_test=len(dataset.test),
        n_with_lesion=sum(share > 0 for share in lesion.values()),
        pixels={label.name: int(counts[label.value]) for label in shown},
        shares={label.name: float(counts[label.value] / total) for label in shown},
        minimum=low if sample.size else None,
        maximum=high if sample.size else None,
        percentiles={f"{p:g}": float(v) for p, v in zip(PERCENTILES, _percentiles(sample), strict=False)},
        histogram=_histogram(sample, low, high),
        lesion=lesion,
        hashes=hashes,
        fingerprint=_fingerprint(digests),
        defects=tuple(defects),
    )


def _read(case: Case, defects: list[Defect]) -> tuple[NDArray[np.float32] | None, Decoded | None]:
    """Image and labels, None where missing or unreadable; every problem is added to `defects`."""
    image, labels = None, None
    try:
        image = case.image()
    except GroundglassError as error:
        defects.append(unreadable(error, case.file, case.row))
    try:
        labels = None if case.load_labels is None else case.load_labels()
    except GroundglassError as error:
        # The mask's name without the way to it, which tells of the machine.
        text = re.sub(r"^.*[/\\](?=[^/\\:]+: )", "", str(error))
        defects.append(Defect("error", "unreadable", case.file, case.row, f"mask of {case.id}: {text}"))
    for name, array in (("image", image), ("mask", None if labels is None else labels.labels)):
        if array is not None and array.shape != case.shape:
            text = f"{name} has shape {array.shape}, but {case.shape} was announced"
            defects.append(Defect("error", "wrong-shape", case.file, case.row, text))
    return image, labels


def _image_defects(case: Case, image: NDArray[np.float32], finite: int) -> list[Defect]:
    if finite < image.size:
        text = f"{image.size - finite} pixels are not a number or infinite; repair or remove the image"
        return [Defect("error", "not-a-number", case.file, case.row, text)]
    if image.min() == image.max():
        text = f"every pixel is {image.flat[0]:g}; there is nothing to see"
        return [Defect("warning", "constant-image", case.file, case.row, text)]
    return []


def _duplicate(case: Case, twin: Case, test: set[str]) -> Defect:
    if case.id in test and twin.id not in test:
        leak = "; it is to be predicted, and its answer is among the labelled images"
    elif case.group != twin.group:
        leak = f"; the groups of {case.id} and {twin.id} count as one, unless a split names rows"
    else:
        leak = ""
    return Defect("warning", "exact-duplicate", case.file, case.row, f"has the same pixels as {twin.place}{leak}")


def _label_defects(case: Case, labels: Decoded, present: NDArray[np.intp], classes: tuple[str, ...]) -> list[Defect]:
    found: list[Defect] = []

    def add(severity: Any, kind: str, text: str) -> None:
        found.append(Defect(severity, kind, case.file, case.row, text))

    if labels.bad_values:
        values = ", ".join(f"{value:g}" for value in labels.bad_values)
        add("error", "bad-mask-values", f"mask holds {values}, which is no label of this format")
    for label in LABELS:
        if present[label.value] and label.name not in classes:
            text = f"mask holds '{label.name}', but the classes are {', '.join(classes)}; name it in dataset.yaml"
            add("error", "undeclared-class", text)
    for (winner, loser), count in labels.overlaps.items():
        add("warning", "overlapping-classes", f"{count} pixels are marked as {winner} and {loser}; {winner} is taken")
    if labels.unlabelled:
        add("warning", "unlabelled-pixels", f"{labels.unlabelled} pixels have no class; background is taken")
    return found


def _air_defects(case: Case, image: NDArray[np.float32], labels: NDArray[np.uint8]) -> list[Defect]:
    """Lesion where nothing can be: below `AIR_HU`, or without Hounsfield units at the picture's darkest value."""
    lesion = np.isin(labels, LESION_VALUES)
    size = int(np.count_nonzero(lesion))
    if not size or image.min() == image.max():
        return []
    if case.unit is Unit.HU:
        air, where = image < AIR_HU, f"below {AIR_HU:g} HU"
    else:
        air, where = image <= image.min(), "at the picture's darkest value"
    share = int(np.count_nonzero(lesion & air)) / size
    if share <= AIR_SHARE:
        return []
    text = f"{share:.1%} of its lesion pixels lie on air ({where}); the mask may be shifted or another image's"
    return [Defect("warning", "lesion-on-air", case.file, case.row, text)]


def _triplet_defects(case: Case, labels: NDArray[np.uint8]) -> list[Defect]:
    """An X-ray whose infection mask is another's, as its own lungs or its cohort show."""
    lesion = np.isin(labels, LESION_VALUES)
    if not lesion.any():
        return []
    lung = case.lung()
    stray = 0.0 if lung is None else np.count_nonzero(lesion & ~lung) / np.count_nonzero(lesion)
    if case.cohort == "Normal":
        text = "the source calls it Normal, and infection is marked on it; the infection mask is another image's"
    elif stray > STRAY_SHARE:
        text = f"{stray:.0%} of its infection lies outside its lungs; one of the two masks is another image's"
    else:
        return []
    return [Defect("error", "mixed-up-triplet", case.file, case.row, text)]


def _digest(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(str(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _fingerprint(digests: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for case_id in sorted(digests):
        digest.update(f"{case_id} {digests[case_id]}\n".encode())
    return digest.hexdigest()


def _percentiles(sample: NDArray[np.float32]) -> list[float]:
    return [float(value) for value in np.percentile(sample, PERCENTILES)] if sample.size else []


def _histogram(sample: NDArray[np.float32], low: float, high: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    if not sample.size:
        return (), ()
    counts, edges = np.histogram(sample.astype(np.float64), bins=256, range=(low, high))
    return tuple(float(edge) for edge in edges), tuple(int(count) for count in counts)
