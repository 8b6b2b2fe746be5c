"""What a recipe may say, and whether the shipped ones say what their sources state."""

from __future__ import annotations

from typing import Any

import pytest

from groundglass.errors import RecipeError
from groundglass.recipes import better, epoch_metrics, load, parse, shipped
from tests.learning import tiny

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
}


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
    ("architecture", {"name": "unett"}, "did you mean 'unet'"),
    ("architecture", {"name": "plain-unet", "base_width": 0}, "base_width should be a whole number above 0"),
    ("architecture", {"name": "plain-unet", "depth": "4"}, "depth should be a whole number"),
    ("architecture", {"name": "plain-unet", "depth": True}, "depth should be a whole number"),
    ("architecture", {"name": "plain-unet", "depth": 9}, "cannot be halved 9 times"),
    ("architecture", {"name": "plain-unet", "batch_norm": "maybe"}, "batch_norm should be true or false"),
    ("architecture", {"name": "unet", "encoder": None}, "encoder should be a name"),
    ("architecture", {"name": "unet", "encoder_depth": 4.0}, "encoder_depth should be a whole number"),
    ("architecture", {"name": "plain-unet", "encoder": "resnet18"}, "'plain-unet' has no knob 'encoder'"),
    ("loss", [{"name": "dyce"}], "unknown loss 'dyce'; did you mean 'dice'"),
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
    ("intensity", {"clip_hu": [200, -1000], "scale": {"name": "unit"}}, "lower bound 200 must lie below"),
    ("intensity", {"clip_hu": [0, 0], "scale": {"name": "unit"}}, "must lie below"),
    ("intensity", {"clip_hu": [1], "scale": {"name": "unit"}}, "'intensity.clip_hu.1'"),
    ("intensity", {"clip_hu": [0, 1], "scale": {"name": "unitt"}}, "did you mean 'unit'"),
    (
        "intensity",
        {"clip_hu": [0, 1], "scale": {"name": "standardise", "percentiles": [95, 5]}},
        "'intensity.scale.percentiles': the lower bound 95 must lie below the upper bound 5",
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


@pytest.mark.parametrize("labels", ["ct4", "ct3", "lesion"])
def test_every_metric_of_an_epoch_may_be_watched(labels: str) -> None:
    for metric in epoch_metrics(labels):
        assert parse({**tiny.BASE, "labels": labels, "checkpoint": {"metric": metric}}, "t").checkpoint.metric == metric
