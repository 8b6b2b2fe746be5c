"""The Recipe: every choice of an experiment, typed and strict.

Where a setting only makes sense beside another (a plateau's patience, SGD's momentum), it belongs to that variant,
chosen by `name`; so no recipe can carry a setting that does nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from groundglass.errors import nearest
from groundglass.labels import LABEL_SETS, label_set
from groundglass.registry import ARCHITECTURES, LOSSES, is_own_code

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
Interval = tuple[float, float]


def _ascending(value: Interval) -> Interval:
    if value[0] >= value[1]:
        raise ValueError(f"the lower bound {value[0]:g} must lie below the upper bound {value[1]:g}")
    return value


# Bounds that a value is drawn between may be equal: then nothing is drawn.
def _not_descending(value: Interval) -> Interval:
    if value[0] > value[1]:
        raise ValueError(f"the lower bound {value[0]:g} must not lie above the upper bound {value[1]:g}")
    return value


Range = Annotated[tuple[Positive, Positive], AfterValidator(_not_descending)]


class Strict(BaseModel):
    """Unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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


SplitRule = Annotated[HoldOut | Rows, Field(discriminator="name")]


# --- what a pixel becomes --------------------------------------------------------------------------------------------


class Standardise(Strict):
    """(x - mean) / std, over the training values between two percentiles (of `sources`; null: all that train)."""

    name: Literal["standardise"]
    percentiles: Annotated[tuple[Percentage, Percentage], AfterValidator(_ascending)] = (5.0, 95.0)
    sources: tuple[str, ...] | None = None


class Unit(Strict):
    """The clipped interval becomes 0..1."""

    name: Literal["unit"]


class Symmetric(Strict):
    """The clipped interval becomes -1..1, as encoders normalised with mean 0.5 and std 0.5 expect."""

    name: Literal["symmetric"]


class Intensity(Strict):
    """`clip_hu` bounds the intensities; `picture_window_hu` is the window that 0..255 of a picture stands for."""

    clip_hu: Annotated[Interval, AfterValidator(_ascending)]
    scale: Annotated[Standardise | Unit | Symmetric, Field(discriminator="name")]
    picture_window_hu: Annotated[Interval, AfterValidator(_ascending)] = (-1000.0, 400.0)


# --- augmentation ----------------------------------------------------------------------------------------------------


class Step(Strict):
    """One augmentation, applied with probability `p`. Intensity steps act on the clipped image as 0..1, before it is
    scaled for the network; geometric steps follow, joined into one interpolation."""

    p: Fraction = 0.5


class Clahe(Step):
    """Contrast-limited adaptive histogram equalisation over `tiles` x `tiles` tiles."""

    name: Literal["clahe"]
    clip_limit: Annotated[float, Field(gt=0, le=1)] = 0.01
    tiles: Annotated[int, Field(ge=1, le=64)] = 8


class BrightnessContrast(Step):
    """x -> (x - 0.5) * (1 + c) + 0.5 + b, b and c uniform within the two bounds."""

    name: Literal["brightness_contrast"]
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.2
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.2


class Gamma(Step):
    """x -> x ** g, log g uniform between the logarithms of the two bounds."""

    name: Literal["gamma"]
    range: Range = (0.7, 1.4)


class Noise(Step):
    """Gaussian noise with a standard deviation uniform between 0 and `std` (of the clipped 0..1 image)."""

    name: Literal["noise"]
    std: Positive = 0.03


class Flip(Step):
    """Left-right (`hflip`) or up-down (`vflip`)."""

    name: Literal["hflip", "vflip"]


class Rotate(Step):
    """An angle uniform within +-`degrees`, around the centre."""

    name: Literal["rotate"]
    degrees: Annotated[float, Field(gt=0, le=360)] = 15.0


class Crop(Step):
    """A window with sides of a uniform share in `scale` of the image, anywhere inside it, resized to the full size."""

    name: Literal["crop"]
    scale: Annotated[tuple[Share, Share], AfterValidator(_not_descending)] = (0.75, 1.0)


class Scale(Step):
    """Zoom around the centre by a uniform factor; below 1 the image shrinks and the border is padded."""

    name: Literal["scale"]
    range: Range = (0.9, 1.1)


class Shift(Step):
    """Move by up to `fraction` of the side along each axis."""

    name: Literal["shift"]
    fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.06


class Elastic(Step):
    """A smooth random displacement: Gaussian noise smoothed with `sigma` (share of the side), its largest
    displacement `alpha` (share of the side)."""

    name: Literal["elastic"]
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.03
    sigma: Annotated[float, Field(gt=0, le=0.5)] = 0.06


Augmentation = Annotated[
    Clahe | BrightnessContrast | Gamma | Noise | Flip | Rotate | Crop | Scale | Shift | Elastic,
    Field(discriminator="name"),
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
    """A knob takes what its default is: true or false, a positive whole number, or a name."""
    kinds = {bool: "true or false", int: "a whole number above 0", str: "a name"}
    kind = type(default)
    if type(value) is not kind or (kind is int and value < 1):
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


class Argmax(Strict):
    """The most probable class wins."""

    name: Literal["argmax"] = "argmax"


class Thresholds(Strict):
    """A lesion class wins where its probability reaches its threshold; `tuned`: found on the validation cases after
    training; or given per class name."""

    name: Literal["thresholds"]
    values: Literal["tuned"] | dict[str, Share] = "tuned"


class Recipe(Strict):
    """Every choice of an experiment.

    labels: the label set that is learned; image_size: side in pixels of the square the network sees (the image keeps
    its aspect, the rest is padded); precision: `auto` takes bf16 where the hardware gains by it.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    labels: str
    split: SplitRule = HoldOut()
    intensity: Intensity
    image_size: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
    augmentation: tuple[Augmentation, ...] = ()
    architecture: Architecture
    loss: Annotated[tuple[LossTerm, ...], Field(min_length=1)]
    optimiser: Annotated[Adam | Sgd, Field(discriminator="name")]
    schedule: Annotated[Constant | OneCycle | Cosine | Plateau, Field(discriminator="name")] = Constant()
    batch_size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
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
        named = [name for term in self.loss if isinstance(term.class_weights, dict) for name in term.class_weights]
        if isinstance(self.decision, Thresholds) and isinstance(self.decision.values, dict):
            named += self.decision.values
            lesionless = [name for name in self.decision.values if name not in chosen.lesions]
            if lesionless:
                raise ValueError(f"a threshold needs a lesion class, not '{lesionless[0]}'")
        for name in named:
            if name not in chosen.classes:
                raise ValueError(f"label set '{self.labels}' has no class '{name}'; {nearest(name, chosen.classes)}")
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

    def to_yaml(self) -> str:
        """The whole recipe, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def epoch_metrics(labels: str) -> tuple[str, ...]:
    """Names of what training measures each epoch, for both parts: loss, accuracy, mIoU and F1 per class."""
    chosen = label_set(labels)
    measures = ["loss", "accuracy", "miou", "f1_lesions", *(f"f1_{name}" for name in chosen.classes)]
    return tuple(f"{part}/{measure}" for part in ("train", "validation") for measure in measures)


def better(metric: str, value: float, best: float | None, min_delta: float = 0.0) -> bool:
    """Whether `value` of `metric` improves on `best`: a loss by falling, everything else by rising. NaN never does."""
    if value != value:
        return False
    if best is None or best != best:
        return True
    return value < best - min_delta if metric.endswith("/loss") else value > best + min_delta
