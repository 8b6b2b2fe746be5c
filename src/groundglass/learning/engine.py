"""The torch engine: a network as a function from arrays to probabilities, and a run as a model that predicts."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

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
from groundglass.recipes.settings import Recipe, Thresholds
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
    """The run's kept network, ready to predict, with its thresholds. Raises `RunError` when its weights are missing,
    damaged or of another format version, or its thresholds were not tuned yet."""
    if isinstance(run.recipe.decision, Thresholds) and run.manifest.thresholds is None:
        raise RunError(
            f"{run.path}: was stopped before its thresholds were tuned; train it on with --resume (and --max-time, if "
            "it need not be finished)"
        )
    return replace(untuned_model_of(run, device), thresholds=run.manifest.thresholds)


def untuned_model_of(run: Run, device: str = "auto") -> Model:
    """As `model_of`, deciding by argmax whatever the recipe says."""
    weights, device = read_kept(run)["weights"], choose_device(device)
    network = build(run.recipe)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:120]
        raise RunError(f"{run.best}: does not fit the network of recipe.yaml ({first})") from None
    # What was trained in fp16 on a GPU answers in fp32 on a CPU.
    on_cpu_from_fp16 = run.recipe.precision == "fp16" and device == "cpu"
    precision = "fp32" if on_cpu_from_fp16 else choose_precision(run.recipe, device)
    engine = TorchEngine(network, in_channels(run.recipe), device, precision)
    return Model(engine, preparation_of(run), label_set(run.recipe.labels))


def network_from(start: Run, recipe: Recipe) -> tuple[nn.Module, str]:
    """The recipe's network with the kept weights of a run, and a line on their origin.

    Raises `RunError` when they are missing or damaged, or the run's network or classes are others.
    """
    network = build(recipe)
    if start.recipe.labels != recipe.labels:
        raise RunError(f"{start.path}: learned label set '{start.recipe.labels}', not '{recipe.labels}'")
    kept = read_kept(start)
    try:
        network.load_state_dict(kept["weights"])
    except RuntimeError as error:
        first = " ".join(str(error).split())[:120]
        raise RunError(f"{start.path}: its weights do not fit this recipe's network ({first})") from None
    return network, f"run {start.path.name}, epoch {kept['epoch']}, all {len(kept['weights'])} tensors taken"


def read_kept(run: Run) -> dict[str, Any]:
    """What best.pt holds: `weights`, `epoch`, `value`, `format_version`. Raises `RunError`."""
    path = run.need_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders aloud about files that it then refuses
            kept = torch.load(path, map_location="cpu", weights_only=True)
        version = kept["format_version"]
    except Exception as error:  # torch has many exceptions for a damaged file
        raise RunError(f"{path}: cannot be read as weights ({first_line(error)[:100]})") from None
    if version != FORMAT_VERSION:
        raise RunError(f"{path}: has format {version}; this groundglass reads format {FORMAT_VERSION}; train again")
    return dict(kept)


def preparation_of(run: Run) -> Preparation:
    """How the run prepares an image: its recipe with the statistics of its own training part."""
    return Preparation(run.recipe.intensity, run.recipe.image_size, run.manifest.mean, run.manifest.std)
