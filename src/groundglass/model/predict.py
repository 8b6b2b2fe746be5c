"""The one way from an image to probabilities on its own grid; every prediction in groundglass goes through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Unit
from groundglass.errors import RecipeError, RunError
from groundglass.labels import LabelSet
from groundglass.model.decide import decide
from groundglass.model.prepare import Preparation, clip01, restore, scale, shrink

Tta = Literal["none", "flips"]


class Engine(Protocol):
    """Runs a network: [N, 1, S, S] float32 -> class probabilities [N, K, S, S] float32, summing to 1 over K."""

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Model:
    """A network that can answer, with everything between a case and its answer.

    thresholds: per lesion class, or None for argmax.
    """

    engine: Engine
    preparation: Preparation
    labels: LabelSet
    thresholds: Mapping[str, float] | None = None


def probabilities(
    models: Sequence[Model], image: NDArray[np.floating], unit: Unit, tta: Tta = "none"
) -> NDArray[np.float32]:
    """Class probabilities [K, H, W] float32 of an image [H, W] on its own grid, the mean over `models`.

    tta `flips`: also over left-right and up-down flips. Raises `RunError` for models that `check_together` refuses.
    """
    check_together(models)
    mean: NDArray[np.float32] | None = None
    for model in models:
        x, fit = shrink(clip01(image, unit, model.preparation.intensity), model.preparation.image_size)
        answer = restore(_flipped(model.engine, scale(x, model.preparation), tta), fit)
        mean = answer if mean is None else mean + answer
    if mean is None:
        raise RunError("no model to predict with")
    return (mean / len(models)).astype(np.float32)


def segment(
    models: Sequence[Model], image: NDArray[np.floating], unit: Unit, tta: Tta = "none"
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Canonical label map [H, W] uint8 and probabilities [K, H, W]; several models decide by their mean probability
    and mean thresholds."""
    p = probabilities(models, image, unit, tta)
    return models[0].labels.decode(decide(p, models[0].labels, mean_thresholds(models))), p


def check_tta(tta: str) -> None:
    """Raise `RecipeError` unless `tta` is a known test-time augmentation."""
    if tta not in get_args(Tta):
        raise RecipeError(f"--tta {tta}: choose {' or '.join(get_args(Tta))}")


def check_together(models: Sequence[Model]) -> None:
    """Raise `RunError` unless all models answer in the same classes, and all or none decide by thresholds."""
    names = {model.labels.name for model in models}
    if len(names) > 1:
        raise RunError(f"these runs learned different label sets ({', '.join(sorted(names))}) and cannot be averaged")
    if len({model.thresholds is None for model in models}) > 1:
        raise RunError(
            "some of these runs decide by thresholds, others by argmax; predict with them one by one, or train them "
            "with one decision"
        )


def mean_thresholds(models: Sequence[Model]) -> dict[str, float] | None:
    """Thresholds averaged per class, or None (argmax) where no model has them. Raises as `check_together`."""
    check_together(models)
    given = [model.thresholds for model in models if model.thresholds is not None]
    return {name: float(np.mean([t[name] for t in given])) for name in given[0]} if given else None


def _flipped(engine: Engine, x: NDArray[np.float32], tta: Tta) -> NDArray[np.float32]:
    """[S, S] -> probabilities [K, S, S], averaged over flips of the input turned back."""
    axes: list[tuple[int, ...]] = [()] if tta == "none" else [(), (-1,), (-2,), (-2, -1)]
    batch = np.stack([np.flip(x, axis) for axis in axes])[:, None]
    answers = engine(np.ascontiguousarray(batch))
    turned = np.stack([np.flip(answer, axis) for answer, axis in zip(answers, axes, strict=True)])
    return np.asarray(turned.mean(axis=0), np.float32)
