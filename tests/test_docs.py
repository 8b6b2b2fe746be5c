"""What people read is true: commands exist, blocks run, tables match the code, links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from PIL import Image

import groundglass
from groundglass import recipes, registry
from groundglass.labels import LABEL_SETS
from groundglass.measure.metrics import METRICS, SCORES
from groundglass.recipes import augmentations, settings, values
from groundglass.run import Manifest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))])
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _reference() -> ModuleType:
    """docs/reference.py, which is no part of a package."""
    spec = spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


REFERENCE = _reference()


def _blocks(page: Path, *kinds: str) -> list[tuple[str, str]]:
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [(kind, text) for kind, text in found if kind in kinds]


def _commands(page: Path) -> list[list[str]]:
    """Words of every `groundglass` command in the page's bash and console blocks, without the program's name."""
    lines = [line.removeprefix("$ ") for _, text in _blocks(page, "bash", "console") for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("groundglass ")]


def _fault(words: list[str]) -> str | None:
    """Why the command line would refuse `words`, None where it would not."""
    verb, *rest = words
    if verb not in REFERENCE.verbs():
        return f"there is no verb '{verb}'"
    parameters = REFERENCE.verbs()[verb][1]
    options = {name: p for p in parameters for name in p.names}
    given: dict[str, list[str]] = {}
    arguments = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            arguments.append(word)
        elif word not in options:
            return f"'{verb}' has no option {word}"
        else:
            option = options[word]
            given.setdefault(option.names[-1], []).append(rest.pop(0) if option.value else "")
    wanted = [p for p in parameters if not p.names]
    if len(arguments) < sum(p.required for p in wanted):
        return f"'{verb}' needs {', '.join(p.value for p in wanted)}"
    if len(arguments) > len(wanted) and not any(p.value.endswith("...") for p in wanted):
        return f"'{verb}' takes no '{arguments[-1]}'"
    absent = [p.names[-1] for p in parameters if p.required and p.names and p.names[-1] not in given]
    if absent:
        return f"'{verb}' needs {absent[0]}"
    if verb in ("train", "recipe") and not arguments[0].endswith(".yaml"):
        recipes.load(arguments[0], given.get("--set", []))
    return None


def _rows(page: Path) -> dict[str, list[str]]:
    """Table rows whose first cell is code, by each name in that cell."""
    found = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `"):
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1:])
    return found


# ---- commands and blocks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_exists(page: Path) -> None:
    assert [fault for words in _commands(page) if (fault := _fault(words))] == []


def test_the_judge_of_commands_refuses_what_the_command_line_refuses() -> None:
    refused = ["fly", "check", "list a b", "train demo", "train demo --data x --sett a=1", "predict run -o out"]
    assert all(_fault(shlex.split(command)) for command in refused)
    with pytest.raises(groundglass.errors.RecipeError):
        _fault(shlex.split("train demo --data x --set epoch=3"))


def test_the_pages_hold_commands() -> None:
    assert sum(len(_commands(page)) for page in PAGES) > 30
    shown = ["check", "train", "evaluate", "submit", "cv", "compare", "train", "train", "predict"]
    assert [words[0] for words in _commands(ROOT / "README.md")] == shown


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart.md", "python.md"])
def test_blocks_run_in_order(name: str, tmp_path: Path) -> None:
    """bash and python blocks, one after another in one empty folder; a block that begins `# name.py` is that file."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for kind, text in _blocks(DOCS / name, "bash", "python"):
        if kind == "python" and (file := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / file[1]).write_text(text)
            continue
        program = ["bash", "-euc"] if kind == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    expected = {
        "quickstart.md": ["masks/scan.npy", "masks/areas.csv", "runs/first/submission.csv", "runs/mine/run.json"],
        "python.md": ["runs/mynet/weights/best.pt"],
    }
    assert [file for file in expected[name] if not (tmp_path / file).is_file()] == []


def test_make_targets_in_pages_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:`|\$ )make ([a-z]+)", page.read_text(encoding="utf-8"))}
    assert {"demo", "test", "check", "bench", "clean"} <= targets
    assert named >= {"demo", "test"}
    assert named <= targets
    assert "TORCH ?=" in makefile


def test_yaml_blocks_are_yaml() -> None:
    blocks = [text for page in PAGES for _, text in _blocks(page, "yaml")]
    assert blocks
    assert all(isinstance(yaml.safe_load(text), dict) for text in blocks)


# ---- tables and the code --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_reference_tables_are_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert REFERENCE.rewritten(text) == text, "run: python docs/reference.py"


def test_every_reference_table_has_a_place() -> None:
    places = [name for page in DOCS.glob("*.md") for _, name, _ in REFERENCE.MARKED.findall(page.read_text("utf-8"))]
    assert sorted(places) == sorted(REFERENCE.BLOCKS)


def test_every_setting_can_be_looked_up() -> None:
    """Each model that a recipe can hold has a place in the reference, and each of its fields a row."""
    listed = {model for models in REFERENCE.PLACES.values() for model in models}
    reachable = {model for model in _subclasses(values.Strict) if model.__module__.startswith(recipes.__name__)}
    assert listed == reachable - {augmentations.Step} | {settings.Architecture}
    assert set(_rows(DOCS / "recipes.md")) >= {field for model in listed for field in model.model_fields} - {"name"}


def _subclasses(model: type[Any]) -> set[type[Any]]:
    return {found for child in model.__subclasses__() for found in {child, *_subclasses(child)}}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("recipes.md", [*recipes.shipped(), *registry.ARCHITECTURES, *registry.LOSSES]),
        ("data.md", [*registry.FORMATS, *LABEL_SETS]),
        ("metrics.md", [*METRICS, *SCORES]),
        ("run-folder.md", list(Manifest.model_fields)),
    ],
)
def test_names_have_a_row(page: str, names: list[str]) -> None:
    rows = _rows(DOCS / page)
    assert [name for name in names if name not in rows] == []


def test_run_folder_names_no_field_that_is_gone() -> None:
    section = (DOCS / "run-folder.md").read_text(encoding="utf-8").partition("## run.json")[2].partition("## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(Manifest.model_fields)


def test_each_shipped_recipe_is_described() -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in recipes.shipped() if f"\n**{name}** (" not in text] == []


def test_every_kind_of_defect_is_explained_with_its_severity() -> None:
    rows = {name: cells[0] for name, cells in _rows(DOCS / "data.md").items() if cells[0] in ("error", "warning")}
    assert rows == _defect_kinds()


def _defect_kinds() -> dict[str, str]:
    """kind -> severity of every defect that the code can report: calls that begin with ("error", kind) and the like."""
    found = {"unreadable": "error"}  # named in a default
    for file in (ROOT / "src" / "groundglass" / "data").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and len(node.args) > 1:
                first, second = (a.value if isinstance(a, ast.Constant) else None for a in node.args[:2])
                if first in ("error", "warning") and isinstance(second, str):
                    found[second] = str(first)
    return found


def test_every_function_of_the_package_is_described() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    names = [name for name in groundglass.__all__ if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"\| `{name}[(.]", text)] == []


def test_the_rooms_are_named_in_their_order() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("layers = [")[2].partition("]")[0]
    rooms = re.findall(r"groundglass\.(\w+)", contract)[::-1]
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## The rooms")[2].partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == rooms
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The tree")[2]
    assert [room for room in rooms if not re.search(rf"\b{room}(\.py|/)", tree)] == []


# ---- the pages themselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(file), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.])/(?:work|tmp|home|root|Users|mnt)/\S*", text) == []
    assert not re.search(r"\b[A-Z]:\\", text)


def test_the_readme_warns_near_its_top() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 0 < text.index("not a medical device") < 400
    assert len(text.splitlines()) < 110


def test_the_readme_picture_is_small() -> None:
    picture = DOCS / "images" / "phantoms.png"
    assert picture.stat().st_size < 400_000
    with Image.open(picture) as opened:
        assert opened.width >= 800


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == groundglass.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["authors"] == [{"name": "The groundglass developers"}]
    assert citation["cff-version"] == "1.2.0"


def test_changelog_has_this_version_or_says_that_it_is_coming() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text
    assert groundglass.__version__ in text
