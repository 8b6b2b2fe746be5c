"""The body behind the phantoms, as formulas: sizes, outlines and the vessel trees of a patient who was never scanned.

Positions are millimetres on the axial plane, x to the right of the picture (the patient's left), y downwards
(posterior), the origin at the centre of the picture. A level goes from 0 (apex of the lungs) to 1 (deepest recess).
Sizes are those of textbook adults.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LUNG_HEIGHT_MM = 230.0
SPINE_Y = 58.0  # the vertebral body's centre: the back lies on the table at every level, the front moves
BACK_Y = 120.0
MEDIASTINUM_MM = 22.0  # vessels end this far from the midline


@dataclass(frozen=True)
class Tree:
    """Straight pieces of a branching tree: `start`, `end` [N, 3] mm (x, y, depth below the apex), radii [N] mm."""

    start: Floats
    end: Floats
    start_radius: Floats
    end_radius: Floats


@dataclass(frozen=True)
class Patient:
    """What stays the same over a patient's slices. Lengths in mm, intensities in HU."""

    width: float  # scale of left-right sizes
    depth: float  # scale of front-back sizes
    fat_mm: float
    breast_mm: float
    heart: float  # scale of the heart
    roll: float  # radians
    blood_hu: float
    marrow_hu: float
    lung_hu: float
    noise_hu: float
    circular_field: bool
    table_gap_mm: float
    level_shift: float
    rib_shift: float
    liver_top: float  # level of the right diaphragm's dome
    oesophagus_air: bool
    arteries: Tree
    veins: Tree


def between(level: float, *stops: tuple[float, float]) -> float:
    """A quantity that changes linearly between (level, value) stops."""
    levels, values = zip(*stops, strict=True)
    return float(np.interp(level, levels, values))


def _bump(x: ArrayLike, centre: float, width: float) -> Floats:
    return np.exp(-(((np.asarray(x, float) - centre) / width) ** 2))


@lru_cache(maxsize=16)
def patient(seed: int, number: int) -> Patient:
    """The patient `number` of a seed: body, organs and vessel trees."""
    rng = np.random.default_rng([seed, number, 0])
    width, depth = rng.uniform(0.90, 1.02), rng.uniform(0.90, 1.06)
    female = rng.random() < 0.5
    sizes = {
        "width": width,
        "depth": depth,
        "fat_mm": float(np.clip(rng.gamma(4.0, 2.6), 4, 22)),
        "breast_mm": rng.uniform(10, 26) if female else rng.uniform(0, 4),
        "heart": rng.uniform(0.88, 1.10),
        "roll": rng.normal(0, 0.025),
        "blood_hu": rng.uniform(130, 240) if rng.random() < 0.35 else rng.uniform(36, 48),
        "marrow_hu": rng.uniform(130, 260),
        "lung_hu": rng.uniform(-880, -835),
        "noise_hu": rng.uniform(12, 26),
        "table_gap_mm": rng.uniform(2, 10),
        "level_shift": rng.uniform(-0.015, 0.015),
        "rib_shift": rng.uniform(0, 24),
        "liver_top": rng.uniform(0.68, 0.78),
    }
    return Patient(
        **sizes,
        circular_field=bool(rng.random() < 0.5),
        oesophagus_air=bool(rng.random() < 0.4),
        arteries=_grow(rng, width, depth, hub_x=40, hub_v=0.10, hub_level=0.44),
        veins=_grow(rng, width, depth, hub_x=34, hub_v=0.02, hub_level=0.55),
    )


def half_width(level: ArrayLike) -> Floats:
    """Inner half-width (mm) of the rib cage of a patient of width 1."""
    width: Floats = np.interp(np.asarray(level, float), _LEVELS, (44, 72, 93, 109, 120, 127, 128, 124))
    return width


def half_depth(level: ArrayLike) -> Floats:
    """Inner half-depth (mm) of the rib cage of a patient of depth 1."""
    depth: Floats = np.interp(np.asarray(level, float), _LEVELS, (34, 49, 62, 75, 86, 94, 97, 95))
    return depth


_LEVELS = (0, 0.07, 0.15, 0.25, 0.4, 0.6, 0.8, 1)


def middle(depth_mm: ArrayLike) -> Floats:
    """y of the rib cage's centre, given its half-depth."""
    return SPINE_Y - 0.66 * np.asarray(depth_mm, float)


def _grow(rng: np.random.Generator, width: float, depth: float, hub_x: float, hub_v: float, hub_level: float) -> Tree:
    """A tree in each lung from its hilum to 1024 points spread through it.

    Every branch divides its points in two halves across their longest extent and goes part of the way to the middle
    of each, as in Wang, Bates and Bassingthwaighte's and Tawhai's lung trees; radii follow Murray's law.
    """
    leaves, generations = 1024, 10
    starts, ends, first, last = [], [], [], []
    for side in (-1, 1):
        level = rng.uniform(0.02, 0.98, 6000)
        inside = rng.random(6000) < half_width(level) * half_depth(level) / (128 * 97)
        level = level[inside]
        angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, level.size), np.sqrt(rng.uniform(0.0, 0.95, level.size))
        b = half_depth(level) * depth
        x, y = radius * np.cos(angle) * half_width(level) * width, middle(b) + radius * np.sin(angle) * b
        lung = x > MEDIASTINUM_MM
        points = np.stack([side * x, y, level * LUNG_HEIGHT_MM], axis=1)[lung][:leaves]
        hub_b = float(half_depth(hub_level)) * depth
        node = np.array([[side * hub_x * width, float(middle(hub_b)) + hub_v * hub_b, hub_level * LUNG_HEIGHT_MM]])
        groups = points[None]
        for generation in range(1, generations + 1):
            axis = np.argmax(np.ptp(groups, axis=1) * (1.0, 1.0, 0.6), axis=1)
            order = np.argsort(np.take_along_axis(groups, axis[:, None, None], axis=2)[..., 0], axis=1)
            groups = np.take_along_axis(groups, order[..., None], axis=1).reshape(2**generation, -1, 3)
            parent = np.repeat(node, 2, axis=0)
            share = 1.0 if generation == generations else rng.uniform(0.3, 0.46, (len(groups), 1))
            node = parent + share * (groups.mean(axis=1) - parent)
            bend = rng.normal(0, 0.06, node.shape) * np.linalg.norm(node - parent, axis=1, keepdims=True)
            elbow = (parent + node) / 2 + bend
            count = leaves / 2**generation
            thick, thin = 0.42 * (1.6 * count) ** (1 / 2.7), 0.42 * count ** (1 / 2.7)
            starts += [parent, elbow]
            ends += [elbow, node]
            first += [np.full(len(node), thick), np.full(len(node), (thick + thin) / 2)]
            last += [np.full(len(node), (thick + thin) / 2), np.full(len(node), thin)]
    return Tree(np.concatenate(starts), np.concatenate(ends), np.concatenate(first), np.concatenate(last))


def cut(tree: Tree, depth_mm: float, slab_mm: float) -> tuple[Floats, Floats]:
    """The parts of a tree inside a slab: ends [N, 4] (x0, y0, x1, y1) and radii [N, 2], in mm."""
    low, high = depth_mm - slab_mm / 2, depth_mm + slab_mm / 2
    z0, z1 = tree.start[:, 2], tree.end[:, 2]
    reach = 0.5 * np.minimum(tree.start_radius, tree.end_radius)
    near = (np.minimum(z0, z1) < high + reach) & (np.maximum(z0, z1) > low - reach)
    start, end = tree.start[near], tree.end[near]
    rise = end[:, 2] - start[:, 2]
    rise = np.where(np.abs(rise) < 1e-6, 1e-6, rise)
    first, last = (low - reach[near] - start[:, 2]) / rise, (high + reach[near] - start[:, 2]) / rise
    enter, leave = np.clip(np.minimum(first, last), 0, 1)[:, None], np.clip(np.maximum(first, last), 0, 1)[:, None]
    along = end[:, :2] - start[:, :2]
    ends = np.concatenate([start[:, :2] + enter * along, start[:, :2] + leave * along], axis=1)
    r0, r1 = tree.start_radius[near, None], tree.end_radius[near, None]
    return ends, np.concatenate([r0 + enter * (r1 - r0), r0 + leave * (r1 - r0)], axis=1)


# --- outlines ------------------------------------------------------------------------------------------------------


def around(count: int = 360) -> Floats:
    """Angles around the body: 0 at the spine, positive on the patient's left, +-pi at the sternum."""
    return np.linspace(-np.pi, np.pi, count, endpoint=False)


def superellipse(angle: Floats, a: float, front: float, back: float, power: tuple[float, float]) -> Floats:
    """Closed curve [N, 2] around the origin; `power` of the front and of the back half: 2 is an ellipse."""
    s, c = np.sin(angle), np.cos(angle)
    exponent = 2 / np.where(c < 0, *power)
    x = a * np.sign(s) * np.abs(s) ** exponent
    y = np.where(c < 0, front, back) * np.sign(c) * np.abs(c) ** exponent
    return np.stack([x, y], axis=1)


def wall(who: Patient, level: float, angle: Floats) -> tuple[Floats, Floats]:
    """The rib cage's inner outline at `angle`: points [N, 2] mm and outward normals [N, 2]."""
    a, b = float(half_width(level)) * who.width, float(half_depth(level)) * who.depth
    base = superellipse(angle, a, b, b, (2.2, 2.5))
    normals = superellipse(angle, 1 / a, 1 / b, 1 / b, (2.0, 2.0))
    normals /= np.hypot(*normals.T)[:, None]
    x, y = base.T
    back, front = np.clip(y / b, 0, 1), np.clip(-y / b, 0, 1)
    x = x * (1 - 0.10 * front**2)
    y = y + back * (0.10 * b * _bump(np.abs(x), 0.40 * a, 0.24 * a) - 14 * _bump(x, 0, 20))
    y = y + front * 7 * _bump(x, 0, 28)
    return np.stack([x, y + float(middle(b))], axis=1), normals


def skin(who: Patient, level: float, inset: float) -> Floats:
    """The body's outline, `inset` mm under the skin."""
    angle = around()
    b = float(half_depth(level)) * who.depth
    front_y = float(middle(b)) - b - 17 - who.fat_mm
    shoulder = between(level, (0.0, 1.0), (0.2, 0.8), (0.45, 0.25), (0.65, 0.0))
    a = float(half_width(level)) * who.width + 25 + who.fat_mm
    a = (1 - shoulder) * a + shoulder * max(a, (152 + 0.6 * who.fat_mm) * who.width)
    a = min(a, 171)
    belt = 0.5 * (front_y + BACK_Y) + 8
    points = superellipse(angle, a - inset, belt - front_y - inset, BACK_Y - belt - inset, (2.25, 2.7))
    normals = normals_of(points)
    breast = who.breast_mm * between(level, (0.3, 0), (0.45, 0.7), (0.6, 1), (0.75, 0.8), (0.95, 0.1))
    points += normals * (breast * _bump(np.abs(angle), 2.3, 0.30))[:, None]
    points[:, 1] += belt - 5 * _bump(points[:, 0], 0, 14) * (np.cos(angle) > 0)  # the furrow along the spine
    return points


def normals_of(points: Floats, closed: bool = True) -> Floats:
    """Unit normals [N, 2] of a line of points; outwards for a closed one that runs as `wall` does."""
    tangent = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0) if closed else np.gradient(points, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    unit: Floats = normal / np.maximum(np.hypot(*normal.T), 1e-9)[:, None]
    return unit
