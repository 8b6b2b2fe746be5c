"""Findings one by one: in colours of their own, under the expert's outline, with boxes and scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundglass.errors import DataError
from groundglass.model.instances import Instance
from groundglass.show.colours import INSTANCES, rgb
from groundglass.show.figures import Panel
from groundglass.show.instances import Apart, instances
from groundglass.show.overlay import LUNG_WINDOW, instance_overlay
from tests.show.chest import chest, moved


def apart(count: int = 2) -> Apart:
    """A chest with `count` squares found on its diagonal."""
    image, labels = chest()
    numbers = np.zeros(image.shape, np.uint8)
    found = []
    for number in range(1, count + 1):
        at = 8 * number
        numbers[at : at + 6, at : at + 6] = number
        mask = (numbers == number).astype(np.float32)
        found.append(Instance((at, at, at + 6, at + 6), 1 - number / 100, mask))
    return Apart(Panel(image, labels, moved(labels), "case"), found, numbers)


def shows(path: Path, colour: str) -> bool:
    """Whether any pixel is nearly of the colour: thin lines are blended with what lies beside them."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    return bool((np.abs(pixels - rgb(colour)).max(axis=1) < 25).any())


def test_each_instance_has_its_colour_and_the_expert_a_white_outline() -> None:
    case = apart(9)
    expert = case.panel.expert() == 1
    picture = instance_overlay(case.panel.image, case.numbers, expert, LUNG_WINDOW, alpha=1.0)
    for number in range(1, 10):
        inside = (case.numbers == number) & ~expert
        expected = rgb(INSTANCES[(number - 1) % len(INSTANCES)])
        assert (picture[inside] == expected).all(), number
    white = (picture == 255).all(axis=-1)
    assert (white & expert).any()
    plain = instance_overlay(case.panel.image, case.numbers * 0, expert & False, LUNG_WINDOW)
    assert (plain[..., 0] == plain[..., 1]).all()


def test_boxes_are_drawn_where_they_are_said_to_be(tmp_path: Path) -> None:
    with_boxes, without = apart(2), replace(apart(2), found=())
    drawn = [instances([case], tmp_path / f"{i}.png") for i, case in enumerate((with_boxes, without))]
    assert all(path.is_file() for path in drawn)
    for colour in INSTANCES[:2]:
        assert shows(drawn[0], colour)
        assert not shows(drawn[1], colour)


def test_the_same_cases_give_the_same_file_and_none_is_refused(tmp_path: Path) -> None:
    first, second = (instances([apart(), apart(1)], tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(DataError, match="no cases to draw"):
        instances([], tmp_path / "c.png")
    with pytest.raises(DataError, match="has no expert labels"):
        instances([replace(apart(), panel=Panel(apart().panel.image, title="x"))], tmp_path / "d.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
