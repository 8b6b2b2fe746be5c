"""The torch engine: a network as a function from arrays to probabilities, and a run as a model that predicts."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from groundglass.case import Case
from groundglass.errors import RecipeError, RunError, first_line
from groundglass.labels import label_set
from groundglass.learning.device import autocast, choose_device, choose_precision
from groundglass.model.instances import Instance
from groundglass.model.predict import Model, Roi, find_lungs
from groundglass.model.prepare import Preparation
from groundglass.networks.building import build, build_for_training, in_channels
from groundglass.recipes.settings import Recipe, Thresholds
from groundglass.run import FORMAT_VERSION, Run


class TorchEngine:
    """[N, 1, S, S] float32 -> probabilities [N, K, S, S] float32 (softmax), on `device` in `precision`."""

    def __init__(self, network: nn.Module, channels: int, device: str, precision: str) -> None:
        self.network: nn.Module = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.eval()
        self.channels, self.device, self.precision = channels, device, precision

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast(self.precision, self.device):
            logits = self.network(self._input(batch))
        return torch.softmax(logits.float(), dim=1).cpu().numpy()

    def _input(self, batch: NDArray[np.float32]) -> torch.Tensor:
        x = torch.from_numpy(batch).to(self.device).repeat(1, self.channels, 1, 1)
        return x.contiguous(memory_format=torch.channels_last)


class SeparatingEngine(TorchEngine):
    """Of a network with a method `instances`, which tells them apart."""

    def instances(self, batch: NDArray[np.float32], /) -> list[list[Instance]]:
        """[N, 1, S, S] float32 -> for each image its instances, by falling score."""
        with torch.inference_mode(), autocast(self.precision, self.device):
            found: list[list[Instance]] = self.network.instances(self._input(batch))  # type: ignore[operator]
        return found


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
    kind = SeparatingEngine if callable(getattr(type(network), "instances", None)) else TorchEngine
    engine = kind(network, in_channels(run.recipe), device, precision)
    lungs, rule = run.first_stage(), run.recipe.first_stage
    return Model(
        engine,
        preparation_of(run),
        label_set(run.recipe.labels),
        first=None if lungs is None else model_of(lungs, device),
        roi="none" if rule is None else rule.roi,
    )


def lungs_for(run: Run, device: str) -> Lungs | None:
    """What shows the network of `run` only lungs; None where it sees whole images."""
    rule, first = run.recipe.first_stage, run.first_stage()
    if rule is None or first is None or rule.roi == "none":
        return None
    return Lungs(model_of(first, device), rule.roi)


class Lungs:
    """The lungs that a second stage sees of a case, [H, W] bool: its reader's, or found by the first stage, once."""

    def __init__(self, first: Model, roi: Roi) -> None:
        self.first, self.roi = first, roi
        self._found: dict[str, NDArray[np.uint8]] = {}

    def __call__(self, case: Case) -> NDArray[np.bool_]:
        known = case.lung() if self.roi == "truth" else None
        if known is not None:
            return known
        if case.id not in self._found:
            self._found[case.id] = np.packbits(find_lungs(self.first, case.image(), case.unit))
        shape = case.shape[-2:]
        bits = np.unpackbits(self._found[case.id], count=shape[0] * shape[1])
        return bits.reshape(shape).astype(np.bool_)


# Of each tensor of a network: its name, its shape, whether it was taken from other weights, and if not, why.
Taken = dict[str, str]


def network_from(
    start: Run | None, first: Run | None, recipe: Recipe, encoder_weights: str | Path | None, download: bool
) -> tuple[nn.Module, str, list[Taken]]:
    """The recipe's network with the weights that it begins with, a line on their origin, and which tensors were taken
    from a run.

    start: all of its kept weights; first: as the recipe's `first_stage.weights` says; otherwise as
    `build_for_training`. Raises also `RunError` when a run's weights are missing or damaged, or do not fit.
    """
    if start is not None:
        return _network_of(start, recipe)
    rule = recipe.first_stage
    if first is None or rule is None or rule.weights == "none":
        return *build_for_training(recipe, encoder_weights, download), []
    if encoder_weights is not None:
        raise RecipeError(
            "--encoder-weights: the first stage brings weights; leave it out or set first_stage.weights=none"
        )
    return _network_with(first, recipe, "" if rule.weights == "all" else "encoder.")


def _network_with(first: Run, recipe: Recipe, beginning: str) -> tuple[nn.Module, str, list[Taken]]:
    """The recipe's network with the tensors of `first` whose names begin so and that fit; the others stay random."""
    network = build(recipe)
    kept, own = read_kept(first), network.state_dict()
    report: list[Taken] = []
    for name, tensor in own.items():
        given = kept["weights"].get(name)
        if not name.startswith(beginning):
            why = f"not of the {beginning.removesuffix('.')}"
        elif given is None:
            why = "the first stage has no such tensor"
        elif given.shape != tensor.shape:
            why = f"the first stage's has shape {tuple(given.shape)}"
        else:
            own[name], why = given, ""
        report.append({"tensor": name, "shape": str(tuple(tensor.shape)), "taken": "no" if why else "yes", "why": why})
    taken = sum(row["taken"] == "yes" for row in report)
    if not taken:
        what = f"no tensor of the {beginning.removesuffix('.')}" if beginning else "no tensor"
        raise RunError(f"{first.path}: {what} fits this recipe's network; set first_stage.weights=none")
    network.load_state_dict(own)
    return network, f"first stage {first.path.name}, epoch {kept['epoch']}, {taken} of {len(own)} tensors taken", report


def _network_of(start: Run, recipe: Recipe) -> tuple[nn.Module, str, list[Taken]]:
    network = build(recipe)
    if start.recipe.labels != recipe.labels:
        raise RunError(f"{start.path}: learned label set '{start.recipe.labels}', not '{recipe.labels}'")
    kept = read_kept(start)
    try:
        network.load_state_dict(kept["weights"])
    except RuntimeError as error:
        first = " ".join(str(error).split())[:120]
        raise RunError(f"{start.path}: its weights do not fit this recipe's network ({first})") from None
    return network, f"run {start.path.name}, epoch {kept['epoch']}, all {len(kept['weights'])} tensors taken", []


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
