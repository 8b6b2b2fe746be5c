"""`groundglass recipe`: a recipe as a file to read and change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundglass import recipes
from groundglass.errors import RecipeError
from groundglass.files import write_text


def recipe(name: str | Path, out: str | Path | None = None, settings: Sequence[str] = ()) -> str:
    """The YAML text of a recipe; with `out` also as a new file.

    Without settings a shipped file comes as it is, header and comments included; with settings, or from a file, the
    whole recipe is validated and written with all its defaults.
    Raises `RecipeError` for an unknown name or setting, or when `out` exists.
    """
    recipes.load(name, settings)
    text = recipes.read_text(name) if not settings else recipes.load(name, settings).to_yaml()
    if out is not None:
        if Path(out).exists():
            raise RecipeError(f"{out}: exists already; choose another name")
        write_text(out, text)
    return text
