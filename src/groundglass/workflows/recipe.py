"""`groundglass recipe`: a recipe as a file to read and change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import yaml

from groundglass import recipes
from groundglass.errors import RecipeError
from groundglass.files import write_text


def recipe(name: str | Path, out: str | Path | None = None, settings: Sequence[str] = ()) -> str:
    """The YAML text of a recipe; with `out` also as a new file.

    Without settings a file comes as it is, header and comments included; one that extends another comes as a whole
    under its header. With settings the whole recipe is written with all its defaults. It is validated in any case.
    Raises `RecipeError` for an unknown name or setting, or when `out` exists.
    """
    chosen, text = recipes.load(name, settings), recipes.read_text(name)
    if settings:
        text = chosen.to_yaml()
    elif "extends" in yaml.safe_load(text):
        header = takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True))
        text = "".join(header) + chosen.to_yaml()
    if out is not None:
        if Path(out).exists():
            raise RecipeError(f"{out}: exists already; choose another name")
        write_text(out, text)
    return text
