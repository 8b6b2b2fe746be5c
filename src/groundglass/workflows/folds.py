"""Trainings of a cross-validation: one after another here, or several at a time in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from groundglass.data.dataset import Dataset, Locations
from groundglass.data.defects import Scan
from groundglass.data.opening import open_dataset
from groundglass.errors import GroundglassError
from groundglass.recipes import Recipe
from groundglass.show.progress import duration, say
from groundglass.workflows.train import Order, Row, epoch_line, train_split

# A worker that is asked to stop saves its run first; one that does not answer is ended.
_PATIENCE_SECONDS = 60


def train_folds(orders: Sequence[Order], data: Locations, dataset: Dataset, scan: Scan, jobs: int) -> list[str]:
    """Train every order, `jobs` at a time; returns a line for each that failed. One that fails stops no other.

    With one job all is done in this process. With several, each training has a process of its own, which opens `data`
    again, with its share of the processor's cores. KeyboardInterrupt stops all, resumable.
    """
    clock = _Clock(orders, jobs)
    if jobs == 1:
        return [line for order in orders if (line := _train_here(order, dataset, scan, clock))]
    return _train_side_by_side(orders, data, scan, jobs, clock)


def name_of(order: Order) -> str:
    """How a training is called in messages: `unet fold 2/5`."""
    return f"{order.recipe.name} fold {order.split.fold}"


class _Clock:
    """Says each epoch, with the time that this training and all of them will likely still take."""

    def __init__(self, orders: Sequence[Order], jobs: int) -> None:
        self.jobs = jobs
        self.orders = {name_of(order): order for order in orders}
        done = {name: 0 if o.begun is None else o.begun.manifest.epochs_done for name, o in self.orders.items()}
        self.epochs_left = {name: order.recipe.epochs - done[name] for name, order in self.orders.items()}
        self.spent: dict[str, list[float]] = {name: [] for name in self.orders}

    def epoch(self, order: Order, row: Row) -> None:
        name = name_of(order)
        self.spent[name].append(row["seconds"])
        self.epochs_left[name] = order.recipe.epochs - int(row["epoch"])
        left = [seconds for other in self.orders if (seconds := self._seconds_left(other))]
        # So many are at work at a time, but nothing is done before the longest is.
        total = max(sum(left) / min(self.jobs, max(1, len(left))), *left, 0.0, 0.0)
        text = f"about {duration(self._seconds_left(name))} left, {duration(total)} for all folds"
        say(f"{name}: {epoch_line(order.recipe, row, text)}")

    def ended(self, order: Order) -> None:
        self.epochs_left[name_of(order)] = 0

    def _seconds_left(self, name: str) -> float:
        order = self.orders[name]
        same_recipe = [s for other in self.orders if self._recipe(other) == order.recipe for s in self.spent[other]]
        known = same_recipe or [s for spent in self.spent.values() for s in spent]
        seconds = self.epochs_left[name] * sum(known) / len(known)
        return seconds if order.seconds is None else min(seconds, max(0.0, order.seconds - sum(self.spent[name])))

    def _recipe(self, name: str) -> Recipe:
        return self.orders[name].recipe


def _train_here(order: Order, dataset: Dataset, scan: Scan, clock: _Clock) -> str | None:
    try:
        train_split(order, dataset, scan, partial(_tell, order), partial(clock.epoch, order))
    except GroundglassError as error:
        return _failed(order, str(error))
    finally:
        clock.ended(order)
    return None


def _tell(order: Order, text: str) -> None:
    say(f"{name_of(order)}: {text}")


def _failed(order: Order, why: str) -> str:
    line = f"{name_of(order)}: {why}"
    say(line)
    return line


def _train_side_by_side(orders: Sequence[Order], data: Locations, scan: Scan, jobs: int, clock: _Clock) -> list[str]:
    waiting, failures = list(orders), []
    running: dict[Connection, tuple[SpawnProcess, Order]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                order = waiting.pop(0)
                pipe, process = _start(order, data, scan, jobs)
                running[pipe] = process, order
            ready = wait(list(running))
            for pipe in [pipe for pipe in running if pipe in ready]:
                process, order = running[pipe]
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    del running[pipe]
                    clock.ended(order)
                    if process.exitcode:
                        failures.append(_failed(order, _why(process.exitcode)))
                    continue
                if isinstance(message, GroundglassError):
                    failures.append(_failed(order, str(message)))
                elif isinstance(message, str):
                    _tell(order, message)
                else:
                    clock.epoch(order, message)
    finally:
        # Empty unless this is Ctrl-C, a polite kill or a bug.
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.join(_PATIENCE_SECONDS)
            process.kill()
    return failures


def _why(exitcode: int) -> str:
    if exitcode < 0:
        return f"its process was killed (signal {-exitcode}), perhaps for want of memory"
    return f"its process ended with an error (exit code {exitcode})"


def _start(order: Order, data: Locations, scan: Scan, jobs: int) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(order, data, scan, theirs), name=name_of(order))
    with _inherited(max(1, _cores() // jobs)):
        process.start()
    theirs.close()
    return ours, process


def _cores() -> int:
    """Threads that this process may use: what OMP_NUM_THREADS says, else its cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """What a process takes over from this one when it starts, and what counts only then: its number of threads, the
    allocator's settings, and that Ctrl-C is for this process alone, which asks the workers to stop."""
    from groundglass.learning.allocator import ALLOCATOR

    before = dict(os.environ)
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    os.environ.update(ALLOCATOR, OMP_NUM_THREADS=str(threads))
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
        for name in (*ALLOCATOR, "OMP_NUM_THREADS"):
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


def _work(order: Order, data: Locations, scan: Scan, pipe: Connection) -> None:
    """What a worker does. It sends lines to say, rows of epochs, and the error that ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        train_split(order, open_dataset(data), scan, pipe.send, pipe.send, bar=False)
    except GroundglassError as error:
        pipe.send(error)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _stop_with_parent() -> None:
    """When the parent was killed, nobody would ever ask this process to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
