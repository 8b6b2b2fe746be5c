"""Find the format of a data set by looking at it, and open it; several are opened as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

from groundglass.case import Case, Unit
from groundglass.data.dataset import Dataset, Defect, Format, Locations
from groundglass.data.defects import Scan, scan
from groundglass.data.masks import without_lungs
from groundglass.errors import DataError
from groundglass.labels import LABELS
from groundglass.registry import FORMATS, load

LUNGS = {"lung", "unmarked-lung"}
# Locations that name no folder, but data that the program draws.
GENERATED = ("phantom:", "phantom-xray:")


def open_dataset(location: Locations) -> Dataset:
    """Open a folder, a manifest table, or drawn phantoms (`phantom:...`, `phantom-xray:...`); or several as one.

    Several keep their ids and sources; where an id, or a source with masks, is in two of them, theirs begin with the
    folder's name. Patients and volumes of one name count as one. Where one knows lungs, the background of another
    that never marks lung becomes `no-lesion`.
    Raises `DataError` when nothing is there, no format knows it, or one location is given twice. What is wrong within
    a known format is listed in `Dataset.defects`; see `require_clean`.
    """
    places = [str(location)] if isinstance(location, str | Path) else [str(place) for place in location]
    if not places:
        raise DataError("name at least one data set")
    opened: dict[str, Dataset] = {}
    for place in places:
        dataset = _open(place)
        if (identity := _identity(place)) in opened:
            first = opened[identity].location
            raise DataError(f"{place}: is given twice{'' if first == place else f', also as {first}'}")
        opened[identity] = dataset
    parts = list(opened.values())
    return _with_unknown_patients(parts[0] if len(parts) == 1 else _join(parts, [_name(place) for place in opened]))


def require_clean(
    dataset: Dataset,
    pixels: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Scan | None:
    """Refuse a data set with errors, first by its headers, then by its pixels.

    Returns the `Scan` of the pixels, None without `pixels`. Raises `DataError` with the first error and the number of
    the others.
    """
    refuse_errors(dataset.defects)
    if not pixels:
        return None
    found = scan(dataset, progress)
    refuse_errors(found.defects)
    return found


def refuse_errors(defects: tuple[Defect, ...]) -> None:
    """Raise `DataError` with the first error among `defects`, if there is one, and the number of the others."""
    errors = [defect for defect in defects if defect.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more; see 'groundglass check')" if len(errors) > 1 else ""
        raise DataError(f"{errors[0]}{more}")


def _open(place: str) -> Dataset:
    if place.startswith(GENERATED):
        phantoms: Format = load(FORMATS[place.partition(":")[0]])
        return phantoms.open(place)
    path = Path(os.path.expanduser(place))  # Path's own raises where a user does not exist
    if not path.exists():
        raise DataError(f"{place}: does not exist")
    formats: list[Format] = [load(entry) for entry in FORMATS.values()]
    for format_ in formats:
        if format_.recognise(path):
            return format_.open(place)
    if not path.is_dir():
        raise DataError(f"{place}: is no data set; give a folder or a manifest .csv")
    inner = [child for child in sorted(path.iterdir()) if child.is_dir() and any(f.recognise(child) for f in formats)]
    names = ", ".join(f.name for f in formats)
    looked_for = f"looked for: {names}; your own files need a manifest.csv, or images/ with masks/ or lungs/"
    hint = f"did you mean '{inner[0]}'?" if inner else looked_for
    raise DataError(f"{place}: holds no known data set; {hint}")


def _identity(place: str) -> str:
    """The same for two ways to name one data set."""
    if place.startswith(GENERATED):
        return place
    path = Path(place).expanduser().resolve()
    return str(path.parent if path.name == "manifest.csv" else path)


def _name(identity: str) -> str:
    """A data set's name in ids and messages: its folder's, without the way to it."""
    if identity.startswith(GENERATED):
        return identity.replace(":", "-")
    return Path(identity).name.removesuffix(".csv") or "data"


def _join(opened: Sequence[Dataset], folders: Sequence[str]) -> Dataset:
    names: list[str] = []
    for name in folders:
        numbered = (f"{name}-{number}" for number in range(2, len(folders) + 2))
        names.append(name if name not in names else next(new for new in numbered if new not in (*names, *folders)))
    lungs_known = any(LUNGS & set(dataset.classes) for dataset in opened)
    parts = [_lungless(dataset) if lungs_known and not LUNGS & set(dataset.classes) else dataset for dataset in opened]
    prefixed = _ambiguous(parts)
    parts = [
        _renamed(part, name, number in prefixed) for number, (part, name) in enumerate(zip(parts, names, strict=True))
    ]
    if _ambiguous(parts):
        raise DataError(f"{' and '.join(names)}: their case ids cannot be told apart; rename one of the folders")
    classes = {name for part in parts for name in part.classes}
    units = {part.unit for part in parts}
    ways = [part.patients for part in parts]
    return Dataset(
        location=" + ".join(names),
        format="several",
        cases=tuple(case for part in parts for case in part.cases),
        test=tuple(case for part in parts for case in part.test),
        classes=tuple(label.name for label in LABELS if label.name in classes),
        unit=units.pop() if len(units) == 1 else Unit.UNKNOWN,
        patients=next((way for way in ("not known", "from file names") if way in ways), "given"),
        defects=(*(defect for part in parts for defect in part.defects), *_shared_groups(parts, names)),
    )


def _lungless(dataset: Dataset) -> Dataset:
    """A data set that never marks lung as it is beside one that does."""
    cases = tuple(
        case if case.load_labels is None else replace(case, load_labels=partial(without_lungs, case.load_labels))
        for case in dataset.cases
    )
    names = {"no-lesion" if name == "background" else name for name in dataset.classes}
    return replace(dataset, cases=cases, classes=tuple(label.name for label in LABELS if label.name in names))


def _ambiguous(parts: Sequence[Dataset]) -> set[int]:
    """Positions of the data sets that share a case id, as a file name, or a source with masks."""
    claimed: dict[tuple[str, str], set[int]] = {}
    for number, part in enumerate(parts):
        for case in (*part.cases, *part.test):
            claimed.setdefault(("id", case.stem), set()).add(number)
        for source in part.sources:
            claimed.setdefault(("source", source), set()).add(number)
    return set().union(*(numbers for numbers in claimed.values() if len(numbers) > 1))


def _renamed(dataset: Dataset, name: str, prefixed: bool) -> Dataset:
    """Files with the data set's name before them; ids and sources too where others have the same."""

    def renamed(case: Case) -> Case:
        file = f"{name}/{case.file}"
        if not prefixed:
            return replace(case, file=file)
        new = f"{name}/{case.id}"
        # Of images without masks nothing is chosen by source, but that they are to be predicted.
        source = case.source if case.load_labels is None else f"{name}/{case.source}"
        # A patient or volume keeps the name: should two sets hold the same one, no split may divide it.
        group = new if case.group == case.id else case.group
        return replace(case, id=new, source=source, file=file, group=group)

    return replace(
        dataset,
        cases=tuple(map(renamed, dataset.cases)),
        test=tuple(map(renamed, dataset.test)),
        defects=tuple(replace(defect, file=f"{name}/{defect.file}") for defect in dataset.defects),
    )


def _shared_groups(parts: Sequence[Dataset], names: Sequence[str]) -> list[Defect]:
    """A warning a data set with patients or volumes whose names are in an earlier one too."""
    found = []
    groups = [{case.group for case in (*part.cases, *part.test)} for part in parts]
    for number, name in enumerate(names):
        shared = groups[number] & set().union(*groups[:number])
        if shared:
            part = parts[number]
            first = next(case for case in (*part.cases, *part.test) if case.group in shared)
            # By a file: a patient's name is for nobody to read, and warnings are kept in runs.
            text = (
                f"{len(shared)} patients or volumes have names that another data set has too, such as that of "
                f"{first.file}; "
                "equal names count as one, whom no split divides: rename them if they are others"
            )
            found.append(Defect("warning", "shared-names", name, None, text))
    return found


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
