"""A labelled data set as groundglass sees it, whatever its files look like, and the defects found in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groundglass.case import Case, Unit
from groundglass.errors import GroundglassError

Severity = Literal["error", "warning"]
# A data set as a user names it, or several that are to be one.
Locations = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Defect:
    """Something wrong with a data set. Errors stop every verb; warnings are shown and stored with a run.

    kind: a short stable name such as `missing-file`; file and row: where; message: what, and what follows.
    """

    severity: Severity
    kind: str
    file: str
    row: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file} row {self.row}"
        return f"{place}: {self.message}"


@dataclass(frozen=True)
class Dataset:
    """Cases of one data set, or of several that were opened as one.

    cases: those with masks; test: those without, which can only be predicted.
    classes: canonical names that its masks can hold, the partly known too, in the order of `labels.LABELS`.
    patients: how patients are known: `given`, `from file names` or `not known`.
    defects: what the files' names, headers and tables show; pixels are looked at by `groundglass.data.defects`.
    """

    location: str
    format: str
    cases: tuple[Case, ...]
    test: tuple[Case, ...]
    classes: tuple[str, ...]
    unit: Unit
    patients: str
    defects: tuple[Defect, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Parts of the data set that hold labelled cases, in order of appearance."""
        return tuple(dict.fromkeys(case.source for case in self.cases))

    def case(self, case_id: str) -> Case:
        """The case with this id, labelled or not. Raises `KeyError`."""
        return {case.id: case for case in (*self.cases, *self.test)}[case_id]


def unreadable(error: GroundglassError, file: str, row: int | None = None, kind: str = "unreadable") -> Defect:
    """The error defect for a file that a reader refused; the reader's own mention of the path is dropped."""
    _, _, rest = str(error).partition(f"{Path(file).name}: ")
    return Defect("error", kind, file, row, rest or str(error))


@dataclass(frozen=True)
class Format:
    """How one folder layout is recognised and opened; `open` lists defects instead of raising for them."""

    name: str
    description: str
    recognise: Callable[[Path], bool]
    open: Callable[[str], Dataset]
