"""The page of `groundglass check --html`: what a data set is, in one file that opens offline and prints well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case, Unit
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.links import grouped
from groundglass.data.survey import Survey
from groundglass.labels import BY_NAME
from groundglass.show.colours import display_name
from groundglass.show.duplicates import near_duplicates
from groundglass.show.naming import Names
from groundglass.show.page import Section, Table, write_page
from groundglass.show.samples import SAMPLES, draw_samples, spread_over_sizes
from groundglass.show.statistics import class_shares, cumulative_sizes, source_intensities

# What is drawn at most; the rest is counted in words.
SOURCES = 10
_UNITS = {Unit.HU: "HU", Unit.PICTURE: "grey value", Unit.UNKNOWN: "unknown unit"}


@dataclass(frozen=True)
class Explored:
    """All that the page is made from. sets: case id -> data set, where several were opened together; identifiers:
    whether patients' identifiers may be printed."""

    dataset: Dataset
    scan: Scan
    survey: Survey
    sets: Mapping[str, str] = field(default_factory=dict)
    identifiers: bool = False

    @property
    def cases(self) -> tuple[Case, ...]:
        return (*self.dataset.cases, *self.dataset.test)


def write_exploration(path: str | Path, explored: Explored, note: str = "") -> Path:
    """Write the page and return its path. Reads only the images that it shows, one at a time.

    Raises `DataError` for an image that cannot be read any more, `WriteError` when the page cannot be written.
    """
    names = Names(explored.cases, explored.identifiers)
    title = f"Data: {' + '.join(Path(part).name or part for part in explored.dataset.location.split(' + '))}"
    with TemporaryDirectory(prefix="groundglass.") as drawn:
        folder = Path(drawn)
        sections = [
            _what(explored),
            _defects(explored, names),
            _classes(explored.survey, folder),
            _lesions(explored.survey, folder),
            _intensities(explored.survey, folder),
            _samples(explored, names, folder),
            near_duplicates(explored.dataset, explored.scan.twins, explored.sets, names),
            _patients(explored),
        ]
        return write_page(path, title, sections, note)


# The sections -------------------------------------------------------------------------------------------------------


def _what(explored: Explored) -> Section:
    d = explored.dataset
    sources = explored.survey.sources.values()
    lesions = sum(len(source.shares) for source in sources)
    unmarked = sum(source.unmarked for source in sources)
    without = sum(source.without_lesion for source in sources)
    facts = [
        ["format", d.format],
        [
            "labelled images",
            f"{len(d.cases):,}; {lesions:,} with lesions, {without:,} without"
            + (f", {unmarked:,} in which lesions are not marked" if unmarked else ""),
        ],
        ["unlabelled images", f"{len(d.test):,} images"],
        ["patients", _known(d)],
        ["classes", ", ".join(d.classes)],
        ["fingerprint", explored.scan.fingerprint[:16]],
    ]
    if explored.sets:
        facts.insert(1, ["data sets", _counted(explored.sets[case.id] for case in explored.cases)])
    rows = [
        [
            source,
            sum(case.load_labels is not None for case in cases),
            sum(case.load_labels is None for case in cases),
            _counted(str(case.unit) for case in cases),
            _counted("x".join(map(str, case.shape)) for case in cases),
            _spacings(cases),
            _groups_of(cases),
        ]
        for source, cases in _by_source(explored.cases).items()
    ]
    columns = ["source", "labelled", "unlabelled", "unit", "size in pixels", "spacing in mm", "patients or groups"]
    return Section(
        "What the data are",
        "How many images there are, from where, and what is known of them before any pixel is read. "
        "A group is what a split never divides: a patient, else a volume, else an image by itself.",
        tables=[
            Table(["what", "value"], facts),
            Table(columns, rows, f"Sources (n = {len(explored.cases):,} images)."),
        ],
    )


def _defects(explored: Explored, names: Names) -> Section:
    found = [*explored.dataset.defects, *explored.scan.defects]
    order = {"error": 0, "warning": 1}
    found.sort(key=lambda defect: (order[defect.severity], defect.kind))
    rows = []
    for (severity, kind), same in groupby(found, key=lambda defect: (defect.severity, defect.kind)):
        defects = list(same)
        rows.append([severity, kind, len(defects), names.text(str(defects[0]))])
    errors = sum(defect.severity == "error" for defect in found)
    text = (
        f"{errors} errors, {len(found) - errors} warnings (n = {len(explored.cases):,} images, every one read). "
        "Errors stop every verb; warnings are stored with a run. The JSON report names each by file and row."
    )
    tables = [Table(["severity", "kind", "n", "the first of them"], rows)] if rows else []
    return Section("Defects", text, tables=tables)


def _classes(survey: Survey, folder: Path) -> Section:
    rows = survey.classes_table()
    if not rows:
        return Section("Classes", "No image is labelled (n = 0).")
    shares: dict[str, dict[str, float]] = {}
    for row in rows:
        shares.setdefault(row["source"], {})[row["class"]] = row["share"]
    counts = {row["source"]: f"{row['images']:,}" for row in rows}
    images = sum(source.labelled for source in survey.sources.values())
    shown = dict(list(shares.items())[:SOURCES])
    figure = class_shares(shown, counts, folder / "classes.png", f"Classes by source (n = {images:,} labelled images)")
    cells = [
        [
            row["source"],
            _class_name(row["class"]),
            f"{row['pixels']:,}",
            f"{100 * row['share']:.3f} %",
            f"{row['images_with_it']:,} of {row['images']:,}",
        ]
        for row in rows
    ]
    text = (
        "Parts of all labelled pixels of a source. A partly known class says only that a pixel is one of several "
        "things; it is learned and scored as far as it is known, and never as background."
    )
    caption = "Left: every class. Right: findings alone, on their own scale. Hatched crosswise: partly known."
    table = Table(["source", "class", "pixels", "share", "images with it"], cells)
    return Section("Classes", text, figures=[(figure, f"{caption} {_beyond(shares)}")], tables=[table])


def _lesions(survey: Survey, folder: Path) -> Section:
    rows = survey.lesions_table()
    sources = [source for source in survey.sources.values() if source.shares][:SOURCES]
    if not sources:
        return Section("Lesion sizes", "No labelled image has a lesion (n = 0).")
    panels: dict[str, dict[str, Mapping[float, int]]] = {}
    what: dict[str, str] = {}

    def add(label: str, counted: str, source: str, sizes: Mapping[float, int]) -> None:
        panels.setdefault(label, {})[source] = sizes
        what[label] = counted

    for source in sources:
        add(
            "Lesion of an image (% of its pixels)",
            "images",
            source.name,
            Counter(100 * s for s in source.shares.values()),
        )
    for unit, shown in (("mm2", "mm²"), ("px", "pixels")):
        for source in sources:
            if unit in source.sizes:
                sizes = source.sizes[unit]
                if unit == "mm2":
                    add(f"Lesion of an image ({shown})", "images", source.name, Counter(sizes.images.values()))
                add(f"Connected finding ({shown})", "findings", source.name, sizes.components)
    n = sum(len(source.shares) for source in survey.sources.values())
    title = f"Sizes of lesions (n = {n:,} images with lesions)"
    figure = cumulative_sizes(panels, folder / "sizes.png", what, title)
    headings = ["source", "what", "unit", "n", "smallest", "lower quartile", "median", "upper quartile", "largest"]
    cells = [[_size(row[heading.replace(" ", "_")]) for heading in headings] for row in rows]
    text = (
        f"How large findings are, counted over the {n:,} labelled images that have any; {_without(survey)}. "
        "A connected finding is a patch of touching lesion pixels (8 neighbours) of whatever class. Areas are in mm² "
        "where the spacing of the pixels is known, else in pixels; these two are not to be compared, nor are "
        "percentages of images that are cropped differently."
    )
    caption = f"Read: at height 50 % is the median. {_beyond([s for s in survey.sources.values() if s.shares])}"
    return Section("Lesion sizes", text, figures=[(figure, caption)], tables=[Table(headings, cells)])


def _intensities(survey: Survey, folder: Path) -> Section:
    rows = survey.intensities_table()
    if not rows:
        return Section("Intensities", "No image could be read (n = 0).")
    panels: dict[str, dict[str, NDArray[np.floating]]] = {}
    for row in rows:
        parts = panels.setdefault(_UNITS[Unit(row["unit"])], {})
        if len(parts) < SOURCES:
            parts[row["source"]] = survey.sources[row["source"]].sample(Unit(row["unit"]))
    total = sum(row["pixels_sampled"] for row in rows)
    title = f"Intensities by source (n = {total:,} sampled pixels)"
    figure = source_intensities(panels, folder / "intensities.png", title)
    text = (
        "A random sample of the same number of pixels of every image. Hounsfield units and grey values of pictures are "
        "drawn apart, since nothing turns one into the other. Sources whose lines differ were windowed, scaled or "
        "padded differently; a network can tell them apart by that alone."
    )
    cells = [[_size(row[column]) for column in rows[0]] for row in rows]
    table = Table([column.replace("_", " ") for column in rows[0]], cells)
    return Section("Intensities", text, figures=[(figure, _beyond(survey.sources))], tables=[table])


def _samples(explored: Explored, names: Names, folder: Path) -> Section:
    figures = []
    sources = _by_source(explored.cases)
    for number, (source, cases) in enumerate(list(sources.items())[:SOURCES]):
        chosen = spread_over_sizes(cases, explored.scan.lesion)
        path = folder / f"samples-{number}.png"
        draw_samples(path, source, len(cases), chosen, names, explored.scan.lesion)
        figures.append((path, ""))
    text = (
        f"Up to {SAMPLES} images of each source, always the same ones: spread evenly over the size of the lesions from "
        "the smallest to the largest, with one image without a lesion first where there is any. Below each image are "
        f"its labels. {_beyond(sources)}"
    )
    return Section("Samples", text, figures=figures)


def _patients(explored: Explored) -> Section:
    d = explored.dataset
    clusters = _equal(explored.scan.hashes) if explored.scan.twins is None else explored.scan.twins.clusters
    groups = grouped(d, clusters)
    if not groups.apart:
        return Section("Patients and splits", "No image is labelled, so there is nothing to split (n = 0).")
    largest, n = groups.together[0], len(d.cases)
    rows: list[list[Any]] = [
        ["patients", _known(d)],
        ["labelled images", n],
        ["groups by patient, volume or image", len(groups.apart)],
        ["groups once near duplicates join them", len(groups.together)],
        ["groups that near duplicates made of several", groups.joined],
        ["images in the largest group", f"{largest:,} ({100 * largest / n:.1f} % of the labelled images)"],
    ]
    text = [
        "A split deals out whole groups: no patient, no volume and no cluster of near duplicates lies on two sides of "
        "it. Only rows that a recipe names by number stand as given."
    ]
    if groups.joined:
        text.append(
            f"Without the search, {len(groups.apart):,} groups would be dealt out although images of {groups.joined:,} "
            "of the joined ones show the same thing; a score would then be measured on images that were learned from."
        )
    unknown = sum(case.patient is None for case in d.cases)
    if unknown:
        text.append(
            f"Of {unknown:,} images nobody says whose they are. What the search does not find may still be one person "
            "on both sides of a split; read scores with that in mind."
        )
    test = {case.id for case in d.test}
    leaking = {c for cluster in clusters if not test.issuperset(cluster) for c in cluster if c in test}
    if leaking:
        text.append(
            f"{len(leaking):,} of {len(d.test):,} unlabelled images are near duplicates of labelled ones: an answer "
            "for them is no answer for an unseen patient."
        )
    if largest > n / 5:
        text.append("The largest group holds more than a fifth of the images; five folds cannot be of equal size.")
    return Section("Patients and splits", "\n\n".join(text), tables=[Table(["what", "value"], rows)])


# Words --------------------------------------------------------------------------------------------------------------


def _by_source(cases: Iterable[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.source, []).append(case)
    return found


def _counted(values: Iterable[str], most: int = 3) -> str:
    counts = Counter(values).most_common()
    text = ", ".join(value if len(counts) == 1 else f"{value} ({n:,})" for value, n in counts[:most])
    return text if len(counts) <= most else f"{text} and {len(counts) - most:,} more"


def _spacings(cases: Sequence[Case]) -> str:
    found = [case.geometry.spacing_mm for case in cases]
    return _counted("not known" if s is None else " x ".join(f"{value:.3g}" for value in s[-2:]) for s in found)


def _groups_of(cases: Sequence[Case]) -> str:
    patients = {case.patient for case in cases if case.patient}
    groups = {case.group for case in cases if case.patient is None and case.group != case.id}
    alone = sum(case.patient is None and case.group == case.id for case in cases)
    parts = ((len(patients), "patients"), (len(groups), "volumes"), (alone, "images by themselves"))
    return ", ".join(f"{n:,} {what}" for n, what in parts if n)


def _known(dataset: Dataset) -> str:
    cases = (*dataset.cases, *dataset.test)
    patients = len({case.patient for case in cases if case.patient})
    nobody = sum(case.patient is None for case in cases)
    if patients and nobody:
        return f"{patients:,} are named; of {nobody:,} images nobody says whose they are"
    return f"{patients:,}, {dataset.patients}" if patients else dataset.patients


def _class_name(name: str) -> str:
    possible = [display_name(other).lower() for other in BY_NAME[name].possible]
    shown = display_name(name, bool(possible))
    return f"{shown} (partly known: {' or '.join(possible)})" if possible else shown


def _beyond(sources: Sequence[Any] | Mapping[str, Any]) -> str:
    more = len(sources) - SOURCES
    return f"The first {SOURCES} sources are drawn; {more} more are not." if more > 0 else ""


def _size(value: Any) -> Any:
    """Sizes and intensities to three digits, as words: they are read, not added up."""
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else round(value)
        if isinstance(value, float)
        else value
    )


def _without(survey: Survey) -> str:
    words = []
    for source in survey.sources.values():
        if source.without_lesion:
            words.append(f"{source.without_lesion:,} of '{source.name}' have none")
        if source.unmarked:
            words.append(f"in {source.unmarked:,} of '{source.name}' nobody marked lesions")
    return ", ".join(words) or "all have some"


def _equal(hashes: Mapping[str, str]) -> list[list[str]]:
    """Clusters of equal pixels, all that is known without a search."""
    same: dict[str, list[str]] = {}
    for case_id, digest in hashes.items():
        same.setdefault(digest, []).append(case_id)
    return [ids for ids in same.values() if len(ids) > 1]
