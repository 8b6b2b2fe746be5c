"""What a person sees while work goes on: notes and progress with the time left, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line, taken literally."""
    console.print(text, markup=False)


class Bar:
    """Moves a progress bar: `bar(done)`, or `bar(done, total)` where the total is found late."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int, total: int | None = None) -> None:
        if total is None:
            self._progress.update(self._task, completed=done)  # type: ignore[arg-type]
        else:
            self._progress.update(self._task, completed=done, total=total)  # type: ignore[arg-type]


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Bar]:
    """A bar with count, time spent and time left; invisible where standard error is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield Bar(shown, shown.add_task(label, total=total))


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
