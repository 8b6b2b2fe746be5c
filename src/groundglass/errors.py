"""The errors a user can meet. Each message is one line: what, where, and what to do. The CLI ends with exit code 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class GroundglassError(Exception):
    """Base of every error a user can cause; anything else that escapes is a bug in groundglass."""


class DataError(GroundglassError):
    """A file or folder of images, masks or tables is missing, unreadable or not what it claims to be."""


class RecipeError(GroundglassError):
    """A recipe, or a setting given to it, is unknown, malformed or does not fit the data."""


class RunError(GroundglassError):
    """A run folder is missing, unfinished, of another format version, or does not fit what is asked of it."""


class WeightsError(GroundglassError):
    """Weights cannot be found, do not fit the network, or would have to be downloaded."""


class DependencyError(GroundglassError):
    """An optional package that this verb needs is not installed."""


def first_line(error: BaseException) -> str:
    """What another library's exception says, in one line; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "").strip() or type(error).__name__


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint to append to a message about an unknown `name`: the closest valid name, or all of them when few."""
    known = sorted(options)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(known) <= 20:
        return f"choose from: {', '.join(known)}"
    return "see 'groundglass list'"
