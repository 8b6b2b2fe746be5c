"""From a recipe's architecture to a network."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from groundglass.errors import RecipeError, WeightsError, first_line
from groundglass.labels import label_set
from groundglass.networks.pretrained import load_encoder
from groundglass.recipes.settings import Recipe
from groundglass.registry import ARCHITECTURES, OWN_LOSS, is_own_code, load


def build(recipe: Recipe) -> nn.Module:
    """The recipe's network with random weights from its seed: [N, in_channels, S, S] -> logits [N, classes, S, S].

    Raises `RecipeError` where a knob has a value that the network cannot take.
    """
    name, knobs = recipe.architecture.name, recipe.architecture.knobs
    classes = len(label_set(recipe.labels).classes)
    torch.manual_seed(recipe.seed)
    try:
        if is_own_code(name):
            network = _own(name)(classes=classes, **knobs)
        else:
            entry = ARCHITECTURES[name]
            knobs = {**entry.knobs, **knobs}
            knobs.pop("encoder_weights", None)
            if entry.target.endswith("library:build"):
                knobs["name"] = name
            network = load(entry)(classes=classes, **knobs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(f"architecture '{name}' cannot be built with {knobs}: {first_line(error)}") from error
    if callable(getattr(type(network), "loss", None)) != recipe.own_loss:
        why = "has no losses of its own; choose others" if recipe.own_loss else f"learns by loss=[{{name: {OWN_LOSS}}}]"
        raise RecipeError(f"loss: architecture '{name}' {why}")
    return network


def _own(name: str) -> type[nn.Module]:
    """The user's class, checked before it is called."""
    found = load(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise RecipeError(f"architecture '{name}' is not a torch.nn.Module class")
    return found


def build_for_training(recipe: Recipe, encoder_weights: str | Path | None, download: bool) -> tuple[nn.Module, str]:
    """As `build`, with pre-trained weights in the encoder if the recipe asks for them, and a line on their origin.

    Random weights only where the recipe says `encoder_weights: none` or the network has no such knob.
    Raises `WeightsError` when the weights cannot be had or do not fit, `RecipeError` when the network cannot answer an
    image of the recipe's size.
    """
    network = build(recipe)
    _try(network, recipe)
    name, knobs = recipe.architecture.name, recipe.architecture.knobs
    entry = None if is_own_code(name) else ARCHITECTURES[name]
    if entry is None or "encoder_weights" not in entry.knobs:
        if encoder_weights is not None:
            raise WeightsError(f"--encoder-weights: architecture '{name}' has no pre-trained encoder")
        return network, "random weights"
    settings = {**entry.knobs, **knobs}
    if encoder_weights is None and settings["encoder_weights"] == "none":
        return network, "random weights (encoder_weights: none)"
    if settings["encoder_weights"] not in ("imagenet", "none"):
        raise RecipeError(f"architecture.encoder_weights: '{settings['encoder_weights']}' is not 'imagenet' or 'none'")
    return network, load_encoder(network, settings["encoder"], encoder_weights, download)


def _try(network: nn.Module, recipe: Recipe) -> None:
    """Ask once, before anything is written: some networks take only images of some sizes, or no batch of one."""
    side, classes = recipe.image_size, len(label_set(recipe.labels).classes)
    untouched = copy.deepcopy(network.state_dict())
    try:
        with torch.no_grad():
            batch = torch.zeros(min(recipe.batch_size, 2), in_channels(recipe), side, side)
            network.train()(batch)
            if recipe.own_loss:
                network.loss(batch, batch[:, 0].long())  # type: ignore[operator]
            answer = network.eval()(torch.zeros(1, in_channels(recipe), side, side))
        # Trying in training mode moves the running means of batch normalisation.
        network.load_state_dict(untouched)
        network.train()
    except Exception as error:  # each network has its own exceptions
        what = f"cannot take batches of {recipe.batch_size} images of {side} pixels: {first_line(error)}"
        raise RecipeError(f"architecture '{recipe.architecture.name}' {what}") from error
    if getattr(answer, "shape", None) != (1, classes, side, side):
        found = tuple(getattr(answer, "shape", ())) or type(answer).__name__
        wanted = (1, classes, side, side)
        raise RecipeError(f"architecture '{recipe.architecture.name}' answers with {found}, not with logits {wanted}")


def in_channels(recipe: Recipe) -> int:
    """Channels the network takes; one grey image is repeated to fill them."""
    entry = ARCHITECTURES.get(recipe.architecture.name)
    default = entry.knobs.get("in_channels", 1) if entry else 1
    return int(recipe.architecture.knobs.get("in_channels", default))
