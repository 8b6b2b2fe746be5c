"""What a recipe may say, and whether the shipped ones say what their sources state."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from groundglass.errors import RecipeError
from groundglass.recipes import better, epoch_metrics, load, parse, shipped
from tests.learning import tiny

# What system 003 states of both stages.
SYSTEM_003: dict[str, Any] = {
    "modality": "X-ray",
    "split.name": "parts",
    "image_size": 256,
    "architecture.name": "plain-unet",
}
# What system 004 states of all its networks.
SYSTEM_004: dict[str, Any] = {
    "labels": "lesion",
    "split.train_sources": ("medseg",),
    "split.validation_sources": ("medseg",),
    "image_size": 256,
    "optimiser.name": "sgd",
    "optimiser.learning_rate": 1e-4,
    "epochs": 20,
    "steps_per_epoch": 600,
    "decision.name": "thresholds",
    "decision.values": {"lesion": 0.8},
}
# The sources' own words; `None` means that the source says there is none.
STATED: dict[str, dict[str, Any]] = {
    "effnet-b2": {  # system 000
        "labels": "ct4",
        "split.name": "rows",
        "split.rows": {"medseg": "0..23"},
        "split.train_sources": None,
        "intensity.clip_hu": (-1500, 500),
        "intensity.scale.name": "standardise",
        "intensity.scale.percentiles": (5, 95),
        "intensity.scale.sources": ("radiopaedia",),
        "architecture.name": "unet",
        "architecture.encoder": "efficientnet-b2",
        "architecture.encoder_weights": "imagenet",
        "optimiser.name": "adamw",
        "schedule.name": "onecycle",
        "schedule.step": "batch",
        "early_stopping.metric": "validation/loss",
        "early_stopping.patience": 7,
        "early_stopping.min_delta": 0,
        "checkpoint.every_improvement": 5,
        # Not in the report, from the public baseline it follows.
        "loss": (("cross_entropy", 1, None),),
        "optimiser.learning_rate": 1e-3,
        "optimiser.weight_decay": 1e-4,
        "epochs": 20,
        "batch_size": 24,
        "image_size": 256,
        "augmentation": (
            {"name": "rotate", "p": 0.9, "degrees": 360},
            {"name": "crop", "p": 1, "scale": (0.75, 1)},
            {"name": "hflip", "p": 0.5},
        ),
    },
    "effnet-b0": {  # system 001
        "labels": "ct4",
        "split.name": "holdout",
        "split.validation_sources": ("medseg",),
        "split.train_sources": None,
        "architecture.name": "unet",
        "architecture.encoder": "efficientnet-b0",
        "architecture.encoder_weights": "imagenet",
        "checkpoint.metric": "validation/f1_lesions",
        "checkpoint.every_improvement": 1,
    },
    "unet": {  # system 002
        "labels": "ct4",
        "split.name": "holdout",
        "split.fraction": 0.2,
        "split.train_sources": ("medseg",),
        "split.validation_sources": ("medseg",),
        "intensity.clip_hu": (-1000, 400),
        "intensity.scale.name": "unit",
        "augmentation": (),
        "architecture.name": "plain-unet",
        "architecture.base_width": 64,
        "architecture.depth": 4,
        "optimiser.name": "adam",
        "optimiser.learning_rate": 1e-4,
        "optimiser.weight_decay": 0,
        "schedule.name": "constant",
        "batch_size": 2,
        "epochs": 130,
        "image_size": 512,
        "early_stopping": None,
    },
    "cxr-lung": {
        **SYSTEM_003,
        "labels": "lung",
        "split.sources": ("lung",),
        "first_stage": None,
        "loss": (("foreground_dice", 1, None),),
    },
    "cxr-infection": {
        **SYSTEM_003,
        "labels": "lesion",
        "split.sources": ("infection",),
        "first_stage.roi": "truth",
        "first_stage.weights": "all",
        "loss": (("cross_entropy", 0.5, None), ("foreground_dice", 0.5, None)),
    },
    "lesion-unet": {**SYSTEM_004, "architecture.name": "plain-unet"},
    "segnet": {**SYSTEM_004, "architecture.name": "segnet", "architecture.base_width": 64},
    "small-covid-net": {**SYSTEM_004, "architecture.name": "small-covid-net", "architecture.width": 24},
    "mask-rcnn": {**SYSTEM_004, "architecture.name": "mask-rcnn"},
}
RIVALS = ("lesion-unet", "segnet", "small-covid-net", "mask-rcnn")


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, facts in STATED.items() for key in facts])
def test_a_recipe_says_what_its_source_states(name: str, key: str) -> None:
    value: Any = load(name).model_dump()
    for part in key.split("."):
        value = value[part]
    if key == "loss":
        value = tuple(tuple(term.values()) for term in value)
    assert value == STATED[name][key]


def test_system_001_augments_by_what_it_names() -> None:
    steps = {step.name for step in load("effnet-b0").augmentation}
    assert steps == {"rotate", "hflip", "vflip", "crop", "scale", "elastic", "clahe"}


@pytest.mark.parametrize("name", ["cxr-lung", "cxr-infection"])
def test_system_003_augments_by_what_it_names(name: str) -> None:
    steps = {step.name for step in load(name).augmentation}
    assert steps == {"hflip", "shift", "scale", "rotate", "brightness_contrast"}


def but(name: str, *parts: str) -> dict[str, Any]:
    return {part: value for part, value in load(name).model_dump().items() if part not in ("name", *parts)}


def test_the_second_stage_of_003_learns_as_the_first() -> None:
    own = ("labels", "split", "first_stage", "loss", "checkpoint")
    assert but("cxr-infection", *own) == but("cxr-lung", *own)


@pytest.mark.parametrize("ending", ["", "-better"])
def test_the_networks_of_004_learn_alike(ending: str) -> None:
    """Else a table of them would compare more than networks. One that brings its own losses learns by those."""
    names = [f"{name}{ending}" for name in RIVALS if f"{name}{ending}" in shipped()]
    assert len(names) >= 3
    for one, other in pairwise(sorted(names, key=lambda name: load(name).own_loss)):
        # Regions are found in float32, which the other three need not be learned in.
        own = ["loss", "precision"] if load(other).own_loss else []
        assert but(one, "architecture", *own) == but(other, "architecture", *own)
    assert len({str(load(name).architecture) for name in names}) == len(names)


@pytest.mark.parametrize("name", [name for name in sorted(shipped()) if name.endswith("-better")])
def test_a_better_recipe_learns_the_same_from_the_same(name: str) -> None:
    """The data, the classes and the sides are those of the recipe that it betters, and so is what is clipped."""
    faithful, better_one = load(name.removesuffix("-better")), load(name)
    assert better_one != faithful
    for part in ("modality", "labels", "split", "image_size"):
        assert getattr(better_one, part) == getattr(faithful, part)
    given = [{k: v for k, v in r.intensity.model_dump().items() if k != "scale"} for r in (faithful, better_one)]
    assert given[0] == given[1]
    assert (better_one.first_stage is None) == (faithful.first_stage is None)


def test_system_002_weighs_classes_in_one_cross_entropy() -> None:
    (term,) = load("unet").loss
    assert term.name == "cross_entropy"
    assert term.class_weights is not None


def test_the_offline_default_needs_no_download() -> None:
    recipe = load("effnet-lite")
    assert recipe.architecture.knobs["encoder"].startswith("tu-tf_efficientnet_lite")


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_recipe_survives_its_own_yaml(name: str, tmp_path: Any) -> None:
    recipe = load(name)
    assert recipe.name == name
    file = tmp_path / "copy.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load(file) == recipe
    assert load(file).to_yaml() == recipe.to_yaml()


def test_a_recipe_never_changes_after_reading() -> None:
    recipe = load("demo")
    with pytest.raises(ValueError, match="frozen"):
        recipe.epochs = 3  # type: ignore[misc]


BAD: list[tuple[str, Any, str]] = [
    ("epochs", 0, "'epochs': should be greater than or equal to 1"),
    ("epochs", "many", "'epochs': should be a valid integer"),
    ("epochs", 1.5, "'epochs': should be a valid integer"),
    ("batch_size", 0, "'batch_size'"),
    ("image_size", 100, "'image_size': should be a multiple of 32"),
    ("seed", -1, "'seed'"),
    ("precision", "fp8", "'precision': should be 'auto', 'fp32', 'bf16' or 'fp16'"),
    ("name", "a/b", "'name'"),
    ("name", "", "'name'"),
    ("loss", [], "'loss'"),
    ("checkpoint", None, "'checkpoint'"),
    ("labels", "ct44", "unknown label set 'ct44'; did you mean 'ct4'"),
    ("modality", "xray", "'modality': should be 'CT' or 'X-ray'"),
    ("modality", None, "'modality': should be 'CT' or 'X-ray'"),
    ("modality", "X-ray", "modality X-ray needs intensity.clip_grey"),
    ("steps_per_epoch", 0, "'steps_per_epoch': should be greater than or equal to 1"),
    ("first_stage", {"roi": "lungs"}, "'first_stage.roi': should be 'truth', 'predicted' or 'none'"),
    ("first_stage", {"roi": None}, "'first_stage.roi': should be 'truth', 'predicted' or 'none'"),
    ("first_stage", {"weights": True}, "'first_stage.weights': should be 'all', 'encoder' or 'none'"),
    ("first_stage", {"roy": "none"}, "unknown setting 'first_stage.roy'; did you mean 'roi'"),
    ("first_stage", "cxr-lung", "'first_stage': should be a mapping of settings"),
    ("architecture", {"name": "unett"}, "did you mean 'unet'"),
    (
        "architecture",
        {"name": "mask-rcnn", "confidence": 2},
        "confidence should be a fraction of 1, such as 0.5, not 2",
    ),
    ("architecture", {"name": "mask-rcnn", "confidence": True}, "confidence should be a fraction of 1"),
    ("architecture", {"name": "small-covid-net", "width": 24.0}, "width should be a whole number above 0"),
    ("architecture", {"name": "segnet", "depth": 5}, "'segnet' has no knob 'depth'"),
    ("architecture", {"name": "plain-unet", "base_width": 0}, "base_width should be a whole number above 0"),
    ("architecture", {"name": "plain-unet", "depth": "4"}, "depth should be a whole number"),
    ("architecture", {"name": "plain-unet", "depth": True}, "depth should be a whole number"),
    ("architecture", {"name": "plain-unet", "depth": 9}, "cannot be halved 9 times"),
    ("architecture", {"name": "plain-unet", "batch_norm": "maybe"}, "batch_norm should be true or false"),
    ("architecture", {"name": "unet", "encoder": None}, "encoder should be a name"),
    ("architecture", {"name": "unet", "encoder_depth": 4.0}, "encoder_depth should be a whole number"),
    ("architecture", {"name": "plain-unet", "encoder": "resnet18"}, "'plain-unet' has no knob 'encoder'"),
    ("loss", [{"name": "dyce"}], "unknown loss 'dyce'; did you mean 'dice'"),
    ("loss", [{"name": "foreground-dice"}], "did you mean 'foreground_dice'"),
    ("loss", [{"name": "own"}, {"name": "dice"}], "'own' stands alone"),
    ("loss", [{"name": "dice", "class_weights": {"lungs": 1}}], "no class 'lungs'; did you mean 'lung'"),
    ("loss", [{"name": "dice", "weight": 0}], "'loss.0.weight': should be greater than 0"),
    ("optimiser", {"name": "adamm", "learning_rate": 1}, "did you mean 'adam'"),
    ("optimiser", {"name": "adam", "learning_rate": 0}, "'optimiser.learning_rate': should be greater than 0"),
    ("optimiser", {"name": "adam", "learning_rate": float("inf")}, "finite"),
    ("optimiser", {"name": "adam", "learning_rate": float("nan")}, "optimiser.learning_rate"),
    ("optimiser", {"name": "adam"}, "'optimiser.learning_rate': field required"),
    ("optimiser", {"name": "adam", "learning_rate": 1, "momentum": 0.9}, "unknown setting 'optimiser.momentum'"),
    ("schedule", {"name": "onecicle"}, "did you mean 'onecycle'"),
    ("schedule", {"name": "plateau", "metric": "validation/mlou"}, "did you mean 'validation/miou'"),
    ("checkpoint", {"metric": "validation/f1_lesion"}, "did you mean 'validation/f1_lesions'"),
    ("checkpoint", {"metric": "validation/loss", "keep": "first"}, "'checkpoint.keep': should be 'best' or 'last'"),
    (
        "checkpoint",
        {"metric": "validation/loss", "keep": "last", "every_improvement": 5},
        "'checkpoint': keep: last keeps the last epoch, so that every_improvement: 5 does nothing",
    ),
    ("early_stopping", {"metric": "loss", "patience": 3}, "unknown metric 'loss'"),
    ("early_stopping", {"metric": "validation/loss", "patience": 0}, "'early_stopping.patience'"),
    ("decision", {"name": "thresholds", "values": {"lung": 0.5}}, "needs a lesion class, not 'lung'"),
    (
        "decision",
        {"name": "thresholds", "values": {"consolidation": 0}},
        "'decision.values.consolidation': should be gr",
    ),
    ("decision", {"name": "thresholds", "values": "tunes"}, "'decision.values': should be 'tuned'"),
    ("loss", [{"name": "dice", "class_weights": {"lung": -1}}], "'loss.0.class_weights.lung': should be greater"),
    ("loss", [{"name": "dice", "class_weights": "equal"}], "'loss.0.class_weights': should be 'balanced'"),
    ("split", {"name": "rowz"}, "did you mean 'rows'"),
    ("split", {"name": "holdout", "fraction": 1}, "'split.fraction'"),
    ("split", {"name": "part"}, "'split.name': there is no 'part'; did you mean 'parts'"),
    ("split", {"name": "parts", "source": ["lung"]}, "unknown setting 'split.source'; did you mean 'sources'"),
    ("split", {"name": "parts", "fraction": 0.2}, "unknown setting 'split.fraction'; choose from: name, sources"),
    ("intensity", {"clip_hu": [200, -1000], "scale": {"name": "unit"}}, "lower bound 200 must lie below"),
    ("intensity", {"clip_hu": [0, 0], "scale": {"name": "unit"}}, "must lie below"),
    ("intensity", {"clip_hu": [1], "scale": {"name": "unit"}}, "'intensity.clip_hu.1'"),
    ("intensity", {"clip_hu": [0, 1], "scale": {"name": "unitt"}}, "did you mean 'unit'"),
    (
        "intensity",
        {"clip_hu": [0, 1], "scale": {"name": "standardise", "percentiles": [95, 5]}},
        "'intensity.scale.percentiles': the lower bound 95 must lie below the upper bound 5",
    ),
    ("intensity", {"clip_grey": [0, 255], "scale": {"name": "unit"}}, "modality CT needs intensity.clip_hu"),
    (
        "intensity",
        {"clip_gray": [0, 255], "scale": {"name": "unit"}},
        "'intensity.clip_gray'; did you mean 'clip_grey'",
    ),
    ("intensity", {"clip_hounsfield": [0, 1], "scale": {"name": "unit"}}, "did you mean 'clip_hu'"),
    ("intensity", {"scale": {"name": "unit"}}, "'intensity': should have clip_hu (of a CT) or clip_grey (of an X-ray)"),
    ("intensity", [0, 255], "'intensity': should have clip_hu (of a CT) or clip_grey (of an X-ray), one of the two"),
    (
        "intensity",
        {"clip_hu": [0, 1], "clip_grey": [0, 255], "scale": {"name": "unit"}},
        "'intensity': should have clip_hu (of a CT) or clip_grey (of an X-ray), one of the two",
    ),
    ("intensity", {"clip_grey": [0, 256], "scale": {"name": "unit"}}, "'intensity.clip_grey.1': should be less than"),
    ("intensity", {"clip_grey": [9, 9], "scale": {"name": "unit"}}, "'intensity.clip_grey': the lower bound 9 must"),
    (
        "intensity",
        {"clip_grey": [0, 255], "scale": {"name": "unit"}, "picture_window_hu": [0, 1]},
        "unknown setting 'intensity.picture_window_hu'; choose from: clip_grey, scale",
    ),
    ("augmentation", [{"name": "hflop"}], "did you mean 'hflip'"),
    ("augmentation", [{"name": "hflip", "p": 2}], "'augmentation.0.p'"),
    ("augmentation", [{"name": "crop", "scale": [1, 0.5]}], "'augmentation.0.scale': the lower bound 1 must not lie"),
    ("augmentation", [{"name": "crop", "scale": [0.5, 1.5]}], "'augmentation.0.scale.1'"),
    ("augmentation", [{"name": "gamma", "range": [0, 1]}], "'augmentation.0.range.0': should be greater than 0"),
    ("augmentation", [{"name": "scale", "range": [2, 1]}], "'augmentation.0.range'"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_a_value_that_makes_no_sense_is_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse({**tiny.BASE, key: value}, "mine")
    text = str(caught.value)
    assert message in text
    assert text.startswith("recipe mine: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_stage": {}}, "label set 'lung' needs none before it"),
        ({"decision": {"name": "thresholds"}}, "label set 'lung' has no lesion to put a threshold on"),
        ({"checkpoint": {"metric": "validation/f1_lesions"}}, "unknown metric 'validation/f1_lesions'"),
    ],
)
def test_what_cannot_be_where_only_lungs_are_learned(changes: dict[str, Any], message: str) -> None:
    lungs = {**tiny.BASE, "labels": "lung", "checkpoint": {"metric": "validation/f1_lung"}}
    assert parse(lungs, "mine").labels == "lung"
    with pytest.raises(RecipeError, match=message):
        parse({**lungs, **changes}, "mine")


def test_a_loss_gets_better_by_falling_a_score_by_rising_and_nothing_is_not_better() -> None:
    nan = float("nan")
    assert better("validation/loss", 0.4, 0.5)
    assert not better("validation/loss", 0.5, 0.5)
    assert not better("validation/loss", 0.45, 0.5, min_delta=0.1)
    assert better("validation/miou", 0.5, 0.4)
    assert not better("validation/miou", 0.4, 0.5)
    assert not better("validation/miou", 0.45, 0.4, min_delta=0.1)
    assert better("validation/miou", 0.1, None)
    assert better("validation/miou", 0.1, nan)
    assert not better("validation/miou", nan, None)


@pytest.mark.parametrize("labels", ["ct4", "ct3", "lesion", "lung"])
def test_every_metric_of_an_epoch_may_be_watched(labels: str) -> None:
    for metric in epoch_metrics(labels):
        assert parse({**tiny.BASE, "labels": labels, "checkpoint": {"metric": metric}}, "t").checkpoint.metric == metric
