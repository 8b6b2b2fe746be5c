"""From a case's own grid and intensities to what a network sees, and back with its probabilities.

Training, validation and prediction all go through `clip01`, `shrink`, `scale` and `restore`, so that no two of them
can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.case import Unit
from groundglass.errors import DataError, RecipeError
from groundglass.recipes.settings import Grey, Intensity, Standardise, Symmetric

Pixels = TypeVar("Pixels", NDArray[np.float32], NDArray[np.uint8])


@dataclass(frozen=True)
class Preparation:
    """Everything that turns intensities into a network's input. `mean` and `std` (in HU or grey values, over the
    training part) are set where the recipe standardises, else None."""

    intensity: Intensity
    image_size: int
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Fit:
    """Where an image lies in the network's square: its own shape, its size there, and the border above and left."""

    shape: tuple[int, int]
    inner: tuple[int, int]
    offset: tuple[int, int]


def to_scale(image: NDArray[np.floating], unit: Unit, intensity: Intensity) -> NDArray[np.float32]:
    """Intensities [H, W] in the recipe's terms: HU, a picture's 0..255 laid over the recipe's window; or the grey
    values 0..255 of an X-ray. Raises `DataError` for an unknown unit, since a guess there would be a guess at the
    answer, and for Hounsfield units where grey values are wanted."""
    if isinstance(intensity, Grey):
        if unit is not Unit.PICTURE:
            raise DataError(f"an X-ray's grey values 0..255 are needed, and these are {unit.value}")
        return np.asarray(image, np.float32)
    if unit is Unit.HU:
        return np.asarray(image, np.float32)
    if unit is Unit.PICTURE:
        low, high = intensity.picture_window_hu
        return (np.asarray(image, np.float32) / 255 * (high - low) + low).astype(np.float32)
    raise DataError("the intensity unit is not known; state it: --unit HU or --unit picture, or unit: in dataset.yaml")


def clip01(image: NDArray[np.floating], unit: Unit, intensity: Intensity) -> NDArray[np.float32]:
    """Intensities [H, W] float32, the recipe's clip interval laid over 0..1."""
    low, high = bounds(intensity)
    return ((np.clip(to_scale(image, unit, intensity), low, high) - low) / (high - low)).astype(np.float32)


def bounds(intensity: Intensity) -> tuple[float, float]:
    """Lower and upper bound of the recipe's clip interval, in HU or grey values."""
    return intensity.clip_grey if isinstance(intensity, Grey) else intensity.clip_hu


def within(x: NDArray[np.float32], lungs: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Clipped image [H, W] times the lungs: what lies outside becomes the lower bound, the black of an X-ray or air."""
    return (x * lungs).astype(np.float32)


def scale(x: NDArray[np.float32], preparation: Preparation) -> NDArray[np.float32]:
    """Clipped 0..1 -> the network's input, any shape, by the recipe's rule."""
    rule = preparation.intensity.scale
    if isinstance(rule, Standardise):
        if preparation.mean is None or not preparation.std:
            raise RecipeError("intensity.scale 'standardise' needs the mean and deviation of a training part")
        low, high = bounds(preparation.intensity)
        return ((x * (high - low) + low - preparation.mean) / preparation.std).astype(np.float32)
    return (x * 2 - 1).astype(np.float32) if isinstance(rule, Symmetric) else x


def shrink(x: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], Fit]:
    """Image [H, W] -> [size, size], aspect kept, centred, padded with 0 (air, after clipping). Bilinear, anti-aliased
    when it shrinks."""
    fit = fit_into((x.shape[0], x.shape[1]), size)
    return _place(_resize(x, fit.inner, Image.Resampling.BILINEAR), fit, size), fit


def shrink_labels(labels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Label map [H, W] -> [size, size], nearest pixel, padded with 0 (background)."""
    fit = fit_into((labels.shape[0], labels.shape[1]), size)
    return _place(_resize(labels, fit.inner, Image.Resampling.NEAREST), fit, size)


def restore(probabilities: NDArray[np.float32], fit: Fit) -> NDArray[np.float32]:
    """Probabilities [K, size, size] -> [K, H, W] on the case's own grid, bilinear; each pixel still sums to 1."""
    (top, left), (height, width) = fit.offset, fit.inner
    inner = probabilities[:, top : top + height, left : left + width]
    if fit.inner == fit.shape:
        return np.ascontiguousarray(inner)
    return np.stack([_resize(channel, fit.shape, Image.Resampling.BILINEAR) for channel in inner])


def fit_into(shape: tuple[int, int], size: int) -> Fit:
    """The placement of an image of `shape` in a square of `size`."""
    longest = max(shape)
    height, width = (max(1, round(n * size / longest)) for n in shape)
    return Fit(shape, (height, width), ((size - height) // 2, (size - width) // 2))


def statistics(values: NDArray[np.floating], percentiles: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of the values between two percentiles (system 000's normalisation).

    Raises `DataError` when nothing varies there.
    """
    low, high = np.percentile(values, percentiles)
    inside = values[(values >= low) & (values <= high)]
    mean, std = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    if not std > 0:
        raise DataError(f"intensities between percentiles {percentiles[0]:g} and {percentiles[1]:g} do not vary")
    return mean, std


def _resize(x: Pixels, shape: tuple[int, int], how: Image.Resampling) -> Pixels:
    if x.shape == shape:
        return x
    # A copy: what Pillow shows of its own memory cannot be written to, and torch warns of such arrays.
    return np.array(Image.fromarray(np.ascontiguousarray(x)).resize((shape[1], shape[0]), how))


def _place(x: Pixels, fit: Fit, size: int) -> Pixels:
    if x.shape == (size, size):
        return x
    out = np.zeros((size, size), x.dtype)
    (top, left), (height, width) = fit.offset, fit.inner
    out[top : top + height, left : left + width] = x
    return out
