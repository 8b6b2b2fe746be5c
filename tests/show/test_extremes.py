"""A severe, a mild and a normal case: three pictures each, and the rule by which they were chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from groundglass.errors import DataError
from groundglass.labels import BY_NAME
from groundglass.measure.cohorts import Kind
from groundglass.show import extremes as module
from groundglass.show.extremes import extremes
from groundglass.show.figures import Panel, truth_prediction
from tests.show.chest import chest, moved

KINDS: tuple[Kind, ...] = ("severe", "mild", "normal")


def panels(*kinds: Kind) -> dict[Kind, Panel]:
    image, labels = chest()
    return {kind: Panel(image, labels, moved(labels), f"{kind.capitalize()}: case", (1.5, 1.5)) for kind in kinds}


def said(monkeypatch: pytest.MonkeyPatch, path: Path, *kinds: Kind, **options: Any) -> dict[str, Any]:
    """What the figure is told to write."""
    found: dict[str, Any] = {}

    def spy(*arguments: Any, **named: Any) -> Path:
        found.update(named)
        return truth_prediction(*arguments, **named)

    monkeypatch.setattr(module, "truth_prediction", spy)
    extremes(panels(*kinds), path, **options)
    return found


def test_each_case_is_a_row_of_three_pictures(tmp_path: Path) -> None:
    three = Image.open(extremes(panels(*KINDS), tmp_path / "a.png")).size
    one = Image.open(extremes(panels("severe"), tmp_path / "b.png")).size
    four = Image.open(truth_prediction(list(panels(*KINDS).values()), tmp_path / "c.png")).size
    assert three[0] == one[0] < four[0]
    assert three[1] > 2.2 * one[1]


def test_the_same_cases_give_the_same_file_and_another_prediction_another(tmp_path: Path) -> None:
    first, again = (extremes(panels(*KINDS), tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == again.read_bytes()
    changed = panels(*KINDS)
    image, labels = chest()
    changed["mild"] = Panel(image, labels, np.zeros_like(labels), "Mild: case", (1.5, 1.5))
    assert extremes(changed, tmp_path / "c.png").read_bytes() != first.read_bytes()


@pytest.mark.parametrize(
    ("kinds", "title"),
    [
        (KINDS, "A severe, a mild and a normal case"),
        (("severe", "normal"), "A severe and a normal case"),
        (("normal",), "A normal case"),
    ],
)
def test_the_title_names_what_is_there(
    kinds: tuple[Kind, ...], title: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert said(monkeypatch, tmp_path / "a.png", *kinds)["title"] == title


def test_the_note_says_by_which_rule_the_cases_were_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    note = said(monkeypatch, tmp_path / "a.png", *KINDS)["note"]
    assert note.startswith("Chosen by the expert's labels alone, never by a score;")
    assert "severe: the largest share of the lung is lesion" in note
    assert "the largest lung" in note
    other = said(monkeypatch, tmp_path / "b.png", "severe", share_of="image")["note"]
    assert "the largest share of the image is lesion" in other
    assert "mild" not in other


def test_a_class_of_the_network_is_never_hatched(tmp_path: Path) -> None:
    """Where nothing is predicted, only the network's classes tell that `lesion` is no lesion of unknown type."""
    image, _ = chest()
    truth = np.where(chest()[1] == 1, BY_NAME["lesion"].value, 0).astype(np.uint8)
    panel = Panel(image, truth, np.zeros_like(truth), "Severe: case")
    hatched = extremes({"severe": panel}, tmp_path / "a.png")
    solid = extremes({"severe": replace(panel, classes=("background", "lesion"))}, tmp_path / "b.png")
    tint = [np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (hatched, solid)]
    reddish = [(picture[..., 0] - picture[..., 1] > 30).sum() for picture in tint]
    assert reddish[1] > 1.5 * reddish[0] > 0


def test_no_cases_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cases"):
        extremes({}, tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []
