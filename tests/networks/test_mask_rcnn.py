"""Mask R-CNN: instances from a map of codes, its own losses, and the map it answers with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from groundglass.errors import RecipeError
from groundglass.networks.building import build, build_for_training
from groundglass.networks.mask_rcnn import SMALLEST, MaskRCNN, instances_in
from groundglass.recipes import load
from tests.learning import tiny

NET = {"name": "mask-rcnn", "encoder_weights": "none", "channels": 16}


def network(**knobs: float) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(2, "tu-tf_efficientnet_lite0", channels=16, **knobs)  # type: ignore[arg-type]


def image(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Two bright lesions on a noisy ground, [1, 1, S, S], and their codes [1, S, S]."""
    codes = torch.zeros(1, side, side, dtype=torch.int64)
    codes[:, 8:28, 6:30] = 1
    codes[:, 40:56, 36:58] = 1
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.05, (1, 1, side, side)).astype(np.float32))
    return codes[:, None] * 0.8 + 0.1 + noise, codes


def overfitted(steps: int) -> tuple[MaskRCNN, list[float]]:
    net, (x, codes) = network(), image()
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    lost = []
    for step in range(steps):
        torch.manual_seed(step)
        optimiser.zero_grad()
        loss = net.train().loss(x.repeat(2, 1, 1, 1), codes.repeat(2, 1, 1))
        loss.backward()
        optimiser.step()
        schedule.step()
        lost.append(float(loss.detach()))
    return net.eval(), lost


def test_instances_are_the_components_of_the_lesion() -> None:
    codes = torch.zeros(16, 20, dtype=torch.int64)
    codes[2:6, 3:9] = 1
    codes[6, 9] = 1  # touches by a corner
    codes[10:14, 15:20] = 1
    codes[0, 0] = 1  # smaller than anything that could be told apart
    codes[0, 10:12] = 2  # not known
    found = instances_in(codes)
    assert found["boxes"].tolist() == [[3, 2, 10, 7], [15, 10, 20, 14]]
    assert found["labels"].tolist() == [1, 1]
    assert found["masks"].sum(dim=(1, 2)).tolist() == [25, 20]
    assert torch.equal(found["masks"].sum(dim=0).long() * 1, ((codes == 1) & (codes.cumsum(0).cumsum(1) > 1)).long())


@pytest.mark.parametrize(("pixels", "count"), [(SMALLEST - 1, 0), (SMALLEST, 1)])
def test_a_component_of_a_few_pixels_is_no_instance(pixels: int, count: int) -> None:
    codes = torch.zeros(8, 8, dtype=torch.int64)
    codes[0, :pixels] = 1
    found = instances_in(codes)
    assert [len(found[key]) for key in ("boxes", "labels", "masks")] == [count] * 3
    assert found["boxes"].shape[1:] == (4,)
    assert found["masks"].shape[1:] == (8, 8)


@pytest.mark.slow
def test_it_overfits_one_image_and_finds_each_lesion_where_it_is() -> None:
    net, lost = overfitted(100)
    assert np.mean(lost[-5:]) < 0.4 * np.mean(lost[:5])
    x, codes = image()
    found = net.instances(x)[0]
    assert [i.score for i in found] == sorted((i.score for i in found), reverse=True)
    assert all(i.score > 0.5 and i.mask.dtype == np.float32 and i.mask.shape == (64, 64) for i in found)
    # After so few steps a false one may follow the two that are there.
    first, second = sorted(found[:2], key=lambda i: i.box)
    assert np.abs(np.subtract((6, 8, 30, 28), first.box)).max() < 5
    assert np.abs(np.subtract((36, 40, 58, 56), second.box)).max() < 5
    masks, truth = np.maximum(first.mask, second.mask) > 0.5, codes[0].numpy() == 1
    assert 2 * (masks & truth).sum() / (masks.sum() + truth.sum()) > 0.8
    # The map is the union of the instances.
    p = net(x).softmax(dim=1)[0, 1].numpy()
    assert np.allclose(p, np.max([i.mask for i in found], axis=0), atol=1e-5)
    # Nobody is as sure as that.
    net.confidence = 1.0
    assert net.instances(x) == [[]]
    assert net(x).softmax(dim=1)[0, 1].max() < 1e-5


@pytest.mark.parametrize("training", [True, False])
def test_it_answers_logits_of_probabilities_without_gradient_in_both_modes(training: bool) -> None:
    net = network(confidence=0.0).train(training)
    answer = net(torch.rand(2, 1, 64, 96))
    assert answer.shape == (2, 2, 64, 96)
    assert answer.isfinite().all()
    assert not answer.requires_grad
    assert torch.allclose(answer.exp().sum(dim=1), torch.ones(2, 64, 96))
    assert answer[:, 1].exp().max() > 0.1
    assert net.training is training
    assert all(module.training is training for module in net.modules())


def test_a_loss_leaves_the_statistics_alone_in_evaluation_and_the_mode_as_it_was() -> None:
    net, (x, codes) = network().eval(), image()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert float(net.loss(x, codes).detach()) > 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())
    net.train().loss(x.repeat(2, 1, 1, 1), codes.repeat(2, 1, 1))
    assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_same_draw_gives_the_same_loss_and_gradients_reach_everything() -> None:
    net, (x, codes) = network(), image()
    values = []
    for seed in (0, 0):
        torch.manual_seed(seed)
        loss = net.eval().loss(x, codes)
        values.append(float(loss.detach()))
    assert values[0] == values[1]
    loss.backward()
    still = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    # What the encoder's last maps see of so small an image lies outside all boxes' levels.
    assert not [name for name in still if name.startswith(("proposals", "regions", "encoder"))]


def test_an_image_without_a_lesion_is_a_negative_example() -> None:
    net, (x, codes) = network().eval(), image()
    torch.manual_seed(0)
    loss = net.loss(x, codes * 0)
    assert loss.isfinite()
    loss.backward()
    assert net.proposals.head.cls_logits.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


def test_an_image_known_in_part_teaches_nothing() -> None:
    net, (x, codes) = network().eval(), image()
    partly = codes.clone()
    partly[0, 60:, 60:] = 2
    nothing = net.loss(x, partly)
    assert float(nothing.detach()) == 0
    nothing.backward()
    torch.manual_seed(0)
    alone = float(net.loss(x, codes).detach())
    torch.manual_seed(0)
    both = float(net.loss(torch.cat([x * 0, x]), torch.cat([partly, codes])).detach())
    assert alone == pytest.approx(both, rel=1e-5)


def test_reduced_precision_works_and_boxes_stay_float32() -> None:
    net, (x, codes) = network(confidence=0.0).eval(), image()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        low, answer = net.loss(x, codes), net(x)
    torch.manual_seed(0)
    assert float(low.detach()) == pytest.approx(float(net.loss(x, codes).detach()), rel=0.1)
    assert low.dtype == answer.dtype == torch.float32
    assert answer.isfinite().all()


def test_a_network_that_has_diverged_still_answers() -> None:
    net = network()
    with torch.no_grad():
        for weight in net.regions.box_predictor.parameters():
            weight.fill_(float("nan"))
        net.proposals.head.bbox_pred.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    assert net.eval()(torch.rand(1, 1, 64, 64)).isfinite().all()


def test_its_weights_come_from_its_encoder_s_package() -> None:
    recipe = tiny.recipe(
        labels="lesion",
        architecture={**NET, "encoder_weights": "imagenet"},
        loss=[{"name": "own"}],
        image_size=64,
        checkpoint={"metric": "validation/loss"},
    )
    _, origin = build_for_training(recipe, None, download=False)
    assert "all 240 tensors taken" in origin


def test_more_than_one_class_beside_the_background_is_refused() -> None:
    recipe = tiny.recipe(architecture=NET, loss=[{"name": "own"}])
    with pytest.raises(RecipeError, match="instances of one class beside the background, not of 3") as caught:
        build(recipe)
    assert "\n" not in str(caught.value)


def test_the_shipped_recipe_is_the_paper_s() -> None:
    recipe = load("mask-rcnn")
    assert (recipe.architecture.name, recipe.own_loss) == ("mask-rcnn", True)
    assert recipe.optimiser.learning_rate == 1e-4
    assert (recipe.epochs, recipe.steps_per_epoch, recipe.image_size) == (20, 600, 256)
