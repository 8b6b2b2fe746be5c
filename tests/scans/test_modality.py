"""The input gate: a chest X-ray is not taken for a CT slice, nor the reverse; what is not clear is not guessed."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from groundglass.case import Unit
from groundglass.data import open_dataset, phantoms, radiographs
from groundglass.scans.modality import guess_file, guess_modality, traits
from tests.conftest import UNPACK

Grey = NDArray[np.float32]
WINDOWS = ((-1350, 150), (-1000, 400), (-160, 240))


@cache
def ct_slices() -> tuple[Grey, ...]:
    """Drawn slices [256, 256] as pictures 0..255, each in three windows."""
    drawn = [phantoms.draw(3, number, k).hu for number in range(1, 5) for k in (0, 2, 4)]
    return tuple(np.clip((hu - low) / (high - low), 0, 1) * 255 for hu in drawn for low, high in WINDOWS)


@cache
def x_rays() -> tuple[Grey, ...]:
    """Drawn X-rays [256, 256], 0..255."""
    return tuple(np.asarray(radiographs.draw(3, number).grey, np.float32) for number in range(1, 13))


def guesses(pictures: tuple[Grey, ...], change: Callable[[Grey], Grey] = lambda x: x) -> list[str | None]:
    return [guess_modality(np.ascontiguousarray(change(x), np.float32), Unit.PICTURE) for x in pictures]


def jpeg(x: Grey) -> Grey:
    held = io.BytesIO()
    Image.fromarray(x.astype(np.uint8)).save(held, "JPEG", quality=30)
    return np.asarray(Image.open(held), np.float32)


def scaled(side: tuple[int, int]) -> Callable[[Grey], Grey]:
    return lambda x: np.asarray(Image.fromarray(x).resize(side, Image.Resampling.BILINEAR))


CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "as it is": lambda x: x,
    "darker": lambda x: 255 * (x / 255) ** 2,
    "brighter": lambda x: 255 * (x / 255) ** 0.5,
    "other units": lambda x: 10 * x - 1000,
    "CLAHE": lambda x: cv2.createCLAHE(4, (8, 8)).apply(x.astype(np.uint8)).astype(np.float32),
    "cropped": lambda x: x[16:-16, 20:-12],
    "letter box": lambda x: np.pad(x, ((0, 0), (60, 60))),
    "white letter box": lambda x: np.pad(x, ((30, 30), (0, 0)), constant_values=255),
    "box in a thin frame": lambda x: np.pad(np.pad(x, 40), 1, constant_values=255),
    "large": scaled((900, 700)),
    "small": scaled((96, 96)),
    "JPEG": jpeg,
}


@pytest.mark.parametrize("name", CHANGES)
def test_x_rays_and_ct_slices_are_told_apart(name: str) -> None:
    ct, x_ray = guesses(ct_slices(), CHANGES[name]), guesses(x_rays(), CHANGES[name])
    assert "X-ray" not in ct
    assert "CT" not in x_ray
    # Unsure now and then, not always; drawn X-rays have sharper edges than a patient's.
    assert ct.count("CT") >= 0.7 * len(ct)
    assert x_ray.count("X-ray") >= (0.6 if name == "as it is" else 0.1) * len(x_ray)


def test_hounsfield_units_are_ct() -> None:
    assert guess_modality(x_rays()[0], Unit.HU) == "CT"


def test_a_negative_x_ray_is_not_taken_for_ct() -> None:
    """MONOCHROME1 films are often exported with dark bones."""
    assert "CT" not in guesses(x_rays(), lambda x: 255 - x)


def test_traits_do_not_depend_on_scale_and_offset() -> None:
    before, after = traits(x_rays()[0]), traits(0.01 * x_rays()[0] - 5)
    assert before.keys() == after.keys()
    np.testing.assert_allclose(list(before.values()), list(after.values()), atol=0.01)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((128, 128)),
        np.full((128, 128), np.nan),
        np.where(np.eye(128, dtype=bool), np.inf, 3.0),
        np.arange(64 * 20.0).reshape(64, 20),
        np.zeros((1, 300)),
        np.random.default_rng(0).integers(0, 256, (128, 128)),
        np.random.default_rng(0).integers(0, 256, (512, 512)),
        np.tile(np.arange(256.0), (256, 1)),
        np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((32, 32))) * 255,
    ],
    ids=["constant", "nan", "infinite", "thin", "line", "noise", "large-noise", "ramp", "checkers"],
)
def test_neither_is_not_guessed(picture: NDArray[Any]) -> None:
    assert guess_modality(picture.astype(np.float32), Unit.PICTURE) is None


def saved(path: Path, slices: list[Grey]) -> Path:
    np.save(path, np.stack(slices).astype(np.uint8))
    return path


def test_a_file_is_what_most_of_three_slices_are(tmp_path: Path) -> None:
    ct = next(x for x in ct_slices() if guess_modality(x, Unit.PICTURE) == "CT")
    x_ray = next(x for x in x_rays() if guess_modality(x, Unit.PICTURE) == "X-ray")
    empty = np.zeros_like(ct)
    for name, slices, expected in (
        ("two of three", [ct, x_ray, x_ray, x_ray, ct, x_ray, ct], "CT"),
        ("the clear one", [empty, empty, x_ray], "X-ray"),
        ("undecided", [ct, x_ray], None),
        ("empty", [empty], None),
    ):
        path = saved(tmp_path / f"{name}.npy", slices)
        assert guess_file(path, len(slices), Unit.PICTURE) == expected, name
    assert guess_file(tmp_path / "not-even-looked-at.npy", 1, Unit.HU) == "CT"


REAL = {
    "medseg": "CT",
    "radiopaedia": "CT",
    "covid19-ct-seg": "CT",
    "ct-lungs-hu": "CT",
    "covid-qu-ex": "X-ray",
}


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_on_patients(name: str, tmp_path: Path) -> None:
    """On every fifth image; benchmarks/modality.py has the whole table, half by half."""
    if not UNPACK.is_file():
        pytest.skip("the real data packs are not here (../shared/data/unpack.py)")
    subprocess.run([sys.executable, str(UNPACK), str(tmp_path), name], check=True, capture_output=True)
    cases = open_dataset(tmp_path / name).cases[::5]
    found = [guess_modality(np.clip(case.image(), -1000, 400), Unit.PICTURE) for case in cases]
    wrong = [guess for guess in found if guess not in (None, REAL[name])]
    assert len(wrong) < 0.01 * len(found)
    assert found.count(None) < 0.15 * len(found)
