"""Losses against their definitions and against other libraries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from groundglass.labels import label_set
from groundglass.learning.losses import build, class_weights, cross_entropy, dice, focal, tversky
from groundglass.recipes.settings import LossTerm
from groundglass.registry import LOSSES

CT4 = label_set("ct4")
torch.manual_seed(0)
LOGITS = torch.randn(2, 4, 6, 5)
TARGET = torch.randint(0, 4, (2, 6, 5))
P = torch.softmax(LOGITS, dim=1)
TRUTH = torch.nn.functional.one_hot(TARGET, 4).movedim(-1, 1).float()
WEIGHTS = torch.tensor([0.5, 2.0, 3.0, 1.0])


def test_cross_entropy_is_the_mean_surprise() -> None:
    flat = torch.softmax(LOGITS.double(), dim=1).movedim(1, -1).reshape(-1, 4).numpy()
    expected = log_loss(TARGET.ravel(), flat, labels=[0, 1, 2, 3])
    assert float(cross_entropy(LOGITS, TARGET, None)) == pytest.approx(expected, abs=1e-6)
    weighted = log_loss(TARGET.ravel(), flat, labels=[0, 1, 2, 3], sample_weight=WEIGHTS[TARGET.ravel()])
    assert float(cross_entropy(LOGITS, TARGET, WEIGHTS)) == pytest.approx(weighted, abs=1e-6)


def test_dice_is_one_minus_the_soft_overlap_of_the_batch() -> None:
    both, sums = (P * TRUTH).sum((0, 2, 3)), (P + TRUTH).sum((0, 2, 3))
    expected = 1 - 2 * both / sums
    assert float(dice(LOGITS, TARGET, None)) == pytest.approx(float(expected.mean()), abs=1e-5)
    assert float(dice(LOGITS, TARGET, WEIGHTS)) == pytest.approx(float((expected * WEIGHTS).mean()), abs=1e-5)


def test_focal_is_cross_entropy_that_forgives_what_is_nearly_right() -> None:
    p = (P * TRUTH).sum(1)
    each = -((1 - p) ** 2) * p.log()
    # MONAI averages over classes too, of which only the true one is not zero.
    assert float(focal(LOGITS, TARGET, None)) == pytest.approx(float(each.mean()) / 4, rel=1e-4)


def test_tversky_counts_what_is_missed_more_than_what_is_added() -> None:
    both = (P * TRUTH).sum((0, 2, 3))
    added, missed = (P * (1 - TRUTH)).sum((0, 2, 3)), ((1 - P) * TRUTH).sum((0, 2, 3))
    expected = 1 - both / (both + 0.3 * added + 0.7 * missed)
    assert float(tversky(LOGITS, TARGET, None)) == pytest.approx(float(expected.mean()), abs=1e-4)
    assert float(tversky(LOGITS, TARGET, WEIGHTS)) == pytest.approx(float((expected * WEIGHTS).mean()), abs=1e-4)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("weighting", [None, {"consolidation": 4.0}])
def test_a_loss_falls_towards_the_truth_and_ends_near_zero(name: str, weighting: dict[str, float] | None) -> None:
    loss = build([LossTerm(name=name, class_weights=weighting)], CT4, {})
    falling = [float(loss(certainty * (2 * TRUTH - 1), TARGET)) for certainty in (-2.0, 0.0, 1.0, 3.0, 12.0)]
    assert all(later < earlier for earlier, later in pairwise(falling))
    assert falling[-1] < 0.01


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_following_the_gradient_lowers_the_loss(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = build([LossTerm(name=name)], CT4, {})
    before = loss(logits, TARGET)
    before.backward()
    assert float(loss(logits.detach() - logits.grad, TARGET)) < before.item()


def test_terms_are_added_by_weight_in_float32() -> None:
    terms = [LossTerm(name="cross_entropy", weight=0.25), LossTerm(name="dice", weight=2)]
    total = build(terms, CT4, {})(LOGITS.bfloat16(), TARGET)
    ours = LOGITS.bfloat16().float()
    expected = 0.25 * cross_entropy(ours, TARGET, None) + 2 * dice(ours, TARGET, None)
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(float(expected))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    pixels = {"background": 700, "ground-glass": 30, "consolidation": 10, "lung": 260}
    ours = class_weights(LossTerm(name="dice", class_weights="balanced"), CT4, pixels)
    drawn = np.repeat(np.arange(4), list(pixels.values()))
    expected = compute_class_weight("balanced", classes=np.arange(4), y=drawn)
    assert ours is not None
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6)


def test_a_class_without_pixels_weighs_nothing_and_one_not_named_weighs_one() -> None:
    term = LossTerm(name="dice", class_weights="balanced")
    weights = class_weights(term, CT4, {"background": 10, "lung": 30})
    assert weights is not None
    assert weights.tolist() == [1.0, 0.0, 0.0, pytest.approx(1 / 3)]
    named = class_weights(LossTerm(name="dice", class_weights={"lung": 0.5}), CT4, {})
    assert named is not None
    assert named.tolist() == [1, 1, 1, 0.5]
    assert class_weights(LossTerm(name="dice"), CT4, {}) is None
