"""Help that helps: an example a verb, that works, and at once; and the command line is the Python API."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys

import pytest
import typer

import groundglass as gg
from groundglass.cli.main import app
from tests.conftest import Cli

COMMAND = typer.main.get_command(app)
VERBS = COMMAND.commands  # type: ignore[attr-defined]
HEAVY = ("torch", "lightning", "numpy", "matplotlib", "scipy", "pydantic", "PIL", "nibabel")
KINDS = ("recipes", "architectures", "encoders", "labels", "losses", "metrics", "datasets", "models")


def _python(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_all_verbs_are_there(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.code == 0
    for verb in ("check", "recipe", "train", "cv", "evaluate", "predict", "submit", "list", "demo"):
        assert re.search(rf"^  {verb} ", shown.out, re.MULTILINE), verb
    assert "not a medical device" in " ".join(shown.out.split())
    assert cli().out == shown.out
    assert cli("--version").out.strip() == gg.__version__


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_each_verb_parses(verb: str, cli: Cli) -> None:
    shown = cli(verb, "--help")
    assert shown.code == 0
    found = re.search(r"Example: (groundglass .+)", " ".join(shown.out.split()))
    assert found is not None
    program, named, *arguments = shlex.split(found[1])
    assert (program, named) == ("groundglass", verb)
    # Reads the arguments as the program would, without doing anything; an unknown option raises.
    VERBS[verb].make_context(verb, arguments)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_function_with_the_same_arguments(verb: str) -> None:
    function = getattr(gg, {"list": "catalogue"}.get(verb, verb))
    theirs = set(inspect.signature(function).parameters)
    ours = {parameter.name for parameter in VERBS[verb].params} - {"as_json", "help"}
    # One run is the usual case on the command line; several are written with commas.
    assert ours - {"run"} | ({"runs"} if "run" in ours else set()) == theirs


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from groundglass.cli.main import main
sys.argv = ["groundglass", "--help"]
try:
    main()
except SystemExit as ended:
    assert not ended.code
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
    assert "heavy: []" in _python(code)


def test_the_package_imports_without_torch() -> None:
    code = (
        "import sys, groundglass; groundglass.open_dataset, groundglass.Run, groundglass.train, groundglass.evaluate;"
    )
    assert "False" in _python(code + "groundglass.predict, groundglass.submit; print('torch' in sys.modules)")


def test_listing_needs_no_torch() -> None:
    code = f"""
import sys
for name in ("torch", "lightning", "segmentation_models_pytorch", "timm", "monai"):
    sys.modules[name] = None
from groundglass.cli.main import main
for kind in {KINDS}:
    for options in ([], ["--json"]):
        sys.argv = ["groundglass", "list", kind, *options]
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, (kind, options, ended.code)
"""
    _python(code)


@pytest.mark.parametrize("kind", KINDS)
def test_listing_as_json_is_the_catalogue(kind: str, cli: Cli) -> None:
    answer = cli("list", kind, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert json.loads(answer.out) == gg.catalogue(kind)


def test_verbs_that_compute_say_which_package_is_missing() -> None:
    code = """
import sys
sys.modules["torch"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
import groundglass
from groundglass.errors import DependencyError
for verb in (lambda: groundglass.train("demo", "phantom:4"), lambda: groundglass.evaluate(["x"], "phantom:4"),
             lambda: groundglass.predict("x", ["y"], "z")):
    try:
        verb()
    except DependencyError as error:
        print(error)
"""
    lines = _python(code).splitlines()
    assert len(lines) == 3
    assert all("'torch'" in line and "groundglass[train]" in line for line in lines)
