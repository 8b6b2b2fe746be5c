"""What every plot holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from groundglass.files import WriteError


def assert_whole_or_not_at_all(draw: Callable[[Path], Path], folder: Path) -> None:
    """`draw` writes a picture and nothing else, and refuses where it cannot."""
    path = draw(folder / "plots" / "plot.png")
    Image.open(path).verify()
    assert [file.name for file in path.parent.iterdir()] == ["plot.png"]
    with pytest.raises(WriteError):
        draw(path / "inside-a-file.png")
