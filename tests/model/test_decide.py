import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from groundglass.errors import RecipeError
from groundglass.labels import label_set
from groundglass.measure.counts import class_counts, confusion
from groundglass.measure.metrics import METRICS
from groundglass.measure.thresholds import tune
from groundglass.model.decide import decide

CT4, LESION = label_set("ct4"), label_set("lesion")
weights = arrays(np.float32, (4, 3, 5), elements=st.floats(0.0009765625, 1, width=32))
threshold = st.floats(0.05, 1)


def probabilities(values):
    return (values / values.sum(axis=0)).astype(np.float32)


def pixel(*values, labels=CT4, thresholds=None):
    return labels.classes[decide(np.array(values, np.float32)[:, None, None], labels, thresholds)[0, 0]]


@given(weights)
def test_without_thresholds_the_most_probable_class_wins(values):
    decided = decide(probabilities(values), CT4)
    assert decided.dtype == np.uint8
    np.testing.assert_array_equal(decided, probabilities(values).argmax(axis=0))


@given(arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)))
def test_two_classes_at_one_half_are_argmax_but_for_ties(lesion):
    p = np.stack([1 - lesion, lesion])
    clear = p[0] != p[1]
    np.testing.assert_array_equal(decide(p, LESION, {"lesion": 0.5})[clear], decide(p, LESION)[clear])
    assert (decide(p, LESION, {"lesion": 0.5})[~clear] == 1).all()


@given(weights, threshold, threshold)
def test_a_pixel_is_lesion_exactly_where_a_lesion_passes_its_threshold(values, ground_glass, consolidation):
    p = probabilities(values)
    decided = decide(p, CT4, {"ground-glass": ground_glass, "consolidation": consolidation})
    passes = p[1:3] >= np.array([ground_glass, consolidation], np.float32)[:, None, None]
    np.testing.assert_array_equal(np.isin(decided, CT4.lesion_channels), passes.any(axis=0))
    chosen = np.isin(decided, CT4.lesion_channels)
    assert np.take_along_axis(passes, decided[None].astype(int).clip(1, 2) - 1, axis=0)[0][chosen].all()
    others = np.where(p[3] > p[0], 3, 0)
    np.testing.assert_array_equal(decided[~chosen], others[~chosen])


@given(weights, threshold)
def test_equal_thresholds_leave_the_order_of_lesions_to_their_probabilities(values, t):
    p = probabilities(values)
    decided = decide(p, CT4, {"ground-glass": t, "consolidation": t})
    clear = p[1] != p[2]
    of_lesions = 1 + p[1:3].argmax(axis=0)
    # Division may round two near neighbours to one factor, where the lower channel wins.
    clear &= p[1] / np.float32(t) != p[2] / np.float32(t)
    lesion = np.isin(decided, (1, 2)) & clear
    np.testing.assert_array_equal(decided[lesion], of_lesions[lesion])


@given(weights, threshold, st.floats(0.05, 1))
def test_a_lower_threshold_never_takes_pixels_from_its_class(values, t, factor):
    p = probabilities(values)
    fewer = decide(p, CT4, {"consolidation": t}) == 2
    more = decide(p, CT4, {"consolidation": t * factor}) == 2
    assert (more | ~fewer).all()


def test_the_largest_factor_over_the_threshold_wins():
    assert pixel(0.1, 0.5, 0.3, 0.1) == "ground-glass"
    assert pixel(0.1, 0.5, 0.3, 0.1, thresholds={"ground-glass": 0.4, "consolidation": 0.2}) == "consolidation"


def test_below_every_threshold_the_most_probable_other_class_wins():
    strict = {"ground-glass": 0.8, "consolidation": 0.8}
    assert pixel(0.1, 0.5, 0.2, 0.2, thresholds=strict) == "lung"
    assert pixel(0.2, 0.5, 0.2, 0.1, thresholds=strict) == "background"


def test_a_lesion_class_without_a_threshold_has_one_half():
    assert pixel(0.3, 0.1, 0.5, 0.1, thresholds={}) == "consolidation"
    assert pixel(0.3, 0.1, 0.49, 0.11, thresholds={"ground-glass": 0.2}) == "background"


def test_volumes_are_decided_like_their_slices():
    p = probabilities(np.random.default_rng(0).random((4, 3, 6, 7)))
    for thresholds in (None, {"ground-glass": 0.3}):
        slices = [decide(p[:, i], CT4, thresholds) for i in range(3)]
        np.testing.assert_array_equal(decide(p, CT4, thresholds), np.stack(slices))


def test_a_tuned_threshold_is_worth_what_tuning_promised():
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (40, 40), np.uint8)
    lesion = (0.2 * random.random((40, 40)) + 0.1 * truth).astype(np.float32)
    p = np.stack([1 - lesion, lesion])

    def score(thresholds):
        return METRICS["dice"](class_counts(confusion(truth, decide(p, LESION, thresholds), LESION), (1,), LESION))

    tuned = tune([(p, truth)], LESION)
    assert score(tuned) == max(score({"lesion": t}) for t in np.linspace(0.05, 0.95, 19)) > score(None)


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"consolidatoin": 0.5}, "did you mean 'consolidation'"),
        ({"lung": 0.5}, "'lung', which is no lesion class of label set 'ct4'"),
        ({"ground-glass": 0.0}, "threshold of 'ground-glass' is 0; it must be above 0"),
        ({"ground-glass": 1.5}, "at most 1"),
        ({"ground-glass": float("nan")}, "is nan"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(thresholds, message):
    with pytest.raises(RecipeError, match=message):
        pixel(0.25, 0.25, 0.25, 0.25, thresholds=thresholds)
