import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from groundglass.errors import DataError, RecipeError
from groundglass.labels import label_set
from groundglass.measure.counts import CaseCounts, class_counts, confusion
from groundglass.measure.metrics import METRICS, SCORES, applicable, score

CT4, CT3, LESION = map(label_set, ("ct4", "ct3", "lesion"))
nan = np.nan


def one_hot(channels):
    return np.moveaxis(np.eye(4, dtype=np.float32)[channels], -1, 1)


def patchy(seed, n=6):
    """Channel maps [n, 16, 16] in which some classes are missing from some images."""
    random = np.random.default_rng(seed)
    present = random.random((n, 4)) < 0.6
    present[:, 0] = True
    return np.stack([random.choice(np.flatnonzero(row), (16, 16)) for row in present]).astype(np.uint8)


def cases_of(truth, prediction, labels=CT4):
    return [
        CaseCounts(f"case {i}", "source", confusion(t, p, labels))
        for i, (t, p) in enumerate(zip(truth, prediction, strict=True))
    ]


def matrices_of(truth, prediction):
    return np.stack([case.confusion for case in cases_of(truth, prediction)])


def without_warnings(function, *arguments, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **settings)


# ---- metrics against other people's code


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "oracle"),
    [("dice", f1_score), ("iou", jaccard_score), ("precision", precision_score), ("recall", recall_score)],
)
def test_equals_scikit_learn(name, oracle, seed):
    truth, prediction = patchy(seed), patchy(seed + 100)
    matrices = matrices_of(truth, prediction)
    undefined = 0 if oracle is jaccard_score else nan
    for channel in range(4):
        ours = METRICS[name](class_counts(matrices, (channel,), CT4))
        theirs = [
            without_warnings(oracle, (t == channel).ravel(), (p == channel).ravel(), zero_division=undefined)
            for t, p in zip(truth, prediction, strict=True)
        ]
        # scikit-learn's Jaccard knows no NaN; what it calls 0 for want of pixels we call undefined.
        expected = np.where(np.isnan(ours), nan, theirs) if oracle is jaccard_score else theirs
        np.testing.assert_allclose(ours, expected)


@pytest.fixture(scope="module")
def monai_metrics():
    return pytest.importorskip("monai.metrics")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_overlap_equals_monai(monai_metrics, seed):
    import torch

    truth, prediction = patchy(seed), patchy(seed + 100)
    y, y_pred = torch.from_numpy(one_hot(truth)), torch.from_numpy(one_hot(prediction))
    for name, metric in (("dice", monai_metrics.DiceMetric), ("iou", monai_metrics.MeanIoU)):
        ours = np.stack(
            [METRICS[name](class_counts(matrices_of(truth, prediction), (c,), CT4)) for c in range(4)], axis=1
        )
        of_positives = np.where((truth[..., None] == np.arange(4)).any(axis=(1, 2)), ours, nan)
        ignoring = metric(include_background=True, reduction="none", ignore_empty=True)
        counting = metric(include_background=True, reduction="none", ignore_empty=False)
        np.testing.assert_allclose(of_positives, ignoring(y_pred, y).numpy(), rtol=1e-6)
        np.testing.assert_allclose(np.where(np.isnan(ours), 1, ours), counting(y_pred, y).numpy(), rtol=1e-6)


@pytest.mark.slow
def test_rates_equal_monai(monai_metrics):
    import torch

    random = np.random.default_rng(5)
    truth, prediction = random.integers(0, 4, (2, 5, 16, 16), np.uint8)
    metric = monai_metrics.ConfusionMatrixMetric(
        include_background=True, metric_name=("precision", "recall", "specificity", "accuracy"), reduction="none"
    )
    metric(torch.from_numpy(one_hot(prediction)), torch.from_numpy(one_hot(truth)))
    for name, theirs in zip(("precision", "recall", "specificity", "accuracy"), metric.aggregate(), strict=True):
        for channel in range(4):
            ours = METRICS[name](class_counts(matrices_of(truth, prediction), (channel,), CT4))
            np.testing.assert_allclose(ours, theirs[:, channel].numpy(), rtol=1e-6)


# ---- the three empty cases, and formulas


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        # both empty
        ([0, 0], [0, 0], {"dice": nan, "iou": nan, "precision": nan, "recall": nan, "specificity": 1, "accuracy": 1}),
        # only the reference is empty
        ([0, 0], [1, 0], {"dice": 0, "iou": 0, "precision": 0, "recall": nan, "specificity": 0.5, "accuracy": 0.5}),
        # only the prediction is empty
        ([1, 0], [0, 0], {"dice": 0, "iou": 0, "precision": nan, "recall": 0, "specificity": 1, "accuracy": 0.5}),
        # the reference fills the image
        ([1, 1], [1, 1], {"dice": 1, "iou": 1, "precision": 1, "recall": 1, "specificity": nan, "accuracy": 1}),
    ],
)
def test_empty_masks(truth, prediction, expected):
    counts = class_counts(confusion(np.array(truth, np.uint8), np.array(prediction, np.uint8), LESION), (1,), LESION)
    measured = {name: float(metric(counts)) for name, metric in METRICS.items()}
    assert measured == pytest.approx(expected, nan_ok=True)


maps = arrays(np.uint8, (2, 3, 4, 5), elements=st.integers(0, 3))


@given(maps)
def test_dice_and_iou_are_one_measure(pair):
    counts = class_counts(matrices_of(*pair), (1,), CT4)
    iou = METRICS["iou"](counts)
    np.testing.assert_allclose(METRICS["dice"](counts), 2 * iou / (1 + iou))


@given(maps)
def test_every_metric_is_a_share(pair):
    for channels in ((1,), (1, 2)):
        for metric in METRICS.values():
            values = metric(class_counts(matrices_of(*pair), channels, CT4))
            assert ((values >= 0) & (values <= 1) | np.isnan(values)).all()


@given(maps)
def test_a_perfect_prediction_has_1_in_everything_defined(pair):
    truth = pair[0]
    for metric in METRICS.values():
        values = metric(class_counts(matrices_of(truth, truth), (1,), CT4))
        assert set(values[~np.isnan(values)]) <= {1.0}
    for named in applicable(CT4):
        value = score(named.name, cases_of(truth, truth), CT4)
        assert value == 1 or np.isnan(value)


@given(maps, st.permutations(range(3)))
def test_scores_do_not_depend_on_the_order_or_orientation_of_images(pair, order):
    truth, prediction = pair
    flipped = cases_of(truth[order][:, ::-1, ::-1], prediction[order][:, ::-1, ::-1])
    for named in applicable(CT4):
        assert score(named.name, flipped, CT4) == pytest.approx(
            score(named.name, cases_of(truth, prediction), CT4), nan_ok=True
        )


@given(maps)
def test_dice_does_not_care_which_map_is_the_reference(pair):
    forth, back = (class_counts(matrices_of(*order), (2,), CT4) for order in (pair, pair[::-1]))
    np.testing.assert_array_equal(METRICS["dice"](forth), METRICS["dice"](back))


# ---- named scores


@pytest.fixture
def worked():
    """Two images of eight pixels; what follows from them was worked out by hand.

    Image 1: ground-glass tp 3 fp 1 fn 0; consolidation nowhere.
    Image 2: ground-glass tp 1 fp 0 fn 3; consolidation tp 2 fp 2 fn 0.
    """
    truth = np.array([[1, 1, 1, 0, 0, 3, 3, 0], [1, 1, 1, 1, 2, 2, 0, 3]], np.uint8)
    prediction = np.array([[1, 1, 1, 1, 0, 3, 3, 0], [1, 2, 2, 0, 2, 2, 0, 3]], np.uint8)
    return cases_of(truth, prediction)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kaggle_pooled", (8 / 12 + 4 / 6) / 2),
        ("kaggle_per_image", (6 / 7 + (2 / 5 + 4 / 6) / 2) / 2),
        ("kaggle_per_image_empty1", ((6 / 7 + 1) / 2 + (2 / 5 + 4 / 6) / 2) / 2),
        ("pixel_accuracy", 12 / 16),
        ("miou_2", (4 / 8 + 2 / 4) / 2),
        ("miou_4", (3 / 5 + 4 / 8 + 2 / 4 + 3 / 3) / 4),
        ("any_lesion_dice", (6 / 7 + 10 / 11) / 2),
        ("any_lesion_dice_pooled", 16 / 18),
        ("any_lesion_dice_empty1", (6 / 7 + 10 / 11) / 2),
        ("any_lesion_iou_empty1", (3 / 4 + 5 / 6) / 2),
    ],
)
def test_worked_examples(worked, name, expected):
    assert score(name, worked, CT4) == pytest.approx(expected)


def test_every_score_has_a_worked_example():
    marks = next(mark for mark in test_worked_examples.pytestmark if mark.name == "parametrize")
    assert {name for name, _ in marks.args[1]} == set(SCORES)


@pytest.mark.parametrize("seed", range(3))
def test_kaggle_scores_equal_scikit_learn(seed):
    truth, prediction = patchy(seed), patchy(seed + 100)
    settings = {"labels": [1, 2], "average": "macro"}
    cases = cases_of(truth, prediction)
    assert score("kaggle_pooled", cases, CT4) == pytest.approx(f1_score(truth.ravel(), prediction.ravel(), **settings))
    for name, undefined in (("kaggle_per_image", nan), ("kaggle_per_image_empty1", 1)):
        images = [
            without_warnings(f1_score, t.ravel(), p.ravel(), zero_division=undefined, **settings)
            for t, p in zip(truth, prediction, strict=True)
        ]
        assert score(name, cases, CT4) == pytest.approx(np.nanmean(images))


def test_clean_images_count_as_each_score_says():
    found = np.array([[0, 1], [0, 0], [0, 0]], np.uint8)
    cases = cases_of(found, np.array([[0, 1], [0, 0], [0, 1]], np.uint8), LESION)
    assert score("any_lesion_dice", cases, LESION) == 1  # the positive image alone
    assert score("any_lesion_dice_empty1", cases, LESION) == pytest.approx(2 / 3)
    assert score("any_lesion_dice_pooled", cases, LESION) == pytest.approx(2 / 3)


def test_a_pooled_score_of_two_classes_is_undefined_when_one_is_nowhere():
    cases = cases_of(np.array([[0, 1]], np.uint8), np.array([[0, 1]], np.uint8))
    assert np.isnan(score("kaggle_pooled", cases, CT4))
    assert score("kaggle_per_image", cases, CT4) == 1


@pytest.mark.parametrize(("labels", "absent"), [(CT4, set()), (CT3, {"miou_4"})])
def test_scores_that_do_not_apply_are_absent(labels, absent):
    assert set(SCORES) - {named.name for named in applicable(labels)} == absent


def test_one_lesion_class_has_no_score_of_two():
    assert {named.name for named in applicable(LESION)} == {
        "pixel_accuracy",
        "any_lesion_dice",
        "any_lesion_dice_pooled",
        "any_lesion_dice_empty1",
        "any_lesion_iou_empty1",
    }


def test_a_score_that_does_not_apply_or_exist_is_refused(worked):
    with pytest.raises(RecipeError, match="did you mean 'kaggle_pooled'"):
        score("kagle_pooled", worked, CT4)
    with pytest.raises(RecipeError, match=r"'miou_4' needs classes that label set 'ct3' lacks; choose from: .*miou_2"):
        score("miou_4", worked, CT3)
    with pytest.raises(DataError, match="no cases"):
        score("miou_4", [], CT4)


def test_the_documentation_lists_every_metric_and_score():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metric in METRICS.values():
        assert f"| `{metric.name}` | {metric.formula} |" in page
    for name in SCORES:
        assert f"| `{name}` |" in page
