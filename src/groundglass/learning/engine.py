"""The torch engine: a network as a function from arrays to probabilities, and a run as a model that predicts."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from groundglass.errors import RunError, first_line
from groundglass.labels import label_set
from groundglass.learning.device import autocast, choose_device, choose_precision
from groundglass.model.predict import Model
from groundglass.model.prepare import Preparation
from groundglass.networks.building import build, in_channels
from groundglass.run import FORMAT_VERSION, Run


class TorchEngine:
    """[N, 1, S, S] float32 -> probabilities [N, K, S, S] float32 (softmax), on `device` in `precision`."""

    def __init__(self, network: nn.Module, channels: int, device: str, precision: str) -> None:
        self.network: nn.Module = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.eval()
        self.channels, self.device, self.precision = channels, device, precision

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        x = torch.from_numpy(batch).to(self.device).repeat(1, self.channels, 1, 1)
        with torch.inference_mode(), autocast(self.precision, self.device):
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        return torch.softmax(logits.float(), dim=1).cpu().numpy()


def model_of(run: Run, device: str = "auto") -> Model:
    """The run's kept network, ready to predict. Raises `RunError` when its weights are missing, damaged or of another
    format version."""
    path = run.need_weights()
    device = choose_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders aloud about files that it then refuses
            kept = torch.load(path, map_location="cpu", weights_only=True)
        version, weights = kept["format_version"], kept["weights"]
    except Exception as error:  # torch has many exceptions for a damaged file
        raise RunError(f"{path}: cannot be read as weights ({first_line(error)[:100]})") from None
    if version != FORMAT_VERSION:
        raise RunError(f"{path}: has format {version}; this groundglass reads format {FORMAT_VERSION}; train again")
    network = build(run.recipe)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:120]
        raise RunError(f"{path}: does not fit the network of recipe.yaml ({first})") from None
    engine = TorchEngine(network, in_channels(run.recipe), device, choose_precision(run.recipe, device))
    return Model(engine, preparation_of(run), label_set(run.recipe.labels), run.manifest.thresholds)


def preparation_of(run: Run) -> Preparation:
    """How the run prepares an image: its recipe with the statistics of its own training part."""
    return Preparation(run.recipe.intensity, run.recipe.image_size, run.manifest.mean, run.manifest.std)
