"""Names of everything that can be chosen, as data: `module:attribute` and a sentence. Imports nothing that it names,
so that listing is quick and needs no torch. A new entry is one file and one line here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, resources
from types import MappingProxyType
from typing import Any

from groundglass.errors import RecipeError


@dataclass(frozen=True)
class Entry:
    """target: where it lives; summary: one sentence; knobs: the settings an architecture takes, with defaults."""

    target: str
    summary: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


def load(entry: Entry | str) -> Any:
    """Import what an entry, or a `module:attribute` string, names. Raises `RecipeError` when it cannot be."""
    target = entry if isinstance(entry, str) else entry.target
    if isinstance(entry, str) and os.getcwd() not in sys.path:
        # A user's own module lies where the command is given, whichever way Python was started.
        sys.path.append(os.getcwd())
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"'{target}' cannot be imported ({error})") from error


def is_own_code(name: str) -> bool:
    """Whether a name is the user's own `package.module:Class`."""
    return ":" in name


# In the order in which a location is tried: the most particular layout first.
FORMATS: Mapping[str, Entry] = MappingProxyType(
    {
        "covid-segmentation": Entry("groundglass.data.kaggle:FORMAT", "the Kaggle competition's folder of npy files"),
        "medseg-nifti": Entry("groundglass.data.medseg_nifti:FORMAT", "MedSeg's tr_im/tr_mask NIfTI stacks"),
        "radiopaedia": Entry(
            "groundglass.data.radiopaedia:FORMAT", "Radiopaedia's slices as JPEG and PNG, class known or not"
        ),
        "covid19-ct-seg": Entry(
            "groundglass.data.covid19_ct_seg:FORMAT", "the COVID-19-CT-Seg benchmark as PNG: infection of unknown type"
        ),
        "covid-qu-ex": Entry(
            "groundglass.data.covid_qu_ex:FORMAT",
            "COVID-QU-Ex's chest X-rays: lungs, and infection in one of its trees",
        ),
        "medseg": Entry("groundglass.data.medseg:FORMAT", "MedSeg's slices as PNG, with lungs"),
        "lctsc": Entry("groundglass.data.lctsc:FORMAT", "CT volumes with lung masks, a folder a patient"),
        "manifest": Entry("groundglass.data.manifest:FORMAT", "a CSV manifest, or images/ and masks/ folders"),
        "phantom": Entry("groundglass.data.phantoms:FORMAT", "phantom:N[:seed], synthetic chests with known lesions"),
        "phantom-xray": Entry(
            "groundglass.data.radiographs:FORMAT", "phantom-xray:N[:seed], synthetic chest X-rays in parts, with lungs"
        ),
    }
)

_ENCODER = {"encoder": "resnet34", "encoder_weights": "imagenet", "in_channels": 1}
_DEPTH = {**_ENCODER, "encoder_depth": 5}
_ATTENTION = {**_DEPTH, "attention": "none"}


def _library(summary: str, knobs: Mapping[str, Any] = _ENCODER) -> Entry:
    return Entry("groundglass.networks.library:build", summary, MappingProxyType(dict(knobs)))


ARCHITECTURES: Mapping[str, Entry] = MappingProxyType(
    {
        "plain-unet": Entry(
            "groundglass.networks.plain_unet:PlainUNet",
            "the original U-Net, from scratch",
            MappingProxyType({"base_width": 64, "depth": 4, "batch_norm": True, "in_channels": 1}),
        ),
        "segnet": Entry(
            "groundglass.networks.segnet:SegNet",
            "VGG16's convolutions, unpooling by indices, from scratch",
            MappingProxyType({"base_width": 64, "batch_norm": True, "in_channels": 1}),
        ),
        "small-covid-net": Entry(
            "groundglass.networks.small_covid_net:SmallCovidNet",
            "SegNet's two phases with 24 filters, from scratch",
            MappingProxyType({"width": 24, "blocks": 4, "batch_norm": True, "in_channels": 1}),
        ),
        "mask-rcnn": Entry(
            "groundglass.networks.mask_rcnn:MaskRCNN",
            "each lesion by itself, and their union",
            MappingProxyType({**_ENCODER, "encoder": "tu-tf_efficientnet_lite0", "channels": 64, "confidence": 0.5}),
        ),
        "unet": _library("U-Net with a pre-trained encoder", _ATTENTION),
        "unetplusplus": _library("U-Net++, nested skip connections", _ATTENTION),
        "manet": _library("multi-scale attention net", _DEPTH),
        "linknet": _library("LinkNet, skips are added", _DEPTH),
        "fpn": _library("feature pyramid network"),
        "pspnet": _library("pyramid scene parsing"),
        "pan": _library("pyramid attention network"),
        "deeplabv3": _library("atrous spatial pyramid"),
        "deeplabv3plus": _library("DeepLabV3 with a decoder"),
        "upernet": _library("unified perceptual parsing"),
        "segformer": _library("the SegFormer decoder"),
        "dpt": _library(
            "dense prediction transformer; this encoder needs image_size=224",
            {**_ENCODER, "encoder": "tu-vit_base_patch16_224.augreg_in21k"},
        ),
    }
)

# The loss that a network computes by itself, in its method `loss`.
OWN_LOSS = "own"
LOSSES: Mapping[str, Entry] = MappingProxyType(
    {
        "cross_entropy": Entry("groundglass.learning.losses:cross_entropy", "softmax cross-entropy per pixel"),
        "dice": Entry("groundglass.learning.losses:dice", "1 - soft Dice, mean over classes"),
        "foreground_dice": Entry("groundglass.learning.losses:foreground_dice", "1 - soft Dice, without background"),
        "focal": Entry("groundglass.learning.losses:focal", "focal loss, gamma 2"),
        "tversky": Entry("groundglass.learning.losses:tversky", "Tversky loss, false negatives weigh .7"),
        OWN_LOSS: Entry("groundglass.learning.losses:own", "the network's own losses (mask-rcnn)"),
    }
)


@cache
def library_names() -> Mapping[str, Any]:
    """The committed table of what segmentation_models_pytorch and timm offer: versions, architectures, encoders."""
    text = (resources.files("groundglass.networks") / "library.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return MappingProxyType(table)
