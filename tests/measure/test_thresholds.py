import numpy as np
import pytest

from groundglass.errors import DataError
from groundglass.labels import label_set
from groundglass.measure.thresholds import tune, tune_apart

LESION, CT3 = label_set("lesion"), label_set("ct3")


def binary(lesion):
    lesion = np.asarray(lesion, np.float32)
    return np.stack([1 - lesion, lesion])


def random_cases(labels, n=4, seed=0):
    random = np.random.default_rng(seed)
    k = len(labels.classes)
    for _ in range(n):
        truth = random.integers(0, k, (12, 12), np.uint8)
        noisy = random.random((k, 12, 12)) + 0.7 * np.moveaxis(np.eye(k)[truth], -1, 0)
        yield (noisy / noisy.sum(axis=0)).astype(np.float32), truth


def test_finds_a_planted_optimum():
    truth = np.array([[1, 1, 0, 0]], np.uint8)
    assert tune([(binary([[0.32, 0.31, 0.28, 0.1]]), truth)], LESION) == {"lesion": 0.3}


@pytest.mark.parametrize("labels", [LESION, CT3])
def test_no_candidate_has_a_higher_pooled_dice(labels):
    cases = list(random_cases(labels))
    grid = np.linspace(0.05, 0.95, 19)

    def pooled_dice(channel, threshold):
        predicted = np.stack([p[channel] >= np.float32(threshold) for p, _ in cases])
        truth = np.stack([t == channel for _, t in cases])
        return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())

    for name, chosen in tune(cases, labels).items():
        channel = labels.classes.index(name)
        scores = [pooled_dice(channel, t) for t in grid]
        assert pooled_dice(channel, chosen) == max(scores) > min(scores)


def test_equal_scores_go_to_the_threshold_nearest_one_half():
    truth = np.array([[1, 0]], np.uint8)
    assert tune([(binary([[0.99, 0.01]]), truth)], LESION) == {"lesion": 0.5}
    assert tune([(binary([[0.99, 0.72]]), truth)], LESION) == {"lesion": 0.75}
    assert tune([(binary([[0.33, 0.01]]), truth)], LESION) == {"lesion": 0.3}
    assert tune([(binary([[0.99, 0.01]]), truth)], LESION, np.array([0.6, 0.4])) == {"lesion": 0.4}


def test_a_probability_on_the_threshold_passes_it():
    on_it = (binary([[0.7, 0.65]]), np.array([[1, 0]], np.uint8))
    assert tune([on_it], LESION, np.array([0.6, 0.7])) == {"lesion": 0.7}


def test_candidates_may_come_in_any_order():
    truth = np.array([[1, 1, 0]], np.uint8)
    assert tune([(binary([[0.65, 0.8, 0.5]]), truth)], LESION, np.array([0.9, 0.6, 0.3])) == {"lesion": 0.6}
    assert tune([(binary([[0.95, 0.92, 0.7]]), truth)], LESION, np.array([0.9, 0.6, 0.3])) == {"lesion": 0.9}


def test_a_class_that_is_never_marked_keeps_one_half():
    probabilities = np.array([[[0.1]], [[0.8]], [[0.1]]], np.float32)
    tuned = tune([(probabilities, np.array([[1]], np.uint8))], CT3, np.array([0.2, 0.3]))
    assert tuned == {"ground-glass": 0.3, "consolidation": 0.5}


def test_counts_are_pooled_over_cases_of_any_size():
    whole = (
        np.concatenate([p for p, _ in random_cases(LESION)], axis=1),
        np.vstack([t for _, t in random_cases(LESION)]),
    )
    assert tune(random_cases(LESION), LESION) == tune([whole], LESION)


def test_no_cases_is_an_error():
    with pytest.raises(DataError, match="no validation cases"):
        tune(iter(()), LESION)


def test_a_part_is_tuned_by_the_others_alone() -> None:
    labels = label_set("lesion")
    random = np.random.default_rng(3)

    def case(cut: float) -> tuple[np.ndarray, np.ndarray]:
        p = random.uniform(0, 1, (16, 16)).astype(np.float32)
        return np.stack([1 - p, p]), (p >= cut).astype(np.uint8)

    parts = [[case(0.3)], [case(0.6)], [case(0.6)]]
    apart = tune_apart(parts, labels)
    assert apart[0]["lesion"] == pytest.approx(0.6)
    for i in range(3):
        others = [found for j, part in enumerate(parts) if j != i for found in part]
        assert apart[i] == tune(others, labels)
