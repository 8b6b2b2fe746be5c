"""A picture in millimetres on which shapes are painted over each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from groundglass.data.anatomy import Floats, normals_of


class Canvas:
    """A square float picture in millimetres, on which shapes with hard edges are painted over each other."""

    def __init__(self, size: int, field_mm: float, fill: float, roll: float = 0.0) -> None:
        self.image = Image.new("F", (size, size), fill)
        self._pen = ImageDraw.Draw(self.image)
        self.field_mm = field_mm
        self._scale = size / field_mm
        self._turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        self._centre = size / 2 - 0.5

    def outline(self, points: Floats, value: float) -> None:
        """Fill the polygon `points` [N, 2] mm."""
        pixels = points @ self._turn * self._scale + self._centre
        self._pen.polygon(pixels.ravel().tolist(), fill=value)

    def oval(self, x: float, y: float, rx: float, ry: float, value: float, tilt: float = 0.0) -> None:
        """Fill an ellipse; `tilt` in radians turns it clockwise on the picture."""
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        u, v = rx * np.cos(angle), ry * np.sin(angle)
        turned = np.stack([u * np.cos(tilt) - v * np.sin(tilt), u * np.sin(tilt) + v * np.cos(tilt)], axis=1)
        self.outline(turned + np.array([x, y]), value)

    def tube(self, path: Sequence[tuple[float, float]], radius: ArrayLike, value: float) -> None:
        """Fill a smooth tube with round ends through `path` (mm); `radius` is one number or one for each point."""
        knots = np.asarray(path, float)
        radii = np.broadcast_to(np.asarray(radius, float), len(knots))
        fine = np.linspace(0, len(knots) - 1, 8 * len(knots))
        line, width = curve(knots, fine), np.interp(fine, np.arange(len(knots)), radii)
        side = normals_of(line, closed=False) * width[:, None]
        self.outline(np.concatenate([line + side, (line - side)[::-1]]), value)
        for end in (0, -1):
            self.oval(float(line[end, 0]), float(line[end, 1]), width[end], width[end], value)

    def array(self) -> NDArray[np.float32]:
        return np.asarray(self.image)


def curve(knots: Floats, at: Floats) -> Floats:
    """Catmull-Rom curve through `knots` [N, 2] at parameters `at` in 0..N-1."""
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    piece = np.minimum(at.astype(int), len(knots) - 2)
    t = (at - piece)[:, None]
    p0, p1, p2, p3 = (padded[piece + k] for k in range(4))
    points: Floats = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return points


def capsules(ends: Floats, radii: Floats) -> Floats:
    """Tapering strokes with round ends: `ends` [N, 4] (x0, y0, x1, y1), `radii` [N, 2] -> outlines [N, 18, 2]."""
    x0, y0, x1, y1 = ends[:, :, None].swapaxes(0, 1)
    r0, r1 = radii[:, :, None].swapaxes(0, 1)
    half = np.linspace(-np.pi / 2, np.pi / 2, 9) + np.arctan2(y1 - y0, x1 - x0)
    tip = np.stack([x1 + r1 * np.cos(half), y1 + r1 * np.sin(half)], axis=-1)
    tail = np.stack([x0 - r0 * np.cos(half), y0 - r0 * np.sin(half)], axis=-1)
    return np.concatenate([tip, tail], axis=1)
