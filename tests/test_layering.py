"""The rules of the house that no single room can hold."""

from __future__ import annotations

import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import groundglass
from groundglass.cli.main import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "groundglass"
MODULES = sorted(module.name for module in pkgutil.walk_packages(groundglass.__path__, "groundglass."))
TORCH_ROOMS = ("groundglass.networks", "groundglass.learning")
HEAVY = ("torch", "torchvision", "lightning", "timm", "segmentation_models_pytorch", "monai")


def test_rooms_import_only_from_rooms_above_them() -> None:
    pytest.importorskip("importlinter")
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* kept, 0 broken", done.stdout), done.stdout


def test_every_room_is_in_the_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1]
    rooms = {name.split(".")[1] for name in MODULES} - {"__main__"}
    assert rooms == set(re.findall(r'"groundglass\.(\w+)"', contract))


def test_everything_but_networks_and_learning_imports_without_torch() -> None:
    plain = [name for name in MODULES if not name.startswith(TORCH_ROOMS) and not name.endswith("__main__")]
    assert len(plain) > 30
    # None in sys.modules makes an import fail as if the package were not installed.
    code = f"""
import sys, importlib
for name in {HEAVY}:
    sys.modules[name] = None
for name in {plain}:
    importlib.import_module(name)
import groundglass
for name in groundglass.__all__:
    getattr(groundglass, name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_module_is_long_or_named_for_nothing() -> None:
    for file in SOURCE.rglob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 500, file
    nothing = re.compile(r"(utils?|helpers?|misc|process)")
    assert [name for name in MODULES if nothing.fullmatch(name.rsplit(".", 1)[1])] == []
    definition = re.compile(r"^\s*(?:def|class) _?(?:utils?|helpers?|misc|process)\b", re.MULTILINE)
    assert [f for f in SOURCE.rglob("*.py") if definition.search(f.read_text(encoding="utf-8"))] == []


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# No builtin is shadowed in Python, and JSON is a matter of printing.
AS_FUNCTION = {"list": "catalogue"}
ONLY_PRINTING = {"as_json"}


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_a_verb_of_the_command_line_is_a_function_with_the_same_arguments(verb: str) -> None:
    name = AS_FUNCTION.get(verb, verb)
    assert name in groundglass.__all__
    function = getattr(groundglass, name)
    theirs = {parameter.name for parameter in COMMANDS[verb].params} - ONLY_PRINTING - {"help"}
    # `predict RUN` takes several with commas between, where Python takes a list.
    theirs = {"runs" if verb == "predict" and parameter == "run" else parameter for parameter in theirs}
    assert set(inspect.signature(function).parameters) == theirs


def test_a_function_of_the_package_is_a_verb_or_opens_something() -> None:
    verbs = {AS_FUNCTION.get(verb, verb) for verb in COMMANDS}
    assert set(groundglass.__all__) - verbs == {"__version__", "Run", "open_dataset"}
