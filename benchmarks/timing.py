"""What all benchmarks share: fair turns, fresh processes, peak memory, and tables.

Speed is claimed as a ratio from one run. The variants take turns (A B C A B C ...), so that whatever else the machine
does falls on all of them alike; a table shows medians over the rounds.

Variants that differ in environment variables, or whose peak memory is of interest, answer in child processes. One
child per environment imports the benchmark once; for every question it forks a fresh process, which calls the
benchmark's `measure`, so that no question inherits another one's heap, caches or peak.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from types import TracebackType
from typing import Any

from rich.console import Console

from groundglass.files import write_json
from groundglass.show.tables import print_table

Answer = dict[str, Any]


def parser(doc: str | None, rounds: int, threads: int | None = None) -> argparse.ArgumentParser:
    """The options that benchmarks share; `doc` is the module's docstring."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help=f"turns of each variant (default {rounds})")
    if threads is not None:
        made.add_argument("--threads", type=int, default=threads, help=f"torch's threads (default {threads})")
    made.add_argument("--json", metavar="FILE", help="also write the tables to this file")
    return made


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def interleave(variants: Mapping[Any, Callable[[], Answer]], rounds: int) -> dict[Any, Answer]:
    """Ask the variants in turn, `rounds` times; for each, the median of every number (texts: the last one).

    Progress goes to standard error.
    """
    answers: dict[Any, list[Answer]] = {name: [] for name in variants}
    for turn in range(rounds):
        for name, ask in variants.items():
            label = " ".join(map(str, name)) if isinstance(name, tuple) else name
            print(f"round {turn + 1}/{rounds}: {label}", file=sys.stderr)
            answers[name].append(ask())
    return {name: {key: _middle([a[key] for a in given]) for key in given[0]} for name, given in answers.items()}


def _middle(values: Sequence[Any]) -> Any:
    return median(values) if all(isinstance(v, int | float) for v in values) else values[-1]


def peak_mb() -> float:
    """The most resident memory this process has held, in MB (10^6 bytes); NaN where the system does not say."""
    return _status_mb("VmHWM:")


def resident_mb() -> float:
    """Resident memory now, in MB."""
    return _status_mb("VmRSS:")


def _status_mb(field: str) -> float:
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return float("nan")


class Child:
    """A process with its own environment that answers questions by `measure` of the module `benchmark`.

    environment: variables to add. Variables of `without` are taken away first.
    """

    def __init__(self, benchmark: str, environment: Mapping[str, str] | None = None, without: Sequence[str] = ()):
        kept = {name: value for name, value in os.environ.items() if name not in without}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.timing", benchmark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**kept, **(environment or {})},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ask(self, **question: Any) -> Answer:
        """`measure(**question)` in a fresh process. Raises `RuntimeError` when that process fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: Answer | None = json.loads(line) if line else None
        if answer is None:
            raise RuntimeError(f"no answer to {question}; the reason stands above")
        return answer


def _serve(benchmark: str) -> None:
    """Answer questions from standard input, one JSON object a line, each by a fork; `null` for a failed one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    module = importlib.import_module(benchmark)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                answers.write(json.dumps(module.measure(**json.loads(line))) + "\n")
                answers.flush()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            answers.write("null\n")
            answers.flush()


def machine() -> dict[str, Any]:
    """Where the numbers come from, in words that fit any machine."""
    from importlib.metadata import version

    flags = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        pass
    fast = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if name in flags.split()]
    return {
        "cores": cores(),
        "architecture": platform.machine(),
        "instructions": ", ".join(fast),
        "c_library": " ".join(platform.libc_ver()).strip(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "load_at_start": round(os.getloadavg()[0], 1),
    }


class Report:
    """Tables as they come, printed at once, and written together by `write`. `question` is the first line printed."""

    def __init__(self, question: str) -> None:
        self.machine = machine()
        # Away from a terminal rich would fold everything into 80 columns.
        self.console = Console(width=None if sys.stdout.isatty() else 120)
        self.question = question
        self.tables: list[dict[str, Any]] = []
        words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.machine.items() if value != "")
        print(f"{question}\n{words}")
        if self.machine["load_at_start"] > 0.5:
            print("Something else runs on this machine: trust ratios, not seconds.")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        print_table(columns, rows, title, self.console)
        self.tables.append({"title": title, "columns": list(columns), "rows": [list(row) for row in rows]})

    def write(self, path: str | None) -> None:
        """Write everything as JSON when a path is given."""
        if path:
            write_json(path, {"question": self.question, "machine": self.machine, "tables": self.tables})


if __name__ == "__main__":
    _serve(sys.argv[1])
