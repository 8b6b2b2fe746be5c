"""Every architecture and encoder of segmentation_models_pytorch (and through it timm), by name."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from groundglass.errors import RecipeError, first_line, nearest
from groundglass.networks.torchvision_mend import mend
from groundglass.registry import library_names

_DECODER_CHANNELS = (256, 128, 64, 32, 16)


def build(
    name: str,
    classes: int,
    encoder: str,
    in_channels: int = 1,
    encoder_depth: int | None = None,
    attention: str | None = None,
) -> nn.Module:
    """Network `name` of segmentation_models_pytorch with random weights; `.encoder` is the part that can be
    pre-trained. Input [N, in_channels, H, W], output logits [N, classes, H, W].

    encoder_depth: poolings kept (3 to 5); attention: `none` or `scse` in the decoder.
    Raises `RecipeError` for an unknown encoder or a combination that the library refuses.
    """
    check_encoder(encoder)
    mend()
    import segmentation_models_pytorch as smp

    options: dict[str, Any] = {"encoder_weights": None, "in_channels": in_channels, "classes": classes}
    if encoder_depth is not None:
        if encoder_depth not in (3, 4, 5):
            raise RecipeError(f"architecture.encoder_depth: {encoder_depth!r} is not 3, 4 or 5")
        options["encoder_depth"] = encoder_depth
        if name != "linknet":
            options["decoder_channels"] = _DECODER_CHANNELS[:encoder_depth]
    if attention is not None:
        if attention not in ("none", "scse"):
            raise RecipeError(f"architecture.attention: '{attention}' is not 'none' or 'scse'")
        options["decoder_attention_type"] = None if attention == "none" else attention
    try:
        with warnings.catch_warnings():
            # The library warns that weights were not asked for; that is what is meant here.
            warnings.simplefilter("ignore", UserWarning)
            return smp.create_model(name, encoder_name=encoder, **options)
    except (ValueError, KeyError, RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        raise RecipeError(f"architecture '{name}' cannot take the encoder '{encoder}': {first_line(error)}") from error


def check_encoder(encoder: str) -> None:
    """Raise `RecipeError` with the nearest name unless `encoder` is known: a name of the library, or `tu-` and a
    timm model (with or without its pre-training tag)."""
    table = library_names()
    if encoder.startswith("tu-"):
        bare = encoder.removeprefix("tu-").split(".")[0]
        if bare not in table["timm_models"]:
            raise RecipeError(f"unknown timm encoder '{encoder}'; {nearest(bare, table['timm_models'])}")
    elif encoder not in table["encoders"]:
        raise RecipeError(f"unknown encoder '{encoder}'; {nearest(encoder, table['encoders'])}")
