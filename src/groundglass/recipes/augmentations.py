"""The augmentations of a recipe; `groundglass.learning.augmentation` carries them out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from groundglass.recipes.values import Fraction, Positive, Range, Share, Strict, not_descending


class Step(Strict):
    """One augmentation, applied with probability `p`. Intensity steps act on the clipped image as 0..1, before it is
    scaled for the network; geometric steps follow, joined into one interpolation."""

    p: Fraction = 0.5


class Clahe(Step):
    """Contrast-limited adaptive histogram equalisation over `tiles` x `tiles` tiles."""

    name: Literal["clahe"]
    clip_limit: Annotated[float, Field(gt=0, le=1)] = 0.01
    tiles: Annotated[int, Field(ge=1, le=64)] = 8


class BrightnessContrast(Step):
    """x -> (x - 0.5) * (1 + c) + 0.5 + b, b and c uniform within the two bounds."""

    name: Literal["brightness_contrast"]
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.2
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.2


class Gamma(Step):
    """x -> x ** g, log g uniform between the logarithms of the two bounds."""

    name: Literal["gamma"]
    range: Range = (0.7, 1.4)


class Noise(Step):
    """Gaussian noise with a standard deviation uniform between 0 and `std` (of the clipped 0..1 image)."""

    name: Literal["noise"]
    std: Positive = 0.03


class Flip(Step):
    """Left-right (`hflip`) or up-down (`vflip`)."""

    name: Literal["hflip", "vflip"]


class Rotate(Step):
    """An angle uniform within +-`degrees`, around the centre."""

    name: Literal["rotate"]
    degrees: Annotated[float, Field(gt=0, le=360)] = 15.0


class Crop(Step):
    """A window with sides of a uniform share in `scale` of the image, anywhere inside it, resized to the full size."""

    name: Literal["crop"]
    scale: Annotated[tuple[Share, Share], AfterValidator(not_descending)] = (0.75, 1.0)


class Scale(Step):
    """Zoom around the centre by a uniform factor; below 1 the image shrinks and the border is padded."""

    name: Literal["scale"]
    range: Range = (0.9, 1.1)


class Shift(Step):
    """Move by up to `fraction` of the side along each axis."""

    name: Literal["shift"]
    fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.06


class Elastic(Step):
    """A smooth random displacement: Gaussian noise smoothed with `sigma` (share of the side), its largest
    displacement `alpha` (share of the side)."""

    name: Literal["elastic"]
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.03
    sigma: Annotated[float, Field(gt=0, le=0.5)] = 0.06


Augmentation = Annotated[
    Clahe | BrightnessContrast | Gamma | Noise | Flip | Rotate | Crop | Scale | Shift | Elastic,
    Field(discriminator="name"),
]
