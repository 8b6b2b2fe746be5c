"""Chest X-rays of people who never were: `phantom-xray:N[:seed]` is N drawn radiographs, one a person, in fixed parts.

As in COVID-QU-Ex there are two sources: `infection`, with lungs and infection, and `lung`, in which nobody looked for
infection; each is divided into Train, Val and Test. Everything follows from (seed, number), as in
`groundglass.data.phantoms`. They try the program; a score on them says nothing about patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from groundglass.case import Case, Decoded, Part, Unit
from groundglass.data.anatomy import Floats
from groundglass.data.canvas import Canvas, curve
from groundglass.data.dataset import Dataset, Format
from groundglass.data.masks import fill_lung
from groundglass.data.phantoms import numbers
from groundglass.labels import BY_NAME

FIELD_MM = 400.0
SIZE = 256
CLASSES = ("background", "lung", "lesion", "unmarked-lung")
SOLID = 0.6  # density of soft tissue, to which infection fills the lung up
# By place within a source: three in five train. The two cycles have no common factor, so each part meets each cohort.
PARTS: tuple[tuple[str, Part], ...] = (
    *(("Train", "train"), ("Train", "train"), ("Val", "validation")),
    *(("Train", "train"), ("Test", "test")),
)
COHORTS = ("COVID-19", "Normal", "COVID-19", "Non-COVID")

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

_OVERSAMPLE = 2  # shapes are drawn with hard edges on a finer grid and averaged down
# The random streams of a person.
_BODY, _SHAPE, _FINDINGS, _FILM = 1, 2, 3, 4
# Bends of the whole body that make one person unlike another: (size in mm, width of a bend in mm).
_BENDS = ((8.0, 120.0), (3.0, 50.0))
# Fewest and most opacities, smallest and largest radius in mm: mild, moderate and severe.
_SEVERITIES = ((2, 3, 12.0, 20.0), (3, 6, 20.0, 38.0), (6, 9, 35.0, 60.0))


@dataclass(frozen=True)
class Place:
    """Where a person stands in the data set. part: the folder's name, `Train`, `Val` or `Test`; side: the same as
    `Case.part`; name: of the file, without ending."""

    source: str
    part: str
    side: Part
    cohort: str
    name: str

    @property
    def id(self) -> str:
        return f"{self.source}/{self.part}/{self.cohort}/{self.name}"


@dataclass(frozen=True)
class Radiograph:
    """grey: [H, W] float32 whole numbers 0..255, dense is bright; lung: [H, W] bool, infection included;
    infection: [H, W] bool, empty where `Place.cohort` is not COVID-19."""

    grey: Grey
    lung: Mask
    infection: Mask


# --- the data set --------------------------------------------------------------------------------------------------


def place(number: int) -> Place:
    """Where person `number` (from 1) stands: odd ones have their infection marked."""
    k = (number - 1) // 2
    part, side = PARTS[k % len(PARTS)]
    source = "infection" if number % 2 else "lung"
    return Place(source, part, side, COHORTS[k % len(COHORTS)], f"phantom-{number:03d}")


def open(location: str) -> Dataset:
    """The drawn data set at `phantom-xray:N` or `phantom-xray:N:seed`, lazily. From 10 on, each part of each source
    holds somebody.

    Raises `DataError` when the location has another form or `N` is not in 1..10000.
    """
    count, seed = numbers(location, FORMAT.name, "X-rays")
    cases = tuple(_case(seed, number) for number in range(1, count + 1))
    return Dataset(location, FORMAT.name, cases, (), CLASSES if count > 1 else CLASSES[:3], Unit.PICTURE, "given")


def recognise(folder: Path) -> bool:
    """False: a phantom lies in no folder; its location begins with `phantom-xray:`."""
    return False


FORMAT = Format("phantom-xray", "chest X-rays drawn by the program: phantom-xray:N[:seed]", recognise, open)


def _case(seed: int, number: int) -> Case:
    where = place(number)
    return Case(
        id=where.id,
        source=where.source,
        file=where.id,
        shape=(SIZE, SIZE),
        unit=Unit.PICTURE,
        load_image=partial(_image, seed, number),
        load_labels=partial(_labels, seed, number),
        load_lung=partial(_lung, seed, number),
        patient=f"phantom-xray-{number:03d}",
        modality="X-ray",
        part=where.side,
        cohort=where.cohort,
    )


def _image(seed: int, number: int) -> Grey:
    return _drawn(seed, number).grey


def _labels(seed: int, number: int) -> Decoded:
    drawn, marked = _drawn(seed, number), place(number).source == "infection"
    labels = np.where(drawn.infection & marked, BY_NAME["lesion"].value, BY_NAME["background"].value).astype(np.uint8)
    fill_lung(labels, drawn.lung, "lung" if marked else "unmarked-lung")
    return Decoded(labels)


def _lung(seed: int, number: int) -> Mask:
    return _drawn(seed, number).lung


@lru_cache(maxsize=256)  # about 100 MB
def _drawn(seed: int, number: int) -> Radiograph:
    """A radiograph drawn once for image, labels and lung; its arrays are shared, so they cannot be written to."""
    drawn = draw(seed, number)
    for array in (drawn.grey, drawn.lung, drawn.infection):
        array.setflags(write=False)
    return drawn


# --- one radiograph ------------------------------------------------------------------------------------------------


def draw(seed: int, number: int, size: int = SIZE) -> Radiograph:
    """Draw person `number` (from 1) on [size, size] pixels over 400 mm, from the front: the person's left is on the
    right of the picture."""
    rng = np.random.default_rng([seed, number, _BODY])
    body = _Body(rng, size)
    lung = body.lungs()
    veil, infected = _opacities(seed, number, body, size)
    film = body.film(lung)
    film += lung * veil * (SOLID - film)

    bend = _bend(seed, number, size)
    inside, dense = (ndimage.map_coordinates(x, bend, order=1, mode="nearest") for x in (lung, film))
    infection = ndimage.map_coordinates(infected, bend, order=1, mode="nearest") > 0
    mask = np.asarray(inside > 0.5, bool)
    return Radiograph(_expose(seed, number, dense), mask, np.asarray(mask & infection, bool))


class _Body:
    """A person's frontal outlines, lengths in mm from the middle of the picture, y downwards; drawn on [H, W]."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.roll = rng.uniform(-0.06, 0.06)
        self.wide, self.tall = rng.uniform(0.82, 1.08), rng.uniform(0.82, 1.12)
        self.shift = np.array([rng.uniform(-14, 14), rng.uniform(-18, 18)])
        self.heart = rng.uniform(0.85, 1.2)
        # Outer and inner border of each lung, from the apex down: the right one stands on the left of the picture.
        self.borders = [self._border(side) for side in (-1, 1)]

    def _border(self, side: int) -> tuple[Floats, Floats]:
        outer = np.array([(52, -150), (92, -122), (120, -60), (134, 10), (141, 70), (143, 108)], float)
        inner = np.array([(40, -146), (27, -105), (30, -45), (29, 20), (34, 70 + 10 * side)], float)
        jitter = self.rng.normal(0, 5, (len(outer) + len(inner), 2))
        scale = np.array([side * self.wide, self.tall])
        return (outer + jitter[: len(outer)]) * scale, (inner + jitter[len(outer) :]) * scale

    def canvas(self) -> Canvas:
        return Canvas(self.size * _OVERSAMPLE, FIELD_MM, 0.0, self.roll)

    def drawn(self, canvas: Canvas, blur_mm: float = 0.0) -> Grey:
        """A canvas on the grid of the picture, [H, W]."""
        mean = np.asarray(canvas.image.reduce(_OVERSAMPLE))
        soft: Grey = ndimage.gaussian_filter(mean, blur_mm * self.size / FIELD_MM)
        return soft

    def at(self, side: int, down: float, out: float) -> tuple[float, float]:
        """A place in a lung: `down` from apex (0) to base (1), `out` from the inner (0) to the outer border (1)."""
        outer, inner = (
            curve(border, np.array([down * (len(border) - 1)]))[0] for border in self.borders[(side + 1) // 2]
        )
        x, y = inner + out * (outer - inner) + self.shift
        return float(x), float(y)

    def lungs(self) -> Grey:
        """The part of each pixel, 0..1, that is lung not covered by heart or diaphragm."""
        canvas = self.canvas()
        for side, (outer, inner) in zip((-1, 1), self.borders, strict=True):
            dome = (outer[-1] + inner[-1]) / 2 + np.array([side * self.rng.uniform(-6, 8), -self.rng.uniform(18, 34)])
            knots = np.concatenate([outer, dome[None], inner[::-1]]) + self.shift
            ring = np.concatenate([knots[-2:], knots, knots[:3]])
            canvas.outline(curve(ring, np.arange(2, 2 + len(knots), 0.1)), 1.0)
        self._heart(canvas, 0.0)
        return self.drawn(canvas)

    def _heart(self, canvas: Canvas, value: float) -> None:
        x, y = self.shift
        canvas.oval(x + 18, y + 42 * self.tall, 52 * self.heart, 50 * self.tall, value, tilt=0.5)
        canvas.oval(x + 16, y - 72 * self.tall, 20, 20, value)  # the arch of the aorta

    def film(self, lung: Grey) -> Grey:
        """How dense each pixel is, 0..1, without opacities."""
        rng, mm = self.rng, FIELD_MM / self.size
        deep = 1 - np.exp(-ndimage.distance_transform_edt(lung > 0.5).astype(np.float32) * mm / rng.uniform(9, 16))
        dense = self._trunk() * (SOLID + 0.05 * _clouds(rng, self.size, 90))
        heart = self.canvas()
        self._heart(heart, 1.0)
        dense += 0.10 * self.drawn(heart, 4) + self._spine() + 0.06 * np.linspace(-1, 1, self.size)[:, None]
        dense -= rng.uniform(0.33, 0.45) * deep * lung
        dense += self._bones() * (0.35 + 0.65 * lung)
        dense += lung * (self._vessels() + 0.025 * _clouds(rng, self.size, 14) + 0.02 * _clouds(rng, self.size, 6))
        return np.asarray(dense, np.float32)

    def _trunk(self) -> Grey:
        canvas, w = self.canvas(), self.wide
        neck, shoulder, waist = self.rng.uniform(40, 60), self.rng.uniform(-165, -135), self.rng.uniform(155, 180) * w
        right = [(neck, -260), (neck + 8, shoulder - 30), (130 * w, shoulder), (205, shoulder + 45), (waist, 0)]
        outline = np.array([*right, (waist + 8, 260), (-waist - 8, 260), *((-a, b) for a, b in right[::-1])])
        canvas.outline(outline + self.shift, 1.0)
        return self.drawn(canvas, 5)

    def _spine(self) -> Grey:
        """The vertebrae, and the windpipe's dark band before them."""
        bone, air, (x, y) = self.canvas(), self.canvas(), self.shift
        pitch = self.rng.uniform(21, 26)
        for level in np.arange(-230, 230, pitch):
            bone.oval(x, y + level, 17, 0.42 * pitch, 1.0)
        fork = y + self.rng.uniform(-75, -60)
        air.tube([(x, y - 240), (x + 2, y - 150), (x, fork)], 8, 1.0)
        for side in (-1, 1):
            air.tube([(x, fork), (x + side * 22, fork + 22)], 6, 1.0)
        return 0.10 * self.drawn(bone, 2) - 0.12 * self.drawn(air, 2)

    def _bones(self) -> Grey:
        """Ribs from the spine outwards and down, fainter ones before them, collar bones."""
        behind, before, (x, y), rng = self.canvas(), self.canvas(), self.shift, self.rng
        pitch, first, slope = rng.uniform(23, 31), rng.uniform(-168, -150), rng.uniform(0.15, 0.55)
        for side in (-1, 1):
            for rib in range(9):
                top = y + (first + rib * pitch) * self.tall + rng.normal(0, 2)
                reach = (95 + 62 * min(rib / 4, 1)) * self.wide
                path = [(0.12, 0.0), (0.45, -6.0), (0.8, 22 * slope), (1.0, 22 * slope + 42)]
                behind.tube([(x + side * a * reach, top + b) for a, b in path], rng.uniform(3.5, 5.5), 1.0)
                front = [(1.0, 30.0), (0.75, 62.0), (0.45, 66.0)]
                before.tube([(x + side * a * reach, top + b) for a, b in front], 5, 1.0)
            tilt = rng.uniform(-22, 4)
            path = [(18, -128), (70, -136 + tilt / 2), (120, -150 + tilt), (175, -148 + tilt)]
            behind.tube([(x + side * a, y + b * self.tall) for a, b in path], rng.uniform(5, 7), 1.5)
        return rng.uniform(0.08, 0.14) * self.drawn(behind, 1) + rng.uniform(0.02, 0.05) * self.drawn(before, 2)

    def _vessels(self) -> Grey:
        """Branches from the hilum to all sides, thinner the farther they are."""
        canvas = self.canvas()
        for side in (-1, 1):
            x, y = self.at(side, 0.5, 0.08)
            canvas.oval(x, y, 13, 20, 0.6)
            for _ in range(int(self.rng.integers(12, 18))):
                bx, by = self.at(side, self.rng.uniform(0.08, 0.95), self.rng.uniform(0.35, 0.95))
                mx, my = (x + bx) / 2 + self.rng.normal(0, 9), (y + by) / 2 + self.rng.normal(0, 9)
                canvas.tube([(x, y), (mx, my), (bx, by)], (self.rng.uniform(2, 4), 1.6, 0.6), 1.0)
        return np.float32(0.10) * self.drawn(canvas, 1)


def _opacities(seed: int, number: int, body: _Body, size: int) -> tuple[Grey, Grey]:
    """How dense infection is at each pixel, 0..1, and a field [H, W] that is positive where a reader marks it.

    Of three people with COVID-19 in a row, one each is mildly, moderately and severely ill.
    """
    field = np.full((size, size), -1, np.float32)
    if place(number).cohort != "COVID-19":
        return np.zeros_like(field), field
    rng = np.random.default_rng([seed, number, _FINDINGS])
    fewest, most, smallest, largest = _SEVERITIES[(number - 1) // 4 % len(_SEVERITIES)]
    axis = (np.arange(size) + 0.5) * (FIELD_MM / size) - FIELD_MM / 2
    x = np.cos(body.roll) * axis[None, :] + np.sin(body.roll) * axis[:, None]
    y = np.cos(body.roll) * axis[:, None] - np.sin(body.roll) * axis[None, :]
    for _ in range(int(rng.integers(fewest, most + 1))):
        px, py = body.at(int(rng.choice((-1, 1))), 0.15 + 0.75 * rng.beta(2.2, 1.4), 0.15 + 0.75 * rng.beta(2, 1.5))
        radius = rng.uniform(smallest, largest)
        field = np.maximum(field, 1 - np.hypot((x - px) / radius, (y - py) / (radius * rng.uniform(0.7, 1.3))))
    field = (field + 0.16 * _clouds(rng, size, 24) + 0.08 * _clouds(rng, size, 9)).astype(np.float32)
    mottled = 0.85 + 0.15 * _clouds(rng, size, 7)
    return 0.9 * np.clip(0.5 + 1.5 * field, 0, 1) * mottled, field


def _bend(seed: int, number: int, size: int) -> NDArray[np.float64]:
    """Where each pixel of a person's picture is taken from, [2, H, W] rows and columns: no two bodies are alike."""
    rng = np.random.default_rng([seed, number, _SHAPE])
    return np.stack(
        [
            places + sum(extent * size / FIELD_MM * _clouds(rng, size, width) for extent, width in _BENDS)
            for places in np.indices((size, size)).astype(float)
        ]
    )


def _expose(seed: int, number: int, dense: Grey) -> Grey:
    """Density into grey values: another tube, another plate and another window for everybody."""
    rng = np.random.default_rng([seed, number, _FILM])
    low, high = np.percentile(dense, (1, 99.5))
    shown = np.clip((dense - low) / (high - low), 0, 1) ** rng.uniform(0.75, 1.35)
    bottom, top = rng.uniform(0, 35), rng.uniform(215, 255)
    noise = rng.uniform(1.5, 4.0) * rng.standard_normal(dense.shape, np.float32)
    grey: Grey = np.clip(np.rint(bottom + (top - bottom) * shown + noise), 0, 255).astype(np.float32)
    return grey


def _clouds(rng: np.random.Generator, size: int, scale_mm: float) -> Grey:
    """Smooth noise [H, W] float32 of about unit variance whose lumps are about `scale_mm` wide."""
    coarse = int(FIELD_MM / scale_mm) + 2
    lumps = Image.fromarray(rng.standard_normal((coarse, coarse), np.float32))
    return np.asarray(lumps.resize((size, size), Image.Resampling.BICUBIC)) * np.float32(1.4)
