"""Recipes from YAML and `a.b=c` settings, and faults explained in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from groundglass.errors import RecipeError, nearest
from groundglass.recipes.settings import Recipe
from groundglass.recipes.values import Strict


def shipped() -> dict[str, str]:
    """Names of the recipes in the package and the first line of each file's header."""
    found = {}
    for file in sorted(resources.files("groundglass.recipes").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            first = file.read_text(encoding="utf-8").splitlines()[0]
            found[file.name.removesuffix(".yaml")] = first.lstrip("# ").rstrip()
    return found


def read_text(name: str | Path) -> str:
    """The YAML text of a shipped recipe by name, or of a file. Raises `RecipeError` when there is none."""
    if str(name) in shipped():
        return (resources.files("groundglass.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        raise RecipeError(f"unknown recipe '{name}'; {nearest(str(name), shipped())}; or give a .yaml file")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe ({getattr(error, 'strerror', None) or error})") from None


def load(name: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a shipped recipe by name or a YAML file, and apply settings such as `optimiser.learning_rate=1e-4`.

    A file that says `extends: NAME` holds only what differs from that shipped recipe. Raises `RecipeError` with the key
    and the nearest valid name.
    """
    values = _read(name)
    for setting in settings:
        _assign(values, setting)
    return parse(values, str(name))


def _read(name: str | Path) -> dict[str, Any]:
    """The settings of a recipe's file, over those of the recipe that it `extends`: each key that both have is its
    own."""
    try:
        values = yaml.safe_load(read_text(name))
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: is not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{name}: a recipe is a mapping of settings")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str) or base not in shipped():
        raise RecipeError(f"{name}: 'extends' takes the name of a shipped recipe; {nearest(str(base), shipped())}")
    return {**_read(base), **values}


def change(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with settings applied. Raises `RecipeError`."""
    values = recipe.model_dump(mode="json")
    for setting in settings:
        _assign(values, setting)
    return parse(values, recipe.name)


def parse(values: dict[str, Any], name: str) -> Recipe:
    """Validate a mapping. Raises `RecipeError` in one line about the first fault."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"recipe {name}: {_explain(error)}") from None


def _assign(values: dict[str, Any], setting: str) -> None:
    """Apply one `a.b.0.c=value`, the value read as YAML, in place."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {setting}: write key=value, such as optimiser.learning_rate=1e-4")
    try:
        value = _number(yaml.safe_load(text))
    except yaml.YAMLError:
        raise RecipeError(f"--set {setting}: the value is not valid YAML") from None
    target: Any = values
    *parents, last = path.split(".")
    for key in parents:
        if isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, dict):
            if not isinstance(target.get(key), dict | list):
                target[key] = {}
            target = target[key]
        else:
            raise RecipeError(f"--set {setting}: there is no '{key}' to set")
    if isinstance(target, list):
        if not (last.isdigit() and int(last) < len(target)):
            raise RecipeError(f"--set {setting}: '{last}' is no position of a list of {len(target)}")
        target[int(last)] = value
    else:
        target[last] = value


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text; people mean the number."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _explain(error: ValidationError) -> str:
    """The first fault in one line: where, what, and for an unknown key the nearest valid one."""
    first, *others = error.errors(include_url=False)
    # Of a word or a mapping, pydantic first complains that a mapping is not the word.
    is_mapping = first["type"] == "literal_error" and isinstance(first["input"], dict)
    fault = others[0] if is_mapping and others else first
    if fault["type"] == "missing":
        # What is missing may stand there misspelt.
        beside = (f for f in others if f["type"] == "extra_forbidden" and f["loc"][:-1] == fault["loc"][:-1])
        fault = next(beside, fault)
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        *parents, key = fault["loc"]
        return f"unknown setting '{_without_tags(fault['loc'])}'; {nearest(str(key), _fields_at(parents))}"
    if fault["type"] == "union_tag_invalid":
        tags = re.findall(r"'([^']+)'", fault["ctx"]["expected_tags"])
        given = fault["ctx"]["tag"]
        return f"'{_without_tags(fault['loc'])}.name': there is no '{given}'; {nearest(given, tags)}"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
    message = re.sub(r"a valid dictionary or instance of \w+", "a mapping of settings", message)
    place = f"'{_without_tags(fault['loc'])}': " if where else ""
    return f"{place}{message[0].lower()}{message[1:]}"


def _fields_at(location: Iterable[int | str]) -> list[str]:
    """Names of the settings at a location of the recipe, following the variant named in it."""
    models: list[type[BaseModel]] = [Recipe]
    for part in location:
        variants = [m for m in _models() if isinstance(part, str) and _tagged(m, part)]
        if variants:
            models = variants
        elif isinstance(part, str):
            models = [
                m
                for model in models
                if part in model.model_fields
                for m in _models()
                if m.__name__ in str(model.model_fields[part].annotation)
            ] or models
    return sorted({name for model in models for name in model.model_fields})


def _models() -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = [Recipe]
    queue = list(Strict.__subclasses__())
    while queue:
        model = queue.pop()
        found.append(model)
        queue.extend(model.__subclasses__())
    return found


def _tagged(model: type[BaseModel], tag: str) -> bool:
    field = model.model_fields.get("name")
    return model.__name__.lower() == tag or (field is not None and f"'{tag}'" in str(field.annotation))


def _without_tags(location: Iterable[int | str]) -> str:
    """A fault's location as the user writes it: pydantic puts the variant's tag behind each union's key."""
    parts = [str(part) for part in location if not str(part).startswith(("literal[", "dict["))]
    tags = {"holdout", "rows", "standardise", "unit", "symmetric", "adam", "adamw", "sgd", "constant", "onecycle"}
    tags |= {"cosine", "plateau", "argmax", "thresholds", "parts", "hounsfield", "grey"}
    unions = {"split", "intensity", "scale", "optimiser", "schedule", "decision"}
    kept = [
        part
        for i, part in enumerate(parts)
        if not (i and part in tags and parts[i - 1] in unions)
        and not (i > 1 and parts[i - 2] == "augmentation" and not part.isdigit())
    ]
    return ".".join(kept)
