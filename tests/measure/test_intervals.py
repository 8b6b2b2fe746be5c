import numpy as np
import pytest

from groundglass.measure import intervals
from groundglass.measure.intervals import bootstrap
from groundglass.measure.metrics import weighted_mean


def mean_of(values):
    return lambda weights: weighted_mean(values, weights)


def names(n):
    return [f"cluster {i}" for i in range(n)]


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        patient = random.normal(0.7, 0.1, 40)
        images = np.repeat(patient, 3) + random.normal(0, 0.05, 120)
        low, high = bootstrap(mean_of(images), list(np.repeat(names(40), 3)), 300, trial)
        covered += low <= 0.7 <= high
    assert 0.88 < covered / 200 < 0.99


def test_a_wider_level_is_a_wider_interval():
    values = np.random.default_rng(0).random(30)
    narrow, wide = (bootstrap(mean_of(values), names(30), 500, 0, level) for level in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_clusters_of_alike_images_make_wider_intervals_than_images():
    values = np.repeat(np.random.default_rng(0).random(12), 10)
    by_patient = bootstrap(mean_of(values), list(np.repeat(names(12), 10)), 500, 0)
    by_image = bootstrap(mean_of(values), names(120), 500, 0)
    assert by_patient.high - by_patient.low > 2 * (by_image.high - by_image.low)


def test_the_seed_decides():
    values = np.random.default_rng(0).random(30)
    first, again, other = (bootstrap(mean_of(values), names(30), 200, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_clusters_are_drawn_whole_and_as_many_as_there_are():
    seen = []

    def remember(weights):
        seen.append(weights)
        return weights.sum(axis=1)

    bootstrap(remember, ["a", "b", "a", "c", "a", "b"], 50, 0)
    (weights,) = seen
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_many_cases_are_resampled_in_blocks(monkeypatch):
    monkeypatch.setattr(intervals, "_BLOCK", 100)
    sizes = []

    def remember(weights):
        sizes.append(len(weights))
        return weights[:, 0]

    bootstrap(remember, names(30), 10, 0)
    assert sizes == [3, 3, 3, 1]


def test_limits_have_the_shape_of_the_statistic():
    low, high = bootstrap(lambda w: np.stack([w[:, :3], w[:, 1:4]], axis=1), names(5), 20, 0)
    assert low.shape == high.shape == (2, 3)


@pytest.mark.parametrize(("clusters", "n_boot"), [(["a", "a", "a"], 100), (["a", "b", "c"], 0)])
def test_without_clusters_or_resamples_there_is_no_interval(clusters, n_boot):
    low, high = bootstrap(mean_of(np.arange(3.0)), clusters, n_boot, 0)
    assert np.isnan(low)
    assert np.isnan(high)


def test_resamples_in_which_the_statistic_is_undefined_are_left_out():
    values = np.array([[0.2, np.nan], [0.4, np.nan], [np.nan, np.nan]])
    low, high = bootstrap(mean_of(values), names(3), 200, 0)
    assert (low[0], high[0]) == pytest.approx((0.2, 0.4))
    assert np.isnan([low[1], high[1]]).all()
