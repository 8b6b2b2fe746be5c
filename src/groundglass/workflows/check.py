"""`groundglass check`: what a data set is, and what is wrong with it, before anything is learned from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundglass.data.dataset import Dataset, Defect
from groundglass.data.defects import Scan, scan
from groundglass.data.opening import open_dataset
from groundglass.files import write_json
from groundglass.show.progress import progress


@dataclass(frozen=True)
class Report:
    """What `check` found. `errors` stop every other verb; `warnings` are shown and stored with a run."""

    dataset: Dataset
    scan: Scan

    @property
    def errors(self) -> tuple[Defect, ...]:
        return self._of("error")

    @property
    def warnings(self) -> tuple[Defect, ...]:
        return self._of("warning")

    def _of(self, severity: str) -> tuple[Defect, ...]:
        return tuple(d for d in (*self.dataset.defects, *self.scan.defects) if d.severity == severity)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        d = self.dataset
        groups = {case.group for case in d.cases if case.group != case.id}
        return {
            "format": d.format,
            "cases": len(d.cases),
            "unlabelled": len(d.test),
            "sources": dict(Counter(case.source for case in (*d.cases, *d.test))),
            "patients_known": d.patients,
            "patients": len({case.patient for case in d.cases if case.patient}) or None,
            "groups": len(groups) or None,
            "shapes": {"x".join(map(str, k)): n for k, n in Counter(c.shape for c in (*d.cases, *d.test)).items()},
            "classes": list(d.classes),
            "unit": str(d.unit),
            **self.scan.to_dict(),
            "errors": [_plain(defect) for defect in self.errors],
            "warnings": [_plain(defect) for defect in self.warnings],
        }


def _plain(defect: Defect) -> dict[str, Any]:
    return {"kind": defect.kind, "file": defect.file, "row": defect.row, "message": defect.message}


def check(data: str | Path, out: str | Path | None = None) -> Report:
    """Open a data set, read every pixel once and report; with `out`, a data set without errors also as a JSON file.

    Raises `DataError` when nothing is there or no format knows it; what is wrong inside is in the report.
    """
    dataset = open_dataset(data)
    with progress("Reading every image and mask") as bar:
        report = Report(dataset, scan(dataset, bar))
    if out is not None and not report.errors:
        write_json(out, report.to_dict())
    return report
