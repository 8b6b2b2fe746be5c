"""Chest CT of patients who never were: `phantom:N[:seed]` is N drawn patients with lesions whose area is known.

Everything follows from (seed, patient, slice): with the same NumPy, SciPy and Pillow the same location gives the same
bytes. Neither files nor patients' data are needed to try a training, test a change or show the program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, spatial

from groundglass.case import Case, Decoded, Geometry, Unit
from groundglass.data import anatomy
from groundglass.data.chest import AIR, paint
from groundglass.data.dataset import Dataset, Format
from groundglass.errors import DataError
from groundglass.labels import BY_NAME

FIELD_MM = 358.4
SIZE = 256  # pixels of 1.4 mm
SLICES = 6
TEST_PATIENTS = 2
SPECK_MM2 = 50.0  # a round spot of 8 mm: what is smaller, readers rarely outline
MOST_PATIENTS = 10_000
CLASSES = ("background", "ground-glass", "consolidation", "lung")

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The random streams of a patient; `anatomy.patient` has number 0.
_FINDINGS, _SLICE, _SEVERITY, _SHAPE = 1, 2, 3, 4
# Bends of the whole body that make one patient unlike another: (size in mm, width of a bend in mm).
_BENDS = ((13.0, 75.0), (5.5, 38.0))


@dataclass(frozen=True)
class PhantomSlice:
    """One drawn slice.

    hu: [H, W] float32 Hounsfield units; labels: [H, W] uint8 canonical values; lung: [H, W] bool, lesions included;
    area_mm2: the area of each lesion class, by name; 0 where the slice has none.
    """

    hu: Floats
    labels: NDArray[np.uint8]
    lung: Mask
    area_mm2: dict[str, float]


@dataclass(frozen=True)
class Lesion:
    """A patch of ground-glass under the pleura, with or without a dense core. Lengths in mm.

    angle: place around the chest as in `anatomy.around`; level and reach: middle and half-height along the body;
    depth: how far its middle lies under the pleura; along, across: half-axes; core: size of the consolidation
    relative to the patch, 0 for none.
    """

    angle: float
    level: float
    reach: float
    depth: float
    along: float
    across: float
    hu: float
    paving: bool
    core: float


# --- the data set --------------------------------------------------------------------------------------------------


def open(location: str) -> Dataset:
    """The drawn data set at `phantom:N` or `phantom:N:seed`: `N` labelled patients and two to predict, lazily.

    Raises `DataError` when the location has another form or `N` is not in 1..10000.
    """
    count, seed = numbers(location, "phantom", "patients")
    labelled = [_case(seed, number, k, labelled=True) for number in range(1, count + 1) for k in range(SLICES)]
    blind = [
        _case(seed, number, k, labelled=False)
        for number in range(count + 1, count + 1 + TEST_PATIENTS)
        for k in range(SLICES)
    ]
    return Dataset(location, "phantom", tuple(labelled), tuple(blind), CLASSES, Unit.HU, "given")


def numbers(location: str, name: str, what: str) -> tuple[int, int]:
    """N and seed (0 by default) of a location `name:N` or `name:N:seed`; `what` is counted, for the message.

    Raises `DataError` when the location has another form or `N` is not in 1..10000.
    """
    match = re.fullmatch(rf"{name}:([0-9]{{1,9}})(?::([0-9]{{1,18}}))?", location)
    count = int(match[1]) if match else 0
    if match is None or not 1 <= count <= MOST_PATIENTS:
        form = f"{name}:N or {name}:N:seed, N {what} from 1 to {MOST_PATIENTS}"
        raise DataError(f"{location}: not a phantom location; write {form}")
    return count, int(match[2] or 0)


def recognise(folder: Path) -> bool:
    """False: a phantom lies in no folder; its location begins with `phantom:`."""
    return False


FORMAT = Format("phantom", "chest CT drawn by the program: phantom:N[:seed], N patients", recognise, open)


def _case(seed: int, number: int, index: int, labelled: bool) -> Case:
    patient = f"phantom-{number:03d}"
    return Case(
        id=f"{patient}/slice-{index}",
        source="phantom" if labelled else "test",
        file=f"{patient}/slice-{index}",
        shape=(SIZE, SIZE),
        unit=Unit.HU,
        load_image=partial(_image, seed, number, index),
        load_labels=partial(_labels, seed, number, index) if labelled else None,
        load_lung=partial(_lung, seed, number, index) if labelled else None,
        patient=patient,
        geometry=Geometry(spacing_mm=(FIELD_MM / SIZE, FIELD_MM / SIZE)),
    )


def _image(seed: int, number: int, index: int) -> Floats:
    return _drawn(seed, number, index).hu


def _labels(seed: int, number: int, index: int) -> Decoded:
    return Decoded(_drawn(seed, number, index).labels)


def _lung(seed: int, number: int, index: int) -> Mask:
    return _drawn(seed, number, index).lung


@lru_cache(maxsize=256)  # about 100 MB
def _drawn(seed: int, number: int, index: int) -> PhantomSlice:
    """A slice drawn once for image, labels and lung; its arrays are shared, so they cannot be written to."""
    drawn = draw(seed, number, index)
    for array in (drawn.hu, drawn.labels, drawn.lung):
        array.setflags(write=False)
    return drawn


# --- one slice -----------------------------------------------------------------------------------------------------


def draw(seed: int, patient: int, slice_index: int, size: int = SIZE) -> PhantomSlice:
    """Draw slice `slice_index` (0 near the apex .. 5 at the base) of a patient on [size, size] pixels over 358.4 mm.

    Row 0 is anterior and the patient's left is on the right of the picture. Of every four patients in a row (1-4,
    5-8, ...) one is healthy, and the others are mildly, moderately and severely ill, in drawn order.
    Raises `DataError` for a slice that is not there.
    """
    if not 0 <= slice_index < SLICES:
        raise DataError(f"phantom slice {slice_index}: a phantom patient has slices 0 to {SLICES - 1}")
    who = anatomy.patient(seed, patient)
    rng = np.random.default_rng([seed, patient, _SLICE, slice_index])
    level = 0.07 + 0.165 * slice_index + who.level_shift
    pixel_mm = FIELD_MM / size
    chest = paint(who, level, size, FIELD_MM)
    lung = chest.lung > 0.5

    air = _parenchyma(rng, who, size)
    ground, ground_hu, core = _lesions(rng, who, findings(seed, patient), level, size)
    labels = np.where(lung, BY_NAME["lung"].value, BY_NAME["background"].value).astype(np.uint8)
    labels[lung & (ground > 0)] = BY_NAME["ground-glass"].value
    labels[lung & (core > 0)] = BY_NAME["consolidation"].value

    # Edges are soft, and half way where the label ends.
    veil = np.clip(0.5 + ground / 0.44, 0, 1)
    air += veil * (ground_hu - air)
    air += chest.fissures * 260
    air += chest.vessels * (who.blood_hu - air)
    air += chest.airways * (AIR + 30 - air)
    solid = np.clip(0.5 + core / 0.22, 0, 1)
    filled = 24 + 16 * _clouds(rng, size, 9) - 850 * chest.bronchi
    air += solid * (filled - air)

    bend = _bend(seed, patient, size)
    labels = ndimage.map_coordinates(labels, np.rint(bend), order=0, mode="nearest")
    inside, true = (
        np.asarray(ndimage.map_coordinates(x, bend, order=1, mode="nearest"), np.float32)
        for x in (chest.lung, chest.tissue + chest.lung * air)
    )
    lung = (inside > 0.5) | (labels != BY_NAME["background"].value)
    labels[lung & (labels == BY_NAME["background"].value)] = BY_NAME["lung"].value
    hu = _scan(rng, who, level, true, inside, size)
    area = {
        name: pixel_mm * pixel_mm * int(np.count_nonzero(labels == BY_NAME[name].value))
        for name in ("ground-glass", "consolidation")
    }
    return PhantomSlice(hu, labels, lung, area)


def _bend(seed: int, patient: int, size: int) -> NDArray[np.float64]:
    """Where each pixel of a patient's slices is taken from, [2, H, W] rows and columns: no two bodies are alike, and
    the levels of one are bent alike."""
    rng = np.random.default_rng([seed, patient, _SHAPE])
    places = np.indices((size, size)).astype(float)
    for extent, width in _BENDS:
        coarse = int(FIELD_MM / width) + 2
        for axis in places:
            lumps = Image.fromarray(rng.standard_normal((coarse, coarse), np.float32))
            axis += np.asarray(lumps.resize((size, size), Image.Resampling.BICUBIC)) * (extent * size / FIELD_MM)
    return places


def findings(seed: int, patient: int) -> tuple[Lesion, ...]:
    """The lesions of a patient: under the pleura, mostly behind and below, as COVID-19 pneumonia prefers."""
    block, place = divmod(patient - 1, 4)
    severity = int(np.random.default_rng([seed, block, _SEVERITY]).permutation(4)[place])
    rng = np.random.default_rng([seed, patient, _FINDINGS])
    fewest, most, smallest, largest, dense = _SEVERITIES[severity]
    lesions = []
    for _ in range(int(rng.integers(fewest, most + 1))):
        along = rng.uniform(smallest, largest)
        across = along * rng.uniform(0.4, 0.75)
        lesions.append(
            Lesion(
                angle=float(rng.choice((-1, 1))) * (0.12 + 0.85 * rng.beta(1.3, 2.6)) * np.pi,
                level=0.10 + 0.80 * rng.beta(2.2, 1.4),
                reach=rng.uniform(0.07, 0.12) + 0.0035 * along,
                depth=across * rng.uniform(0.15, 1.1),
                along=along,
                across=across,
                hu=rng.uniform(-660, -440),
                paving=bool(rng.random() < 0.3),
                core=rng.uniform(0.35, 0.75) if rng.random() < dense else 0.0,
            )
        )
    return tuple(lesions)


# Fewest and most patches, smallest and largest half-length (mm), and how often a patch has a dense core.
_SEVERITIES = ((0, 0, 0.0, 0.0, 0.0), (4, 7, 9.0, 18.0, 0.15), (8, 13, 12.0, 26.0, 0.35), (14, 22, 16.0, 38.0, 0.55))


def _lesions(
    rng: np.random.Generator, who: anatomy.Patient, lesions: tuple[Lesion, ...], level: float, size: int
) -> tuple[Floats, Floats, Floats]:
    """Lesions at a level: a field [H, W] that is positive in ground-glass, its HU, and a field for consolidation."""
    ground = np.full((size, size), -9, np.float32)
    core = ground.copy()
    hu = np.full((size, size), -560, np.float32)
    near = [(one, abs(level - one.level) / one.reach) for one in lesions]
    near = [(one, away) for one, away in near if away < 1]
    if not near:
        return ground, hu, core
    axis = ((np.arange(size) + 0.5) * (FIELD_MM / size) - FIELD_MM / 2).astype(np.float32)
    x = np.cos(who.roll) * axis[None, :] + np.sin(who.roll) * axis[:, None]
    y = np.cos(who.roll) * axis[:, None] - np.sin(who.roll) * axis[None, :]
    ragged = 0.24 * _clouds(rng, size, 22) + 0.16 * _clouds(rng, size, 7)
    paved = np.zeros((size, size), bool)
    for one, away in near:
        points, normals = anatomy.wall(who, level, np.array([one.angle]))
        (nx, ny), (px, py) = normals[0], points[0] - one.depth * normals[0]
        inward, along = (x - px) * nx + (y - py) * ny, (y - py) * nx - (x - px) * ny
        shrink = np.sqrt(1 - away**2)
        radius = np.hypot(along / one.along, inward / one.across) / shrink
        field = (1 - radius + ragged).astype(np.float32)
        denser = field > ground
        hu[denser] = one.hu
        paved[denser] = one.paving
        ground = np.maximum(ground, field)
        if one.core:
            # The core lies towards the pleura and never outgrows its patch.
            off = np.hypot(along / one.along, (inward - 0.3 * one.across) / one.across) / (shrink * one.core)
            core = np.maximum(core, np.minimum(1 - off + 1.5 * ragged, field + 0.1).astype(np.float32))
    paved &= ground > -0.3
    hu[paved] += 170 * _paving(rng, np.argwhere(paved) * np.float64(FIELD_MM / size)) - 40
    return _without_specks(ground), hu + 45 * _clouds(rng, size, 8), _without_specks(core)


def _without_specks(field: Floats) -> Floats:
    """Lower islands smaller than `SPECK_MM2` out of sight: too small to be marked, or to reach their own HU."""
    islands, _ = ndimage.label(field > 0)
    area_mm2 = np.bincount(islands.ravel()) * (FIELD_MM / len(field)) ** 2
    return np.where((area_mm2 < SPECK_MM2)[islands], np.float32(-1), field)


def _paving(rng: np.random.Generator, places_mm: NDArray[np.float64]) -> Floats:
    """Thickened septa between secondary lobules, the borders of Voronoi cells: 0..1 at each of `places_mm` [N, 2]."""
    lobule = 8.0
    corners = np.mgrid[0:FIELD_MM:lobule, 0:FIELD_MM:lobule].reshape(2, -1).T
    lobules = spatial.cKDTree(corners + rng.uniform(0, lobule, corners.shape))
    nearest, second = lobules.query(places_mm, k=2)[0].T
    septa: Floats = np.clip(1.4 - (second - nearest) / 1.3, 0, 1).astype(np.float32)
    return septa


def _clouds(rng: np.random.Generator, size: int, scale_mm: float) -> Floats:
    """Smooth noise [H, W] float32 of unit variance whose lumps are about `scale_mm` wide."""
    coarse = max(int(FIELD_MM / scale_mm), 2)
    lumps = Image.fromarray(rng.standard_normal((coarse, coarse), np.float32))
    return np.asarray(lumps.resize((size, size), Image.Resampling.BICUBIC)) * np.float32(1.4)


def _parenchyma(rng: np.random.Generator, who: anatomy.Patient, size: int) -> Floats:
    """Healthy lung [H, W] HU: denser towards the back, where a lying patient's blood settles, and finely mottled."""
    slope = np.linspace(-60, 60, size, dtype=np.float32)[:, None]
    return who.lung_hu + slope + 9 * _clouds(rng, size, 30) + 14 * _clouds(rng, size, 3.2)


def _scan(
    rng: np.random.Generator, who: anatomy.Patient, level: float, true: Floats, lung: Floats, size: int
) -> Floats:
    """What the scanner makes of it: blur, noise stronger deep in the body, streaks between the shoulders."""
    body = ((true > -400) | (lung > 0.5)).astype(np.float32)
    texture = 7 * _clouds(rng, size, 5)
    blurred = ndimage.gaussian_filter(true + texture * (body - lung), 0.62 * size / SIZE)
    deep = np.asarray(
        Image.fromarray(ndimage.uniform_filter(body[::4, ::4], size // 14)).resize(
            (size, size), Image.Resampling.BILINEAR
        )
    )
    white = rng.standard_normal((size, size), np.float32)
    noise = 1.9 * ndimage.gaussian_filter(white, 0.5) * (0.35 + 0.65 * deep)
    shoulders = max(0.0, 1 - level / 0.2)
    if shoulders:
        streaks = ndimage.gaussian_filter(rng.standard_normal((size, size), np.float32), (0.5, size / 10))
        noise += shoulders * 5.0 * streaks * deep
    hu: Floats = np.clip(np.rint(blurred + who.noise_hu * noise), -1024, 3071).astype(np.float32)
    if who.circular_field:
        axis = np.arange(size) - (size - 1) / 2
        hu[np.hypot(axis[:, None], axis[None, :]) > size / 2] = -1024
    return hu
