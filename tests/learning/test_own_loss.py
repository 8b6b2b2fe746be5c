"""Networks that bring their own losses are trained, scored, resumed and refused like all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from groundglass.errors import RecipeError
from groundglass.learning.losses import own
from groundglass.networks.building import build, build_for_training
from groundglass.recipes import Recipe, parse
from tests.conftest import Cli
from tests.learning import tiny
from tests.learning.test_training import AT_ONCE, assert_same, rows, weights
from tests.networks.own import Drawing, Judging

JUDGING = {"name": "tests.networks.own:Judging"}
MASK_RCNN = {"name": "mask-rcnn", "encoder_weights": "none", "channels": 16}
OWN = [{"name": "own"}]
FROZEN = {"name": "sgd", "learning_rate": 1e-30}


def recipe(**changes: Any) -> Recipe:
    return tiny.recipe(**{"labels": "lesion", "architecture": JUDGING, "loss": OWN, **changes})


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 1, 32, 32), torch.randint(0, 2, (2, 32, 32))


@pytest.mark.parametrize("training", [True, False])
def test_the_logits_beside_the_loss_are_those_of_evaluation_and_the_mode_stays(training: bool) -> None:
    network, (x, target) = build(recipe()).train(training), batch()
    with torch.no_grad():
        expected = network.eval()(x)
    network.train(training)
    loss, logits = own(network, x, target)
    assert loss.requires_grad
    assert not logits.requires_grad
    # The loss came first, and moved the running means if it may.
    assert torch.equal(logits, expected) is not training
    assert network.training is training


def test_a_network_learns_by_its_own_loss_and_is_scored_like_all_others(tmp_path: Path) -> None:
    run = tiny.fitted(tmp_path / "run", recipe(epochs=4))
    lost = [float(row["train/loss"]) for row in rows(run)]
    assert lost[-1] < lost[0]
    for part in ("train", "validation"):
        assert all(np.isfinite(float(row[f"{part}/f1_lesion"])) for row in rows(run))
        assert len({row[f"{part}/f1_lesion"] for row in rows(run)}) > 1


def test_the_weight_of_the_only_term_multiplies_the_loss(tmp_path: Path) -> None:
    one = tiny.fitted(tmp_path / "one", recipe(epochs=1))
    other = tiny.fitted(tmp_path / "other", recipe(epochs=1, loss=[{"name": "own", "weight": 3.0}], optimiser=FROZEN))
    still = tiny.fitted(tmp_path / "still", recipe(epochs=1, optimiser=FROZEN))
    assert float(rows(other)[0]["validation/loss"]) == pytest.approx(
        3 * float(rows(still)[0]["validation/loss"]), rel=1e-4
    )
    assert rows(one) != rows(still)


def test_what_a_loss_draws_is_the_same_after_a_resume_and_in_every_validation(tmp_path: Path) -> None:
    drawing = recipe(architecture={"name": "tests.networks.own:Drawing"}, epochs=3, augmentation=tiny.MOVES)
    whole = tiny.fitted(tmp_path / "whole", drawing)
    parts = tiny.fitted(tmp_path / "parts", drawing, max_seconds=AT_ONCE)
    parts = tiny.resumed(parts)
    assert_same(parts, whole)
    Drawing.drawn.clear()
    tiny.fitted(tmp_path / "again", drawing)
    validated = Drawing.drawn["validation"]
    assert len(validated) == 3
    assert len(set(validated)) == 1
    assert len(set(Drawing.drawn["train"])) == len(Drawing.drawn["train"]) > 3


@pytest.mark.slow
def test_mask_rcnn_resumes_to_the_bit(tmp_path: Path) -> None:
    chosen = recipe(architecture=MASK_RCNN, epochs=2, image_size=64, augmentation=tiny.MOVES)
    whole = tiny.fitted(tmp_path / "whole", chosen, train=4, validation=2)
    parts = tiny.fitted(tmp_path / "parts", chosen, train=4, validation=2, max_seconds=AT_ONCE)
    assert parts.manifest.epochs_done == 1
    parts = tiny.resumed(parts, train=4, validation=2)
    assert_same(parts, whole)
    assert weights(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": tiny.OWN}, "architecture 'tests.networks.own:TinyNet' has no losses of its own"),
        (
            {"architecture": {"name": "plain-unet", "base_width": 4, "depth": 2}},
            "'plain-unet' has no losses of its own",
        ),
        ({"loss": [{"name": "dice"}]}, "'tests.networks.own:Judging' learns by loss=[{name: own}]"),
        ({"architecture": MASK_RCNN, "loss": [{"name": "dice"}], "image_size": 64}, "'mask-rcnn' learns by loss"),
    ],
)
def test_a_loss_that_the_network_has_not_or_must_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_for_training(recipe(**changes), None, download=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", [[{"name": "own"}, {"name": "dice"}], [{"name": "own", "class_weights": "balanced"}]])
def test_own_losses_stand_alone(loss: list[dict[str, Any]]) -> None:
    values = {**tiny.BASE, "labels": "lesion", "architecture": JUDGING, "loss": loss}
    with pytest.raises(RecipeError, match="'own' stands alone and takes no class weights"):
        parse(values, "tiny")


@pytest.mark.parametrize(
    "settings",
    [
        ["loss=[{name: dice}]"],
        ["loss=[{name: own}, {name: dice}]"],
        ["architecture={name: plain-unet, base_width: 4, depth: 2}"],
        ["labels=ct4", "decision.name=argmax", "checkpoint.metric=validation/loss"],
    ],
)
def test_the_command_refuses_them_in_one_line_and_writes_nothing(settings: list[str], cli: Cli, tmp_path: Path) -> None:
    light = ["image_size=64", "architecture.encoder_weights=none", "split={name: holdout}"]
    options = [part for setting in [*light, *settings] for part in ("--set", setting)]
    answer = cli("train", "mask-rcnn", "--data", "phantom:2", "--out", tmp_path / "run", *options)
    assert answer.code == 2, answer
    assert len(answer.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_network_s_own_losses_are_tried_before_anything_is_written() -> None:
    Judging.broken = True
    try:
        with pytest.raises(RecipeError, match="cannot take batches of 4 images of 32 pixels: no such loss"):
            build_for_training(recipe(), None, download=False)
    finally:
        Judging.broken = False
