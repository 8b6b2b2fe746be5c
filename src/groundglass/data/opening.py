"""Find the format of a data set by looking at it, and open it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from groundglass.case import Case
from groundglass.data.dataset import Dataset, Defect, Format
from groundglass.data.defects import Scan, scan
from groundglass.errors import DataError
from groundglass.registry import FORMATS, load


def open_dataset(location: str | Path) -> Dataset:
    """Open a folder, a manifest table, or generated phantoms (`phantom:...`).

    Raises `DataError` when nothing is there or no format knows it. What is wrong within a known format is listed in
    `Dataset.defects`; see `require_clean`.
    """
    place = str(location)
    if place.startswith("phantom:"):
        phantoms: Format = load(FORMATS["phantom"])
        return phantoms.open(place)
    path = Path(place).expanduser()
    if not path.exists():
        raise DataError(f"{place}: does not exist")
    formats: list[Format] = [load(entry) for entry in FORMATS.values()]
    for format_ in formats:
        if format_.recognise(path):
            return _with_unknown_patients(format_.open(place))
    if not path.is_dir():
        raise DataError(f"{place}: is no data set; give a folder or a manifest .csv")
    inner = [child for child in sorted(path.iterdir()) if child.is_dir() and any(f.recognise(child) for f in formats)]
    hint = f"did you mean '{inner[0]}'?" if inner else "looked for: " + "; ".join(f.description for f in formats)
    raise DataError(f"{place}: holds no known data set; {hint}")


def require_clean(
    dataset: Dataset, pixels: bool = True, progress: Callable[[int, int], None] | None = None
) -> Scan | None:
    """Refuse a data set with errors, first by its headers, then by its pixels.

    Returns the `Scan` of the pixels, None without `pixels`. Raises `DataError` with the first error and the number of
    the others.
    """
    _refuse(dataset.defects)
    if not pixels:
        return None
    found = scan(dataset, progress)
    _refuse(found.defects)
    return found


def _refuse(defects: tuple[Defect, ...]) -> None:
    errors = [defect for defect in defects if defect.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more; see 'groundglass check')" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{more}")


def _with_unknown_patients(dataset: Dataset) -> Dataset:
    """Add one warning a source whose patients nobody names."""
    unknown = [case for case in dataset.cases if case.patient is None]
    warnings = tuple(
        _unknown_patients(source, list(cases)) for source, cases in groupby(unknown, key=lambda case: case.source)
    )
    return replace(dataset, defects=(*dataset.defects, *warnings))


def _unknown_patients(source: str, cases: list[Case]) -> Defect:
    groups = len({case.group for case in cases})
    kept = "every image stands for itself" if groups == len(cases) else f"{groups} volumes are kept whole"
    text = (
        f"patients of {len(cases)} images of '{source}' are not known; {kept}, "
        "but one person may be on both sides of a split"
    )
    return Defect("warning", "unknown-patients", cases[0].file, None, text)
