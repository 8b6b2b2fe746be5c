"""No setting may do nothing.

Every leaf of every shipped recipe, and of two workshop recipes that use the variants no shipped one uses, is found by
walking the recipe, changed to another valid value, and must change what an observer of its part sees
(`tests.recipes.observers`): the built network, the split, a batch, the loss, a scripted training's rates, weights, kept
epochs and end, or a whole small training. A field without an observer, or whose observer sees no change, fails here by
its path. Where the rest of a recipe leaves a field only one value, any other has to be refused.
"""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from groundglass.errors import RecipeError
from groundglass.labels import LABEL_SETS
from groundglass.learning.device import bf16_gains
from groundglass.recipes import Recipe, load, parse, shipped
from groundglass.recipes.settings import Architecture
from groundglass.registry import ARCHITECTURES, LOSSES, OWN_LOSS
from groundglass.workflows import train as workflow
from tests.learning import tiny
from tests.recipes.observers import (
    GREY,
    PLAIN,
    Observer,
    Values,
    see_admission,
    see_batches,
    see_beginning,
    see_decision,
    see_folder,
    see_loss,
    see_lungs,
    see_need,
    see_network,
    see_network_unfilled,
    see_script,
    see_split,
    see_training,
)

Path_ = tuple[str | int, ...]

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
    whole = path in (("early_stopping",), ("first_stage",))
    return whole or (len(path) == 2 and path[0] in ("augmentation", "loss"))


def fixed(values: Values, path: Path_) -> str | None:
    """Where the rest of a recipe leaves a field only one value, how any other is refused; else None."""
    match bare(path):
        case "checkpoint.every_improvement" if values["checkpoint"]["keep"] == "last":
            return "keep: last keeps the last epoch"
        case "checkpoint.keep" if values["checkpoint"]["every_improvement"] != 1:
            return "keep: last keeps the last epoch"
        case "loss.class_weights" if values["loss"][0]["name"] == OWN_LOSS:
            return "takes no class weights"
        case "first_stage" if values["labels"] == "lung":
            return "'lung' needs none before it"
        case "decision.name" if values["labels"] == "lung":
            return "no lesion to put a threshold on"
    return None


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))


def bare(path: Path_) -> str:
    return dotted(tuple(key for key in path if isinstance(key, str)))


FIELDS = [(name, path) for name, values in SUBJECTS.items() for path in leaves(values)]
FREE = [(name, path) for name, path in FIELDS if fixed(SUBJECTS[name], path) is None]
FIXED = [field for field in FIELDS if field not in FREE]

# --- another valid value ---------------------------------------------------------------------------------------------

SMALL_LIBRARY_NET = {"name": "unet", "encoder": "resnet18", "encoder_weights": "none"}
# For what cannot be made from the value alone: by the path without positions, else by its last key.
OTHER: dict[str, list[Any]] = {
    "labels": list(LABEL_SETS),
    "train_sources": [["medseg"], None],
    "validation_sources": [["radiopaedia"], ["medseg"]],
    "split.sources": [["lung"], ["infection"]],
    "sources": [["medseg"], None],
    "medseg": ["0..11"],
    "encoder": ["resnet18"],
    "encoder_weights": ["none", "imagenet"],
    "attention": ["scse"],
    "encoder_depth": [4],
    "in_channels": [3],
    "first_stage": [{"roi": "none", "weights": "none"}],
    "roi": ["predicted", "none"],
    "weights": ["encoder", "none"],
    "metric": ["validation/accuracy"],
    "keep": ["last", "best"],
    "step": ["batch", "epoch"],
    "class_weights": ["balanced", None],
    # Below one pixel of a tile's histogram scikit-image clips alike, so a small image needs a large step.
    "clip_limit": [0.3],
    "depth": [2, 1],
    "min_delta": [0.3],
    "steps_per_epoch": [2, 3],
    "values": [{"ground-glass": 0.7, "consolidation": 0.7}, {"lesion": 0.7}],
    "early_stopping": [{"metric": "validation/loss", "patience": 1}, None],
    "precision": ["fp32", "bf16"] if bf16_gains("cpu") else ["bf16", "fp32"],
    "augmentation": [[{"name": "hflip", "p": 0.5}]],
    "name": ["another"],
    "loss.name": list(LOSSES),
}
# A variant is another object: these replace the whole of it.
VARIANTS: dict[str, list[Values]] = {
    "split": [{"name": "holdout"}, {"name": "rows", "rows": {"medseg": "0..2"}}],
    "intensity.scale": [{"name": "unit"}, {"name": "symmetric"}],
    "augmentation": [{"name": "vflip", "p": 0.5}, {"name": "noise", "p": 0.5}],
    "architecture": [SMALL_LIBRARY_NET, {"name": "plain-unet", "base_width": 4}],
    "optimiser": [{"name": "sgd", "learning_rate": 0.01}, {"name": "adam", "learning_rate": 0.01}],
    "schedule": [{"name": "plateau", "patience": 0}, {"name": "constant"}],
    # A threshold of 0.5 on the only class beside the background is the argmax.
    "decision": [
        {"name": "argmax"},
        {"name": "thresholds", "values": {"lesion": 0.2}},
        {"name": "thresholds", "values": {"ground-glass": 0.2}},
    ],
}


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
        if len(path) == 1:
            yield put(values, path, None)
            return
        rest = [item for position, item in enumerate(values[path[0]]) if position != path[1]]
        # The only term of a loss cannot go; it can be joined by another, or where it stands alone give way to it.
        joined = [*values[path[0]], {"name": "tversky", "weight": 0.5}]
        yield {**values, path[0]: rest or joined}
        yield {**values, path[0]: joined[1:]}
        return
    if path[-1] == "name" and bare(path[:-1]) in VARIANTS:
        for variant in VARIANTS[bare(path[:-1])]:
            if variant["name"] != present:
                yield put(values, path[:-1], variant)
        return
    if path == ("modality",):
        # An image of the other kind has other intensities.
        kinds = {"CT": PLAIN["intensity"], "X-ray": GREY}
        yield from ({**values, "modality": kind, "intensity": kinds[kind]} for kind in kinds if kind != present)
        return
    listed = OTHER.get(bare(path)) or OTHER.get(str(path[-1]))
    for other in listed if listed is not None else _near(present):
        if other != present:
            yield put(values, path, other)
    if path == ("labels",):
        # Where another part of the recipe names a class, which other label sets lack, it has to change too.
        unnamed = {"checkpoint": {**values["checkpoint"], "metric": "validation/loss"}, "decision": {"name": "argmax"}}
        yield from ({**values, **unnamed, "labels": other} for other in LABEL_SETS if other != present)


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


# --- what must be seen -----------------------------------------------------------------------------------------------

# Each observer of the longest matching prefix must see the change.
OBSERVERS: Mapping[str, tuple[Observer, ...]] = {
    "name": (see_folder,),
    "modality": (see_admission,),
    "labels": (see_network_unfilled, see_batches),
    "split": (see_split,),
    "intensity": (see_batches,),
    "image_size": (see_batches,),
    "augmentation": (see_batches,),
    "architecture": (see_network_unfilled,),
    "architecture.encoder_weights": (see_network,),
    "first_stage": (see_need,),
    "first_stage.roi": (see_lungs,),
    "first_stage.weights": (see_beginning,),
    "loss": (see_loss,),
    "optimiser": (see_script,),
    "schedule": (see_script,),
    "batch_size": (see_batches,),
    "steps_per_epoch": (see_batches,),
    "epochs": (see_training,),
    "early_stopping": (see_script,),
    "checkpoint": (see_script,),
    "precision": (see_training,),
    "decision": (see_decision,),
    "seed": (see_network_unfilled, see_batches),
}
# Of every recipe, where it has them: so that big networks and long trainings stay quick.
SMALL = {"image_size": 64, "batch_size": 8, "epochs": 1, "steps_per_epoch": 3, "base_width": 8}


def shown(name: str, path: Path_) -> Values:
    """A recipe made small, from where the setting at `path` can still grow."""
    values = copy.deepcopy(SUBJECTS[name])
    for part in (values, values["architecture"]):
        part.update({key: value for key, value in SMALL.items() if part.get(key) is not None})
    if path in (("batch_size",), ("image_size",)):
        values[str(path[0])] = 32 if path[0] == "image_size" else 5
    return values


def observers_of(path: Path_) -> tuple[Observer, ...]:
    words = bare(path).split(".")
    for length in range(len(words), 0, -1):
        found = OBSERVERS.get(".".join(words[:length]))
        if found is not None:
            return found
    pytest.fail(f"'{dotted(path)}': no observer of this setting; add one to OBSERVERS")


@pytest.mark.parametrize(("name", "path"), FREE, ids=[f"{name}:{dotted(path)}" for name, path in FREE])
def test_a_setting_does_something(name: str, path: Path_) -> None:
    values = shown(name, path)
    if path == ("architecture", "name") and values["architecture"]["name"] == "unet":
        other = {**values, "architecture": {**values["architecture"], "name": "unetplusplus"}}
    else:
        other = changed(values, path)
    for observer in observers_of(path):
        seen = observer(values), observer(other)
        assert seen[0] != seen[1], f"recipe '{name}': '{dotted(path)}' changes nothing that {observer.__name__} sees"


@pytest.mark.parametrize(("name", "path"), FIXED, ids=[f"{name}:{dotted(path)}" for name, path in FIXED])
def test_a_setting_that_could_only_do_nothing_is_refused(name: str, path: Path_) -> None:
    first = next(changes(SUBJECTS[name], path))
    with pytest.raises(RecipeError, match=fixed(SUBJECTS[name], path)):
        parse(first, "changed")


@pytest.mark.parametrize(
    "observer", sorted({o for group in OBSERVERS.values() for o in group}, key=lambda o: o.__name__)
)
def test_an_observer_sees_no_change_where_there_is_none(observer: Observer) -> None:
    """Else the test above would pass for a dead setting."""
    for name in ("demo", "workshop", "cxr-infection"):
        values = shown(name, ())
        assert observer(values) == observer(values, again=True)


@pytest.mark.parametrize(
    ("key", "words", "observer"),
    [("roi", ("truth", "predicted", "none"), see_lungs), ("weights", ("all", "encoder", "none"), see_beginning)],
)
def test_each_word_for_a_first_stage_means_something_of_its_own(
    key: str, words: tuple[str, ...], observer: Observer
) -> None:
    for one, other in combinations(words, 2):
        seen = [observer({**PLAIN, "first_stage": {key: word}}) for word in (one, other)]
        assert seen[0] != seen[1], (one, other)


def test_every_field_of_every_variant_is_among_the_recipes_above() -> None:
    """A setting that no shipped recipe uses is watched too."""
    used = {(name, bare(path)) for name, path in FREE}
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
