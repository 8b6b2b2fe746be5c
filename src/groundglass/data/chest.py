"""Paints the healthy chest of a phantom patient at one level: body wall, bones, organs, vessels and airways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from groundglass.data.anatomy import (
    BACK_Y,
    LUNG_HEIGHT_MM,
    SPINE_Y,
    Floats,
    Patient,
    around,
    between,
    cut,
    half_depth,
    half_width,
    middle,
    skin,
    superellipse,
    wall,
)
from groundglass.data.canvas import Canvas, capsules, curve

AIR, FAT, SKIN, MUSCLE = -1000.0, -105.0, 15.0, 52.0
OVERSAMPLE = 2  # shapes are drawn with hard edges on a finer grid and averaged down
_LUNG = -5000.0  # marks lung on the canvas while shapes are painted over each other
_BONE = 5000.0


@dataclass(frozen=True)
class Chest:
    """One level, before blur and noise.

    tissue: [H, W] float32 HU of all that is not lung, weighted by how much of the pixel it fills;
    lung, vessels, airways, fissures: [H, W] float32, the part of a pixel (0..1) that lung fills, and what lies within;
    bronchi: likewise, air in the small bronchi too, which shows only where the lung around them is solid.
    """

    tissue: NDArray[np.float32]
    lung: NDArray[np.float32]
    vessels: NDArray[np.float32]
    airways: NDArray[np.float32]
    bronchi: NDArray[np.float32]
    fissures: NDArray[np.float32]


def band(line: tuple[Floats, Floats], inner: ArrayLike, outer: ArrayLike) -> Floats:
    """Polygon between two distances (mm) outside an open line with normals."""
    points, normals = line
    inside, outside = (np.broadcast_to(np.asarray(d, float), len(points))[:, None] for d in (inner, outer))
    return np.concatenate([points + normals * inside, (points + normals * outside)[::-1]])


def _muscle(canvas: Canvas, who: Patient, level: float, span: tuple[float, float], near: float, thick: float) -> None:
    """A spindle of muscle along the rib cage on both sides, over angles `span`, `near` mm outside its inner face."""
    fraction = np.linspace(-1, 1, 40)
    belly = thick / 2 * np.sqrt(1 - fraction**2 + 1e-9)
    angle = (span[0] + span[1]) / 2 + fraction * (span[1] - span[0]) / 2
    for side in (-1, 1):
        line = wall(who, level, side * angle)
        canvas.outline(band(line, near + thick / 2 - belly, near + thick / 2 + belly), MUSCLE)


def paint(who: Patient, level: float, size: int, field_mm: float) -> Chest:
    """Draw the healthy chest at `level` on [size, size] pixels over `field_mm` millimetres."""
    canvas = Canvas(size * OVERSAMPLE, field_mm, FAT, who.roll)
    _body(canvas, who, level)
    canvas.outline(wall(who, level, around())[0], _LUNG)
    _spine(canvas, who, level)
    _abdomen(canvas, who, level)
    _mediastinum(canvas, who, level)
    painted = _within_skin(canvas, who, level)

    bone = painted == _BONE
    pixel_mm = field_mm / size / OVERSAMPLE
    core = ndimage.uniform_filter(bone.astype(np.float32), round(3.4 / pixel_mm)) > 0.97
    painted[bone] = 720
    painted[core] = who.marrow_hu

    marked = painted == _LUNG
    # Lungs have no sharp corners but the thin edges in front and behind: smooth the outline a little.
    lung = ndimage.gaussian_filter(marked.astype(np.float32), 1.6 / pixel_mm) > 0.5
    painted[marked & ~lung] = 20
    painted[lung] = 0
    vessels, airways, bronchi = _branches(who, level, size, field_mm)
    fissures = _fissures(who, level, size, field_mm)
    return Chest(_shrink(painted), _shrink(lung.astype(np.float32)), vessels, airways, bronchi, fissures)


def _shrink(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average blocks of OVERSAMPLE x OVERSAMPLE pixels."""
    rows = fine[0::2] + fine[1::2]
    return np.float32(0.25) * (rows[:, 0::2] + rows[:, 1::2])


def _within_skin(canvas: Canvas, who: Patient, level: float) -> NDArray[np.float32]:
    """The painted body with fat, skin, air and the table around it."""
    depth = Canvas(len(canvas.array()), canvas.field_mm, 0, who.roll)
    for layer, inset in enumerate((0.0, 2.2, 3.0 + 0.55 * who.fat_mm), start=1):
        depth.outline(skin(who, level, inset), layer)
    around_it = Canvas(len(canvas.array()), canvas.field_mm, AIR, who.roll)
    _table(around_it, who)
    layer_of = depth.array()
    inside = np.where(layer_of == 3, canvas.array(), np.where(layer_of == 2, np.float32(FAT), np.float32(SKIN)))
    return np.where(layer_of == 0, around_it.array(), inside)


def _table(canvas: Canvas, who: Patient) -> None:
    """A cradle of two thin shells with foam between them."""
    x = np.linspace(-215, 215, 60)
    top = BACK_Y + who.table_gap_mm + 5 - x**2 / 900
    shell = np.stack([x, top], axis=1), np.tile((0.0, 1.0), (60, 1))
    for near, far, value in ((0, 16 + x**2 / 2600, -930), (0, 1.6, -250), (15 + x**2 / 2600, 17 + x**2 / 2600, 60)):
        canvas.outline(band(shell, near, far), value)


def _body(canvas: Canvas, who: Patient, level: float) -> None:
    """Skin, fat, muscles of the chest wall and the shoulder girdle, ribs, sternum, clavicles."""
    high = between(level, (0.05, 1), (0.3, 0.75), (0.5, 0.25), (0.7, 0))
    wide = who.width
    if who.breast_mm > 8 and 0.35 < level < 0.85:  # gland
        for side in (-1, 1):
            x, y = wall(who, level, np.array([side * 2.45]))[0][0]
            for k in range(4):
                canvas.oval(x + side * (2 + 5 * k), y - 20 - 2 * (k % 2), 7, 2.6, 5, tilt=0.5 * side + 0.4 * k)
    _muscle(canvas, who, level, (1.75, 3.0), 11, 5 + 13 * high)  # pectorals
    if level < 0.35:
        _muscle(canvas, who, level, (1.7, 2.35), 24 + 8 * high, 13)
    _muscle(canvas, who, level, (0.75, 2.0), 11, 9 + 3 * high)  # serratus
    _muscle(canvas, who, level, (0.55, 1.55), 13 + 30 * high, 10 + 5 * high)  # latissimus
    for side in (-1, 1):
        _back(canvas, who, level, side)
    ring = wall(who, level, around())
    canvas.outline(ring[0] + ring[1] * 10.5, MUSCLE - 8)
    canvas.outline(ring[0] + ring[1] * 2.0, -40)
    _ribs(canvas, who, level)
    front = float(wall(who, level, np.array([np.pi]))[0][0, 1])
    if level > 0.12:
        breadth = between(level, (0.12, 26), (0.22, 30), (0.34, 17), (0.6, 19), (0.74, 10), (0.85, 3)) * wide
        canvas.oval(0, front - 7, breadth + 2, 8.5, MUSCLE - 20)
        if level < 0.82:
            canvas.oval(0, front - 7, breadth, 6.5, _BONE)
    else:
        for side in (-1, 1):
            canvas.tube([(side * 17, front - 2), (side * 42, front - 9), (side * 70, front - 14)], (8, 6, 5.5), _BONE)
            canvas.tube([(side * 12, front - 10), (side * 17, front + 12)], 5, MUSCLE)


def _back(canvas: Canvas, who: Patient, level: float, side: int) -> None:
    """Erector spinae, trapezius and, in the upper half, the scapula in its muscles."""
    wide = who.width
    canvas.oval(side * 26 * wide, SPINE_Y + 40, 19, 13, MUSCLE, tilt=-0.15 * side)
    canvas.tube([(side * 6, BACK_Y - 10 - who.fat_mm / 2), (side * 55, BACK_Y - 14 - who.fat_mm)], (3, 2), MUSCLE)
    if level > 0.5:
        return
    near, far = (
        between(level, (0.05, 72), (0.25, 82), (0.45, 104)),
        between(level, (0.05, 138), (0.25, 138), (0.45, 126)),
    )
    low, top = between(level, (0.05, 74), (0.45, 72)), between(level, (0.05, 10), (0.25, 28), (0.45, 52))
    blade = [
        (side * near * wide, low),
        (side * (0.55 * near + 0.45 * far) * wide, 0.6 * low + 0.4 * top - 4),
        (side * far * wide, top),
    ]
    bulk = between(level, (0.05, 17), (0.25, 16), (0.5, 8))
    canvas.tube(blade, (bulk * 0.6, bulk, bulk * 0.9), MUSCLE)
    canvas.tube(blade, (2.0, 1.9, between(level, (0.05, 9), (0.25, 5), (0.45, 3.5))), _BONE)
    if level < 0.2:  # the spine of the scapula
        root = blade[1]
        tip = (side * (far + 4) * wide, root[1] + 12)
        canvas.tube([root, (0.5 * (root[0] + tip[0]), root[1] + 14), tip], (9, 10, 8), MUSCLE)
        canvas.tube([root, (0.5 * (root[0] + tip[0]), root[1] + 14), tip], (2, 2.4, 4), _BONE)


def _ribs(canvas: Canvas, who: Patient, level: float) -> None:
    """Ribs slope down from the spine to the side and up again as cartilage: a slice cuts each in an oblique arc."""
    share = np.linspace(0.11, 0.97, 220)
    drop = 112 * np.clip(share / 0.78, 0, 1) ** 1.35 - 150 * np.clip(share - 0.78, 0, 1)
    depth = level * LUNG_HEIGHT_MM
    for side in (-1, 1):
        points, normals = wall(who, level, side * share * np.pi)
        for rib in range(12):
            away = (depth - (who.rib_shift + 3 * side - 130 + 23 * rib + drop)) / 6.8
            thick = 3.7 * np.sqrt(np.clip(1 - away**2, 0, 1))
            for part, value in ((share < 0.80, _BONE), (share >= 0.80, 95.0)):
                seen = (thick > 0.4) & part
                if seen.sum() > 2:
                    cut = thick[seen]
                    canvas.outline(band((points[seen], normals[seen]), 6.2 - cut, 6.2 + cut), value)


def _spine(canvas: Canvas, who: Patient, level: float) -> None:
    """Vertebra with body, pedicles, canal, transverse and spinous processes, and the muscle beside it."""
    wide, y = who.width, SPINE_Y
    canvas.oval(0, y + 16, 22 * wide, 24, 25)
    size = between(level, (0, 0.84), (1, 1.06)) * wide
    angle = np.linspace(-np.pi, np.pi, 60, endpoint=False)
    body = superellipse(angle, 17 * size, 14 * size, 12 * size, (2.2, 2.8))
    joint = 0.5 + 0.5 * np.cos(2 * np.pi * (level * LUNG_HEIGHT_MM + who.rib_shift) / 23)
    canvas.outline(body + np.array([0, y]), _BONE)
    for side in (-1, 1):
        canvas.tube([(side * 10 * size, y + 8), (side * 11.5 * size, y + 20)], 3.8, _BONE)
        tip = (side * (24 + 6 * joint) * size, y + 31)
        canvas.tube([(side * 10 * size, y + 22), tip], (4.4, 3.6), _BONE)
        canvas.tube([(side * 10 * size, y + 24), (0, y + 33)], 3.2, _BONE)
        if joint > 0.35:  # the head of a rib meets the vertebra
            canvas.tube([(side * 19 * size, y + 9), (side * 30 * size, y + 21)], (3.6, 3.2), _BONE)
    canvas.tube([(0, y + 32), (0, y + 40 + 9 * (1 - joint))], (3.4, 2.6), _BONE)
    canvas.oval(0, y + 20, 8.6 * size, 7.6 * size, -30)
    canvas.oval(0, y + 20, 7.0 * size, 6.0 * size, 32)
    canvas.oval(0, y + 20, 4.2, 3.6, 42)


def _mediastinum(canvas: Canvas, who: Patient, level: float) -> None:
    """Fat between the lungs, heart, great vessels, airways and oesophagus."""
    wide, blood = who.width, who.blood_hu
    b = float(half_depth(level)) * who.depth
    centre = float(middle(b))

    def y(v: float) -> float:
        return centre + v * b

    v = np.array([-0.99, -0.85, -0.6, -0.3, 0.0, 0.25, 0.5, 0.75])
    right = np.array([between(level, (0.07, w), (0.3, m), (1, h)) for w, m, h in _STRIP[0]])
    left = np.array([between(level, (0.07, w), (0.3, m), (1, h)) for w, m, h in _STRIP[1]])
    fine = np.linspace(0, len(v) - 1, 40)
    edges = [curve(np.stack([side * x * wide, y(0) + v * b], axis=1), fine) for side, x in ((-1, right), (1, left))]
    canvas.outline(np.concatenate([edges[0], edges[1][::-1]]), FAT + 15)

    if level < 0.2:  # vessels of the neck and arms
        for x, at, r in ((-17.0, -0.25, 6.5), (13.0, -0.15, 4.6), (21.0, 0.25, 5.2)):
            canvas.oval(x * wide, y(at), r, r, blood)
        canvas.oval(-20 * wide, y(-0.62), 8, 6, blood)
        canvas.tube([(24 * wide, y(-0.55)), (8 * wide, y(-0.7)), (-14 * wide, y(-0.62))], (6, 5, 5.5), blood)
        canvas.oval(0, y(0.1), 17, 11, MUSCLE + 18)  # the lower thyroid around the trachea
    if 0.14 < level < 0.54:
        canvas.oval(-27 * wide, y(between(level, (0.2, -0.32), (0.5, -0.16))), 8.5, 9.5, blood)  # superior vena cava
    if 0.2 <= level < 0.31:  # the arch
        path = [(-13, -0.42), (2, -0.32), (15, -0.02), (21, 0.30)]
        canvas.tube([(x * wide, y(at)) for x, at in path], (11.5, 12.5, 12.5, 12), blood)
    if level >= 0.31:
        x = between(level, (0.31, 27), (0.7, 24), (1, 12)) * wide
        canvas.oval(x, SPINE_Y - between(level, (0.31, 4), (0.7, 8), (1, 18)), 12, 12, blood)  # descending aorta
        canvas.oval(-7 * wide, SPINE_Y - 18, 3.2, 3.2, blood)  # azygos vein
    if 0.31 <= level < 0.6:
        canvas.oval(-11 * wide, y(-0.34), 16.5, 15.5, blood)  # ascending aorta
    if 0.35 <= level < 0.5:
        canvas.tube([(13 * wide, y(-0.30)), (-8 * wide, y(-0.02)), (-44 * wide, y(0.08))], (11, 8.5, 7), blood)
        canvas.tube([(14 * wide, y(-0.42)), (21 * wide, y(-0.20)), (42 * wide, y(0.1))], (14, 13, 8), blood)
    if 0.46 <= level < 0.66:
        for side in (-1, 1):
            canvas.oval(side * 40 * wide, y(0.12), 7, 8, blood)
            canvas.tube([(side * 12 * wide, y(0.08)), (side * 38 * wide, y(0.02))], (9, 5.5), blood)
    if level > 0.48:
        _heart(canvas, who, level, y)
    oesophagus = (between(level, (0, 3), (0.4, 1), (0.75, 5), (1, 10)) * wide, SPINE_Y - 22.5)
    canvas.oval(*oesophagus, 8, 5, 38)
    if who.oesophagus_air:
        canvas.oval(*oesophagus, 2.6, 1.6, AIR + 300)
    _airway(canvas, who, level, y)


# Half-widths (mm) of the mediastinum's fat at the eight heights of `_mediastinum`, each at levels 0.07, 0.3 and 1.
_STRIP = (
    ((20, 10, 14), (23, 5, 20), (27, 14, 28), (27, 29, 30), (23, 29, 28), (18, 20, 17), (16, 15, 8), (16, 15, 16)),
    ((20, 9, 20), (23, 7, 32), (25, 15, 36), (24, 23, 34), (25, 26, 30), (22, 27, 28), (17, 22, 15), (16, 16, 16)),
)


def _airway(canvas: Canvas, who: Patient, level: float, y: Callable[[float], float]) -> None:
    """Trachea, main bronchi and the first bronchi below them; walls, then air."""
    wide = who.width
    tubes: list[tuple[list[tuple[float, float]], tuple[float, ...]]] = []
    if level < 0.36:
        tubes = [([(0, y(0.16)), (-0.5, y(0.18))], (8.2, 8.0))]
    elif level < 0.47:
        tubes = [
            ([(-9.5, y(0.19)), (-14 * wide, y(0.22)), (-19 * wide, y(0.27))], (7.4, 7.4, 6.8)),
            ([(9, y(0.20)), (15 * wide, y(0.24)), (22 * wide, y(0.31))], (6.8, 6.6, 5.8)),
        ]
    elif level < 0.68:
        tubes = [
            ([(-29 * wide, y(0.2)), (-29 * wide, y(0.21))], (4.6, 4.6)),
            ([(31 * wide, y(0.24)), (31 * wide, y(0.25))], (4.2, 4.2)),
        ]
    for path, radii in tubes:
        canvas.tube(path, np.array(radii) + 1.7, 35)
    for path, radii in tubes:
        canvas.tube(path, radii, AIR + 15)


def _heart(canvas: Canvas, who: Patient, level: float, y: Callable[[float], float]) -> None:
    """Epicardial fat, muscle and chambers; the apex points to the patient's left and forward."""
    scale = (
        who.heart
        * who.width
        * between(level, (0.48, 0.5), (0.55, 0.78), (0.66, 0.98), (0.8, 1.0), (0.9, 0.86), (1, 0.4))
    )
    x0 = between(level, (0.48, 3), (0.6, 14), (0.8, 24), (1, 30)) * who.width
    y0 = y(between(level, (0.48, -0.25), (0.6, -0.22), (0.9, -0.38)))
    tilt = -0.62
    along, across = np.array([np.cos(tilt), np.sin(tilt)]), np.array([-np.sin(tilt), np.cos(tilt)])

    def chamber(forward: float, sideways: float, long: float, short: float, value: float, turn: float = 0.0) -> None:
        x, yy = (x0, y0) + (forward * along + sideways * across) * scale
        canvas.oval(float(x), float(yy), long * scale, short * scale, value, tilt + turn)

    chamber(4, 0, 64, 47, FAT + 20)
    chamber(2, 0, 60, 44, 48)
    chamber(16, 12, 34, 17, who.blood_hu + 2)  # left ventricle
    chamber(8, -21, 42, 15, who.blood_hu + 4, 0.12)  # right ventricle
    if level < 0.85:
        chamber(-38, -16, 20, 24, who.blood_hu)  # right atrium
    if level < 0.78:
        canvas.oval(2, y(0.10), 30 * who.width, 17, 46)
        canvas.oval(2, y(0.10), 28 * who.width, 15, who.blood_hu)  # left atrium
    if level < 0.62:
        canvas.oval(-4, y(-0.22), 15, 14, who.blood_hu)  # aortic root
    canvas.tube(
        [tuple((x0, y0) + (f * along + s * across) * scale) for f, s in ((-20, 5), (5, -3), (44, -12))], 2.6, 58
    )


def _abdomen(canvas: Canvas, who: Patient, level: float) -> None:
    """The dome of the liver on the right and, lower, stomach and spleen on the left."""
    a, b = float(half_width(level)) * who.width, float(half_depth(level)) * who.depth
    centre = float(middle(b))
    top = who.liver_top
    if level > top:
        rise = np.sqrt(min((level - top) / 0.20, 1))
        canvas.oval(-(0.52 - 0.14 * rise) * a, centre - 0.10 * b, 0.70 * rise * a, 0.86 * rise * b, 60)
        if level > top + 0.08:
            canvas.oval(-0.13 * a, centre + 0.06 * b, 12, 11, who.blood_hu)  # inferior vena cava
    if level > top + 0.06:
        rise = np.sqrt(min((level - top - 0.06) / 0.20, 1))
        canvas.oval(0.52 * a, centre - 0.08 * b, 0.56 * rise * a, 0.80 * rise * b, FAT + 10)
        canvas.oval(0.62 * a, centre + 0.26 * b, 0.36 * rise * a, 0.40 * rise * b, 52)  # spleen
        canvas.oval(0.60 * a, centre - 0.25 * b, 0.33 * rise * a, 0.42 * rise * b, 38)  # stomach
        canvas.oval(0.62 * a, centre - 0.42 * b, 0.22 * rise * a, 0.16 * rise * b, AIR)  # its gas bubble


def _branches(
    who: Patient, level: float, size: int, field_mm: float, slab_mm: float = 2.5
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Vessels, bronchi that show and all bronchi that cross a slab around `level`: [size, size] parts of a pixel."""
    vessels, airways, bronchi = (Canvas(size * OVERSAMPLE, field_mm, 0, who.roll) for _ in range(3))
    veins, vein_radii = cut(who.veins, level * LUNG_HEIGHT_MM, slab_mm)
    arteries, artery_radii = cut(who.arteries, level * LUNG_HEIGHT_MM, slab_mm)
    ends, radii = np.concatenate([veins, arteries]), np.concatenate([vein_radii, artery_radii])
    # A vessel thinner than the slab shares it with air.
    strength = np.minimum(1, 0.25 + 1.5 * radii.min(axis=1) / slab_mm)
    shapes = capsules(ends, radii)
    for k in np.argsort(strength, kind="stable"):
        vessels.outline(shapes[k], float(strength[k]))

    # A bronchus runs beside its artery.
    width = artery_radii[:, :1]
    aside = arteries + np.hstack([np.where(arteries[:, :1] < 0, 1.75, -1.75), np.full_like(width, -1.0)] * 2) * width
    large = artery_radii[:, 0] > 1.3
    for shape in capsules(aside[large], 0.85 * artery_radii[large] + 0.6):
        vessels.outline(shape, 0.82)
    for shape in capsules(aside[large], 0.85 * artery_radii[large] - 0.3):
        airways.outline(shape, 1.0)
    small = artery_radii[:, 0] > 0.6
    for shape in capsules(arteries[small], 0.5 * artery_radii[small] + 0.45):
        bronchi.outline(shape, 1.0)
    return _shrink(vessels.array()), _shrink(airways.array()), _shrink(bronchi.array())


def _fissures(who: Patient, level: float, size: int, field_mm: float) -> NDArray[np.float32]:
    """The oblique fissures: behind at the top, in front at the base; [size, size] 0..1."""
    canvas = Canvas(size * OVERSAMPLE, field_mm, 0, who.roll)
    a, b = float(half_width(level)) * who.width, float(half_depth(level)) * who.depth
    centre = float(middle(b))
    for side, late in ((-1, 0.03), (1, 0.0)):
        v = 0.85 - 1.65 * (level - late - 0.12) / 0.8
        if -0.8 < v < 0.8:
            path = [
                (side * 20.0, centre + (v + 0.10) * b),
                (side * 0.5 * a, centre + (v - 0.02) * b),
                (side * 1.05 * a, centre + (v + 0.16) * b),
            ]
            canvas.tube(path, 0.55, 1.0)
    return _shrink(canvas.array())
