"""Pixels of which only some is known are scored as far as they are known, and never as background."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from groundglass.labels import BY_NAME, LABEL_SETS, label_set
from groundglass.measure.counts import CaseCounts, class_counts, confusion
from groundglass.measure.metrics import METRICS, SCORES, applicable, score
from groundglass.measure.summary import summarise
from groundglass.measure.thresholds import tune

CT4, LESION = label_set("ct4"), label_set("lesion")
ANY = CT4.lesion_channels
UNTYPED, UNMARKED = CT4.codes.index((1, 2)), CT4.codes.index((1, 2, 3))
GROUPS = [(0,), (1,), (2,), (3,), (1, 2), (1, 3), (0, 3)]

channels = arrays(np.uint8, (6, 7), elements=st.integers(0, 3))
anywhere = arrays(np.bool_, (6, 7))


@st.composite
def blurred(draw):
    """Channels [6, 7], the same with some pixels replaced by a code that holds their channel, and a prediction."""
    truth, which = draw(channels), draw(arrays(np.uint8, (6, 7), elements=st.integers(0, 255)))
    codes = [[i for i, code in enumerate(CT4.codes) if channel in code] for channel in range(4)]
    chosen = [codes[t][w % len(codes[t])] for t, w in zip(truth.flat, which.flat, strict=True)]
    return truth, np.array(chosen, np.uint8).reshape(truth.shape), draw(channels)


def counts_of(truth, prediction, group, labels=CT4):
    return class_counts(confusion(truth, prediction, labels), group, labels)


def case(truth, prediction, name="c", labels=CT4, **known):
    truth, prediction = np.array(truth, np.uint8), np.array(prediction, np.uint8)
    return CaseCounts(name, "source", confusion(truth, prediction, labels), **known)


# ---- counts


@settings(deadline=None)
@given(channels, channels, anywhere)
def test_a_lesion_of_unknown_type_is_a_whole_lesion_once_lesions_are_merged(truth, prediction, where):
    untyped = np.where(where & np.isin(truth, ANY), UNTYPED, truth).astype(np.uint8)
    assert counts_of(untyped, prediction, ANY) == counts_of(truth, prediction, ANY)


@settings(deadline=None)
@given(blurred())
def test_a_pixel_counts_where_all_that_it_may_be_agrees(drawn):
    truth, codes, prediction = drawn
    possible = [CT4.codes[code] for code in codes.ravel()]
    for group in GROUPS:
        inside = np.array([set(code) <= set(group) for code in possible])
        outside = np.array([not set(code) & set(group) for code in possible])
        said = np.isin(prediction.ravel(), group)
        expected = ((inside, said), (outside, said), (inside, ~said), (outside, ~said), (~inside & ~outside, True))
        found = counts_of(codes, prediction, group)
        assert tuple(found) == tuple((reference & answer).sum() for reference, answer in expected)
        # To know less never makes a find, a miss or a false alarm of what was none.
        whole = counts_of(truth, prediction, group)
        assert all(less <= more for less, more in zip(found[:4], whole[:4], strict=True))
        assert found.positive | found.negative | found.undecided
        assert found.positive <= whole.positive
        assert found.negative <= whole.negative


@settings(deadline=None)
@given(blurred())
def test_metrics_are_those_of_scikit_learn_on_the_known_pixels(drawn):
    _, codes, prediction = drawn
    oracles = {"dice": f1_score, "iou": jaccard_score, "precision": precision_score, "recall": recall_score}
    for group in GROUPS:
        kinds = [(set(code) <= set(group), bool(set(code) & set(group))) for code in CT4.codes]
        inside, touching = (np.array(kind)[codes] for kind in zip(*kinds, strict=True))
        known = inside == touching
        y, said = inside[known], np.isin(prediction[known], group)
        counts = counts_of(codes, prediction, group)
        for name, oracle in oracles.items():
            if np.isnan(ours := METRICS[name](counts)):
                assert not (y.any() and said.any())
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert ours == pytest.approx(oracle(y, said, zero_division=0))
        if not counts.undecided and known.any():
            assert METRICS["accuracy"](counts) == pytest.approx(accuracy_score(y, said))


@settings(deadline=None)
@given(blurred())
def test_pixel_accuracy_is_of_the_pixels_whose_class_is_known(drawn):
    _, codes, prediction = drawn
    known = codes < 4
    ours = score("pixel_accuracy", [case(codes, prediction)], CT4)
    if not known.any():
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(accuracy_score(codes[known], prediction[known]))


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_a_wholly_unknown_image_has_no_number(name):
    labels = label_set(name)
    everything = [BY_NAME["unknown"].value]
    unknown = case(labels.encode(np.array(everything * 3, np.uint8)), [0, 1, 1], labels=labels)
    summary = summarise([unknown], labels, 0, 0)
    assert all(np.isnan(row["value"]) for row in summary.rows())
    assert all(row.n_positive == row.n_negative == 0 for row in summary.negatives)


# ---- images of which nobody says whether they hold a class

# Image 1: a lesion of unknown type, found as ground-glass. Image 2: lungs that nobody searched, in which something is
# predicted. Image 3: clean, and clean predicted. Image 4: consolidation found, beside a pixel of unknown type.
IMAGES = [
    case([0, UNTYPED, 3], [0, 1, 3], "1", patient="a"),
    case([0, UNMARKED, UNMARKED], [1, 2, 3], "2", patient="b"),
    case([0, 3, 3], [0, 3, 3], "3", patient="c"),
    case([0, 2, UNTYPED], [0, 2, 1], "4", patient="d"),
]


def row(summary, image, label):
    return next(row for row in summary.per_case_rows() if (row["case"], row["class"]) == (image, label))


def test_what_nobody_searched_is_neither_empty_nor_clean():
    summary = summarise(IMAGES, CT4, 0, 0)
    unsearched = row(summary, "2", "any lesion")
    assert all(np.isnan(unsearched[metric]) for metric in METRICS)
    assert unsearched["fp_pixels_on_empty_reference"] is None
    assert (unsearched["truth_pixels"], unsearched["unknown_pixels"]) == (0, 2)
    lesions = {row.label: row for row in summary.negatives}
    assert (lesions["any lesion"].n_positive, lesions["any lesion"].n_negative) == (2, 1)
    assert (lesions["consolidation"].n_positive, lesions["consolidation"].n_negative) == (1, 1)
    assert lesions["any lesion"].n_with_false_positives == 0
    average = summary.row("any lesion", "dice", "per image")
    # The clean image has 0/0, the unsearched one no known reference.
    assert (average.value, average.n, average.n_undefined) == (1, 2, 2)
    specificity = summary.row("any lesion", "specificity", "per image")
    assert (specificity.value, specificity.n, specificity.n_undefined) == (1, 3, 1)


def test_an_untyped_lesion_is_a_lesion_but_of_neither_type():
    summary = summarise(IMAGES, CT4, 0, 0)
    assert row(summary, "1", "any lesion")["dice"] == 1
    assert (row(summary, "1", "any lesion")["truth_pixels"], row(summary, "1", "any lesion")["unknown_pixels"]) == (
        1,
        0,
    )
    for label in ("ground-glass", "consolidation"):
        assert np.isnan(row(summary, "1", label)["dice"])
        assert row(summary, "1", label)["unknown_pixels"] == 1
    # Where the class is known to be present, the rest of the image is scored.
    assert (row(summary, "4", "consolidation")["dice"], row(summary, "4", "consolidation")["unknown_pixels"]) == (1, 1)


def test_only_what_is_known_to_be_empty_counts_as_1():
    assert score("any_lesion_dice_empty1", IMAGES, CT4) == score("any_lesion_iou_empty1", IMAGES, CT4) == 1
    unsearched, clean = IMAGES[1], IMAGES[2]
    for name in ("any_lesion_dice_empty1", "any_lesion_iou_empty1", "kaggle_per_image_empty1"):
        assert np.isnan(score(name, [unsearched], CT4))
        assert score(name, [unsearched, clean], CT4) == 1
        assert summarise([unsearched, clean], CT4, 0, 0).benchmark(name).n == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(blurred(), min_size=1, max_size=4), st.sampled_from(sorted(SCORES)))
def test_an_image_of_which_nothing_is_known_changes_no_score(drawn, name):
    cases = [case(codes, prediction, str(i)) for i, (_, codes, prediction) in enumerate(drawn)]
    blank = case(np.full((6, 7), CT4.codes.index((0, 1, 2, 3))), drawn[0][2], "blank")
    with_it, without = (score(name, found, CT4) for found in ([*cases, blank], cases))
    groups = [(CT4.classes.index(needed),) for needed in SCORES[name].needs] or [ANY]
    total = sum(found.confusion for found in cases)
    if SCORES[name].pooled and not all(class_counts(total, group, CT4).positive for group in groups):
        assert np.isnan(with_it)  # the class may be in the blank image alone
    else:
        assert with_it == pytest.approx(without, nan_ok=True)


def test_the_summary_says_how_many_images_are_partly_known_and_for_which_classes():
    (note,) = (note for note in summarise(IMAGES, CT4, 0, 0).notes if "partly known" in note)
    assert note.startswith("3 of 4 images are only partly known")
    assert "ground-glass in 3 (3 of them without a value)" in note
    assert "consolidation in 3 (2 of them without a value)" in note
    assert "any lesion in 1 (1 of them without a value)" in note
    assert "background" not in note
    assert not any("partly" in note for note in summarise(IMAGES[2:3], CT4, 0, 0).notes)


def test_every_score_of_partly_known_images_has_a_value_or_a_note():
    summary = summarise(IMAGES[:2], CT4, 0, 0)
    for named in applicable(CT4):
        undefined = np.isnan(summary.benchmark(named.name).value)
        assert undefined == any(note.startswith(f"{named.name} is undefined") for note in summary.notes)


# ---- thresholds


def test_thresholds_are_tuned_on_what_is_known_of_each_class():
    random = np.random.default_rng(0)
    codes = random.integers(0, len(CT4.codes), (30, 30), np.uint8)
    # What is partly known would pull every threshold down if it were taken for a lesion, up if for none.
    lesion = np.where(codes < 4, np.isin(codes, ANY) * 0.4, 0.6) * random.random((30, 30)) + 0.1
    p = np.stack([0.7 - lesion, lesion, 0.9 * lesion, np.full_like(lesion, 0.1)]).astype(np.float32)
    tuned = tune([(p, codes)], CT4)
    for channel in ANY:
        known = np.array([code == (channel,) or channel not in code for code in CT4.codes])[codes]
        name = CT4.classes[channel]
        assert (
            tuned[name]
            == tune([(p[:, known][:, None], np.where(codes == channel, channel, 0)[known][None])], CT4)[name]
        )
    assert tune([(p, np.full_like(codes, UNTYPED))], CT4) == {"ground-glass": 0.5, "consolidation": 0.5}
