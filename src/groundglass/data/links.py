"""What near duplicates mean for a data set: which borders they cross, and which groups a split must join for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.data.twins import Kind, Pair, Twins, join

# Borders that a pair can cross, the gravest first.
ACROSS: tuple[str, ...] = ("labelled and unlabelled", "data sets", "sources", "groups")


@dataclass(frozen=True)
class Link:
    """A pair with its two cases. across: those of `ACROSS` that lie between them."""

    pair: Pair
    first: Case
    second: Case
    across: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A row of the table of pairs."""
        return {
            "first": self.first.id,
            "first_file": self.first.file,
            "first_row": self.first.row,
            "second": self.second.id,
            "second_file": self.second.file,
            "second_row": self.second.row,
            "kind": self.pair.kind,
            "confidence": self.pair.confidence,
            "across": "; ".join(self.across),
        }


COLUMNS: tuple[str, ...] = (
    "first",
    "first_file",
    "first_row",
    "second",
    "second_file",
    "second_row",
    "kind",
    "confidence",
    "across",
)


def links(dataset: Dataset, twins: Twins, sets: Mapping[str, str] | None = None) -> list[Link]:
    """The pairs of `twins`: those that cross the gravest border first, then the surest.

    sets: case id -> the data set it comes from, where several were opened together.
    """
    cases = {case.id: case for case in (*dataset.cases, *dataset.test)}
    origin = sets or {}
    found = []
    for pair in twins.pairs:
        first, second = cases[pair.first], cases[pair.second]
        crossed = {
            "labelled and unlabelled": (first.load_labels is None) != (second.load_labels is None),
            "data sets": origin.get(first.id) != origin.get(second.id),
            "sources": first.source != second.source,
            "groups": first.group != second.group,
        }
        found.append(Link(pair, first, second, tuple(name for name in ACROSS if crossed[name])))
    return sorted(found, key=lambda link: (_gravity(link.across), -link.pair.confidence))


def _gravity(across: Sequence[str]) -> int:
    return min((ACROSS.index(name) for name in across), default=len(ACROSS))


def tally(found: Sequence[Link], twins: Twins) -> dict[str, Any]:
    """Counts: images searched, pairs in all and by kind, pairs across each border, clusters and the largest."""
    kinds = Counter(link.pair.kind for link in found)
    crossed = Counter(name for link in found for name in link.across)
    return {
        "images": twins.n_images,
        "compared": twins.n_compared,
        "pairs": len(found),
        "kinds": {kind: kinds[kind] for kind in get_args(Kind)},
        "across": {name: crossed[name] for name in ACROSS},
        "clusters": len(twins.clusters),
        "largest_cluster": max((len(cluster) for cluster in twins.clusters), default=0),
        "images_in_clusters": sum(len(cluster) for cluster in twins.clusters),
    }


@dataclass(frozen=True)
class Groups:
    """How the labelled cases fall into groups that no split divides. apart: sizes by patient, volume or image;
    together: sizes once groups that share near duplicates are one; joined: how many of those were several."""

    apart: tuple[int, ...]
    together: tuple[int, ...]
    joined: int


def grouped(dataset: Dataset, clusters: Iterable[Sequence[str]]) -> Groups:
    """Groups of the labelled cases before and after near duplicates join them, the largest first."""
    group = {case.id: case.group for case in dataset.cases}
    linked = [[group[case_id] for case_id in cluster if case_id in group] for cluster in clusters]
    joined = join([[name] for name in group.values()] + [names for names in linked if names])
    apart = Counter(group.values())
    return Groups(
        tuple(sorted(apart.values(), reverse=True)),
        tuple(sorted((sum(apart[name] for name in names) for names in joined), reverse=True)),
        sum(len(names) > 1 for names in joined),
    )


@dataclass(frozen=True)
class OneScan:
    """Two volumes (or patients) of several images each that are linked by `pairs` pairs. first, second: their cases."""

    first: tuple[Case, ...]
    second: tuple[Case, ...]
    pairs: int

    def __str__(self) -> str:
        return f"{_extent(self.first)} and {_extent(self.second)} show one scan ({self.pairs} pairs)"


# From so many pairs on, two volumes are called one scan; fewer are named one by one only.
_ONE_SCAN_FROM = 3


def one_scans(dataset: Dataset, found: Iterable[Link]) -> list[OneScan]:
    """Volumes that are one scan, those with most pairs first."""
    members: dict[str, list[Case]] = {}
    for case in (*dataset.cases, *dataset.test):
        members.setdefault(case.group, []).append(case)
    order = {group: place for place, group in enumerate(members)}
    # Slices of two volumes may lie in any order: the same two groups are counted once, the earlier first.
    counts = Counter(
        tuple(sorted((link.first.group, link.second.group), key=order.__getitem__))
        for link in found
        if link.first.group != link.second.group
    )
    return [
        OneScan(tuple(members[first]), tuple(members[second]), n)
        for (first, second), n in counts.most_common()
        if n >= _ONE_SCAN_FROM and min(len(members[first]), len(members[second])) > 1
    ]


def _extent(cases: Sequence[Case]) -> str:
    """Where a volume lies: `stack.npy rows 3..40`, or its first file and the number of its images."""
    rows = [case.row for case in cases if case.row is not None]
    if len({case.file for case in cases}) == 1 and len(rows) == len(cases):
        return f"{cases[0].file} rows {min(rows)}..{max(rows)}"
    return f"{cases[0].place} and its {len(cases) - 1} others"
