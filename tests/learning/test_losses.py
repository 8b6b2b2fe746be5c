"""Losses against their definitions and against other libraries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from groundglass.labels import label_set
from groundglass.learning.losses import (
    build,
    class_weights,
    cross_entropy,
    dice,
    focal,
    foreground_dice,
    possible_channels,
    tversky,
)
from groundglass.recipes.settings import LossTerm
from groundglass.registry import LOSSES, OWN_LOSS

CT4 = label_set("ct4")
OF_LOGITS = sorted(set(LOSSES) - {OWN_LOSS})
POSSIBLE = possible_channels(CT4)
torch.manual_seed(0)
LOGITS = torch.randn(2, 4, 6, 5)
TARGET = torch.randint(0, 4, (2, 6, 5))
P = torch.softmax(LOGITS, dim=1)
TRUTH = torch.nn.functional.one_hot(TARGET, 4).movedim(-1, 1).float()
WEIGHTS = torch.tensor([0.5, 2.0, 3.0, 1.0])


def test_cross_entropy_is_the_mean_surprise() -> None:
    flat = torch.softmax(LOGITS.double(), dim=1).movedim(1, -1).reshape(-1, 4).numpy()
    expected = log_loss(TARGET.ravel(), flat, labels=[0, 1, 2, 3])
    assert float(cross_entropy(LOGITS, TARGET, None, POSSIBLE)) == pytest.approx(expected, abs=1e-6)
    weighted = log_loss(TARGET.ravel(), flat, labels=[0, 1, 2, 3], sample_weight=WEIGHTS[TARGET.ravel()])
    assert float(cross_entropy(LOGITS, TARGET, WEIGHTS, POSSIBLE)) == pytest.approx(weighted, abs=1e-6)


def test_dice_is_one_minus_the_soft_overlap_of_the_batch() -> None:
    both, sums = (P * TRUTH).sum((0, 2, 3)), (P + TRUTH).sum((0, 2, 3))
    expected = 1 - 2 * both / sums
    assert float(dice(LOGITS, TARGET, None, POSSIBLE)) == pytest.approx(float(expected.mean()), abs=1e-5)
    assert float(dice(LOGITS, TARGET, WEIGHTS, POSSIBLE)) == pytest.approx(float((expected * WEIGHTS).mean()), abs=1e-5)


def test_focal_is_cross_entropy_that_forgives_what_is_nearly_right() -> None:
    p = (P * TRUTH).sum(1)
    each = -((1 - p) ** 2) * p.log()
    # MONAI averages over classes too, of which only the true one is not zero.
    assert float(focal(LOGITS, TARGET, None, POSSIBLE)) == pytest.approx(float(each.mean()) / 4, rel=1e-4)


def test_tversky_counts_what_is_missed_more_than_what_is_added() -> None:
    both = (P * TRUTH).sum((0, 2, 3))
    added, missed = (P * (1 - TRUTH)).sum((0, 2, 3)), ((1 - P) * TRUTH).sum((0, 2, 3))
    expected = 1 - both / (both + 0.3 * added + 0.7 * missed)
    assert float(tversky(LOGITS, TARGET, None, POSSIBLE)) == pytest.approx(float(expected.mean()), abs=1e-4)
    assert float(tversky(LOGITS, TARGET, WEIGHTS, POSSIBLE)) == pytest.approx(
        float((expected * WEIGHTS).mean()), abs=1e-4
    )


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("weighting", [None, {"consolidation": 4.0}])
def test_a_loss_falls_towards_the_truth_and_ends_near_zero(name: str, weighting: dict[str, float] | None) -> None:
    loss = build([LossTerm(name=name, class_weights=weighting)], CT4, {})
    falling = [float(loss(certainty * (2 * TRUTH - 1), TARGET)) for certainty in (-2.0, 0.0, 1.0, 3.0, 12.0)]
    assert all(later < earlier for earlier, later in pairwise(falling))
    assert falling[-1] < 0.01


@pytest.mark.parametrize("name", OF_LOGITS)
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
    expected = 0.25 * cross_entropy(ours, TARGET, None, POSSIBLE) + 2 * dice(ours, TARGET, None, POSSIBLE)
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


# --- partly known pixels ----------------------------------------------------------------------------------------------

UNTYPED, UNMARKED, UNKNOWN = (CT4.codes.index(code) for code in ((1, 2), (1, 2, 3), (0, 1, 2, 3)))
SOMEWHERE = torch.rand(TARGET.shape) < 0.3
SOME_WEIGHTS = [None, {"ground-glass": 2.0, "consolidation": 5.0}]


def gradient(name: str, logits: torch.Tensor, target: torch.Tensor, weighting: dict[str, float] | None) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    build([LossTerm(name=name, class_weights=weighting)], CT4, {})(logits, target).backward()
    return logits.grad  # type: ignore[return-value]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_known_batch_has_torchs_own_cross_entropy_to_the_bit(weights: torch.Tensor | None) -> None:
    theirs = torch.nn.functional.cross_entropy(LOGITS, TARGET, weight=weights)
    assert torch.equal(cross_entropy(LOGITS, TARGET, weights, POSSIBLE), theirs)


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("weighting", SOME_WEIGHTS)
def test_pixels_of_which_nothing_is_known_may_as_well_not_be_there(
    name: str, weighting: dict[str, float] | None
) -> None:
    loss = build([LossTerm(name=name, class_weights=weighting)], CT4, {})
    target = TARGET.masked_fill(SOMEWHERE, UNKNOWN)
    rest = LOGITS.movedim(1, 0)[:, ~SOMEWHERE][None, :, None]
    assert float(loss(LOGITS, target)) == pytest.approx(float(loss(rest, TARGET[~SOMEWHERE][None, None])), abs=1e-6)
    found = gradient(name, LOGITS, target, weighting).movedim(1, -1)
    assert not found[SOMEWHERE].any()
    assert found[~SOMEWHERE].any(dim=-1).all()


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("weighting", [*SOME_WEIGHTS, "balanced"])
def test_a_batch_of_which_nothing_is_known_teaches_nothing(name: str, weighting: dict[str, float] | None) -> None:
    nothing = torch.full_like(TARGET, UNKNOWN)
    assert float(build([LossTerm(name=name, class_weights=weighting)], CT4, {})(LOGITS, nothing)) == 0
    assert not gradient(name, LOGITS, nothing, weighting).any()


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_an_untyped_lesion_is_the_lesion_class_of_a_network_that_merges_them(name: str) -> None:
    merged = torch.stack([LOGITS[:, 0], LOGITS[:, 1:3].logsumexp(dim=1), LOGITS[:, 3]], dim=1)
    merged_target = torch.tensor([0, 1, 1, 2])[TARGET]
    untyped = torch.where((TARGET == 1) | (TARGET == 2), UNTYPED, TARGET)
    one, other = {"cross_entropy": cross_entropy, "focal": focal}[name], {"cross_entropy": 1, "focal": 4 / 3}[name]
    ours, theirs = (
        one(LOGITS, untyped, None, POSSIBLE),
        one(merged, merged_target, None, torch.eye(3, dtype=torch.bool)),
    )
    assert float(ours) * other == pytest.approx(float(theirs), rel=1e-5)  # MONAI's focal mean is over classes too


def test_the_foreground_dice_of_two_classes_is_the_binary_one() -> None:
    lesion = (TARGET == 1).long()
    logits = LOGITS[:, :2]
    p = torch.sigmoid(logits[:, 1] - logits[:, 0])
    binary = 1 - 2 * (p * lesion).sum() / (p.sum() + lesion.sum())
    ours = foreground_dice(logits, lesion, None, torch.eye(2, dtype=torch.bool))
    assert float(ours) == pytest.approx(float(binary), abs=1e-4)
    twice = foreground_dice(logits, lesion, torch.tensor([9.0, 2.0]), torch.eye(2, dtype=torch.bool))
    assert float(twice) == pytest.approx(2 * float(ours))


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_an_untyped_lesion_adds_to_no_class_but_those_it_is_not(name: str) -> None:
    """Against MONAI, class by class, over the pixels whose membership of the class is known."""
    from monai.losses import DiceLoss, TverskyLoss

    target = torch.where(SOMEWHERE, UNTYPED, TARGET)
    kind = {"dice": DiceLoss(batch=True), "tversky": TverskyLoss(alpha=0.3, beta=0.7, batch=True)}[name]
    per_class = []
    for channel in range(4):
        known = ~SOMEWHERE if channel in CT4.codes[UNTYPED] else torch.ones_like(SOMEWHERE)
        p, truth = P[:, channel][known], (target == channel)[known].float()
        per_class.append(float(kind(p[None, None], truth[None, None])))
    ours = {"dice": dice, "tversky": tversky}[name](LOGITS, target, None, POSSIBLE)
    assert float(ours) == pytest.approx(float(np.mean(per_class)), abs=1e-6)


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize(("code", "chosen"), [(UNTYPED, (1, 2)), (UNMARKED, (1, 2, 3))])
def test_a_partly_known_pixel_pulls_to_its_set_and_to_none_of_it(name: str, code: int, chosen: tuple[int, ...]) -> None:
    logits, target = LOGITS.clone(), TARGET.clone()
    logits[0, :, 2, 3] = 0
    target[0, 2, 3] = code
    pull = -gradient(name, logits, target, None)[0, :, 2, 3]
    if name == "foreground_dice" and 0 not in chosen and len(chosen) == 3:
        # It is some foreground, which is all that is known, and background has no part in this loss.
        assert not pull.any()
        return
    inside = pull[list(chosen)]
    assert torch.equal(inside, inside[:1].expand_as(inside))
    assert inside[0] > 0
    judged = range(1, 4) if name == "foreground_dice" else range(4)
    assert all(pull[channel] < 0 for channel in judged if channel not in chosen)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_a_partly_known_pixel_weighs_the_mean_of_what_it_may_be(name: str) -> None:
    one = {"cross_entropy": cross_entropy, "focal": focal}[name]
    target = TARGET.masked_fill(SOMEWHERE, UNTYPED)
    named = torch.tensor([1.0, 2.0, 5.0, 1.0])
    surprise = -torch.where(SOMEWHERE, (P[:, 1] + P[:, 2]), (P * TRUTH).sum(1)).log()
    share = torch.where(SOMEWHERE, torch.tensor(3.5), named[TARGET])
    if name == "cross_entropy":
        expected = (share * surprise).sum() / share.sum()
    else:
        expected = (share * surprise * (1 - (-surprise).exp()) ** 2).mean() / 4
    assert float(one(LOGITS, target, named, POSSIBLE)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_losses_of_partly_known_batches_fall_towards_what_is_known(name: str) -> None:
    loss = build([LossTerm(name=name)], CT4, {})
    target = TARGET.masked_fill(SOMEWHERE & (TARGET > 0), UNMARKED)
    falling = [float(loss(certainty * (2 * TRUTH - 1), target)) for certainty in (-2.0, 0.0, 1.0, 3.0, 12.0)]
    assert all(later < earlier for earlier, later in pairwise(falling))
    assert falling[-1] < 0.01
