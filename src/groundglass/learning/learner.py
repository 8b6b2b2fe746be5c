"""The Lightning module: one network, its loss, and the counts from which every epoch is scored.

Validation goes the way of every prediction: probabilities are restored to the case's own grid, decided there, and
counted by the same confusion matrix as `groundglass evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from groundglass.labels import LabelSet, label_set
from groundglass.learning.loading import Slices
from groundglass.learning.losses import Loss, own
from groundglass.learning.mended import lightning
from groundglass.measure.counts import class_counts, confusion
from groundglass.measure.metrics import METRICS, ratio
from groundglass.model.decide import decide
from groundglass.model.prepare import fit_into, restore
from groundglass.networks.building import in_channels
from groundglass.recipes.settings import Adam, Constant, Cosine, OneCycle, Plateau, Recipe, Sgd, Thresholds

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Learner(lightning.LightningModule):
    """Trains `network` by `recipe`. `tallies` holds, per part, the epoch's summed loss, its slice count and its
    confusion matrix [R, K]; `scores` turns them into the epoch's numbers."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, loss: Loss, validation: Slices, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.loss, self.validation = recipe, loss, validation
        self.steps_per_epoch = steps_per_epoch
        self.labels = label_set(recipe.labels)
        self.channels = in_channels(recipe)
        self.tallies = {part: Tally(self.labels) for part in ("train", "validation")}
        self.optimiser = optimiser(recipe, self.network)
        self.schedule = schedule(recipe, self.optimiser, steps_per_epoch)
        self._truth: dict[int, NDArray[np.uint8]] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(self._input(x))

    def _input(self, x: torch.Tensor) -> torch.Tensor:
        x = x.repeat(1, self.channels, 1, 1) if self.channels > 1 else x
        return x.contiguous(memory_format=torch.channels_last)

    def _judge(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch, and the logits [N, K, H, W] that it is scored by."""
        if self.recipe.own_loss:
            loss, logits = own(self.network, self._input(x), target)
            return self.recipe.loss[0].weight * loss, logits
        logits = self(x)
        return self.loss(logits, target), logits

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimiser

    def on_train_epoch_start(self) -> None:
        self.tallies["train"].clear()

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        # Dropout and drop-path draw from torch's own generator, as does every loader when it starts, at another moment
        # of a resumed training than of an uninterrupted one. Seeded per batch, both draw the same.
        seed = np.random.default_rng([self.recipe.seed, self.current_epoch, index]).integers(2**31)
        torch.manual_seed(int(seed))
        x, target, _ = batch
        loss, logits = self._judge(x, target)
        counted = confusion(
            target.detach().cpu().numpy().astype(np.uint8),
            logits.detach().argmax(dim=1).cpu().numpy().astype(np.uint8),
            self.labels,
        )
        self.tallies["train"].add(float(loss.detach()), len(x), counted)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        if self.schedule is not None and getattr(self.recipe.schedule, "step", None) == "batch":
            self.schedule.step()

    def on_validation_epoch_start(self) -> None:
        self.tallies["validation"].clear()

    def validation_step(self, batch: Batch, index: int) -> None:
        # A loss that draws, draws the same every epoch, so that it moves by what was learned alone.
        torch.manual_seed(int(np.random.default_rng([self.recipe.seed, index]).integers(2**31)))
        x, target, positions = batch
        loss, logits = self._judge(x, target)
        tally = self.tallies["validation"]
        answers = torch.softmax(logits.float(), dim=1).cpu().numpy()
        for answer, position in zip(answers, positions.tolist(), strict=True):
            truth = self._own_truth(position)
            fit = fit_into((truth.shape[0], truth.shape[1]), self.recipe.image_size)
            decided = decide(restore(answer, fit), self.labels, self._fixed_thresholds())
            tally.count(confusion(truth, decided, self.labels))
        tally.lose(float(loss), len(x))

    def _fixed_thresholds(self) -> Mapping[str, float] | None:
        rule = self.recipe.decision
        return rule.values if isinstance(rule, Thresholds) and isinstance(rule.values, dict) else None

    def _own_truth(self, position: int) -> NDArray[np.uint8]:
        """Codes [H, W] of the labels on the case's own grid."""
        if position not in self._truth:
            self._truth[position] = self.labels.encode(self.validation.cases[position].labels())
        return self._truth[position]


class Tally:
    """One part's loss and confusion matrix [R, K] over an epoch."""

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.matrix: NDArray[np.int64] = np.zeros((len(labels.codes), len(labels.classes)), np.int64)
        self.clear()

    def clear(self) -> None:
        self.matrix[:] = 0
        self.loss, self.slices = 0.0, 0

    def add(self, loss: float, slices: int, counted: NDArray[np.int64]) -> None:
        self.lose(loss, slices)
        self.count(counted)

    def lose(self, loss: float, slices: int) -> None:
        self.loss += loss * slices
        self.slices += slices

    def count(self, counted: NDArray[np.int64]) -> None:
        self.matrix += counted

    def scores(self) -> dict[str, float]:
        """loss, accuracy, mIoU over classes present, F1 per class and their mean over the lesion classes; pooled over
        all pixels of the epoch that are known for the class (for the accuracy: known altogether)."""
        classes = self.labels.classes
        counts = [class_counts(self.matrix, (channel,), self.labels) for channel in range(len(classes))]
        iou, f1 = (np.array([METRICS[name](c) for c in counts]) for name in ("iou", "dice"))
        known = self.matrix[: len(classes)].astype(np.float64)
        return {
            "loss": self.loss / max(self.slices, 1),
            "accuracy": float(ratio(np.trace(known), known.sum())),
            "miou": _mean(iou),
            **({"f1_lesions": _mean(f1[list(self.labels.lesion_channels)])} if self.labels.lesions else {}),
            **{f"f1_{name}": float(value) for name, value in zip(classes, f1, strict=True)},
        }


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else float("nan")


def optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser over all weights."""
    chosen = recipe.optimiser
    rate, decay = chosen.learning_rate, chosen.weight_decay
    if isinstance(chosen, Sgd):
        return torch.optim.SGD(network.parameters(), lr=rate, weight_decay=decay, momentum=chosen.momentum)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[chosen.name]
    return kind(network.parameters(), lr=rate, weight_decay=decay)


Schedule = torch.optim.lr_scheduler.LRScheduler | torch.optim.lr_scheduler.ReduceLROnPlateau


def schedule(recipe: Recipe, optimiser: torch.optim.Optimizer, steps_per_epoch: int) -> Schedule | None:
    """The recipe's learning-rate schedule, None for a constant rate. It is moved by the learner (per batch) or the
    keeper (per epoch), not by Lightning, so that its state is part of the checkpoint to the last step."""
    rule = recipe.schedule
    if isinstance(rule, Constant):
        return None
    if isinstance(rule, Plateau):
        mode: Literal["min", "max"] = "min" if rule.metric.endswith("/loss") else "max"
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, mode, factor=rule.factor, patience=rule.patience, threshold=0
        )
    moves = recipe.epochs * (steps_per_epoch if rule.step == "batch" else 1)
    if isinstance(rule, OneCycle):
        # One move more than is made: the scheduler refuses to be asked beyond its end.
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=recipe.optimiser.learning_rate,
            total_steps=moves + 1,
            # At least one move up: a warm-up of exactly none makes the scheduler divide by zero.
            pct_start=max(rule.warmup, 2 / (moves + 1)),
            cycle_momentum=isinstance(recipe.optimiser, Adam),
        )
    if isinstance(rule, Cosine):
        return torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, T_max=moves, eta_min=recipe.optimiser.learning_rate * rule.final
        )
    raise TypeError(f"no schedule '{rule.name}'")
