"""The one way from an image to probabilities on its own grid; every prediction in groundglass goes through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case, Unit
from groundglass.errors import RecipeError, RunError
from groundglass.labels import BY_NAME, LabelSet
from groundglass.model.decide import decide
from groundglass.model.prepare import Fit, Preparation, clip01, restore, scale, shrink, within

Tta = Literal["none", "flips"]
Roi = Literal["truth", "predicted", "none"]


class Engine(Protocol):
    """Runs a network: [N, 1, S, S] float32 -> class probabilities [N, K, S, S] float32, summing to 1 over K."""

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Model:
    """A network that can answer, with everything between a case and its answer.

    thresholds: per lesion class, or None for argmax. first: the model that finds the lungs, of a recipe with a first
    stage; roi: what such a model sees: the lungs that are known (`truth`), those that `first` finds, or all (`none`).
    """

    engine: Engine
    preparation: Preparation
    labels: LabelSet
    thresholds: Mapping[str, float] | None = None
    first: Model | None = None
    roi: Roi = "none"


def probabilities(
    models: Sequence[Model],
    image: NDArray[np.floating],
    unit: Unit,
    tta: Tta = "none",
    lungs: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Class probabilities [K, H, W] float32 of an image [H, W] on its own grid, the mean over `models`.

    tta `flips`: also over left-right and up-down flips. lungs: [H, W] bool, where they are known; only models that see
    the true lungs look at them. Raises `RunError` for models that `check_together` refuses.
    """
    check_together(models)
    return _mean([_answer(model, image, unit, tta, lungs) for model in models])


def _answer(
    model: Model, image: NDArray[np.floating], unit: Unit, tta: Tta, lungs: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """What one model makes of an image, [K, H, W]."""
    x, fit = network_input(model, image, unit, lungs)
    return restore(_flipped(model.engine, x, tta), fit)


def network_input(
    model: Model, image: NDArray[np.floating], unit: Unit, lungs: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], Fit]:
    """What a model's network sees of an image [H, W]: [S, S] float32, and where the image lies in it."""
    seen = clip01(image, unit, model.preparation.intensity)
    if model.roi != "none" and model.first is not None:
        known = lungs if model.roi == "truth" else None
        seen = within(seen, find_lungs(model.first, image, unit) if known is None else known)
    x, fit = shrink(seen, model.preparation.image_size)
    return scale(x, model.preparation), fit


def _mean(answers: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    if not answers:
        raise RunError("no model to predict with")
    return np.asarray(sum(answers[1:], answers[0]) / len(answers), np.float32)


class Segmented(NamedTuple):
    """labels: canonical label map [H, W] uint8; probabilities: [K, H, W] float32; lungs: [H, W] bool where a first
    stage found them, which the label map then holds too, else None."""

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    lungs: NDArray[np.bool_] | None


def segment(models: Sequence[Model], image: NDArray[np.floating], unit: Unit, tta: Tta = "none") -> Segmented:
    """The answer to an image of which nothing is known; several models decide by their mean probability and mean
    thresholds, and by the majority of their first stages what is lung."""
    check_together(models)
    found = [None if model.first is None else find_lungs(model.first, image, unit) for model in models]
    # Each model is shown the lungs that its own first stage has found already.
    seeing = [model if model.roi == "none" else replace(model, roi="truth") for model in models]
    p = _mean([_answer(model, image, unit, tta, lungs) for model, lungs in zip(seeing, found, strict=True)])
    labels = models[0].labels.decode(decide(p, models[0].labels, mean_thresholds(models)))
    votes = [lungs for lungs in found if lungs is not None]
    if not votes:
        return Segmented(labels, p, None)
    lungs = np.asarray(2 * np.sum(votes, axis=0) > len(votes))
    background = lungs & (labels == BY_NAME["background"].value)
    return Segmented(np.where(background, np.uint8(BY_NAME["lung"].value), labels), p, lungs)


def case_probabilities(models: Sequence[Model], case: Case, tta: Tta = "none") -> NDArray[np.float32]:
    """`probabilities` of a case, with its reader's lungs for models that see these."""
    return probabilities(models, case.image(), case.unit, tta, known_lungs(models, case))


def known_lungs(models: Sequence[Model], case: Case) -> NDArray[np.bool_] | None:
    """The lungs [H, W] that a reader marked, where one did and a model sees them."""
    return case.lung() if any(model.roi == "truth" for model in models) else None


def find_lungs(first: Model, image: NDArray[np.floating], unit: Unit) -> NDArray[np.bool_]:
    """Where a first stage sees lungs in an image [H, W], bool on its own grid."""
    decided = decide(probabilities([first], image, unit), first.labels, first.thresholds)
    return np.asarray(decided == first.labels.classes.index("lung"))


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
