"""Every architecture of the registry can be built, and its knobs reach the network."""

from __future__ import annotations

import json
from importlib import metadata, resources

import pytest
import torch
from torch import nn

from groundglass.errors import RecipeError
from groundglass.networks import library
from groundglass.networks.building import build, in_channels
from groundglass.registry import ARCHITECTURES, library_names
from tests.learning import tiny

OF_LIBRARY = sorted(name for name, entry in ARCHITECTURES.items() if entry.target.endswith("library:build"))


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


@pytest.mark.parametrize("name", OF_LIBRARY)
def test_an_architecture_answers_every_pixel_in_every_class(name: str) -> None:
    if name == "dpt":
        encoder, side = "tu-vit_tiny_patch16_224.augreg_in21k", 224
    else:
        encoder, side = "resnet18", 128
    recipe = tiny.recipe(
        labels="ct3", architecture={"name": name, "encoder": encoder, "encoder_weights": "none"}, image_size=side
    )
    network = build(recipe).eval()
    with torch.inference_mode():
        answer = network(torch.rand(1, in_channels(recipe), side, side))
    assert answer.shape == (1, 3, side, side)
    assert answer.std() > 0


def test_the_offline_encoder_builds() -> None:
    with torch.inference_mode():
        answer = library.build("unet", 2, "tu-tf_efficientnet_lite0").eval()(torch.rand(1, 1, 64, 64))
    assert answer.shape == (1, 2, 64, 64)


@pytest.mark.parametrize("name", [name for name in OF_LIBRARY if "encoder_depth" in ARCHITECTURES[name].knobs])
def test_a_shallower_encoder_is_another_network(name: str) -> None:
    deep, shallow = (shapes(library.build(name, 2, "resnet18", encoder_depth=depth)) for depth in (5, 3))
    assert len(shallow) < len(deep)


@pytest.mark.parametrize("name", [name for name in OF_LIBRARY if "attention" in ARCHITECTURES[name].knobs])
def test_attention_adds_to_the_decoder(name: str) -> None:
    plain, attentive = (shapes(library.build(name, 2, "resnet18", attention=kind)) for kind in ("none", "scse"))
    assert set(plain) < set(attentive)
    assert all("decoder" in added for added in set(attentive) - set(plain))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet19"}, "unknown encoder 'resnet19'; did you mean 'resnet1"),
        ({"encoder": "tu-resnet50o"}, "unknown timm encoder 'tu-resnet50o'; did you mean 'resnet50"),
        ({"encoder": "resnet18", "encoder_depth": 7}, "encoder_depth: 7 is not 3, 4 or 5"),
        ({"encoder": "resnet18", "attention": "sce"}, "attention: 'sce' is not 'none' or 'scse'"),
        ({"encoder": "mit_b0", "in_channels": 1, "encoder_depth": 3, "name": "unetplusplus"}, "mit_b0"),
    ],
)
def test_what_the_library_cannot_take_is_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        library.build(**{"name": "unet", "classes": 2, **options})  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_table_of_names_equals_the_installed_library() -> None:
    table = json.loads((resources.files("groundglass.networks") / "library.json").read_text(encoding="utf-8"))
    for package in ("segmentation_models_pytorch", "timm"):
        if metadata.version(package) != table[package]:
            pytest.skip(f"{package} {metadata.version(package)} is installed, the table is of {table[package]}")
    import segmentation_models_pytorch as smp
    import timm

    assert sorted(table["encoders"]) == sorted(smp.encoders.get_encoder_names())
    assert sorted(table["timm_models"]) == sorted(timm.list_models())
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING

    assert sorted(table["architectures"]) == sorted(MODEL_ARCHITECTURES_MAPPING)


def test_every_architecture_of_the_library_is_in_the_registry() -> None:
    assert set(library_names()["architectures"]) == set(OF_LIBRARY)


def test_every_default_encoder_is_known() -> None:
    for name in OF_LIBRARY:
        library.check_encoder(ARCHITECTURES[name].knobs["encoder"])
