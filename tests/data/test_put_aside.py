"""The test part: whole groups of those that may validate, drawn from the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from groundglass.case import Case, Unit
from groundglass.data.splits import holdout, kfold, put_aside
from groundglass.errors import RecipeError


def case(source: str, patient: int, row: int) -> Case:
    name = f"{source}/{patient}-{row}"
    group = f"{source}-{patient}"
    return Case(name, source, name, (8, 8), Unit.HU, lambda: np.zeros((8, 8), np.float32), group=group)


# Twenty patients of three slices in `a`, four of five in `b`.
CASES = [case("a", p, r) for p in range(20) for r in range(3)] + [case("b", p, r) for p in range(4) for r in range(5)]
GROUPS = {c.id: c.group for c in CASES}


def groups(ids: tuple[str, ...]) -> set[str]:
    return {GROUPS[i] for i in ids}


@pytest.mark.parametrize("n", [1, 4, 10, 33])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whole_groups_and_at_least_so_many(n: int, seed: int) -> None:
    aside = put_aside(CASES, n, seed, validation_sources=["a"])
    assert n <= len(aside) <= n + 4
    assert all(i.startswith("a/") for i in aside)
    assert len(aside) == 3 * len(groups(aside))


def test_the_seed_decides_and_the_order_of_files_does_not() -> None:
    drawn = {seed: put_aside(CASES, 9, seed) for seed in range(5)}
    assert len({frozenset(ids) for ids in drawn.values()}) > 1
    assert set(put_aside(CASES[::-1], 9, 0)) == set(drawn[0])


def test_lesion_is_shared_out() -> None:
    """Half the patients have lesions: a test part of ten of them is never without."""
    lesion = {c.id: 0.1 if int(c.group.split("-")[1]) % 2 else 0.0 for c in CASES}
    for seed in range(5):
        ill = sum(lesion[i] > 0 for i in put_aside(CASES, 30, seed, lesion=lesion, validation_sources=["a"]))
        assert 9 <= ill <= 21


def test_twins_go_together() -> None:
    clusters = [["a/0-0", "a/1-0"], ["a/1-2", "a/2-0"], ["a/3-0", "b/0-0"]]
    for seed in range(10):
        aside = groups(put_aside(CASES, 12, seed, clusters=clusters, validation_sources=["a"]))
        assert len(aside & {"a-0", "a-1", "a-2"}) in (0, 3)
        # Its twin only trains.
        assert "a-3" not in aside


def test_nobody_trains_or_validates_on_them() -> None:
    aside = put_aside(CASES, 10, 0)
    splits = [holdout(CASES, 0.25, 0, test=aside), *(kfold(CASES, 4, k, 0, test=aside) for k in range(1, 5))]
    for split in splits:
        assert split.test == aside
        assert not set(aside) & {*split.train, *split.validation}
    validated = [i for split in splits[1:] for i in split.validation]
    assert sorted(validated) == sorted(c.id for c in CASES if c.id not in aside)


def test_none_for_nothing() -> None:
    assert put_aside(CASES, 0, 0) == ()


@pytest.mark.parametrize(
    ("n", "why"), [(-1, "fewer than 0"), (60, "only 60 cases may validate"), (59, "leave no other"), (10**9, "only 60")]
)
def test_too_many(n: int, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        put_aside(CASES, n, 0, validation_sources=["a"])
