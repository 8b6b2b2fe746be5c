import numpy as np
import pytest

from groundglass.measure import intervals
from groundglass.measure.intervals import bootstrap
from groundglass.measure.metrics import weighted_mean


def mean_of(values):
    return lambda weights: weighted_mean(values, weights)


def names(n):
    return [f"cluster {i}" for i in range(n)]


# ---- do intervals hold what they promise?


def mean_of_images(random, n_clusters):
    """Scores of images of clusters of 1 to 11, which differ more between clusters than within; their mean is 0.6."""
    cluster = np.repeat(np.arange(n_clusters), random.integers(1, 12, n_clusters))
    values = 0.6 + 0.15 * random.normal(size=n_clusters)[cluster] + 0.1 * random.normal(size=len(cluster))
    return values, np.ones(len(values)), cluster


def pooled_dice(random, n_clusters):
    """Shares tp / area of images whose areas differ by factors: a few large lesions decide a pooled score."""
    cluster = np.repeat(np.arange(n_clusters), random.integers(1, 12, n_clusters))
    logit = 0.8 + 0.8 * random.normal(size=n_clusters)[cluster] + 0.4 * random.normal(size=len(cluster))
    area = np.exp(0.8 * random.normal(size=n_clusters)[cluster] + 0.5 * random.normal(size=len(cluster)))
    return area / (1 + np.exp(-logit)), area, cluster


def coverage(draw, n_clusters, by_image=False, trials=400):
    """How often the nominal 95 % interval of sum / sum holds the truth, taken from ten thousand clusters."""
    parts, wholes, _ = draw(np.random.default_rng(1), 10_000)
    truth = parts.sum() / wholes.sum()
    random = np.random.default_rng(2)
    covered = 0
    for seed in range(trials):
        part, whole, cluster = draw(random, n_clusters)
        resampled = np.arange(len(part)) if by_image else cluster
        low, high = bootstrap(lambda w, p=part, a=whole: (w @ p) / (w @ a), resampled.astype(str).tolist(), 300, seed)
        covered += low <= truth <= high
    return covered / trials


@pytest.mark.parametrize("n_clusters", [10, 15, 30, 60])
@pytest.mark.parametrize("draw", [mean_of_images, pooled_dice])
def test_intervals_cover_the_truth_about_as_often_as_they_say(draw, n_clusters):
    assert 0.89 <= coverage(draw, n_clusters) <= 0.975


@pytest.mark.parametrize("draw", [mean_of_images, pooled_dice])
def test_resampling_single_images_covers_far_less(draw):
    assert coverage(draw, 15, by_image=True, trials=100) < 0.75


def test_few_clusters_make_the_interval_wider_than_plain_quantiles(monkeypatch):
    expanded = {n: coverage(mean_of_images, n, trials=200) for n in (5, 10)}
    monkeypatch.setattr(intervals, "_tail", lambda level, n_clusters: (1 - level) / 2)
    for n, covered in expanded.items():
        assert covered > coverage(mean_of_images, n, trials=200) + 0.02


def test_with_many_clusters_the_quantiles_are_the_plain_ones():
    values = np.random.default_rng(0).random(2000)
    seen = []
    low, high = bootstrap(lambda w: seen.append(mean_of(values)(w)) or seen[-1], names(2000), 1000, 0)
    assert (low, high) == pytest.approx(np.quantile(np.concatenate(seen), [0.025, 0.975]), abs=2e-4)


def test_two_clusters_say_no_more_than_what_they_are():
    low, high = bootstrap(mean_of(np.array([0.2, 0.8])), names(2), 200, 0)
    assert (low, high) == pytest.approx((0.2, 0.8))


# ---- how they are made


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
