"""Splits: whole groups, every case once, lesion on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from groundglass.case import Case, Unit
from groundglass.data import Split, explicit, holdout, kfold
from groundglass.errors import RecipeError


def make(groups: list[int], source: str = "s") -> list[Case]:
    """One case for each entry, of the patient with that number."""
    return [
        Case(
            f"{source}/{i:03d}",
            source,
            "f",
            (2, 2),
            Unit.HU,
            lambda: np.zeros((2, 2), np.float32),
            patient=f"{source}{g}",
        )
        for i, g in enumerate(groups)
    ]


def singles(count: int, source: str = "s") -> list[Case]:
    return make(list(range(count)), source)


def group_of(cases: list[Case]) -> dict[str, str]:
    return {case.id: case.group for case in cases}


def all_linked(cases: list[Case], hashes: dict[str, str]) -> bool:
    """Whether one can walk from the first case to all others over shared groups and shared pictures."""
    reached, before = {cases[0].group, hashes[cases[0].id]}, 0
    while len(reached) > before:
        before = len(reached)
        for case in cases:
            if reached & {case.group, hashes[case.id]}:
                reached |= {case.group, hashes[case.id]}
    return all(case.group in reached for case in cases)


def alike(hashes: dict[str, str]) -> list[list[str]]:
    """Clusters of the ids that hold one picture."""
    holders: dict[str, list[str]] = {}
    for case_id, picture in hashes.items():
        holders.setdefault(picture, []).append(case_id)
    return [ids for ids in holders.values() if len(ids) > 1]


members = st.lists(st.integers(0, 9), min_size=5, max_size=60).filter(lambda g: len(set(g)) >= 3)


def lesions(cases: list[Case], seed: int) -> dict[str, float]:
    shares = np.random.default_rng(seed).gamma(0.5, 0.1, len(cases))
    return {case.id: float(share) for case, share in zip(cases, shares, strict=True)}


@given(groups=members, fraction=st.floats(0.05, 0.95), seed=st.integers(0, 2**32))
def test_holdout_is_a_partition_into_whole_groups(groups: list[int], fraction: float, seed: int) -> None:
    cases = make(groups)
    split = holdout(cases, fraction, seed, lesion=lesions(cases, 0))
    assert sorted(split.train + split.validation) == [case.id for case in cases]
    owner = group_of(cases)
    assert {owner[i] for i in split.train}.isdisjoint(owner[i] for i in split.validation)
    assert split.train
    assert split.validation
    turned = holdout(cases[::-1], fraction, seed, lesion=lesions(cases, 0))
    assert set(turned.validation) == set(split.validation), "the order of the files does not matter"


@given(groups=members, n=st.integers(2, 3), seed=st.integers(0, 2**32))
def test_every_fold_validates_each_case_once(groups: list[int], n: int, seed: int) -> None:
    cases = make(groups)
    owner = group_of(cases)
    folds = [kfold(cases, n, k, seed, lesion=lesions(cases, 1)) for k in range(1, n + 1)]
    assert sorted(i for fold in folds for i in fold.validation) == [case.id for case in cases]
    for k, fold in enumerate(folds, start=1):
        assert fold.fold == f"{k}/{n}"
        assert fold.validation
        assert sorted(fold.train + fold.validation) == [case.id for case in cases]
        assert {owner[i] for i in fold.train}.isdisjoint(owner[i] for i in fold.validation)


@given(seed=st.integers(0, 2**32), n=st.sampled_from([2, 4, 5]))
def test_folds_share_cases_and_lesion_fairly(seed: int, n: int) -> None:
    cases = singles(100)
    lesion = lesions(cases, seed)
    parts = [kfold(cases, n, k, seed, lesion=lesion).validation for k in range(1, n + 1)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 4
    loads = [sum(lesion[i] for i in part) for part in parts]
    fair = sum(loads) / n
    assert max(loads) <= max(1.4 * fair, max(lesion.values()) + 0.1 * fair)
    assert min(loads) >= 0.75 * fair - max(lesion.values()) / n


@given(seed=st.integers(0, 2**32), fraction=st.sampled_from([0.1, 0.24, 0.5]))
def test_holdout_takes_its_part(seed: int, fraction: float) -> None:
    cases = singles(100)
    lesion = lesions(cases, seed)
    validation = holdout(cases, fraction, seed, lesion=lesion).validation
    assert len(validation) == pytest.approx(100 * fraction, abs=6)
    assert sum(lesion[i] for i in validation) == pytest.approx(fraction * sum(lesion.values()), rel=0.5)


def test_the_seed_decides_and_the_order_of_files_does_not() -> None:
    cases = singles(40)
    first = holdout(cases, 0.25, 1)
    assert first == holdout(cases, 0.25, 1)
    assert set(first.validation) == set(holdout(cases[::-1], 0.25, 1).validation)
    assert len({holdout(cases, 0.25, seed).validation for seed in range(5)}) == 5


def test_which_sources_validate_and_train() -> None:
    cases = singles(20, "a") + singles(30, "b") + singles(5, "c")
    split = holdout(cases, 0.5, 0, validation_sources=["a"], train_sources=["a", "b"])
    assert {i[0] for i in split.validation} == {"a"}
    assert {i[0] for i in split.train} == {"a", "b"}
    assert len(split.validation) == 10
    assert sum(i[0] == "b" for i in split.train) == 30
    only_b = holdout(cases, 0.5, 0, validation_sources=["a"], train_sources=["b"])
    assert {i[0] for i in only_b.train} == {"b"}


def test_a_patient_of_two_sources_does_not_validate_for_one() -> None:
    shared = [
        Case(i, i[0], "f", (2, 2), Unit.HU, lambda: np.zeros((2, 2), np.float32), patient=p)
        for i, p in (("a/1", "x"), ("b/1", "x"), ("a/2", "y"), ("a/3", "z"))
    ]
    for seed in range(5):
        assert "a/1" not in holdout(shared, 0.5, seed, validation_sources=["a"]).validation


def test_test_cases_stay_away() -> None:
    cases = singles(30)
    away = holdout(cases, 0.2, 7).validation
    for k in range(1, 4):
        fold = kfold(cases, 3, k, 7, test=away)
        assert fold.test == away
        assert not set(away) & {*fold.train, *fold.validation}
    with pytest.raises(RecipeError, match="divide the group 's0'"):
        kfold(make([0, 0, 1, 1, 2]), 2, 1, 0, test=["s/000"])


@given(groups=members, copies=st.lists(st.integers(0, 9), min_size=60, max_size=60), seed=st.integers(0, 99))
def test_copies_are_never_on_two_sides(groups: list[int], copies: list[int], seed: int) -> None:
    cases = make(groups)
    # A number below 3 is a picture that several groups may hold; the others are pictures of their own.
    hashes = {case.id: str(c) if c < 3 else case.id for case, c in zip(cases, copies, strict=False)}
    if all_linked(cases, hashes):
        with pytest.raises(RecipeError, match="joined into 1"):
            holdout(cases, 0.3, seed, clusters=alike(hashes))
        return
    split = holdout(cases, 0.3, seed, clusters=alike(hashes))
    assert sorted(split.train + split.validation) == [case.id for case in cases]
    for owner in (hashes, group_of(cases)):
        assert {owner[i] for i in split.train}.isdisjoint(owner[i] for i in split.validation)
    turned = holdout(cases[::-1], 0.3, seed, clusters=alike(hashes))
    assert (set(turned.validation), turned.groups) == (set(split.validation), split.groups)


def test_groups_are_joined_by_way_of_others_and_that_is_said() -> None:
    cases = make([0, 0, 1, 1, 2, 3, 4, 5, 6])
    ids = [case.id for case in cases]
    hashes = {**{i: i for i in ids}, ids[1]: "x", ids[2]: "x", ids[3]: "y", ids[4]: "y", ids[7]: "z", ids[8]: "z"}
    chain, pair = set(ids[:5]), set(ids[7:])
    for seed in range(20):
        for k in (1, 2):
            fold = kfold(cases, 2, k, seed, clusters=alike(hashes))
            assert chain <= set(fold.train) or chain <= set(fold.validation)
            assert pair <= set(fold.train) or pair <= set(fold.validation)
            joined = "5 groups that show the same picture or scan were joined into 2"
            assert fold.groups == f"4 groups, none divided ({joined})"
    apart = {i: i for i in ids}
    assert kfold(cases, 2, 1, 3, clusters=alike(apart)) == kfold(cases, 2, 1, 3)
    assert holdout(cases, 0.3, 3, clusters=alike(hashes), lesion=lesions(cases, 0)).groups == fold.groups
    with pytest.raises(RecipeError, match=r"there are 4 \(5 groups .* joined into 2\)"):
        kfold(cases, 5, 1, 0, clusters=alike(hashes))
    with pytest.raises(RecipeError, match=r"divide the group 's0'.*joined into 2"):
        holdout(cases, 0.3, 0, clusters=alike(hashes), test=ids[:2])


def test_a_copy_in_another_source_keeps_its_group_from_validating() -> None:
    cases = singles(6, "a") + singles(6, "b")
    hashes = {**{case.id: case.id for case in cases}, "a/001": "x", "b/004": "x"}
    for seed in range(10):
        split = holdout(cases, 0.5, seed, clusters=alike(hashes), validation_sources=["a"])
        assert "a/001" in split.train


def test_explicit_rows_stand_and_what_they_divide_is_stamped() -> None:
    cases = singles(6, "a") + singles(6, "b")
    clusters = [["a/001", "b/004"], ["a/002", "a/003"]]
    split = explicit(cases, {"a": "0..3"}, clusters=clusters)
    assert split.validation == ("a/000", "a/001", "a/002", "a/003")
    assert split.groups.startswith("10 groups, 1 divided (4 groups that show the same picture or scan were joined")
    assert split.leaky.startswith("leaky by source: the named rows divide 1 of 10 groups; 1 of 4 validation cases")
    assert explicit(cases, {"a": "0..3"}, clusters=clusters, train_sources=["a"]).leaky == ""
    assert explicit(cases, {"a": "0..3"}).leaky == ""


def test_rows_that_divide_a_volume_are_stamped_too() -> None:
    cases = singles(6, "medseg") + make([0] * 5 + [1] * 5, "radio")
    split = explicit(cases, {"radio": "0..2,5..9"})
    assert len(split.validation) == 8
    assert split.leaky.startswith("leaky by source: the named rows divide 1 of 8 groups; 3 of 8 validation cases")
    assert "8 groups, 1 divided" in split.groups
    assert explicit(cases, {"radio": "0..2,5..9"}, train_sources=["medseg"]).leaky == ""


@given(groups=members, seed=st.integers(0, 99))
def test_folds_of_single_cases_are_a_partition_and_say_what_they_divide(groups: list[int], seed: int) -> None:
    cases = make(groups)
    owner = group_of(cases)
    folds = [kfold(cases, 3, k, seed, whole=False) for k in (1, 2, 3)]
    assert sorted(i for fold in folds for i in fold.validation) == [case.id for case in cases]
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1, "single cases are dealt evenly"
    for fold in folds:
        divided = {owner[i] for i in fold.train} & {owner[i] for i in fold.validation}
        assert bool(fold.leaky) == bool(divided)
        if divided:
            assert fold.leaky.startswith(f"leaky by choice: the split divides {len(divided)} of {len(set(groups))}")


def test_folds_of_single_cases_divide_clusters_but_not_the_test_part() -> None:
    cases = singles(12)
    ids = [case.id for case in cases]
    folds = [kfold(cases, 3, k, 1, clusters=[ids[:6]], test=ids[9:], whole=False) for k in (1, 2, 3)]
    assert sorted(i for fold in folds for i in fold.validation) == ids[:9]
    assert all(fold.leaky.startswith("leaky by choice") for fold in folds)
    with pytest.raises(RecipeError, match="the test cases divide the group"):
        kfold(cases, 3, 1, 1, clusters=[ids[:6]], test=ids[5:], whole=False)


def test_explicit_rows() -> None:
    cases = singles(30, "medseg") + make([0] * 5 + [1] * 5, "radio")
    split = explicit(cases, {"medseg": "0..23"})
    assert split.validation == tuple(f"medseg/{i:03d}" for i in range(24))
    assert len(split.train) == 6 + 10
    assert explicit(cases, {"medseg": " 0, 2,5..6"}).validation == (
        "medseg/000",
        "medseg/002",
        "medseg/005",
        "medseg/006",
    )
    assert len(explicit(cases, {"radio": "5..9"}, train_sources=["radio"]).train) == 5


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"medseg": "0..30"}, "its last row is 29"),
        ({"medsg": "0"}, "did you mean 'medseg'"),
        ({"medseg": ""}, "cannot be read"),
        ({"medseg": "a..b"}, "cannot be read"),
        ({"medseg": "3.."}, "cannot be read"),
        ({"medseg": "-1"}, "cannot be read"),
        ({"medseg": "9..3"}, "runs backwards"),
        ({"medseg": "0..99999999999999999"}, "cannot be read"),
        ({"medseg": "0..29", "radio": "0..9"}, "no case is left to train on"),
    ],
)
def test_rows_that_cannot_be(rows: dict[str, str], says: str) -> None:
    cases = singles(30, "medseg") + make([0] * 5 + [1] * 5, "radio")
    with pytest.raises(RecipeError, match=says):
        explicit(cases, rows)


def test_what_cannot_be_split() -> None:
    with pytest.raises(RecipeError, match="5 parts need 5 groups"):
        kfold(make([0, 0, 1, 1, 2, 2, 3]), 5, 1, 0)
    with pytest.raises(RecipeError, match="2 parts need 2 groups"):
        holdout(make([0] * 9), 0.2, 0)
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(RecipeError, match="not between 0 and 1"):
            holdout(singles(9), fraction, 0)
    for n, k in ((5, 0), (5, 6), (1, 1)):
        with pytest.raises(RecipeError, match="does not exist"):
            kfold(singles(9), n, k, 0)
    with pytest.raises(RecipeError, match="no labelled source 'x'"):
        holdout(singles(9), 0.5, 0, validation_sources=["x"])


@pytest.mark.parametrize("sides", [(("a",), ("a",), ()), (("a", "a"), ("b",), ()), (("a",), ("b",), ("b",))])
def test_no_case_on_two_sides(sides: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValidationError, match="more than once"):
        Split(kind="holdout", seed=0, train=sides[0], validation=sides[1], test=sides[2])


def test_a_split_survives_json() -> None:
    split = kfold(singles(10), 5, 2, 3)
    assert Split.model_validate_json(split.model_dump_json()) == split
