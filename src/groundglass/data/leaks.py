"""The leak certificate of a split: how patients were known, what was searched for and found, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.data.splits import Split
from groundglass.data.twins import Kind, Twins

FORMAT_VERSION = 1
Side = Literal["train", "validation", "test", "unlabelled", "unused"]
Verdict = Literal["nothing was searched", "leaky by source", "leaky by choice", "no leak found"]


class Across(BaseModel):
    """A pair of twins on two sides of a split. Places are files and rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    first_place: str
    second_place: str
    first_side: Side
    second_side: Side
    kind: Kind
    confidence: float


class Certificate(BaseModel):
    """What leaks.json of a run holds.

    patients: how patients are known; searched: whether near duplicates were looked for; n_images, n_compared: as in
    `Twins`; clusters: ids of cases that belong together; n_pairs: all pairs found; across: those on two sides of the
    split, training cases first; divided: groups and clusters that named rows divide, in words; actions: what was
    excluded, joined or kept, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    data_fingerprint: str
    patients: str
    groups: str
    searched: bool
    n_images: int = 0
    n_compared: int = 0
    n_pairs: int = 0
    clusters: tuple[tuple[str, ...], ...] = ()
    across: tuple[Across, ...] = ()
    divided: str = ""
    actions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.format_version != FORMAT_VERSION:
            raise ValueError(f"has format {self.format_version}, expected {FORMAT_VERSION}")
        return self

    @property
    def leaks(self) -> tuple[Across, ...]:
        """Pairs between what trains and what is scored."""
        scored = {"validation", "test"}
        return tuple(pair for pair in self.across if pair.first_side == "train" and pair.second_side in scored)

    @property
    def verdict(self) -> Verdict:
        if self.divided.startswith("leaky by choice"):
            return "leaky by choice"
        if self.divided or self.leaks:
            return "leaky by source"
        return "no leak found" if self.searched else "nothing was searched"

    def lines(self) -> list[str]:
        """The certificate in a few sentences, for people."""
        told = [f"leak certificate: {self.verdict}", f"patients: {self.patients}; {self.groups}"]
        if self.searched:
            told.append(
                f"searched {self.n_images} images for near duplicates and slices of one scan ({self.n_compared} pairs "
                f"looked at closely): {self.n_pairs} pairs in {len(self.clusters)} clusters, {len(self.leaks)} of them "
                "between training and scored cases"
            )
        else:
            told.append("near duplicates were not searched for: nothing is known about copies")
        told += [self.divided] if self.divided else []
        told += self.actions
        told += [
            f"  {pair.first_place} ({pair.first_side}) and {pair.second_place} ({pair.second_side}): "
            f"{pair.kind}, confidence {pair.confidence:.3f}"
            for pair in self.across[:_TOLD]
        ]
        if len(self.across) > _TOLD:
            told.append(f"  and {len(self.across) - _TOLD} more pairs; all are in leaks.json")
        return told


# Pairs named in words; the file holds all.
_TOLD = 5
_ORDER: tuple[Side, ...] = ("train", "validation", "test", "unlabelled", "unused")


def certify(dataset: Dataset, fingerprint: str, twins: Twins | None, split: Split, elsewhere: int = 0) -> Certificate:
    """The certificate of a split of `dataset`. twins: None where nothing was searched; elsewhere: images that are not
    in `dataset` but trained the weights from which the run begins."""
    cases = {case.id: case for case in (*dataset.cases, *dataset.test)}
    sides = _sides(dataset, split)
    found = twins or Twins()
    across = [
        _across(cases[pair.first], cases[pair.second], sides, pair.kind, pair.confidence)
        for pair in found.pairs
        if sides[pair.first] != sides[pair.second]
    ]
    across.sort(key=lambda pair: (_ORDER.index(pair.first_side), _ORDER.index(pair.second_side)))
    return Certificate(
        data_fingerprint=fingerprint,
        patients=_patients(dataset),
        groups=split.groups.partition("; patients")[0],
        searched=twins is not None,
        n_images=found.n_images,
        n_compared=found.n_compared,
        n_pairs=len(found.pairs),
        clusters=found.clusters,
        across=tuple(across),
        divided=split.leaky,
        actions=(*_actions(found, across, split), *_not_searched(elsewhere)),
    )


def _sides(dataset: Dataset, split: Split) -> dict[str, Side]:
    sides: dict[str, Side] = {case.id: "unused" for case in dataset.cases}
    sides |= {case.id: "unlabelled" for case in dataset.test}
    named: tuple[tuple[Side, tuple[str, ...]], ...] = (
        ("train", split.train),
        ("validation", split.validation),
        ("test", split.test),
    )
    for side, ids in named:
        sides |= dict.fromkeys(ids, side)
    return sides


def _across(first: Case, second: Case, sides: Mapping[str, Side], kind: Kind, confidence: float) -> Across:
    a, b = sorted((first, second), key=lambda case: _ORDER.index(sides[case.id]))
    return Across(
        first=a.id,
        second=b.id,
        first_place=a.place,
        second_place=b.place,
        first_side=sides[a.id],
        second_side=sides[b.id],
        kind=kind,
        confidence=confidence,
    )


def _patients(dataset: Dataset) -> str:
    known = len({case.patient for case in dataset.cases if case.patient is not None})
    unknown = sum(case.patient is None for case in dataset.cases)
    if not unknown:
        return f"{dataset.patients} ({known} patients)"
    named = f"{known} patients are known ({dataset.patients}); " if known else ""
    return f"{named}not known for {unknown} of {len(dataset.cases)} cases"


def _actions(found: Twins, across: list[Across], split: Split) -> list[str]:
    """What became of the pairs."""
    told = []
    sides = Counter((pair.first_side, pair.second_side) for pair in across)
    kept = len(found.pairs) - len(across)
    if kept and not split.leaky:
        told.append(f"kept together: {kept} pairs lie on one side, since groups with twins are never divided")
    elif kept:
        told.append(f"{kept} pairs lie on one side")
    for (first, second), count in sides.items():
        if second in ("validation", "test") and first in ("train", "validation"):
            told.append(
                f"kept as the split was asked for: {count} pairs between {first} and {second} cases; the score of "
                "these cases is too good"
            )
        elif second == "unlabelled" and first == "train":
            told.append(
                f"kept: {count} pairs between training cases and images without masks; predictions of the latter are "
                "no evidence"
            )
    if split.kind not in ("explicit", "parts") and found.pairs and not kept and not across:
        told.append("no case of a pair is used")
    return told


def _not_searched(elsewhere: int) -> list[str]:
    if not elsewhere:
        return []
    return [
        f"the run began with weights that trained on {elsewhere} images outside these data: between them and the "
        "scored cases only equal pixels were looked for, not near duplicates"
    ]
