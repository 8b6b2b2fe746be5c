import itertools

import numpy as np
import pytest

from groundglass.errors import DataError
from groundglass.measure.comparison import (
    FEWEST_TO_DECIDE,
    Difference,
    compare_pair,
    decided,
    holm,
    seed_spread,
    sentence,
)

nan = np.nan


def clustered(random, n_clusters, effect=0.0, n_most=6):
    """Scores of two methods on images of patients: patients differ, and they differ in which method suits them."""
    patient = np.repeat(np.arange(n_clusters), random.integers(1, n_most + 1, n_clusters))
    base = random.normal(0.6, 0.15, n_clusters)[patient]
    suits = random.normal(0, 0.05, n_clusters)[patient]
    noise = random.normal(0, 0.03, (2, len(patient)))
    return base + suits + effect + noise[0], base + noise[1], [f"patient {p}" for p in patient]


def test_an_exact_test_by_hand():
    # Cluster sums 0.3, 0.1, -0.1: of eight sign patterns, these reach |0.3|: all with |total| >= 0.3.
    a, b = np.array([0.2, 0.1, 0.1, -0.1]), np.zeros(4)
    found = compare_pair(a, b, ["x", "x", "y", "z"], 100, 0)
    totals = [abs(s * 0.3 + t * 0.1 + u * 0.1) for s, t, u in itertools.product((1, -1), repeat=3)]
    assert found.p == np.mean([total >= 0.3 - 1e-9 for total in totals])
    assert found.mean == pytest.approx(0.075)
    assert (found.n, found.n_undefined, found.n_clusters) == (4, 0, 3)


@pytest.mark.parametrize("n_clusters", [6, 10, 14])
def test_when_one_method_is_always_better_p_is_the_least_there_is(n_clusters):
    random = np.random.default_rng(0)
    b = random.random(n_clusters)
    found = compare_pair(b + 0.1, b, [str(i) for i in range(n_clusters)])
    assert found.p == pytest.approx(2 / 2**n_clusters)
    assert found.low == pytest.approx(0.1)
    assert decided(found)


def test_drawn_patterns_agree_with_all_of_them(monkeypatch):
    a, b, patients = clustered(np.random.default_rng(3), 12)
    exact = compare_pair(a, b, patients)
    monkeypatch.setattr("groundglass.measure.comparison._ENUMERATED", 5)
    drawn = compare_pair(a, b, patients)
    assert 0.05 < exact.p < 0.5
    assert drawn.p == pytest.approx(exact.p, abs=0.02)


def test_a_drawn_p_is_never_zero():
    random = np.random.default_rng(0)
    b = random.random(40)
    assert compare_pair(b + 0.1, b, [str(i) for i in range(40)]).p == pytest.approx(1 / 10_001)


def test_turning_the_pair_round_turns_the_signs():
    a, b, patients = clustered(np.random.default_rng(1), 20, 0.02)
    one, other = compare_pair(a, b, patients), compare_pair(b, a, patients)
    assert (other.mean, other.low, other.high, other.p) == pytest.approx((-one.mean, -one.high, -one.low, one.p))


def test_no_difference_at_all():
    a = np.random.default_rng(0).random(30)
    found = compare_pair(a, a, [str(i) for i in range(30)])
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert not decided(found)


def test_order_of_cases_and_names_of_clusters_mean_nothing():
    a, b, patients = clustered(np.random.default_rng(2), 10, 0.03)
    order = np.random.default_rng(0).permutation(len(a))
    moved = compare_pair(a[order], b[order], [patients[i] for i in order])
    found = compare_pair(a, b, patients)
    assert (moved.mean, moved.p, moved.low, moved.high) == pytest.approx((found.mean, found.p, found.low, found.high))
    assert compare_pair(a, b, [f"P{name}" for name in patients]).p == found.p


def test_undefined_cases_are_left_out_and_counted():
    a, b, patients = clustered(np.random.default_rng(4), 12, 0.03)
    gaps = compare_pair(np.append(a, [nan, 0.5, nan]), np.append(b, [0.5, nan, nan]), [*patients, "new", "other", "x"])
    whole = compare_pair(a, b, patients)
    assert gaps.n_undefined == 3
    assert (gaps.n, gaps.n_clusters, gaps.mean, gaps.p, gaps.low) == (
        whole.n,
        whole.n_clusters,
        whole.mean,
        whole.p,
        whole.low,
    )


def test_nothing_defined_is_no_comparison():
    found = compare_pair(np.full(3, nan), np.ones(3), ["a", "b", "c"])
    assert (found.n, found.n_undefined, found.n_clusters) == (0, 3, 0)
    assert np.isnan([found.mean, found.low, found.high, found.p]).all()
    assert not decided(found)
    assert "cannot be compared" in sentence(found, ("A", "B"))


def test_many_images_of_few_patients_decide_nothing():
    random = np.random.default_rng(0)
    b = random.random(500)
    found = compare_pair(b + 0.2, b, [str(i % (FEWEST_TO_DECIDE - 1)) for i in range(500)])
    assert found.p > 0.05
    assert not decided(found)
    assert sentence(found, ("A", "B")).startswith("No test can decide between A and B with fewer than 6 clusters")
    two = compare_pair(b + 0.2, b, [str(i % 2) for i in range(500)])
    assert np.isnan(two.low)
    assert "no interval" in sentence(two, ("A", "B"))


def test_lengths_must_agree():
    with pytest.raises(DataError, match="3 and 3 values of 2 cases"):
        compare_pair(np.ones(3), np.ones(3), ["a", "b"])


def errors_of_both_kinds(effect, n_clusters, trials):
    random = np.random.default_rng(0)
    found = [compare_pair(*clustered(random, n_clusters, effect), 200, seed) for seed in range(trials)]
    return np.mean([d.p < 0.05 for d in found]), np.mean([decided(d) for d in found])


@pytest.mark.parametrize("n_clusters", [8, 14])
def test_without_a_difference_one_is_found_in_one_of_twenty(n_clusters):
    by_p, by_both = errors_of_both_kinds(0.0, n_clusters, 400)
    assert 0.02 < by_p < 0.08
    assert by_both <= by_p


def test_without_a_difference_one_is_found_in_one_of_twenty_by_drawn_patterns():
    by_p, by_both = errors_of_both_kinds(0.0, 30, 300)
    assert 0.02 < by_p < 0.085
    assert by_both <= by_p


def test_images_as_if_independent_would_find_differences_that_are_none():
    random = np.random.default_rng(0)
    wrong = 0
    for seed in range(100):
        a, b, _ = clustered(random, 6, n_most=4)
        a, b = np.repeat(a, 3), np.repeat(b, 3)
        wrong += compare_pair(a, b, [str(i) for i in range(len(a))], 0, seed).p < 0.05
    assert wrong > 20


def test_power_grows_with_the_effect():
    power = [errors_of_both_kinds(effect, 12, 60)[1] for effect in (0.0, 0.03, 0.06, 0.12)]
    assert power == sorted(power)
    assert power[0] < 0.15
    assert power[-1] > 0.95


# ---- Holm


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.9], [1, 1, 1]),
        ([0.02], [0.02]),
        ([0.02, nan, 0.04], [0.04, nan, 0.04]),
        ([0.01, 0.01], [0.02, 0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p, corrected):
    assert holm(p) == pytest.approx(corrected, nan_ok=True)


def test_holm_is_between_no_correction_and_bonferroni():
    p = np.random.default_rng(0).random(20) ** 4
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(p * 20, 1)).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


# ---- words


def difference(**changes):
    return Difference(
        **(
            {"n": 50, "n_undefined": 0, "n_clusters": 44, "mean": 0.031, "low": 0.01, "high": 0.052, "p": 0.004}
            | changes
        )
    )


def test_the_sentences():
    numbers = "difference 0.031, 95 % interval 0.010 to 0.052"
    where = "n = 50 images in 44 clusters"
    assert sentence(difference(), ("A", "B"), 0.012) == f"A is better than B: {numbers}, corrected p 0.012, {where}"
    assert sentence(difference(), ("A", "B")) == f"A is better than B: {numbers}, p 0.004, {where}"
    assert sentence(difference(), ("A", "B"), 0.0004).endswith(f"corrected p below 0.001, {where}")
    unclear = difference(mean=0.012, low=-0.015, high=0.04, p=0.3, n_undefined=2)
    assert sentence(unclear, ("A", "B"), 0.6) == (
        "A is not shown to be better than B: difference 0.012, 95 % interval -0.015 to 0.040, corrected p 0.600, "
        "n = 50 images in 44 clusters, 2 left out"
    )


def test_the_better_method_comes_first():
    worse = difference(mean=-0.031, low=-0.052, high=-0.01)
    assert sentence(worse, ("A", "B")).startswith("B is better than A: difference 0.031, 95 % interval 0.010 to 0.052")
    # Distances: less is better.
    far = sentence(difference(), ("A", "B"), higher_is_better=False, unit="volumes")
    assert far.startswith("B is better than A: difference -0.031, 95 % interval -0.052 to -0.010")
    assert "n = 50 volumes" in far


@pytest.mark.parametrize(
    ("changes", "corrected"),
    [({}, 0.05), ({}, nan), ({"low": -0.001}, 0.01), ({"low": nan, "high": nan}, 0.01), ({"n_clusters": 5}, 0.01)],
)
def test_both_the_test_and_the_interval_must_agree(changes, corrected):
    assert decided(difference(), 0.049)
    assert not decided(difference(**changes), corrected)
    assert "is better" not in sentence(difference(**changes), ("A", "B"), corrected)


# ---- seeds


def test_seed_spread():
    found = seed_spread([0.5, 0.7, 0.6])
    assert (found.n, found.mean, found.sd, found.low, found.high) == pytest.approx((3, 0.6, 0.1, 0.5, 0.7))
    assert np.isnan(seed_spread([0.5]).sd)
    with pytest.raises(DataError, match="no runs"):
        seed_spread([])
