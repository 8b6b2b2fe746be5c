"""No setting may do nothing.

Every leaf of every shipped recipe, and of two workshop recipes that use the variants no shipped one uses, is found by
walking the recipe, changed to another valid value, and must change what an observer of its part sees: the built
network, the split, a batch, the loss, a scripted training's rates, weights, kept epochs and end, or a whole small
training. A field without an observer, or whose observer sees no change, fails here by its path.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import nn

from groundglass.data.defects import scan
from groundglass.errors import GroundglassError, RecipeError
from groundglass.labels import LABEL_SETS, label_set
from groundglass.learning import training
from groundglass.learning.device import bf16_gains
from groundglass.learning.engine import model_of
from groundglass.learning.keeping import Keeper
from groundglass.learning.learner import Learner
from groundglass.learning.loading import Slices, loader
from groundglass.learning.losses import build as build_loss
from groundglass.model.decide import decide
from groundglass.model.prepare import Preparation
from groundglass.networks.building import build_for_training, in_channels
from groundglass.recipes import Recipe, epoch_metrics, load, parse, shipped
from groundglass.recipes.settings import Architecture
from groundglass.registry import ARCHITECTURES, LOSSES
from groundglass.workflows import opening
from groundglass.workflows import train as workflow
from tests.learning import tiny
from tests.networks.own import TinyNet

Path_ = tuple[str | int, ...]
Values = dict[str, Any]

# --- the recipes and their fields ------------------------------------------------------------------------------------

WORKSHOP: Values = {
    **tiny.BASE,
    "split": {"name": "rows", "rows": {"medseg": "0..5"}, "train_sources": ["medseg", "radiopaedia"]},
    "intensity": {
        "clip_hu": [-1000, 200],
        "scale": {"name": "standardise", "percentiles": [10, 90], "sources": ["medseg"]},
        "picture_window_hu": [-900, 300],
    },
    "augmentation": [
        {"name": "clahe", "p": 0.5, "clip_limit": 0.02, "tiles": 4},
        {"name": "brightness_contrast", "p": 0.5},
        {"name": "gamma", "p": 0.5},
        {"name": "noise", "p": 0.5, "std": 0.05},
        {"name": "vflip", "p": 0.5},
        {"name": "rotate", "p": 0.5},
        {"name": "crop", "p": 0.5},
        {"name": "scale", "p": 0.5},
        {"name": "shift", "p": 0.5},
        {"name": "elastic", "p": 0.5},
    ],
    "loss": [
        {"name": "focal", "weight": 0.5, "class_weights": {"ground-glass": 0.5, "consolidation": 3.0}},
        {"name": "tversky"},
    ],
    "optimiser": {"name": "sgd", "learning_rate": 0.01, "weight_decay": 0.01, "momentum": 0.5},
    "schedule": {"name": "plateau", "metric": "validation/miou", "factor": 0.5, "patience": 1},
    "epochs": 20,
    "early_stopping": {"metric": "validation/f1_lesions", "patience": 4, "min_delta": 0.01},
    "checkpoint": {"metric": "train/loss", "every_improvement": 2},
    "precision": "auto",
    "decision": {"name": "thresholds", "values": {"ground-glass": 0.3, "consolidation": 0.45}},
}
SECOND: Values = {
    **WORKSHOP,
    "labels": "lesion",
    "split": {"name": "holdout", "fraction": 0.3, "train_sources": ["medseg"], "validation_sources": ["medseg"]},
    "loss": [{"name": "dice", "class_weights": "balanced"}],
    "optimiser": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    "schedule": {"name": "cosine", "step": "batch", "final": 0.2},
    "decision": {"name": "thresholds"},
}


def complete(recipe: Recipe) -> Values:
    """Every setting with its value, the network's own defaults included."""
    values = recipe.model_dump(mode="json")
    entry = ARCHITECTURES.get(recipe.architecture.name)
    values["architecture"] = {**(entry.knobs if entry else {}), **values["architecture"]}
    return values


SUBJECTS: dict[str, Values] = {name: complete(load(name)) for name in shipped()}
SUBJECTS["workshop"] = complete(parse(WORKSHOP, "workshop"))
SUBJECTS["workshop-2"] = complete(parse(SECOND, "workshop-2"))


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Paths of all values; of mappings and of list members also the path itself, which stands for its presence."""
    if isinstance(value, dict):
        if path and _removable(path):
            yield path
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value and not all(isinstance(item, str) for item in value):
        for position, item in enumerate(value):
            yield from leaves(item, (*path, position))
    else:
        yield path


def _removable(path: Path_) -> bool:
    return path == ("early_stopping",) or (len(path) == 2 and path[0] in ("augmentation", "loss"))


FIELDS = [(name, path) for name, values in SUBJECTS.items() for path in leaves(values)]


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))


# --- another valid value ---------------------------------------------------------------------------------------------

SMALL_LIBRARY_NET = {"name": "unet", "encoder": "resnet18", "encoder_weights": "none"}
# For what cannot be made from the value alone: by the last key of the path, else by the path without positions.
OTHER: dict[str, list[Any]] = {
    "labels": list(LABEL_SETS),
    "train_sources": [["medseg"], None],
    "validation_sources": [["radiopaedia"], ["medseg"]],
    "sources": [["medseg"], None],
    "medseg": ["0..11"],
    "encoder": ["resnet18"],
    "encoder_weights": ["none", "imagenet"],
    "attention": ["scse"],
    "encoder_depth": [4],
    "in_channels": [3],
    "metric": ["validation/accuracy"],
    "keep": ["last"],
    "step": ["batch", "epoch"],
    "class_weights": ["balanced", None],
    # Below one pixel of a tile's histogram scikit-image clips alike, so a small image needs a large step.
    "clip_limit": [0.3],
    "depth": [2, 1],
    "min_delta": [0.3],
    "values": [{"ground-glass": 0.2, "consolidation": 0.2}, {"lesion": 0.2}],
    "early_stopping": [{"metric": "validation/loss", "patience": 1}, None],
    "precision": ["fp32", "bf16"] if bf16_gains("cpu") else ["bf16", "fp32"],
    "augmentation": [[{"name": "hflip", "p": 0.5}]],
    "name": ["another"],
    "loss.name": list(LOSSES),
}
# A variant is another object: these replace the whole of it.
VARIANTS: dict[str, list[Values]] = {
    "split": [{"name": "rows", "rows": {"medseg": "0..2"}}, {"name": "holdout"}],
    "intensity.scale": [{"name": "unit"}, {"name": "symmetric"}],
    "augmentation": [{"name": "vflip", "p": 0.5}, {"name": "noise", "p": 0.5}],
    "architecture": [SMALL_LIBRARY_NET, {"name": "plain-unet", "base_width": 4}],
    "optimiser": [{"name": "sgd", "learning_rate": 0.01}, {"name": "adam", "learning_rate": 0.01}],
    "schedule": [{"name": "plateau", "patience": 0}, {"name": "constant"}],
    "decision": [{"name": "thresholds", "values": {}}, {"name": "argmax"}],
}


def bare(path: Path_) -> str:
    return dotted(tuple(key for key in path if isinstance(key, str)))


def put(values: Values, path: Path_, value: Any) -> Values:
    changed = copy.deepcopy(values)
    target: Any = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return changed


def get(values: Values, path: Path_) -> Any:
    for key in path:
        values = values[key]
    return values


def changes(values: Values, path: Path_) -> Iterator[Values]:
    """The values with another setting at `path`, the first valid of which is taken."""
    present = get(values, path)
    if _removable(path) and isinstance(present, dict):
        if path[0] == "early_stopping":
            yield put(values, path, None)
            return
        rest = [item for position, item in enumerate(values[path[0]]) if position != path[1]]
        # The only term of a loss cannot go; it can be joined by another.
        yield {**values, path[0]: rest or [*values[path[0]], {"name": "tversky", "weight": 0.5}]}
        return
    if path[-1] == "name" and bare(path[:-1]) in VARIANTS:
        for variant in VARIANTS[bare(path[:-1])]:
            if variant["name"] != present:
                yield put(values, path[:-1], variant)
        return
    listed = OTHER.get(bare(path)) or OTHER.get(str(path[-1]))
    for other in listed if listed is not None else _near(present):
        if other != present:
            yield put(values, path, other)


def _near(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value + 32, value - 1, value / 2]
    if isinstance(value, float):
        return [value / 2, value * 0.9, value + 0.1, value - 1]
    return []


def changed(values: Values, path: Path_) -> Values:
    for other in changes(values, path):
        try:
            parse(other, "changed")
        except RecipeError:
            continue
        return other
    pytest.fail(f"'{dotted(path)}': this test knows no other valid value; add one to OTHER or VARIANTS")


# --- what can be seen ------------------------------------------------------------------------------------------------


def digest(*things: Any) -> str:
    found = hashlib.sha256()
    for thing in things:
        array = thing.detach().float().numpy() if isinstance(thing, torch.Tensor) else thing
        if isinstance(array, np.ndarray):
            found.update(str((array.shape, array.dtype)).encode() + array.tobytes())
        else:
            found.update(repr(array).encode())
    return found.hexdigest()


@cache
def tiny_data() -> Any:
    data = tiny.dataset()
    return data, scan(data)


def split_of(recipe: Recipe) -> tuple[list[Any], list[Any]]:
    data, scanned = tiny_data()
    split = workflow.make_split(recipe, data, scanned, None)
    return [data.case(i) for i in split.train], [data.case(i) for i in split.validation]


def see_split(values: Values) -> str:
    """Who trains and who validates."""
    return digest(*[[case.id for case in side] for side in split_of(parse(values, "seen"))])


def see_network(values: Values) -> str:
    """Shapes, weights, what it answers to a fixed image, and where its weights come from."""
    recipe = parse(values, "seen")
    try:
        network, origin = build_for_training(recipe, None, download=False)
    except GroundglassError as error:
        return digest(str(error))
    x = torch.from_numpy(np.random.default_rng(0).random((2, 1, 64, 64), np.float32))
    with torch.inference_mode():
        answer = network.eval()(x.repeat(1, in_channels(recipe), 1, 1))
    state = network.state_dict()
    return digest(origin, list(state), *state.values(), answer)


def see_network_unfilled(values: Values) -> str:
    """The network before ImageNet weights, which are not at hand for every encoder."""
    has = "encoder_weights" in values["architecture"]
    return see_network(put(values, ("architecture", "encoder_weights"), "none") if has else values)


def see_batches(values: Values) -> str:
    """Pixels and labels of two epochs, standardised by the training part's own statistics."""
    recipe = parse(values, "seen")
    # Every split leaves slices of both sources here, whatever the recipe's own rule is.
    data, _ = tiny_data()
    part = [*data.cases[:9], *data.cases[-4:]]
    preparation = Preparation(recipe.intensity, recipe.image_size, *training.measure_training_part(recipe, part))
    batches = loader(Slices(part, recipe, preparation, training=True), recipe, training=True, device="cpu")
    seen = []
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        seen += [tensor for batch in batches for tensor in batch]
    return digest(*seen)


def see_loss(values: Values) -> str:
    """The loss of fixed logits, its class weights from the pixels of the training part."""
    recipe = parse(values, "seen")
    labels = label_set(recipe.labels)
    counts = training.count_classes(labels, tiny_data()[0].cases[:8])
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(size=(2, len(labels.classes), 16, 16)).astype(np.float32))
    target = torch.from_numpy(random.integers(0, len(labels.classes), (2, 16, 16)))
    return digest(build_loss(recipe.loss, labels, counts)(logits, target))


class Script:
    """Scores as an epoch would leave them: each name rises (a loss falls) to a peak of its own, then decays."""

    def __init__(self, part: str, labels: str) -> None:
        self.part, self.epoch = part, 0
        self.names = [name.removeprefix(f"{part}/") for name in epoch_metrics(labels) if name.startswith(part)]

    def scores(self) -> dict[str, float]:
        found = {}
        for place, name in enumerate(self.names):
            peak = 7 if name == "loss" else 2 + (place + (self.part == "train")) % 5
            value = 0.5 - 0.04 * abs(self.epoch - peak)
            found[name] = 1 - value if name == "loss" else value
        return found


class StandIn:
    """As much of Lightning's trainer as the keeper asks for."""

    def __init__(self) -> None:
        self.current_epoch, self.should_stop = 0, False

    def save_checkpoint(self, path: Path) -> None:
        path.write_bytes(b"")


def see_script(values: Values) -> str:
    """Rates and weights after each step, and the epochs that were kept and the last, of a training whose gradients
    and scores are given. Everything else is the real learner and keeper."""
    recipe = parse({**values, "labels": "ct4"} if values["labels"] == "lesion" else values, "seen")
    torch.manual_seed(0)
    network = nn.Conv2d(1, 4, 3)
    steps = 2
    validating = Slices([], recipe, Preparation(recipe.intensity, recipe.image_size), training=False)
    learner = Learner(network, recipe, lambda logits, target: logits.sum(), validating, steps)
    with tempfile.TemporaryDirectory() as folder:
        run = tiny.new_run(Path(folder) / "run", recipe_for_folder(recipe), tiny.cases(2), tiny.cases(1, 50))
        run.recipe = recipe
        keeper, trainer = Keeper(run, lambda row: None, lambda done, total: None, None), StandIn()
        keeper.on_train_epoch_start(trainer, learner)  # type: ignore[arg-type]
        seen: list[Any] = []
        random = np.random.default_rng(0)
        for epoch in range(recipe.epochs if recipe.epochs < 40 else 20):
            trainer.current_epoch = epoch
            for _ in range(steps):
                for weight in network.parameters():
                    weight.grad = torch.from_numpy(random.normal(size=weight.shape).astype(np.float32))
                learner.optimiser.step()
                learner.on_train_batch_end()
                seen += [learner.optimiser.param_groups[0]["lr"], *(w.clone() for w in network.parameters())]
            learner.tallies = {part: Script(part, recipe.labels) for part in ("train", "validation")}  # type: ignore
            for tally in learner.tallies.values():
                tally.epoch = epoch + 1  # type: ignore[attr-defined]
            keeper.on_train_epoch_end(trainer, learner)  # type: ignore[arg-type]
            seen.append((run.manifest.kept_epoch, run.manifest.kept_value))
            if trainer.should_stop:
                break
        return digest(*seen)


def recipe_for_folder(recipe: Recipe) -> Recipe:
    """The run folder of a script needs no data: statistics and counts are those of any slices."""
    return tiny.recipe(name=recipe.name)


WHOLE: Values = {
    "architecture": tiny.OWN,
    "image_size": 32,
    "batch_size": 8,
    "augmentation": [],
    "early_stopping": None,
}


def see_whole(values: Values) -> str:
    """`groundglass train` on tiny slices with a tiny network, and what the finished run decides about fixed
    probabilities; the dtypes its first convolution answered in."""
    light = {**values, **WHOLE, "epochs": min(values["epochs"], 2 if values["epochs"] % 2 == 0 else 1)}
    recipe = parse(light, "seen")
    TinyNet.seen.clear()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "open_dataset", lambda _: tiny.dataset(10, 4))
        patch.setattr(workflow, "make_split", _any_split)
        patch.setattr(workflow, "curves", lambda *_, **__: None)
        run = workflow.train(recipe, "tiny", Path(folder) / "run", device="cpu")
        model = model_of(run, "cpu")
        state = torch.load(run.last, weights_only=True)["state_dict"]
    k = len(model.labels.classes)
    p = np.random.default_rng(0).dirichlet(np.ones(k), (24, 24)).transpose(2, 0, 1).astype(np.float32)
    dtypes = sorted(map(str, TinyNet.seen))
    return digest(run.manifest.epochs_done, dtypes, decide(p, model.labels, model.thresholds), *state.values())


def _any_split(recipe: Recipe, data: Any, *_: Any) -> Any:
    return workflow.splits.explicit(data.cases, {"medseg": "0..2"}, seed=recipe.seed)


def see_folder(values: Values) -> str:
    return str(workflow.default_folder(parse(values, "seen"), None))


Observer = Callable[[Values], str]
# Each observer of the longest matching prefix must see the change.
OBSERVERS: dict[str, tuple[Observer, ...]] = {
    "name": (see_folder,),
    "labels": (see_network_unfilled, see_batches),
    "split": (see_split,),
    "intensity": (see_batches,),
    "image_size": (see_batches,),
    "augmentation": (see_batches,),
    "architecture": (see_network_unfilled,),
    "architecture.encoder_weights": (see_network,),
    "loss": (see_loss,),
    "optimiser": (see_script,),
    "schedule": (see_script,),
    "batch_size": (see_batches,),
    "epochs": (see_whole,),
    "early_stopping": (see_script,),
    "checkpoint": (see_script,),
    "precision": (see_whole,),
    "decision": (see_whole,),
    "seed": (see_network_unfilled, see_batches),
}
# Only these are seen at small images, so that the big encoders and the statistics stay quick.
SMALL = {"image_size": 64, "batch_size": 8}
_seen: dict[tuple[str, str], str] = {}


def observed(observer: Observer, values: Values, *, again: bool = False) -> str:
    key = (observer.__name__, json.dumps(values, sort_keys=True))
    if again or key not in _seen:
        _seen[key] = observer(values)
    return _seen[key]


def observers_of(path: Path_) -> tuple[Observer, ...]:
    words = bare(path).split(".")
    for length in range(len(words), 0, -1):
        found = OBSERVERS.get(".".join(words[:length]))
        if found is not None:
            return found
    pytest.fail(f"'{dotted(path)}': no observer of this setting; add one to OBSERVERS")


@pytest.mark.parametrize(("name", "path"), FIELDS, ids=[f"{name}:{dotted(path)}" for name, path in FIELDS])
def test_a_setting_does_something(name: str, path: Path_) -> None:
    values = {**SUBJECTS[name], **SMALL}
    if path == ("batch_size",) or path == ("image_size",):
        values[path[0]] = 32 if path[0] == "image_size" else 5
    if path == ("architecture", "name") and values["architecture"]["name"] == "unet":
        other = {**values, "architecture": {**values["architecture"], "name": "unetplusplus"}}
    else:
        other = changed(values, path)
    for observer in observers_of(path):
        before, after = observed(observer, values), observed(observer, other)
        assert before != after, f"recipe '{name}': '{dotted(path)}' changes nothing that {observer.__name__} sees"


@pytest.mark.parametrize(
    "observer", sorted({o for group in OBSERVERS.values() for o in group}, key=lambda o: o.__name__)
)
def test_an_observer_sees_no_change_where_there_is_none(observer: Observer) -> None:
    """Else the test above would pass for a dead setting; the name of a recipe is one, but for its folder."""
    for name in ("demo", "workshop"):
        values = {**SUBJECTS[name], **SMALL}
        assert observed(observer, values) == observed(observer, values, again=True)
        if observer is not see_folder:
            assert observed(observer, values) == observed(observer, {**values, "name": "another"})


def test_every_field_of_every_variant_is_among_the_recipes_above() -> None:
    """A setting that no shipped recipe uses is watched too."""
    used = {(name, bare(path)) for name, path in FIELDS}
    tails = {key for _, key in used} | {"architecture"}
    missing = []
    for model in _models(Recipe):
        for field in model.model_fields:
            if model is Architecture:
                continue
            if not any(key == field or field in key.split(".") for key in tails if _holds(model, key)):
                missing.append(f"{model.__name__}.{field}")
    assert not missing


def _holds(model: type[BaseModel], key: str) -> bool:
    """Whether a path lies in a part of the recipe that can be `model`."""
    if model is Recipe:
        return True
    root = key.split(".")[0]
    return root in Recipe.model_fields and model in _models_in(Recipe.model_fields[root].annotation)


def _models(root: type[BaseModel]) -> list[type[BaseModel]]:
    found = [root]
    for field in root.model_fields.values():
        found += [m for m in _models_in(field.annotation) if m not in found]
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _models(annotation)
    if isinstance(annotation, types.GenericAlias) or typing.get_origin(annotation) is not None:
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def test_fp16_on_a_cpu_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fp16 needs a GPU"):
        workflow.train(tiny.recipe(precision="fp16"), "phantom:1", tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
