"""The Recipe: every choice of an experiment, typed and strict.

Where a setting only makes sense beside another (a plateau's patience, SGD's momentum), it belongs to that variant,
chosen by `name`; so no recipe can carry a setting that does nothing.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from groundglass.case import Modality
from groundglass.errors import nearest
from groundglass.labels import LABEL_SETS, label_set
from groundglass.recipes.augmentations import Augmentation
from groundglass.recipes.values import Fraction, Grey8, Interval, Percentage, Positive, Share, Strict, ascending
from groundglass.registry import ARCHITECTURES, LOSSES, OWN_LOSS, is_own_code

# --- which cases -----------------------------------------------------------------------------------------------------


class HoldOut(Strict):
    """A seeded share of the groups (patients, volumes) validates, stratified by lesion content.

    `train_sources` and `validation_sources` restrict which parts of a data set take part; null: all.
    """

    name: Literal["holdout"] = "holdout"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    train_sources: tuple[str, ...] | None = None
    validation_sources: tuple[str, ...] | None = None


class Rows(Strict):
    """Explicit rows validate, such as `medseg: 0..23`; every other case trains."""

    name: Literal["rows"]
    rows: dict[str, str]
    train_sources: tuple[str, ...] | None = None


class Parts(Strict):
    """The source's own parts: its Train trains, its Val validates, its Test is put aside. They stand as given, also
    where they leak. `sources`: which parts of a data set take part; null: all that the source divides."""

    name: Literal["parts"]
    sources: tuple[str, ...] | None = None


SplitRule = Annotated[HoldOut | Rows | Parts, Field(discriminator="name")]


# --- what a pixel becomes --------------------------------------------------------------------------------------------


class Standardise(Strict):
    """(x - mean) / std, over the training values between two percentiles (of `sources`; null: all that train)."""

    name: Literal["standardise"]
    percentiles: Annotated[tuple[Percentage, Percentage], AfterValidator(ascending)] = (5.0, 95.0)
    sources: tuple[str, ...] | None = None


class Unit(Strict):
    """The clipped interval becomes 0..1."""

    name: Literal["unit"]


class Symmetric(Strict):
    """The clipped interval becomes -1..1, as encoders normalised with mean 0.5 and std 0.5 expect."""

    name: Literal["symmetric"]


class Hounsfield(Strict):
    """Of CT. `clip_hu` bounds the intensities; `picture_window_hu` is the window that 0..255 of a picture stands
    for."""

    clip_hu: Annotated[Interval, AfterValidator(ascending)]
    scale: Annotated[Standardise | Unit | Symmetric, Field(discriminator="name")]
    picture_window_hu: Annotated[Interval, AfterValidator(ascending)] = (-1000.0, 400.0)


class Grey(Strict):
    """Of X-rays, whose grey values mean nothing by themselves: `clip_grey` bounds those of a picture (0..255)."""

    clip_grey: Annotated[tuple[Grey8, Grey8], AfterValidator(ascending)]
    scale: Annotated[Standardise | Unit | Symmetric, Field(discriminator="name")]


def _kind_of_intensity(value: Any) -> str | None:
    """By the interval that a mapping names, if only nearly; None where it names both or neither."""
    kinds = {"clip_hu": "hounsfield", "clip_grey": "grey"}
    names = value if isinstance(value, dict) else getattr(type(value), "model_fields", kinds)
    exact = {kind for name, kind in kinds.items() if name in names}
    found = exact or {kinds[near] for name in names for near in get_close_matches(str(name), kinds, n=1)}
    return found.pop() if len(found) == 1 else None


Intensity = Annotated[
    Annotated[Hounsfield, Tag("hounsfield")] | Annotated[Grey, Tag("grey")],
    Discriminator(
        _kind_of_intensity,
        custom_error_type="intensity",
        custom_error_message="should have clip_hu (of a CT) or clip_grey (of an X-ray), one of the two",
    ),
]


# --- the network and how it learns -----------------------------------------------------------------------------------


class Architecture(BaseModel):
    """A network by name, with the knobs that this network has (`groundglass list architectures`).

    A name with a colon, `mypackage.module:Class`, is the user's own network; its knobs go to it as they are.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def knobs(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _known(self) -> Architecture:
        if is_own_code(self.name):
            return self
        if self.name not in ARCHITECTURES:
            raise ValueError(f"unknown architecture '{self.name}'; {nearest(self.name, ARCHITECTURES)}")
        known = ARCHITECTURES[self.name].knobs
        for knob, value in self.knobs.items():
            if knob not in known:
                raise ValueError(f"architecture '{self.name}' has no knob '{knob}'; {nearest(knob, known)}")
            _check_kind(knob, value, known[knob])
        return self


def _check_kind(knob: str, value: Any, default: Any) -> None:
    """A knob takes what its default is: true or false, a positive whole number, a fraction, or a name."""
    kinds = {bool: "true or false", int: "a whole number above 0", float: "a fraction of 1", str: "a name"}
    kind = type(default)
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits or (kind is int and value < 1) or (kind is float and not 0 <= value <= 1):
        raise ValueError(f"{knob} should be {kinds[kind]}, such as {default}, not {value!r}")


class LossTerm(Strict):
    """One term of the weighted sum. `class_weights`: null, `balanced` (mean pixel count / class pixel count over the
    training part), or a weight per class name."""

    name: str
    weight: Positive = 1.0
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in LOSSES:
            raise ValueError(f"unknown loss '{value}'; {nearest(value, LOSSES)}")
        return value


class Adam(Strict):
    """Adam, or AdamW with decoupled weight decay."""

    name: Literal["adam", "adamw"]
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Sgd(Strict):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Constant(Strict):
    """The learning rate never changes."""

    name: Literal["constant"] = "constant"


class OneCycle(Strict):
    """Up to the learning rate over `warmup` of all steps, then down to nearly zero; moved every batch or epoch."""

    name: Literal["onecycle"]
    step: Literal["batch", "epoch"] = "batch"
    warmup: Annotated[float, Field(gt=0, lt=1)] = 0.3


class Cosine(Strict):
    """Down along a cosine to `final` times the learning rate; moved every batch or epoch."""

    name: Literal["cosine"]
    step: Literal["batch", "epoch"] = "batch"
    final: Fraction = 0.01


class Plateau(Strict):
    """Multiply by `factor` after `patience` epochs without a better `metric`."""

    name: Literal["plateau"]
    metric: str = "validation/loss"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 5


class EarlyStopping(Strict):
    """Stop after `patience` epochs in which `metric` was not better by more than `min_delta`."""

    metric: str
    patience: Annotated[int, Field(ge=1)]
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Checkpoint(Strict):
    """Keep the weights of the best `metric`; with `every_improvement` = 5 only each fifth improvement is kept, as
    system 000 does. The first epoch is always kept, so that a run has weights. With `keep: last` the last epoch's
    weights are kept whatever their metric, so that the validation cases choose nothing."""

    metric: str
    every_improvement: Annotated[int, Field(ge=1)] = 1
    keep: Literal["best", "last"] = "best"

    @model_validator(mode="after")
    def _consistent(self) -> Checkpoint:
        if self.keep == "last" and self.every_improvement != 1:
            raise ValueError(
                f"keep: last keeps the last epoch, so that every_improvement: {self.every_improvement} does nothing; "
                "leave one of them out"
            )
        return self


class Argmax(Strict):
    """The most probable class wins."""

    name: Literal["argmax"] = "argmax"


class Thresholds(Strict):
    """A lesion class wins where its probability reaches its threshold; `tuned`: found on the validation cases after
    training; or given per class name."""

    name: Literal["thresholds"]
    values: Literal["tuned"] | dict[str, Share] = "tuned"


class FirstStage(Strict):
    """A run that finds the lungs comes first (`--first-stage RUN`).

    roi: what is left of an image, scaled to 0..1, before the network sees it: `truth` keeps the lungs that a reader
    marked, `predicted` those that the first stage finds, `none` all of it. Where nobody marked lungs, `truth` has to
    make do with the predicted ones. weights: what the network takes from the first stage to begin with, by name and
    shape: `all` its weights, the `encoder` alone, or `none`.
    """

    roi: Literal["truth", "predicted", "none"] = "predicted"
    weights: Literal["all", "encoder", "none"] = "all"


class Recipe(Strict):
    """Every choice of an experiment.

    labels: the label set that is learned; image_size: side in pixels of the square the network sees (the image keeps
    its aspect, the rest is padded); steps_per_epoch: batches of an epoch, the training part drawn over and over (null:
    once); precision: `auto` takes bf16 where the hardware gains by it.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    modality: Modality = "CT"
    labels: str
    split: SplitRule = HoldOut()
    intensity: Intensity
    image_size: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
    augmentation: tuple[Augmentation, ...] = ()
    architecture: Architecture
    first_stage: FirstStage | None = None
    loss: Annotated[tuple[LossTerm, ...], Field(min_length=1)]
    optimiser: Annotated[Adam | Sgd, Field(discriminator="name")]
    schedule: Annotated[Constant | OneCycle | Cosine | Plateau, Field(discriminator="name")] = Constant()
    batch_size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    early_stopping: EarlyStopping | None = None
    checkpoint: Checkpoint
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    decision: Annotated[Argmax | Thresholds, Field(discriminator="name")] = Argmax()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.labels not in LABEL_SETS:
            raise ValueError(f"unknown label set '{self.labels}'; {nearest(self.labels, LABEL_SETS)}")
        chosen = label_set(self.labels)
        if (self.modality == "X-ray") != isinstance(self.intensity, Grey):
            wanted = "clip_grey" if self.modality == "X-ray" else "clip_hu"
            raise ValueError(f"modality {self.modality} needs intensity.{wanted}")
        if self.first_stage is not None and self.labels == "lung":
            raise ValueError("first_stage: the first stage finds the lungs; label set 'lung' needs none before it")
        if isinstance(self.decision, Thresholds) and not chosen.lesions:
            raise ValueError(f"decision: label set '{self.labels}' has no lesion to put a threshold on; choose argmax")
        named = [name for term in self.loss if isinstance(term.class_weights, dict) for name in term.class_weights]
        if isinstance(self.decision, Thresholds) and isinstance(self.decision.values, dict):
            named += self.decision.values
            lesionless = [name for name in self.decision.values if name not in chosen.lesions]
            if lesionless:
                raise ValueError(f"a threshold needs a lesion class, not '{lesionless[0]}'")
        for name in named:
            if name not in chosen.classes:
                raise ValueError(f"label set '{self.labels}' has no class '{name}'; {nearest(name, chosen.classes)}")
        own = [term for term in self.loss if term.name == OWN_LOSS]
        if own and (len(self.loss) > 1 or own[0].class_weights is not None):
            raise ValueError(f"loss: '{OWN_LOSS}' stands alone and takes no class weights")
        depth = self.architecture.knobs.get("depth", 0) if not is_own_code(self.architecture.name) else 0
        if self.image_size % 2**depth:
            raise ValueError(f"image_size {self.image_size} cannot be halved {depth} times (architecture.depth)")
        watched = [self.checkpoint.metric]
        watched += [self.early_stopping.metric] if self.early_stopping else []
        watched += [self.schedule.metric] if isinstance(self.schedule, Plateau) else []
        for metric in watched:
            if metric not in epoch_metrics(self.labels):
                known = epoch_metrics(self.labels)
                raise ValueError(f"unknown metric '{metric}'; {nearest(metric, known)}")
        return self

    @property
    def own_loss(self) -> bool:
        """Whether the network brings its own losses."""
        return self.loss[0].name == OWN_LOSS

    def to_yaml(self) -> str:
        """The whole recipe, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def epoch_metrics(labels: str) -> tuple[str, ...]:
    """Names of what training measures each epoch, for both parts: loss, accuracy, mIoU and F1 per class."""
    chosen = label_set(labels)
    lesions = ["f1_lesions"] if chosen.lesions else []
    measures = ["loss", "accuracy", "miou", *lesions, *(f"f1_{name}" for name in chosen.classes)]
    return tuple(f"{part}/{measure}" for part in ("train", "validation") for measure in measures)


def better(metric: str, value: float, best: float | None, min_delta: float = 0.0) -> bool:
    """Whether `value` of `metric` improves on `best`: a loss by falling, everything else by rising. NaN never does."""
    if value != value:
        return False
    if best is None or best != best:
        return True
    return value < best - min_delta if metric.endswith("/loss") else value > best + min_delta
