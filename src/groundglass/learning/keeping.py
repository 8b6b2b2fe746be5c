"""What happens at the end of an epoch: scores, schedule, the kept weights, the checkpoint, and whether to stop."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from groundglass.errors import RunError
from groundglass.files import atomic, write_csv
from groundglass.learning.engine import read_kept
from groundglass.learning.learner import Learner
from groundglass.learning.mended import lightning
from groundglass.recipes.settings import Plateau, better, epoch_metrics
from groundglass.run import FORMAT_VERSION, MAX_TIME, Run

Row = dict[str, float]


class Keeper(lightning.Callback):
    """Keeps a run folder true after every epoch: what it says is on the disk, is on the disk.

    report: called with each epoch's row of `curves.csv`; batch: with (batches done, all batches) of the epoch;
    max_seconds: stop (resumable) before an epoch that would likely end after that much training in this session.
    """

    def __init__(
        self,
        run: Run,
        report: Callable[[Row], None],
        batch: Callable[[int, int], None],
        max_seconds: float | None,
    ) -> None:
        self.run, self.report, self.batch, self.max_seconds = run, report, batch, max_seconds
        self.rows: list[Row] = []
        self.best: float | None = None
        self.improvements = 0
        self.stale = 0
        self.stop_best: float | None = None
        self.why_stopped = ""
        self._started = self._epoch_started = time.monotonic()
        self._seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Training time in seconds over all sessions of the run."""
        return self._seconds_before + time.monotonic() - self._started

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._epoch_started = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        self.batch(arguments[-1] + 1, int(trainer.num_training_batches))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        learner = pl_module
        if not isinstance(learner, Learner):
            raise TypeError("the keeper keeps a Learner")
        row = self._score(learner, trainer.current_epoch + 1)
        if not math.isfinite(row["train/loss"]):
            # Before anything of this epoch is written: the run keeps the weights of the last sound one.
            raise RunError(
                f"{self.run.path}: the training loss is no longer a number in epoch {int(row['epoch'])}; lower "
                "optimiser.learning_rate, or try precision=fp32"
            )
        self._move_schedule(learner, row)
        self._keep_best(learner, row)
        self._consider_stopping(row)
        self.rows.append(row)
        self._save(trainer, learner)
        self.report(row)
        if self.why_stopped:
            trainer.should_stop = True

    def _score(self, learner: Learner, epoch: int) -> Row:
        row: Row = {"epoch": epoch, "learning_rate": learner.optimiser.param_groups[0]["lr"]}
        for part, tally in learner.tallies.items():
            row.update({f"{part}/{name}": value for name, value in tally.scores().items()})
        row["seconds"] = time.monotonic() - self._epoch_started
        return row

    def _move_schedule(self, learner: Learner, row: Row) -> None:
        rule = self.run.recipe.schedule
        if isinstance(learner.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau) and isinstance(rule, Plateau):
            learner.schedule.step(row[rule.metric])
        elif learner.schedule is not None and getattr(rule, "step", None) == "epoch":
            learner.schedule.step()

    def _keep_best(self, learner: Learner, row: Row) -> None:
        rule, manifest = self.run.recipe.checkpoint, self.run.manifest
        value = row[rule.metric]
        first = not self.rows
        if better(rule.metric, value, self.best):
            self.best = value
            self.improvements += 1
            due = self.improvements % rule.every_improvement == 0
        else:
            due = False
        if due or first or rule.keep == "last":
            epoch = int(row["epoch"])
            content = {"format_version": FORMAT_VERSION, "epoch": epoch, "value": value}
            self._write(self.run.best, {**content, "weights": learner.network.state_dict()})
            # Thresholds belong to the weights they were tuned for.
            manifest.kept_epoch, manifest.kept_value, manifest.thresholds = epoch, value, None

    def _consider_stopping(self, row: Row) -> None:
        rule = self.run.recipe.early_stopping
        if rule is not None:
            if better(rule.metric, row[rule.metric], self.stop_best, rule.min_delta):
                self.stop_best, self.stale = row[rule.metric], 0
            else:
                self.stale += 1
            if self.stale >= rule.patience:
                self.why_stopped = f"early stopping: {rule.patience} epochs without a better {rule.metric}"
        elapsed = time.monotonic() - self._started
        if self.max_seconds is not None and elapsed + row["seconds"] > self.max_seconds and not self._is_last(row):
            self.why_stopped = self.why_stopped or MAX_TIME

    def _is_last(self, row: Row) -> bool:
        return int(row["epoch"]) >= self.run.recipe.epochs

    def _save(self, trainer: lightning.Trainer, learner: Learner) -> None:
        manifest = self.run.manifest
        manifest.epochs_done, manifest.seconds = len(self.rows), self.seconds
        with atomic(self.run.last) as temporary:
            trainer.save_checkpoint(temporary)
        self._write_curves()
        self.run.save()
        self._write_events(self.rows[-1])

    def settle(self) -> None:
        """Make the manifest and the curves say what the checkpoint and the kept weights hold: a kill between two
        writes may have left them an epoch apart."""
        manifest, kept = self.run.manifest, read_kept(self.run)
        manifest.kept_epoch, manifest.kept_value = kept["epoch"], kept["value"]
        manifest.epochs_done, manifest.seconds = len(self.rows), self.seconds
        self._write_curves()

    def _write_curves(self) -> None:
        columns = ["epoch", "learning_rate", *epoch_metrics(self.run.recipe.labels), "seconds"]
        write_csv(self.run.curves, columns, self.rows)

    def _write_events(self, row: Row) -> None:
        """One file an epoch: a killed training leaves complete events, and a full disk is met here, not in a thread.
        TensorBoard would name the file by the machine; it is renamed by the epoch."""
        folder, epoch = self.run.path / "tensorboard", int(row["epoch"])
        with SummaryWriter(str(folder), filename_suffix=".new") as board:
            for name, value in row.items():
                if name != "epoch":
                    board.add_scalar(name, value, epoch)
        for written in folder.glob("*.new"):
            written.replace(folder / f"events.out.tfevents.{epoch:010d}.groundglass")

    @staticmethod
    def _write(path: Any, content: Any) -> None:
        # Serialised in memory first: torch's own file writer turns a full disk into an error of another kind.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        with atomic(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "best": self.best,
            "improvements": self.improvements,
            "stale": self.stale,
            "stop_best": self.stop_best,
            "seconds": self.seconds,
            # Out of time is no reason to stay stopped.
            "why_stopped": "" if self.why_stopped == MAX_TIME else self.why_stopped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.best = list(state_dict["rows"]), state_dict["best"]
        self.improvements, self.stale = state_dict["improvements"], state_dict["stale"]
        self.stop_best, self._seconds_before = state_dict["stop_best"], state_dict["seconds"]
        self.why_stopped = state_dict["why_stopped"]

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        learner = pl_module
        checkpoint["groundglass_format"] = FORMAT_VERSION
        if isinstance(learner, Learner) and learner.schedule is not None:
            checkpoint["groundglass_schedule"] = learner.schedule.state_dict()

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        learner = pl_module
        if isinstance(learner, Learner) and learner.schedule is not None:
            learner.schedule.load_state_dict(checkpoint["groundglass_schedule"])
