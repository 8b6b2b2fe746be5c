"""Images and label maps as colour pictures: arrays in, arrays out, nothing drawn around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from groundglass.errors import DataError, RecipeError
from groundglass.labels import BY_NAME, LABELS, PRECEDENCE
from groundglass.show.colours import ERROR_COLOURS, ERROR_KINDS, INSTANCES, LESIONS, PARTLY, palette_named, rgb

Picture = NDArray[np.uint8]
Window = tuple[float, float]
Masks = Mapping[str, NDArray[np.bool_]]

# Level -600, width 1500 HU: the usual lung window.
LUNG_WINDOW: Window = (-1350.0, 150.0)


def grey(image: NDArray[np.float32], window: Window) -> Picture:
    """Image [H, W] in its own unit -> [H, W, 3] uint8, black at `window[0]` and white at `window[1]`.

    Values that are no number are drawn black. Raises `RecipeError` for a window without width.
    """
    low, high = window
    if not high > low:
        raise RecipeError(f"display window {low:g} to {high:g} has no width; give the lower end first")
    scaled = np.clip((image.astype(np.float32) - low) / (high - low), 0, 1)
    level = np.rint(np.nan_to_num(scaled, nan=0.0) * 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)


def overlay(
    image: NDArray[np.float32],
    labels: NDArray[np.uint8],
    window: Window,
    palette: str = "safe",
    alpha: float = 0.45,
    outline: bool = False,
    names: Iterable[str] = LESIONS,
) -> Picture:
    """Labels in colour over the grey image: [H, W, 3] uint8. What is known to be none of `names` stays grey.

    Pixels that may be one of `names` are hatched.

    image: [H, W] in the unit of `window`; labels: [H, W] uint8 canonical values; alpha: 0 (grey) to 1 (colour only);
    outline: draw each class's edge in full colour instead of tinting its area.
    Raises `RecipeError` for an unknown palette, `DataError` where image and labels differ in shape.
    """
    _same_shape(image, labels)
    colours = palette_named(palette)
    picture = grey(image, window)
    for name in names:
        mask = labels == BY_NAME[name].value
        if outline:
            picture = _tint(picture, _edge(mask), colours[name], 1.0)
        else:
            picture = _tint(picture, mask, colours[name], alpha)
    for name in may_be(names):
        # Stripes cover half of the area and are drawn stronger for that.
        picture = _tint(picture, _hatched(labels == BY_NAME[name].value), colours[name], min(1.0, 1.5 * alpha))
    return picture


def may_be(names: Iterable[str]) -> tuple[str, ...]:
    """The partly known labels, other than `names`, whose pixels may be one of `names`."""
    drawn = set(names)
    return tuple(name for name in PARTLY if name not in drawn and drawn & set(BY_NAME[name].possible))


def class_colours(
    labels: NDArray[np.uint8],
    palette: str = "safe",
    background: Literal["black", "transparent"] = "black",
    hatched: Iterable[str] = PARTLY,
) -> Picture:
    """Label map [H, W] uint8 -> [H, W, 4] uint8 RGBA, background black or transparent, `hatched` in two shades."""
    colours = palette_named(palette)
    table = np.zeros((256, 4), np.uint8)
    table[:, 3] = 255
    for label in LABELS:
        table[label.value, :3] = rgb(colours[label.name])
    table[0] = (0, 0, 0, 255 if background == "black" else 0)
    picture = table[labels]
    for name in hatched:
        mask = labels == BY_NAME[name].value
        picture[mask & ~_hatched(mask), :3] //= 2
    return picture


def masks_of(labels: NDArray[np.uint8]) -> Masks:
    """Label map [H, W] uint8 -> one boolean mask [H, W] per canonical name."""
    return {label.name: labels == label.value for label in LABELS}


def one_hot_colours(masks: Masks, palette: str = "safe", names: Iterable[str] = LESIONS) -> Picture:
    """Boolean masks [H, W] by class -> [H, W, 3] uint8 on black; pixels that two of `names` claim get `mixed`.

    Pixels that may be one of `names` are hatched.
    """
    colours = palette_named(palette)
    drawn = [name for name in reversed(PRECEDENCE) if name in masks and name in set(names)]
    if not drawn:
        raise DataError("nothing to draw: none of the masks belongs to a class that is shown")
    picture = np.zeros((*masks[drawn[0]].shape, 3), np.uint8)
    for name in drawn:
        picture[masks[name]] = rgb(colours[name])
    claims = np.sum([masks[name] for name in drawn], axis=0)
    picture[claims > 1] = rgb(colours["mixed"])
    for name in may_be(drawn):
        if name in masks:
            picture[_hatched(masks[name])] = rgb(colours[name])
    return picture


def overlap_colours(prediction: Masks, expert: Masks, palette: str = "000", names: Iterable[str] = LESIONS) -> Picture:
    """Where prediction and expert agree, on black: [H, W, 3] uint8.

    Correct pixels carry their class colour, the denser class winning where both are right; pixels with an expert
    class that is not predicted carry `missed`. Pixels that only the prediction claims stay black, as in system 000.
    Expert pixels that may be one of `names` are hatched, or `missed` where they must be one and none is predicted.
    """
    colours = palette_named(palette)
    drawn = [name for name in reversed(PRECEDENCE) if name in expert and name in prediction and name in set(names)]
    if not drawn:
        raise DataError("nothing to draw: prediction and expert share no class that is shown")
    picture = np.zeros((*expert[drawn[0]].shape, 3), np.uint8)
    for name in drawn:
        picture[expert[name] & prediction[name]] = rgb(colours[name])
    for name in drawn:
        picture[expert[name] & ~prediction[name]] = rgb(colours["missed"])
    said = np.any([prediction[name] for name in drawn], axis=0)
    for name in may_be(drawn):
        if name in expert:
            missed = expert[name] & ~said & (_atoms(name) <= set(drawn))
            picture[_hatched(expert[name] & ~missed)] = rgb(colours[name])
            picture[missed] = rgb(colours["missed"])
    return picture


def area_colours(mask: NDArray[np.bool_], palette: str = "000") -> Picture:
    """One category's area in the palette's `area` colour on black: [H, W, 3] uint8."""
    return np.where(mask[..., None], rgb(palette_named(palette)["area"]), np.uint8(0)).astype(np.uint8)


def error_map(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], names: Iterable[str] = LESIONS
) -> NDArray[np.uint8]:
    """Two label maps [H, W] uint8 -> [H, W] uint8 indices into `ERROR_KINDS`; every pixel is of exactly one kind.

    Where the truth is known in part, and the prediction is one of the things it may be, nothing can be said: `neither`.
    """
    _same_shape(truth, prediction)
    drawn = set(names)
    values = [label.value for label in LABELS if label.name in drawn or _atoms(label.name) <= drawn]
    true, said = np.isin(truth, values), np.isin(prediction, values)
    kinds = np.full(truth.shape, ERROR_KINDS.index("neither"), np.uint8)
    kinds[true & ~said] = ERROR_KINDS.index("missed")
    kinds[~true & said] = ERROR_KINDS.index("spurious")
    kinds[true & said] = np.where(truth == prediction, ERROR_KINDS.index("agree"), ERROR_KINDS.index("wrong-class"))[
        true & said
    ]
    for name in PARTLY:
        allowed = [label.value for label in LABELS if label.name != name and _atoms(label.name) & _atoms(name)]
        kinds[(truth == BY_NAME[name].value) & np.isin(prediction, allowed)] = ERROR_KINDS.index("neither")
    return kinds


def error_overlay(image: NDArray[np.float32], kinds: NDArray[np.uint8], window: Window, alpha: float = 0.75) -> Picture:
    """An `error_map` in colour over the grey image: [H, W, 3] uint8."""
    _same_shape(image, kinds)
    picture = grey(image, window)
    for name, colour in ERROR_COLOURS.items():
        picture = _tint(picture, kinds == ERROR_KINDS.index(name), colour, alpha)
    return picture


def instance_overlay(
    image: NDArray[np.float32],
    numbers: NDArray[np.uint8],
    expert: NDArray[np.bool_],
    window: Window,
    alpha: float = 0.5,
) -> Picture:
    """Instances in colour over the grey image, under the expert's outline in white: [H, W, 3] uint8.

    numbers: [H, W] of each pixel's instance, 0 for none; colours are used again where there are more instances.
    """
    _same_shape(image, numbers)
    picture = grey(image, window)
    for place, colour in enumerate(INSTANCES):
        picture = _tint(picture, (numbers > 0) & ((numbers - 1) % len(INSTANCES) == place), colour, alpha)
    return _tint(picture, _edge(expert), "#FFFFFF", 1.0)


def _tint(picture: Picture, mask: NDArray[np.bool_], colour: str, alpha: float) -> Picture:
    blended = np.rint(picture * (1.0 - alpha) + rgb(colour) * alpha).astype(np.uint8)
    return np.where(mask[..., None], blended, picture)


def _hatched(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of a mask [H, W] that is coloured to hatch it: stripes, and its edge, so that nothing small is lost."""
    width = max(1, round(max(mask.shape) / 64))
    diagonals = np.add.outer(np.arange(mask.shape[0]), np.arange(mask.shape[1]))
    stripes: NDArray[np.bool_] = diagonals // width % 2 == 0
    return (mask & stripes) | _edge(mask)


def _atoms(name: str) -> set[str]:
    """The things that a label may be, itself where it is known."""
    return set(BY_NAME[name].possible) or {name}


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # Wide enough to survive being printed at a third of its size.
    width = max(1, round(max(mask.shape) / 256))
    inside: NDArray[np.bool_] = binary_erosion(mask, iterations=width)
    return mask & ~inside


def _same_shape(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.shape != second.shape:
        raise DataError(f"cannot draw arrays of shapes {first.shape} and {second.shape} over each other")
