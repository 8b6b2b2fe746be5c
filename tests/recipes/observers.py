"""What can be seen of a recipe.

Each observer looks at some parts of a recipe, and answers with a digest of what they make the program do. In place of
the other parts it is shown those of `PLAIN`: so it is quick, and what it has seen of one recipe holds for all that
have these parts in common.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from torch import nn

from groundglass.case import Case
from groundglass.data import radiographs, splits
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan, scan
from groundglass.errors import GroundglassError
from groundglass.labels import label_set
from groundglass.learning import training
from groundglass.learning.engine import lungs_for, model_of, network_from, preparation_of
from groundglass.learning.keeping import Keeper
from groundglass.learning.learner import Learner
from groundglass.learning.loading import Slices, loader
from groundglass.learning.losses import build as build_loss
from groundglass.model.decide import decide
from groundglass.model.prepare import Preparation
from groundglass.networks.building import build, build_for_training, in_channels
from groundglass.recipes import Recipe, epoch_metrics, parse
from groundglass.run import Run
from groundglass.workflows import opening, starting
from groundglass.workflows import train as workflow
from tests.learning import tiny
from tests.networks.own import TinyNet

Values = dict[str, Any]

GREY: Values = {"clip_grey": [0, 255], "scale": {"name": "unit"}}
PLAIN: Values = {
    "name": "seen",
    "modality": "CT",
    "labels": "lesion",
    "split": {"name": "holdout"},
    "intensity": {"clip_hu": [-1000, 200], "scale": {"name": "unit"}},
    "image_size": 64,
    "augmentation": [],
    "architecture": tiny.OWN,
    "first_stage": None,
    "loss": [{"name": "cross_entropy"}],
    "optimiser": {"name": "adam", "learning_rate": 0.01},
    "schedule": {"name": "constant"},
    "batch_size": 8,
    "epochs": 1,
    "steps_per_epoch": None,
    "early_stopping": None,
    "checkpoint": {"metric": "validation/loss"},
    "precision": "fp32",
    "decision": {"name": "argmax"},
    "seed": 0,
}


class Observer(Protocol):
    """parts: what it sees of a recipe; again: look again at what it has seen already."""

    __name__: str
    parts: tuple[str, ...]

    def __call__(self, values: Values, *, again: bool = False) -> str: ...


def sees(*parts: str) -> Callable[[Callable[[Values], str]], Observer]:
    def show(look: Callable[[Values], str]) -> Observer:
        seen: dict[str, str] = {}

        @wraps(look)
        def observer(values: Values, *, again: bool = False) -> str:
            shown = {**PLAIN, **{part: values[part] for part in parts}}
            key = json.dumps(shown, sort_keys=True)
            if again or key not in seen:
                seen[key] = look(shown)
            return seen[key]

        observer.parts = parts  # type: ignore[attr-defined]
        return observer  # type: ignore[return-value]

    return show


def digest(*things: Any) -> str:
    found = hashlib.sha256()
    for thing in things:
        array = thing.detach().float().numpy() if isinstance(thing, torch.Tensor) else thing
        if isinstance(array, np.ndarray):
            found.update(str((array.shape, array.dtype)).encode())
            found.update(np.ascontiguousarray(array).data)
        else:
            found.update(repr(array).encode())
    return found.hexdigest()


# --- data and runs to look at ----------------------------------------------------------------------------------------


@cache
def data_of(modality: str) -> tuple[Dataset, Scan]:
    """Tiny slices of two sources, or drawn X-rays in parts."""
    data = tiny.dataset() if modality == "CT" else radiographs.open("phantom-xray:12")
    return data, scan(data)


def some_cases(recipe: Recipe) -> list[Case]:
    """Of both sources, whatever the recipe's own split is."""
    cases = data_of(recipe.modality)[0].cases
    return [*cases[:9], *cases[-4:]] if recipe.modality == "CT" else [*cases[:8]]


# Two stages on X-rays of 32 pixels.
STAGED: Values = {
    **PLAIN,
    "modality": "X-ray",
    "intensity": GREY,
    "image_size": 32,
    "architecture": {"name": "plain-unet", "base_width": 4, "depth": 2},
    "batch_size": 4,
}


@cache
def finder() -> dict[str, bytes]:
    """The files of a run that finds lungs, if not where a reader marked them."""
    recipe = parse({**STAGED, "labels": "lung", "epochs": 4}, "finder")
    part = some_cases(recipe)
    with tempfile.TemporaryDirectory() as folder:
        run = tiny.new_run(Path(folder) / "whole", recipe, part[2:], part[:2])
        training.fit(run, build(recipe), part[2:], part[:2], "cpu")
        kept = tiny.new_run(Path(folder) / "kept", recipe, part[2:], part[:2])
        kept.keep_first_stage(run)
        place = kept.path / "first_stage"
        return {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*") if file.is_file()}


@contextmanager
def behind_finder(rule: Values | None) -> Iterator[tuple[Run, Run]]:
    """A run before its first epoch whose `first_stage` is `rule`, and the run that finds its lungs."""
    recipe = parse({**STAGED, "first_stage": rule}, "seen")
    part = some_cases(recipe)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in finder().items():
            (Path(folder) / "lungs" / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "lungs" / name).write_bytes(content)
        first = Run.open(Path(folder) / "lungs")
        run = tiny.new_run(Path(folder) / "run", recipe, part[2:], part[:2])
        run.keep_first_stage(first)
        yield run, first


# --- the observers ---------------------------------------------------------------------------------------------------


@sees("name")
def see_folder(values: Values) -> str:
    return str(workflow.default_folder(parse(values, "seen"), None))


@sees("modality", "intensity")
def see_admission(values: Values) -> str:
    """Which images may be learned from."""
    recipe = parse(values, "seen")
    return digest([_refused(opening.check_modality, recipe, data_of(kind)[0]) for kind in ("CT", "X-ray")])


def _refused(function: Callable[..., object], *arguments: object) -> bool:
    try:
        function(*arguments)
    except GroundglassError:
        return True
    return False


@sees("modality", "intensity", "split", "seed")
def see_split(values: Values) -> str:
    """Who trains, who validates and who is put aside."""
    recipe = parse(values, "seen")
    split = workflow.make_split(recipe, *data_of(recipe.modality), None)
    return digest(split.train, split.validation, split.test)


@sees("labels", "architecture", "loss", "seed")
def see_network(values: Values) -> str:
    """Shapes, weights, what it answers to a fixed image, and where its weights come from."""
    return _built(values)


@sees("labels", "architecture", "loss", "seed")
def see_network_unfilled(values: Values) -> str:
    """The network before ImageNet weights, which are not at hand for every encoder."""
    architecture = values["architecture"]
    if "encoder_weights" in architecture:
        architecture = {**architecture, "encoder_weights": "none"}
    return _built({**values, "architecture": architecture})


def _built(values: Values) -> str:
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


@sees(
    *("modality", "labels", "intensity", "image_size", "augmentation", "batch_size", "steps_per_epoch"),
    "seed",
)
def see_batches(values: Values) -> str:
    """Pixels and labels of two epochs, standardised by the training part's own statistics."""
    recipe = parse(values, "seen")
    part = some_cases(recipe)
    preparation = Preparation(recipe.intensity, recipe.image_size, *training.measure_training_part(recipe, part))
    batches = loader(Slices(part, recipe, preparation, training=True), recipe, training=True, device="cpu")
    seen = []
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        seen += [tensor for batch in batches for tensor in batch]
    return digest(*seen)


@sees("modality", "intensity", "labels", "loss")
def see_loss(values: Values) -> str:
    """The loss of fixed logits, its class weights from the pixels of the training part."""
    recipe = parse(values, "seen")
    labels = label_set(recipe.labels)
    counts = training.count_classes(labels, some_cases(recipe))
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(size=(2, len(labels.classes), 16, 16)).astype(np.float32))
    target = torch.from_numpy(random.integers(0, len(labels.classes), (2, 16, 16)))
    if recipe.own_loss:
        # What the network makes of a batch is its own affair; the recipe weighs it.
        network = build(parse({**values, "architecture": {"name": "tests.networks.own:Judging"}}, "seen"))
        return digest(_learner(recipe, network).training_step((torch.zeros(2, 1, 16, 16), target, target), 0))
    return digest(build_loss(recipe.loss, labels, counts)(logits, target))


def _learner(recipe: Recipe, network: nn.Module, steps: int = 1) -> Learner:
    validating = Slices([], recipe, Preparation(recipe.intensity, recipe.image_size), training=False)
    return Learner(network, recipe, lambda logits, target: logits.sum(), validating, steps)


class Script:
    """Scores as an epoch would leave them: each name rises (a loss falls) to a peak of its own, then decays."""

    def __init__(self, part: str, labels: str) -> None:
        self.part, self.epoch = part, 0
        self.names = [name.removeprefix(f"{part}/") for name in epoch_metrics(labels) if name.startswith(part)]

    def scores(self) -> dict[str, float]:
        found = {}
        for place, name in enumerate(self.names):
            peak = 7 if name == "loss" else 3 + (place + (self.part == "train")) % 5
            value = 0.5 - 0.04 * abs(self.epoch - peak)
            found[name] = 1 - value if name == "loss" else value
        return found


class StandIn:
    """As much of Lightning's trainer as the keeper asks for."""

    def __init__(self) -> None:
        self.current_epoch, self.should_stop = 0, False

    def save_checkpoint(self, path: Path) -> None:
        path.write_bytes(b"")


@sees("labels", "optimiser", "schedule", "early_stopping", "checkpoint")
def see_script(values: Values) -> str:
    """Rates and weights after each step, and the epochs that were kept and the last, of a training whose gradients
    and scores are given. Everything else is the real learner and keeper."""
    recipe = parse({**values, "epochs": 20}, "seen")
    torch.manual_seed(0)
    network = nn.Conv2d(1, len(label_set(recipe.labels).classes), 3)
    steps = 2
    learner = _learner(recipe, network, steps)
    with tempfile.TemporaryDirectory() as folder:
        # The run folder of a script needs no data: statistics and counts are those of any slices.
        run = tiny.new_run(Path(folder) / "run", tiny.recipe(), tiny.cases(2), tiny.cases(1, 50))
        run.recipe = recipe
        keeper, trainer = Keeper(run, lambda row: None, lambda done, total: None, None), StandIn()
        keeper.on_train_epoch_start(trainer, learner)  # type: ignore[arg-type]
        seen: list[Any] = []
        random = np.random.default_rng(0)
        for epoch in range(recipe.epochs):
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


@sees("epochs", "precision")
def see_training(values: Values) -> str:
    """How often, and in which dtypes, a tiny network answered in `groundglass train`, and its last weights."""
    recipe = parse({**values, "image_size": 32}, "seen")
    TinyNet.seen.clear()
    with trained(recipe) as run:
        weights = torch.load(run.last, weights_only=True)["state_dict"]
        return digest(run.manifest.epochs_done, sorted(map(str, TinyNet.seen)), *weights.values())


@sees("labels", "decision")
def see_decision(values: Values) -> str:
    """What a finished run decides about fixed probabilities."""
    # Where classes weigh unequally no tuned threshold is 0.5, which of two classes is the argmax.
    loss = {"name": "cross_entropy", "class_weights": {"background": 6.0}}
    with trained(parse({**values, "image_size": 32, "loss": [loss]}, "seen")) as run:
        model = model_of(run, "cpu")
    k = len(model.labels.classes)
    p = np.random.default_rng(0).dirichlet(np.ones(k), (24, 24)).transpose(2, 0, 1).astype(np.float32)
    return digest(decide(p, model.labels, model.thresholds))


@contextmanager
def trained(recipe: Recipe) -> Iterator[Run]:
    """`groundglass train` on tiny slices, among which twins are not searched for."""
    data = tiny.dataset(10, 4)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "open_clean", lambda *_, **__: (data, scan(data)))
        patch.setattr(workflow, "make_split", _any_split)
        patch.setattr(workflow, "curves", lambda *_, **__: None)
        yield workflow.train(recipe, "tiny", Path(folder) / "run", device="cpu")


def _any_split(recipe: Recipe, data: Any, *_: Any) -> Any:
    return splits.explicit(data.cases, {"medseg": "0..2"}, seed=recipe.seed)


@sees("first_stage")
def see_need(values: Values) -> str:
    """Whether another run has to come first."""
    return str(_refused(starting.open_first_stage, None, parse(values, "seen"), None))


@sees("first_stage")
def see_lungs(values: Values) -> str:
    """What a network is shown of X-rays behind a run that finds their lungs."""
    with behind_finder(values["first_stage"]) as (run, _):
        cases = some_cases(run.recipe)[:4]
        slices = Slices(cases, run.recipe, preparation_of(run), training=True, lungs=lungs_for(run, "cpu"))
        return digest(*[slices.prepared(position)[0] for position in range(len(cases))])


@sees("first_stage")
def see_beginning(values: Values) -> str:
    """The weights that a network has before its first epoch, behind such a run."""
    with behind_finder(values["first_stage"]) as (run, first):
        network, _, taken = network_from(None, first, run.recipe, None, download=False)
        return digest([row["taken"] for row in taken], *network.state_dict().values())
