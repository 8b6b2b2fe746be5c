"""Who trains and who validates. No split divides a group: a patient, a volume, or an image of which nothing is known.

Groups are dealt out so that each side gets its part of the images and its part of the lesion: the heaviest first, each
to the side that has least of what the group brings (greedy number partitioning; the order is jittered by the seed).
Groups with twins (one picture in two guises, two slices of one scan; `groundglass.data.twins`) are one group: whoever's
they are, they must not be on two sides. Rows that a user or a source names stand as given, and are stamped where they
leak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from groundglass.case import Case
from groundglass.data.twins import join
from groundglass.errors import RecipeError, nearest

JITTER = 0.1
Kind = Literal["holdout", "kfold", "explicit", "parts"]
# Divisions that others made, which stand as they are.
_BY_SOURCE = {"explicit": "the named rows divide", "parts": "the source's own parts divide"}


class Split(BaseModel):
    """Case ids of each side. An id can be on one side only.

    test: ids that neither trained nor validated and are not to be touched before the end; groups: how whole groups
    were kept, and what became of twins, in words; leaky: what named rows divide, in words, empty where nothing;
    fold: `k/n` of a cross-validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    seed: int
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()
    groups: str = ""
    leaky: str = ""
    fold: str | None = None

    @model_validator(mode="after")
    def _each_id_once(self) -> Self:
        counts = Counter((*self.train, *self.validation, *self.test))
        twice = [case_id for case_id, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is in the split more than once ({len(twice)} such cases)")
        return self


@dataclass(frozen=True)
class _Group:
    name: str
    cases: tuple[Case, ...]
    lesion: float

    @property
    def ids(self) -> list[str]:
        return [case.id for case in self.cases]


def holdout(
    cases: Sequence[Case],
    fraction: float,
    seed: int,
    *,
    lesion: Mapping[str, float] | None = None,
    clusters: Sequence[Sequence[str]] = (),
    validation_sources: Collection[str] | None = None,
    train_sources: Collection[str] | None = None,
    test: Iterable[str] = (),
) -> Split:
    """Validate on about `fraction` of the cases that may validate, train on the rest.

    lesion: case id -> share of its pixels that is lesion (`Scan.lesion`); without it only numbers are balanced.
    clusters: ids that belong together (`Twins.clusters`); their groups are joined before anything is dealt.
    validation_sources, train_sources: sources that may validate, or train; None: all. A group validates only if all
    its cases may. test: ids kept out of both sides, whole groups only.
    Raises `RecipeError` for a fraction outside (0, 1), unknown sources, a divided test group, or fewer than 2 groups.
    """
    if not 0 < fraction < 1:
        raise RecipeError(f"validation fraction {fraction:g} is not between 0 and 1")
    pool = _Pool(cases, lesion, clusters, validation_sources, train_sources, test)
    pool.need(2)
    sides = _deal(pool.candidates, np.array([1 - fraction, fraction]), seed)
    return pool.split("holdout", seed, _ids(sides[1]))


def kfold(
    cases: Sequence[Case],
    n: int,
    k: int,
    seed: int,
    *,
    lesion: Mapping[str, float] | None = None,
    clusters: Sequence[Sequence[str]] = (),
    validation_sources: Collection[str] | None = None,
    train_sources: Collection[str] | None = None,
    test: Iterable[str] = (),
    whole: bool = True,
) -> Split:
    """Fold `k` of `n` (from 1): over all folds every case that may validate does so exactly once.

    whole: False deals out single cases as if nothing joined them, which leaks, and stamps the split so: to measure what
    honest groups cost. Other arguments as in `holdout`. Raises `RecipeError` also for k outside 1..n and for fewer
    groups than folds.
    """
    if n < 2 or not 1 <= k <= n:
        raise RecipeError(f"fold {k}/{n} does not exist; folds are numbered 1..n with n at least 2")
    pool = _Pool(cases, lesion, clusters, validation_sources, train_sources, test)
    pool.need(n)
    dealt = pool.candidates if whole else pool.single()
    folds = _deal(dealt, np.full(n, 1 / n), seed)
    return pool.split("kfold", seed, _ids(folds[k - 1]), fold=f"{k}/{n}")


def explicit(
    cases: Sequence[Case],
    rows: Mapping[str, str],
    *,
    seed: int = 0,
    clusters: Sequence[Sequence[str]] = (),
    train_sources: Collection[str] | None = None,
    test: Iterable[str] = (),
) -> Split:
    """Validate on the named rows of each source, such as {"medseg": "0..23"} or "0,2,5..9"; train on the rest.

    Rows count the labelled cases of a source from 0, both ends included. `seed` is only recorded. The rows stand as
    given, also where they divide a group or a cluster (`Twins.clusters`): `Split.leaky` then says so.
    Raises `RecipeError` for unknown sources, and rows that do not exist or cannot be read.
    """
    pool = _Pool(cases, None, clusters, None, train_sources, test)
    _check_sources(rows, cases)
    chosen: set[str] = set()
    for source, text in rows.items():
        members = [case.id for case in cases if case.source == source]
        numbers = _parse_rows(text, source)
        if numbers[-1] >= len(members):
            raise RecipeError(f"rows '{text}' of '{source}' do not exist; its last row is {len(members) - 1}")
        chosen |= {members[number] for number in numbers}
    kept_out = sorted(chosen & set(pool.test))
    if kept_out:
        raise RecipeError(f"'{kept_out[0]}' cannot validate; it is kept for the test")
    return pool.split("explicit", seed, chosen)


def parts(
    cases: Sequence[Case],
    *,
    seed: int = 0,
    clusters: Sequence[Sequence[str]] = (),
    sources: Collection[str] | None = None,
) -> Split:
    """The source's own parts (`Case.part`), which stand as given, also where they divide a group or a cluster:
    `Split.leaky` then says so. sources: who takes part; None: all. `seed` is only recorded.

    Raises `RecipeError` for unknown sources and where nothing trains or nothing validates.
    """
    _check_sources(sources or (), cases)
    sides = {
        side: [case.id for case in cases if case.part == side and (sources is None or case.source in sources)]
        for side in ("train", "validation", "test")
    }
    missing = [side for side in ("train", "validation") if not sides[side]]
    if missing:
        raise RecipeError(f"split 'parts': the data set says of no case that it is for {missing[0]}; choose holdout")
    taken = {case_id for ids in sides.values() for case_id in ids}
    pool = _Pool([case for case in cases if case.id in taken], None, clusters, None, None, ())
    return pool.split("parts", seed, set(sides["validation"]), test=tuple(sides["test"]))


def put_aside(
    cases: Sequence[Case],
    n: int,
    seed: int,
    *,
    lesion: Mapping[str, float] | None = None,
    clusters: Sequence[Sequence[str]] = (),
    validation_sources: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Ids of at least `n` cases for a test part, whole groups of those that may validate; () for n = 0.

    Dealt as the validation of a `holdout` of this size, then filled up in an order drawn from `seed`: it depends on no
    fold and on no network. Other arguments as in `holdout`; pass the answer as `test`. Raises `RecipeError` for a
    negative n, unknown sources, or an n that leaves nobody else to validate.
    """
    if n < 0:
        raise RecipeError(f"--test {n}: a test part cannot have fewer than 0 cases")
    if n == 0:
        return ()
    pool = _Pool(cases, lesion, clusters, validation_sources, None, ())
    total = sum(len(group.cases) for group in pool.candidates)
    if n >= total:
        raise RecipeError(f"--test {n}: only {total} cases may validate, and some of them must; put fewer aside")
    share = n / total
    rest, chosen = _deal(pool.candidates, np.array([1 - share, share]), seed)
    for place in np.random.default_rng(seed).permutation(len(rest)):
        if len(_ids(chosen)) >= n:
            break
        chosen.append(rest[place])
    if len(chosen) == len(pool.candidates):
        raise RecipeError(f"--test {n}: whole patients or volumes leave no other to validate; put fewer aside")
    aside = _ids(chosen)
    return tuple(case.id for case in cases if case.id in aside)


class _Pool:
    """Cases in whole groups, and which of them may go where."""

    def __init__(
        self,
        cases: Sequence[Case],
        lesion: Mapping[str, float] | None,
        clusters: Sequence[Sequence[str]],
        validation_sources: Collection[str] | None,
        train_sources: Collection[str] | None,
        test: Iterable[str],
    ) -> None:
        _check_sources(validation_sources or (), cases)
        _check_sources(train_sources or (), cases)
        self.cases = cases
        self.test = tuple(dict.fromkeys(test))
        self.train_sources = train_sources
        apart = _by_group(cases)
        together = _joined(apart, clusters)
        self.groups = _grouped(together, lesion or {})
        self.joined = _joined_note(apart, together)
        kept_out = set(self.test)
        for group in self.groups:
            inside = kept_out.intersection(group.ids)
            if inside and len(inside) < len(group.ids):
                raise RecipeError(
                    f"the test cases divide the group '{group.name}'{self.joined}; keep whole groups for the test"
                )
        # A group validates only as a whole: one slice that may not keeps the others out.
        self.barred = sum(
            case.source in validation_sources
            for group in self.groups
            for case in group.cases
            if validation_sources is not None and any(other.source not in validation_sources for other in group.cases)
        )
        self.candidates = [
            group
            for group in self.groups
            if not kept_out.intersection(group.ids)
            and (validation_sources is None or all(case.source in validation_sources for case in group.cases))
        ]

    def single(self) -> list[_Group]:
        """Every case that may validate as a group of its own, its lesion unknown."""
        return [_Group(case.id, (case,), 0.0) for group in self.candidates for case in group.cases]

    def need(self, groups: int) -> None:
        if len(self.candidates) < groups:
            raise RecipeError(
                f"{groups} parts need {groups} groups (patients or volumes) that may validate, "
                f"but there are {len(self.candidates)}{self.joined}; ask for fewer parts or name the patients"
            )

    def split(
        self,
        kind: Kind,
        seed: int,
        validation: set[str],
        fold: str | None = None,
        test: tuple[str, ...] | None = None,
    ) -> Split:
        """The split with `validation`; the ids keep the order of the data set. test: of a source's own division, which
        may cut groups; by default the pool's."""
        test = self.test if test is None else test
        away = validation | set(test)
        train = [
            case.id
            for case in self.cases
            if case.id not in away and (self.train_sources is None or case.source in self.train_sources)
        ]
        if not train:
            raise RecipeError("no case is left to train on; validate on less, or let more sources train")
        unknown = sum(case.patient is None for case in self.cases)
        trained, scored = set(train), validation | set(test)
        divided = [group for group in self.groups if scored.intersection(group.ids) and trained.intersection(group.ids)]
        leaky = ""
        if divided:
            why = f"by source: {_BY_SOURCE[kind]}" if kind in _BY_SOURCE else "by choice: the split divides"
            named = [("validation", validation), ("test", set(test))]
            counts = " and ".join(
                f"{sum(case_id in ids for group in divided for case_id in group.ids)} of {len(ids)} {side}"
                for side, ids in named
                if ids
            )
            leaky = (
                f"leaky {why} {len(divided)} of {len(self.groups)} groups; {counts} cases have their like (patient, "
                "volume, scan or picture) in training"
            )
        note = f"{len(self.groups)} groups, {len(divided) or 'none'} divided{self.joined}"
        if self.barred:
            note += f"; {self.barred} cases cannot validate, since their group has cases of sources that may not"
        return Split(
            kind=kind,
            seed=seed,
            train=tuple(train),
            validation=tuple(case.id for case in self.cases if case.id in validation),
            test=test,
            groups=f"{note}; patients of {unknown} cases are not known" if unknown else note,
            leaky=leaky,
            fold=fold,
        )


def _ids(groups: Sequence[_Group]) -> set[str]:
    return {case_id for group in groups for case_id in group.ids}


def _by_group(cases: Sequence[Case]) -> dict[str, list[Case]]:
    members: dict[str, list[Case]] = {}
    for case in cases:
        members.setdefault(case.group, []).append(case)
    return members


def _joined(members: Mapping[str, list[Case]], clusters: Sequence[Sequence[str]]) -> dict[str, list[Case]]:
    """Groups that a cluster links, also by way of others, as one under the first of their names."""
    group = {case.id: name for name, cases in members.items() for case in cases}
    links = [[group[case_id] for case_id in cluster if case_id in group] for cluster in clusters]
    alone = [[name] for name in members]
    joined = [sorted(names) for names in join([*(link for link in links if link), *alone])]
    return {names[0]: [case for name in names for case in members[name]] for names in joined}


def _joined_note(apart: Mapping[str, list[Case]], together: Mapping[str, list[Case]]) -> str:
    """How many groups were joined into how many, in words; empty where none was."""
    new = [name for name, cases in together.items() if len(cases) > len(apart[name])]
    if not new:
        return ""
    old = len(apart) - len(together) + len(new)
    return f" ({old} groups that show the same picture or scan were joined into {len(new)})"


def _grouped(members: Mapping[str, list[Case]], lesion: Mapping[str, float]) -> list[_Group]:
    """Sorted by name, so that the order of the files does not matter."""
    return [
        _Group(name, tuple(found), sum(lesion.get(case.id, 0.0) for case in found))
        for name, found in sorted(members.items())
    ]


def _deal(groups: list[_Group], parts: NDArray[np.float64], seed: int) -> list[list[_Group]]:
    """Deal groups to len(parts) sides that should hold these shares of cases and of lesion. No side stays empty.

    Each group goes where (load of the side / share of the side) · (weight of the group) is least.
    """
    weights = np.array([[len(group.cases), group.lesion] for group in groups], float)
    totals = weights.sum(axis=0)
    weights /= np.where(totals > 0, totals, 1)
    # Heaviest first; the jitter also shuffles equals, which are many where nothing is known of lesions.
    jitter = np.random.default_rng(seed).uniform(1 - JITTER, 1 + JITTER, len(groups))
    order = np.argsort(-weights.sum(axis=1) * jitter)
    loads = np.zeros((len(parts), 2))
    sides: list[list[_Group]] = [[] for _ in parts]
    for place in order:
        side = int(np.argmin((loads @ weights[place]) / parts))
        loads[side] += weights[place]
        sides[side].append(groups[place])
    return sides


def _check_sources(names: Iterable[str], cases: Sequence[Case]) -> None:
    known = {case.source for case in cases}
    for name in names:
        if name not in known:
            raise RecipeError(f"the data set has no labelled source '{name}'; {nearest(name, known)}")


def _parse_rows(text: str, source: str) -> list[int]:
    """`0,2,5..9` -> [0, 2, 5, 6, 7, 8, 9]."""
    numbers: set[int] = set()
    for part in str(text).split(","):
        first, dots, last = (piece.strip() for piece in part.partition(".."))
        if not (first.isdecimal() and (last.isdecimal() if dots else not last) and len(first + last) < 15):
            raise RecipeError(f"rows '{text}' of '{source}' cannot be read; write them like 0..23 or 0,2,5..9")
        start, end = int(first), int(last or first)
        if end < start or end - start > 1_000_000:
            raise RecipeError(f"rows '{text}' of '{source}' cannot be read; {part.strip()} runs backwards or too far")
        numbers |= set(range(start, end + 1))
    return sorted(numbers)
