"""`groundglass check`: what a data set is, and what is wrong with it, before anything is learned from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from groundglass.data.dataset import Dataset, Defect, Locations
from groundglass.data.defects import Scan
from groundglass.data.links import COLUMNS, Link, grouped, links, one_scans, tally
from groundglass.data.opening import open_dataset
from groundglass.data.survey import Survey
from groundglass.errors import DataError
from groundglass.files import write_csv, write_json
from groundglass.workflows.opening import look


@dataclass(frozen=True)
class Report:
    """What `check` found. `errors` stop every other verb; `warnings` are shown and stored with a run."""

    dataset: Dataset
    scan: Scan
    survey: Survey

    @property
    def errors(self) -> tuple[Defect, ...]:
        return self._of("error")

    @property
    def warnings(self) -> tuple[Defect, ...]:
        return self._of("warning")

    def _of(self, severity: str) -> tuple[Defect, ...]:
        return tuple(d for d in (*self.dataset.defects, *self.scan.defects) if d.severity == severity)

    @cached_property
    def sets(self) -> Mapping[str, str]:
        """Case id -> name of its data set; empty where only one was opened."""
        if self.dataset.format != "several":
            return {}
        return {case.id: case.file.partition("/")[0] for case in (*self.dataset.cases, *self.dataset.test)}

    @cached_property
    def links(self) -> list[Link]:
        """Pairs of near duplicates, those across the gravest border first."""
        return links(self.dataset, self.scan.twins, self.sets) if self.scan.twins is not None else []

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; `tables` holds those of the page."""
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
            "tables": {
                "classes": self.survey.classes_table(),
                "lesions": self.survey.lesions_table(),
                "intensities": self.survey.intensities_table(),
            },
            "twins": self._twins(),
            "errors": [_plain(defect) for defect in self.errors],
            "warnings": [_plain(defect) for defect in self.warnings],
        }

    def _twins(self) -> dict[str, Any] | None:
        twins = self.scan.twins
        if twins is None:
            return None
        groups = grouped(self.dataset, twins.clusters)
        return {
            **tally(self.links, twins),
            "groups": {"apart": len(groups.apart), "together": len(groups.together), "joined": groups.joined},
            "one_scan": [str(found) for found in one_scans(self.dataset, self.links)],
            "found": [link.to_dict() for link in self.links],
            "members": [list(cluster) for cluster in twins.clusters],
        }


def _plain(defect: Defect) -> dict[str, Any]:
    return {"kind": defect.kind, "file": defect.file, "row": defect.row, "message": defect.message}


def check(
    data: Locations,
    out: str | Path | None = None,
    html: str | Path | None = None,
    pairs: str | Path | None = None,
    twins: bool = True,
    identifiers: bool = False,
) -> Report:
    """Open a data set, or several as one, read every pixel once and report.

    A data set without errors is also written: `out`, the whole report as JSON; `html`, a page that needs nothing but
    itself; `pairs`, the near duplicates as CSV. twins: search for near duplicates; identifiers: the page may print
    patients' identifiers that are part of file names. JSON and CSV name files as they are.
    Raises `DataError` when nothing is there, no format knows it, or what is to be written is a folder; what is wrong
    inside is in the report.
    """
    _need_files(out, html, pairs)
    if pairs is not None and not twins:
        raise DataError("--pairs holds what the search for near duplicates finds; leave out --no-twins")
    dataset = open_dataset(data)
    survey = Survey(dataset)
    report = Report(dataset, look(dataset, twins, survey.add, refuse=False), survey)
    if report.errors:
        return report
    if html is not None:
        from groundglass.show.exploration import Explored, write_exploration

        explored = Explored(dataset, report.scan, survey, report.sets, identifiers)
        note = f"groundglass {version('groundglass')}, fingerprint of the data {report.scan.fingerprint}."
        write_exploration(html, explored, note)
    if out is not None:
        write_json(out, report.to_dict())
    if pairs is not None:
        write_csv(pairs, COLUMNS, (link.to_dict() for link in report.links))
    return report


def _need_files(*paths: str | Path | None) -> None:
    """Raise `DataError` for a place that cannot be written to, before a long reading begins."""
    for path in (Path(path) for path in paths if path is not None):
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name a file in it")
    named = [Path(path).absolute() for path in paths if path is not None]
    if len(set(named)) < len(named):
        raise DataError(f"{named[-1].name}: is named for two things; give each its own file")
