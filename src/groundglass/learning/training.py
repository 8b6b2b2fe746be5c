"""Fit a recipe's network on the cases of a split, into a run folder; from the start or from its last checkpoint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from groundglass.case import Case
from groundglass.errors import DataError, GroundglassError, RecipeError, RunError, first_line
from groundglass.labels import LabelSet, label_set
from groundglass.learning import losses
from groundglass.learning.device import choose_precision
from groundglass.learning.engine import preparation_of
from groundglass.learning.keeping import Keeper, Row
from groundglass.learning.learner import Learner
from groundglass.learning.loading import Slices, loader
from groundglass.learning.mended import lightning
from groundglass.model.prepare import bounds, statistics, to_scale
from groundglass.recipes.settings import Recipe, Standardise
from groundglass.run import FORMAT_VERSION, Run

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# Pixels per slice that the data set's mean and deviation are computed from: percentiles need them all in memory.
_SAMPLED = 16_384


def fit(
    run: Run,
    network: nn.Module,
    train: Sequence[Case],
    validation: Sequence[Case],
    device: str,
    resume: bool = False,
    max_seconds: float | None = None,
    report: Callable[[Row], None] = lambda row: None,
    batch: Callable[[int, int], None] = lambda done, total: None,
    lungs: Callable[[Case], NDArray[np.bool_]] | None = None,
) -> None:
    """Train until the recipe's end, early stopping or `max_seconds`; the run folder is whole after every epoch.

    network: the recipe's, with the weights to start from; `resume` fills it from the run's last checkpoint.
    report, batch: called after each epoch with its row, after each batch with (done, all). lungs: the lungs [H, W] of a
    case, where the network is to see nothing else. The run is left as
    `interrupted`, with the reason in `why_ended`: its caller calls it finished when nothing is left to do. A Ctrl-C is
    raised again as KeyboardInterrupt.
    """
    recipe = run.recipe
    precision = choose_precision(recipe, device)
    preparation = preparation_of(run)
    training = Slices(train, recipe, preparation, training=True, lungs=lungs)
    validating = Slices(validation, recipe, preparation, training=False, lungs=lungs)
    batches = loader(training, recipe, training=True, device=device)
    checks = loader(validating, recipe, training=False, device=device)
    loss = losses.build(recipe.loss, label_set(recipe.labels), run.manifest.class_pixels)
    learner = Learner(network, recipe, loss, validating, len(batches))
    keeper = Keeper(run, report, batch, max_seconds)
    if resume:
        keeper.load_state_dict(read_checkpoint(run)["callbacks"][keeper.state_key])
    if not (keeper.why_stopped or len(keeper.rows) >= recipe.epochs):
        run.manifest.state = "training"
        run.save()
        _train(run, learner, batches, checks, keeper, device, precision, resume)
    keeper.settle()
    _interrupted(run, keeper.why_stopped or f"all {recipe.epochs} epochs")


def _train(
    run: Run,
    learner: Learner,
    batches: DataLoader,
    checks: DataLoader,
    keeper: Keeper,
    device: str,
    precision: str,
    resume: bool,
) -> None:
    """Run Lightning's loop; whatever ends it early, the run is told before it is raised."""
    with _quiet():
        trainer = _trainer(run.recipe, device, precision, keeper)
        try:
            trainer.fit(learner, batches, checks, ckpt_path=str(run.last) if resume else None, weights_only=True)
        except SystemExit:
            # Lightning ends the process on Ctrl-C; the caller decides how to end.
            if not trainer.interrupted:
                raise
        except torch.OutOfMemoryError as error:
            _interrupted(run, "out of memory")
            raise RecipeError(
                f"batch_size: {run.recipe.batch_size} images of {run.recipe.image_size} pixels do not fit the memory "
                f"of the {device} device; make one of them smaller"
            ) from error
        except BaseException as error:
            _interrupted(run, first_line(error) if isinstance(error, GroundglassError) else "an error or a signal")
            raise
    if trainer.interrupted:
        _interrupted(run, "stopped by the user")
        raise KeyboardInterrupt


def _interrupted(run: Run, why: str) -> None:
    """Until its caller has finished the run, one that stops for whatever reason can be resumed."""
    run.manifest.state, run.manifest.why_ended = "interrupted", why
    run.save()


def read_checkpoint(run: Run) -> dict[str, Any]:
    """The run's last checkpoint. Raises `RunError` unless it is readable and of this format version."""
    try:
        checkpoint: dict[str, Any] = torch.load(run.last, map_location="cpu", weights_only=True)
        version = checkpoint.get("groundglass_format")
    except Exception as error:  # torch has many exceptions for a damaged file
        raise RunError(f"{run.last}: cannot be read ({first_line(error)[:100]})") from None
    if version != FORMAT_VERSION:
        raise RunError(f"{run.last}: has format {version}; this groundglass resumes format {FORMAT_VERSION}")
    return checkpoint


def measure_training_part(recipe: Recipe, train: Sequence[Case]) -> tuple[float | None, float | None]:
    """Mean and standard deviation in HU over the training cases, as the recipe standardises; None where it does not.

    Every slice gives the same number of evenly spaced pixels, 64 kB of memory each, so that the result does not depend
    on chance. Raises `DataError` when the recipe names sources that no training case has.
    """
    rule = recipe.intensity.scale
    if not isinstance(rule, Standardise):
        return None, None
    chosen = [case for case in train if rule.sources is None or case.source in rule.sources]
    if not chosen:
        raise DataError(f"intensity.scale.sources: no training case comes from {', '.join(rule.sources or ())}")
    low, high = bounds(recipe.intensity)
    values = []
    for case in chosen:
        pixels = np.clip(to_scale(case.image(), case.unit, recipe.intensity), low, high).ravel()
        values.append(pixels[:: max(1, pixels.size // _SAMPLED)])
    return statistics(np.concatenate(values), rule.percentiles)


def count_classes(labels: LabelSet, train: Sequence[Case]) -> dict[str, int]:
    """Pixels of each class in the training cases. Partly known pixels count for none."""
    counts = np.zeros(len(labels.codes), np.int64)
    for case in train:
        counts += np.bincount(labels.encode(case.labels()).ravel(), minlength=len(labels.codes))
    return dict(zip(labels.classes, counts[: len(labels.classes)].tolist(), strict=True))


def _trainer(recipe: Recipe, device: str, precision: str, keeper: Keeper) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=recipe.epochs,
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=_LIGHTNING_PRECISION[precision],
        callbacks=[keeper],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic="warn" if device == "cuda" else True,
    )


class _quiet(warnings.catch_warnings):
    """Lightning's notices about worker counts, devices and tips are not for the reader of a training."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
