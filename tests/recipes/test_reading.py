"""Recipes by name, by file, and with `--set`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundglass.errors import RecipeError
from groundglass.recipes import load, parse, read_text, shipped
from tests.conftest import Cli

Keys = tuple[str | int, ...]
# Their keys are the data's sources and the label set's classes, not settings.
FREE = {"rows", "class_weights", "values"}


def mappings(value: Any, path: Keys = ()) -> Iterator[tuple[Keys, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict | list) and key not in FREE:
            yield from mappings(item, (*path, key))


# One of all that stand at one path beside the same keys.
PLACES = list(
    {
        (path, key, tuple(mapping)): (name, path, key)
        for name in shipped()
        for path, mapping in mappings(load(name).model_dump(mode="json"))
        for key in mapping
        # The network's name is no knob of it.
        if (*path, key) != ("architecture", "name")
    }.values()
)


@pytest.mark.parametrize(
    ("name", "path", "key"), PLACES, ids=[f"{n}:{'.'.join(map(str, (*p, k)))}" for n, p, k in PLACES]
)
def test_a_misspelt_key_is_named_with_the_nearest_valid_one(name: str, path: Keys, key: str) -> None:
    values = copy.deepcopy(load(name).model_dump(mode="json"))
    target = values
    for part in path:
        target = target[part]  # type: ignore[index]
    target[f"{key}x"] = 1
    with pytest.raises(RecipeError) as caught:
        parse(values, name)
    text = str(caught.value)
    # What stands beside the misspelt key, and only that, is offered.
    assert f"did you mean '{key}'?" in text
    assert f"{key}x" in text
    assert "\n" not in text
    if path[:1] != ("architecture",):
        assert f"unknown setting '{'.'.join(map(str, (*path, f'{key}x')))}'" in text


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("epochs=5", lambda r: r.epochs == 5),
        ("optimiser.learning_rate=1e-4", lambda r: r.optimiser.learning_rate == 1e-4),
        ("optimiser.learning_rate=3E-2", lambda r: r.optimiser.learning_rate == 0.03),
        ("augmentation.1.degrees=7", lambda r: r.augmentation[1].degrees == 7),
        ("augmentation=[]", lambda r: r.augmentation == ()),
        ("loss.0={name: focal, weight: 2}", lambda r: (r.loss[0].name, r.loss[0].weight) == ("focal", 2)),
        ("schedule={name: cosine, step: epoch}", lambda r: r.schedule.name == "cosine"),
        ("intensity.clip_hu=[-900, 100]", lambda r: r.intensity.clip_hu == (-900, 100)),
        ("architecture.attention=scse", lambda r: r.architecture.knobs.get("attention") == "scse"),
        ("split.train_sources=[medseg]", lambda r: r.split.train_sources == ("medseg",)),
        ("early_stopping={metric: validation/loss, patience: 2}", lambda r: r.early_stopping is not None),
        ("name=a=b", None),
        ("name=other", lambda r: r.name == "other"),
    ],
)
def test_a_setting_changes_what_it_names_and_nothing_else(setting: str, read: Any) -> None:
    if read is None:
        with pytest.raises(RecipeError, match="'name'"):
            load("demo", [setting])
        return
    before, after = load("demo").model_dump(), load("demo", [setting])
    assert read(after)
    assert not read(load("demo"))
    root = setting.partition("=")[0].split(".")[0]
    assert {key for key, value in after.model_dump().items() if value != before[key]} == {root}


def test_settings_can_build_what_a_recipe_lacks_and_the_last_one_counts() -> None:
    settings = ["early_stopping.metric=validation/loss", "early_stopping.patience=2", "early_stopping.patience=3"]
    stopping = load("demo", settings).early_stopping
    assert stopping is not None
    assert (stopping.metric, stopping.patience) == ("validation/loss", 3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "write key=value"),
        ("=3", "write key=value"),
        ("epochs=[", "not valid YAML"),
        ("epochs=", "'epochs': should be a valid integer"),
        ("epohcs=3", "unknown setting 'epohcs'; did you mean 'epochs'"),
        ("augmentation.9.p=1", "there is no '9'"),
        ("augmentation.x.p=1", "there is no 'x'"),
        ("augmentation.9=1", "'9' is no position of a list of 2"),
        ("architecture=5", "'architecture'"),
        ("split=3", "'split'"),
        ("name.x=3", "'name'"),
        ("a=&x [*x]", "unknown setting 'a'"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(setting: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("demo", [setting])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="unknown recipe 'effnet-lit'; did you mean 'effnet-lite'"):
        load("effnet-lit")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not valid YAML"),
        (b"- 1\n- 2\n", "a recipe is a mapping"),
        (b"", "a recipe is a mapping"),
        (b"\xff\xfe\x00", "cannot be read as a recipe"),
        (b"name: x\n", "field required"),
        (b"name: x\nlabel: ct4\n", "unknown setting 'label'; did you mean 'labels'"),
        (b"!!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load(file)
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(RecipeError, match=r"folder\.yaml: cannot be read"):
        load(tmp_path / "folder.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("extends: segnett", "'extends' takes the name of a shipped recipe; did you mean 'segnet'?"),
        ("extends: mine.yaml", "'extends' takes the name of a shipped recipe"),
        ("extends: [segnet]", "'extends' takes the name of a shipped recipe"),
        ("extends: segnet\nepohcs: 3", "unknown setting 'epohcs'; did you mean 'epochs'"),
        ("extends: segnet\nloss: [{weight: 2}]", "'loss.0.name': field required"),
        ("extend: segnet\nepochs: 3", "unknown setting 'extend'"),
    ],
)
def test_a_base_that_cannot_be_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(RecipeError) as caught:
        load(file)
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("base", sorted(shipped()))
def test_a_recipe_holds_only_what_differs_from_the_one_that_it_extends(base: str, tmp_path: Path) -> None:
    """Also from one that extends another. A part that both have is its own as a whole."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: {base}\nname: mine\nschedule: {{name: cosine}}\ncheckpoint: {{metric: train/loss}}\n")
    whole = load(base).model_dump()
    own = {"name": "mine", "schedule": {"name": "cosine"}, "checkpoint": {"metric": "train/loss"}}
    assert load(file) == parse({**whole, **own}, "mine")
    assert load(file, ["schedule.step=epoch"]).schedule.step == "epoch"  # type: ignore[union-attr]


def test_the_run_s_recipe_extends_nothing(tmp_path: Path) -> None:
    """What was trained stands in the run whatever becomes of the base."""
    assert "extends" not in load("segnet-better").to_yaml()


@pytest.mark.parametrize("name", ["segnet", "segnet-better"])
def test_the_command_shows_the_whole_recipe_under_its_header(name: str, tmp_path: Path, cli: Cli) -> None:
    answer = cli("recipe", name)
    assert answer.code == 0
    assert answer.out.startswith(f"# {shipped()[name]}\n")
    values = yaml.safe_load(answer.out)
    assert "extends" not in values
    assert set(values) >= {"labels", "split", "optimiser", "epochs", "checkpoint"}
    assert parse(values, name) == load(name)
    assert cli("recipe", name, "-o", tmp_path / "mine.yaml").code == 0
    assert load(tmp_path / "mine.yaml") == load(name)


def test_the_command_shows_a_file_of_one_s_own_as_a_whole(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# Mine.\n# Quick.\nextends: segnet # as the paper\nname: mine\nepochs: 3\n# the end\n")
    answer = cli("recipe", file)
    assert answer.out.startswith("# Mine.\n# Quick.\nname: mine\n")
    assert parse(yaml.safe_load(answer.out), "mine") == load(file)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("demo", ["checkpoint.keep=last", "checkpoint.every_improvement=2"], "every_improvement: 2 does nothing"),
        ("demo", ["modality=X-ray"], "modality X-ray needs intensity.clip_grey"),
        ("demo", ["modality=x-ray"], "'modality': should be 'CT' or 'X-ray'"),
        ("demo", ["intensity.clip_grey=[0, 255]"], "one of the two"),
        ("cxr-lung", ["intensity={clip_gray: [0, 255], scale: {name: unit}}"], "did you mean 'clip_grey'"),
        ("cxr-lung", ["first_stage={roi: predicted}"], "label set 'lung' needs none before it"),
        ("cxr-infection", ["first_stage.roi=lungs"], "should be 'truth', 'predicted' or 'none'"),
        ("cxr-infection", ["split.source=[lung]"], "did you mean 'sources'"),
    ],
)
def test_the_command_refuses_such_settings_in_one_line_and_writes_nothing(
    name: str, settings: list[str], message: str, cli: Cli, tmp_path: Path
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    answer = cli("train", name, "--data", "phantom:2", "-o", tmp_path / "run", *words)
    assert answer.code == 2, answer
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_every_shipped_recipe_has_a_header_and_its_file_s_name() -> None:
    for name, header in shipped().items():
        assert len(header.split()) > 5
        assert read_text(name).startswith(f"# {header}")
        assert load(name).name == name
