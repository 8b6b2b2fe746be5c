"""Each step alone does what it says; images and labels move together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from groundglass.learning.augmentation import augment
from groundglass.recipes.augmentations import Augmentation
from tests.learning import tiny

SIDE = 48
READ: TypeAdapter[Any] = TypeAdapter(Augmentation)
GEOMETRIC = [
    {"name": "hflip"},
    {"name": "vflip"},
    {"name": "rotate", "degrees": 180},
    {"name": "crop", "scale": [0.5, 0.9]},
    {"name": "scale", "range": [0.7, 1.5]},
    {"name": "shift", "fraction": 0.2},
    {"name": "elastic", "alpha": 0.05, "sigma": 0.08},
]
INTENSITY = [
    {"name": "clahe"},
    {"name": "brightness_contrast"},
    {"name": "gamma"},
    {"name": "noise"},
]


def steps(*settings: dict[str, Any], p: float = 1.0) -> list[Any]:
    return [READ.validate_python({"p": p, **setting}) for setting in settings]


def image(number: int = 0) -> np.ndarray:
    hu, _ = tiny.slice_of(number, (SIDE, SIDE))
    return np.clip((hu + 1000) / 1400, 0.05, 1).astype(np.float32)


def channels(number: int = 0) -> np.ndarray:
    return tiny.slice_of(number, (SIDE, SIDE))[1]


def moved(x: np.ndarray, y: np.ndarray, *settings: dict[str, Any], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return augment(x, y, steps(*settings), np.random.default_rng(seed))


@pytest.mark.parametrize(("name", "axis"), [("hflip", 1), ("vflip", 0)])
def test_a_flip_is_a_flip(name: str, axis: int) -> None:
    x, y = moved(image(), channels(), {"name": name})
    np.testing.assert_allclose(x, np.flip(image(), axis), atol=1e-5)
    np.testing.assert_array_equal(y, np.flip(channels(), axis))


def test_two_flips_are_a_half_turn_and_the_same_twice_is_nothing() -> None:
    x, y = moved(image(), channels(), {"name": "hflip"}, {"name": "vflip"})
    np.testing.assert_allclose(x, np.rot90(image(), 2), atol=1e-5)
    np.testing.assert_array_equal(y, np.rot90(channels(), 2))
    x, y = moved(image(), channels(), {"name": "hflip"}, {"name": "hflip"})
    np.testing.assert_allclose(x, image(), atol=1e-5)
    np.testing.assert_array_equal(y, channels())


class Always:
    """A generator whose numbers are the upper bounds."""

    def random(self) -> float:
        return 0.0

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        return high if size is None else np.full(size, high)


def turned(setting: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return augment(image(), channels(), steps(setting), Always())  # type: ignore[arg-type]


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    x, y = turned({"name": "rotate", "degrees": 90})
    assert any(np.array_equal(y, np.rot90(channels(), k)) for k in (1, 3))
    k = 1 if np.array_equal(y, np.rot90(channels())) else 3
    np.testing.assert_allclose(x, np.rot90(image(), k), atol=1e-4)


def test_a_crop_is_its_window_at_full_size_and_a_zoom_out_has_air_around() -> None:
    # Half the side, at the far corner.
    x, y = turned({"name": "crop", "scale": [0.5, 0.5]})
    np.testing.assert_array_equal(y, np.kron(channels()[SIDE // 2 :, SIDE // 2 :], np.ones((2, 2), np.uint8)))
    assert x.shape == (SIDE, SIDE)
    x, y = turned({"name": "scale", "range": [0.5, 0.5]})
    edge = SIDE // 4
    inner = np.zeros((SIDE, SIDE), bool)
    inner[edge:-edge, edge:-edge] = True
    assert not y[~inner].any()
    assert x[~inner].max() <= x[inner].max() / 2 + 1e-6
    expected = image().reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
    np.testing.assert_allclose(x[edge:-edge, edge:-edge], expected, atol=1e-4)


def test_a_shift_moves_by_its_share_of_the_side_and_lets_air_in() -> None:
    x, y = turned({"name": "shift", "fraction": 0.25})
    by = SIDE // 4
    np.testing.assert_allclose(x[by:, by:], image()[:-by, :-by], atol=1e-4)
    np.testing.assert_array_equal(y[by:, by:], channels()[:-by, :-by])
    assert not x[: by - 1].any()
    assert not y[:by].any()


@pytest.mark.parametrize("setting", GEOMETRIC, ids=lambda s: s["name"])
@pytest.mark.parametrize("seed", range(4))
def test_labels_stay_on_what_they_mark(setting: dict[str, Any], seed: int) -> None:
    """A picture whose brightness says its label still does after any movement, but for pixels on an edge."""
    bright = np.array([0.0, 0.3, 0.6, 0.9], np.float32)
    y = channels()
    x, moved_y = moved(bright[y], y, setting, seed=seed)
    said = np.digitize(x, [0.15, 0.45, 0.75]).astype(np.uint8)
    assert (said == moved_y).mean() > 0.85
    flat = np.abs(np.gradient(x)).sum(0) < 1e-4
    assert flat.mean() > 0.2
    np.testing.assert_array_equal(said[flat], moved_y[flat])


@pytest.mark.parametrize("setting", GEOMETRIC + INTENSITY, ids=lambda s: s["name"])
def test_a_step_changes_the_slice_keeps_its_form_and_is_decided_by_its_generator(setting: dict[str, Any]) -> None:
    x, y = image(), channels()
    first, labels = moved(x, y, setting)
    again, labels_again = moved(x, y, setting)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(first, x)
    assert (first.shape, first.dtype) == (x.shape, np.float32)
    assert (labels.shape, labels.dtype) == (y.shape, np.uint8)
    assert 0 <= first.min() <= first.max() <= 1
    assert set(np.unique(labels)) <= set(np.unique(y)) | {0}
    # What came in is as it was.
    np.testing.assert_array_equal(x, image())
    if setting["name"] not in ("hflip", "vflip", "clahe"):
        assert not np.array_equal(first, moved(x, y, setting, seed=1)[0])


@pytest.mark.parametrize("setting", INTENSITY, ids=lambda s: s["name"])
def test_a_step_of_intensities_leaves_labels_alone(setting: dict[str, Any]) -> None:
    np.testing.assert_array_equal(moved(image(), channels(), setting)[1], channels())


def test_without_probability_nothing_happens() -> None:
    chosen = steps(*GEOMETRIC, *INTENSITY, p=0)
    x, y = augment(image(), channels(), chosen, np.random.default_rng(0))
    np.testing.assert_array_equal(x, image())
    np.testing.assert_array_equal(y, channels())


def test_a_step_is_picked_as_often_as_its_probability_says() -> None:
    chosen, rng = steps({"name": "hflip"}, p=0.3), np.random.default_rng(0)
    x = image()[:8, :8]
    picked = [not np.array_equal(augment(x, channels()[:8, :8], chosen, rng)[0], x) for _ in range(600)]
    assert np.mean(picked) == pytest.approx(0.3, abs=0.06)


def local_contrast(x: np.ndarray, tile: int = 8) -> float:
    return float(x.reshape(SIDE // tile, tile, SIDE // tile, tile).std((1, 3)).mean())


def test_clahe_raises_local_contrast_more_the_higher_its_limit() -> None:
    dull = (0.4 + 0.1 * image()).astype(np.float32)
    some, more = (
        moved(dull, channels(), {"name": "clahe", "clip_limit": limit, "tiles": 3})[0] for limit in (0.01, 0.2)
    )
    assert local_contrast(dull) < local_contrast(some) < local_contrast(more)


def test_brightness_contrast_gamma_and_noise_do_what_they_say() -> None:
    x = image() * 0.5 + 0.25
    bright = turned_intensity(x, {"name": "brightness_contrast", "brightness": 0.1, "contrast": 0})
    np.testing.assert_allclose(bright, np.clip(x + 0.1, 0, 1), atol=1e-6)
    strong = turned_intensity(x, {"name": "brightness_contrast", "brightness": 0, "contrast": 0.4})
    np.testing.assert_allclose(strong, np.clip((x - 0.5) * 1.4 + 0.5, 0, 1), atol=1e-6)
    dark = turned_intensity(x, {"name": "gamma", "range": [0.5, 2.0]})
    np.testing.assert_allclose(dark, x**2, atol=1e-6)
    noisy = [moved(x, channels(), {"name": "noise", "std": 0.05}, seed=seed)[0] - x for seed in range(20)]
    assert max(noise.std() for noise in noisy) < 0.055
    assert np.mean([noise.std() for noise in noisy]) == pytest.approx(0.025, abs=0.01)


def turned_intensity(x: np.ndarray, setting: dict[str, Any]) -> np.ndarray:
    return augment(x.astype(np.float32), channels(), steps(setting), Always())[0]  # type: ignore[arg-type]


def test_intensities_change_before_anything_moves_whatever_the_order() -> None:
    """CLAHE must see the histogram of the slice, not of the air that a rotation lets in."""
    flip, clahe = {"name": "scale", "range": [0.5, 0.5]}, {"name": "clahe", "tiles": 3}
    one, other = (moved(image(), channels(), *order)[0] for order in ((flip, clahe), (clahe, flip)))
    np.testing.assert_array_equal(one, other)


def test_geometric_steps_act_in_the_order_of_the_recipe() -> None:
    shift, turn = {"name": "shift", "fraction": 0.25}, {"name": "hflip"}
    shifted = turned(shift)
    expected = np.flip(shifted[1], 1)
    both = augment(image(), channels(), steps(shift, turn), Always())  # type: ignore[arg-type]
    np.testing.assert_array_equal(both[1], expected)
    np.testing.assert_allclose(both[0], np.flip(shifted[0], 1), atol=1e-4)
