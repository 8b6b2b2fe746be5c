"""Sheets of cases: written whole or not at all, whatever the cases look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from groundglass.errors import DataError, RecipeError
from groundglass.files import WriteError
from groundglass.show.colours import ERROR_COLOURS, PALETTES, rgb
from groundglass.show.figures import Panel, class_map, image_grid, per_category, source_agreement, truth_prediction
from groundglass.show.overlay import masks_of
from tests.show.chest import chest, moved

FIGURES: tuple[Callable[..., Path], ...] = (image_grid, per_category, source_agreement, class_map, truth_prediction)


def panel(title: str = "case", **changes: Any) -> Panel:
    image, labels = chest()
    return replace(Panel(image, labels, moved(labels), title, (1.5, 1.5)), **changes)


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)


def shows(path: Path, colour: str) -> bool:
    return bool((pixels(path) == rgb(colour)).all(axis=1).any())


@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_is_written_where_it_was_asked_for(draw: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "figure.png"
    assert draw([panel("one"), panel("two")], path) == path
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
    assert Image.open(path).info["dpi"] == pytest.approx((150, 150), abs=1)


@pytest.mark.parametrize("draw", FIGURES)
def test_the_same_cases_give_the_same_file(draw: Callable[..., Path], tmp_path: Path) -> None:
    first, second = (draw([panel()], tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("draw", FIGURES)
def test_an_unwritable_folder_leaves_nothing_behind(draw: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="nothing was changed"):
        draw([panel()], tmp_path / "file" / "figure.png")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("draw", FIGURES)
def test_no_cases_are_an_error_of_one_line(draw: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cases") as caught:
        draw([], tmp_path / "figure.png")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_drawing_keeps_the_old_figure(tmp_path: Path) -> None:
    path = image_grid([panel()], tmp_path / "figure.png")
    old = path.read_bytes()
    with pytest.raises(RecipeError):
        image_grid([panel()], path, palette="neon")
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_the_suffix_chooses_pdf_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert truth_prediction([panel()], tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(WriteError, match=r"\.png or \.pdf"):
        truth_prediction([panel()], tmp_path / "figure.gif")


def test_a_case_without_what_is_drawn_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="medseg/007: has no prediction"):
        truth_prediction([panel("medseg/007", prediction=None)], tmp_path / "figure.png")
    with pytest.raises(DataError, match="medseg/007: expert labels of shape"):
        image_grid([panel("medseg/007", labels=np.zeros((3, 3), np.uint8))], tmp_path / "figure.png")
    masks = {"lung": np.zeros((3, 3), np.bool_)}
    with pytest.raises(DataError, match="medseg/007: mask 'lung'"):
        per_category([panel("medseg/007", predicted_masks=masks)], tmp_path / "figure.png")


def test_further_cases_go_into_further_blocks(tmp_path: Path) -> None:
    one, two = (Image.open(image_grid([panel()] * n, tmp_path / f"{n}.png", columns=3)).size for n in (3, 4))
    assert two[0] == one[0]
    assert two[1] > 1.7 * one[1]


def test_pixels_that_are_not_square_are_drawn_in_their_proportions(tmp_path: Path) -> None:
    square = Image.open(class_map([panel()], tmp_path / "a.png")).size
    flat = Image.open(class_map([panel(spacing_mm=(0.75, 1.5))], tmp_path / "b.png")).size
    assert flat[0] == square[0]
    assert flat[1] < 0.75 * square[1]


def test_a_perfect_prediction_shows_no_error_colour_but_agreement(tmp_path: Path) -> None:
    _, labels = chest()
    # On a black image a tint is the darkened colour itself, which no legend shows.
    night = np.full(labels.shape, -5000, np.float32)
    perfect = truth_prediction([panel(image=night, prediction=labels)], tmp_path / "perfect.png")
    flawed = truth_prediction([panel(image=night)], tmp_path / "flawed.png")
    for kind, colour in ERROR_COLOURS.items():
        tint = "#" + np.rint(rgb(colour) * 0.75).astype(np.uint8).tobytes().hex()
        assert shows(flawed, tint)
        assert shows(perfect, tint) == (kind == "agree")


def test_only_overlapping_masks_show_the_mixed_colour(tmp_path: Path) -> None:
    _, labels = chest()
    masks = dict(masks_of(labels))
    masks["ground-glass"] = masks["ground-glass"] | masks["consolidation"]
    apart = source_agreement([panel()], tmp_path / "a.png", palette="safe")
    mixed = source_agreement([panel(predicted_masks=masks)], tmp_path / "b.png", palette="safe")
    assert not shows(apart, PALETTES["safe"]["mixed"])
    assert shows(mixed, PALETTES["safe"]["mixed"])


def test_background_of_thresholded_masks_is_what_no_class_claims(tmp_path: Path) -> None:
    _, labels = chest()
    partial = {name: mask for name, mask in masks_of(labels).items() if name != "background"}
    given = per_category([panel(prediction=labels)], tmp_path / "a.png")
    filled = per_category([panel(prediction=None, predicted_masks=partial)], tmp_path / "b.png")
    assert given.read_bytes() == filled.read_bytes()


def test_a_transparent_background_is_paper_and_a_black_one_is_black(tmp_path: Path) -> None:
    black, clear = (
        class_map([panel()], tmp_path / f"{background}.png", background=background)
        for background in ("black", "transparent")
    )
    dark = [(pixels(path) == 0).all(axis=1).mean() for path in (black, clear)]
    assert dark[0] > dark[1] + 0.15


def test_titles_are_taken_literally_and_long_ones_fit(tmp_path: Path) -> None:
    titles = ["$x$ {curly} \\frac", "a very long title " * 8, "averylongnamewithoutanyspaces" * 3]
    path = image_grid([panel(title) for title in titles], tmp_path / "figure.png")
    edge = np.asarray(Image.open(path).convert("L"))
    assert edge[:, :3].min() > 200  # nothing runs over the paper's edge
    assert edge[:, -3:].min() > 200


def test_matplotlib_keeps_the_settings_of_its_user(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    image_grid([panel()], tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before
