"""Slices, data sets and runs so small that a training of three epochs takes a fraction of a second."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from groundglass.case import Case, Decoded, Unit
from groundglass.data.dataset import Dataset
from groundglass.data.splits import Split
from groundglass.labels import BY_NAME, LESION_VALUES, label_set
from groundglass.learning import training
from groundglass.networks.building import build
from groundglass.recipes import Recipe, parse
from groundglass.run import Run

OWN = {"name": "tests.networks.own:TinyNet"}
BASE: dict[str, Any] = {
    "name": "tiny",
    "labels": "ct4",
    "intensity": {"clip_hu": [-1000, 200], "scale": {"name": "symmetric"}},
    "image_size": 32,
    "architecture": {"name": "plain-unet", "base_width": 4, "depth": 2},
    "loss": [{"name": "cross_entropy"}],
    "optimiser": {"name": "adam", "learning_rate": 0.01},
    "batch_size": 4,
    "epochs": 3,
    "checkpoint": {"metric": "validation/f1_lesions"},
    "precision": "fp32",
}
MOVES = [{"name": "hflip"}, {"name": "rotate", "degrees": 20}, {"name": "noise"}]


def recipe(**changes: Any) -> Recipe:
    """The tiny recipe with some settings replaced."""
    return parse({**copy.deepcopy(BASE), **changes}, "tiny")


def slice_of(number: int, shape: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """HU [H, W] float32 and canonical labels [H, W] uint8; tissue, lung and both lesions by their density."""
    random = np.random.default_rng(number)
    field = ndimage.gaussian_filter(random.normal(size=shape), 4)
    field = (field - field.mean()) / field.std()
    edges = (-0.7, 0.2, 0.8)
    # Background is dense tissue, as in a chest, so that a network has to tell four densities apart.
    labels = np.array([3, 1, 2, 0], np.uint8)[np.digitize(field, edges)]
    hu = np.array([-850, -550, -50, 250])[np.digitize(field, edges)] + random.normal(0, 60, shape)
    return hu.astype(np.float32), labels


def case(number: int, source: str = "medseg", unit: Unit = Unit.HU, group: str = "") -> Case:
    hu, labels = slice_of(number)
    image = hu if unit is Unit.HU else np.clip((hu + 1000) / 1400 * 255, 0, 255).astype(np.float32)
    return Case(
        id=f"{source}/{number:03d}",
        source=source,
        file=f"{source}.npy",
        shape=hu.shape,
        unit=unit,
        load_image=partial(np.copy, image),
        load_labels=partial(Decoded, labels),
        row=number,
        group=group,
    )


def cases(count: int, first: int = 0) -> list[Case]:
    return [case(first + i) for i in range(count)]


def partly_known(of: Case, unmarked: bool) -> Case:
    """The case with lesions of unknown type, or (`unmarked`) with lungs in which nobody looked for them."""
    labels = of.labels()
    names = ("unmarked-lung", "unmarked-lung") if unmarked else ("lung", "lesion")
    lung, lesion = (BY_NAME[name].value for name in names)
    known = np.where(labels == 3, lung, np.where(np.isin(labels, LESION_VALUES), lesion, labels)).astype(np.uint8)
    return replace(of, load_labels=partial(Decoded, known))


def dataset(medseg: int = 30, radiopaedia: int = 6) -> Dataset:
    """Pictures of single images, and three volumes in HU, as in the competition's files."""
    found = [case(i, "medseg", Unit.PICTURE) for i in range(medseg)]
    found += [case(100 + i, "radiopaedia", group=f"volume-{i // 2}") for i in range(radiopaedia)]
    classes = ("background", "ground-glass", "consolidation", "lung")
    return Dataset("tiny", "covid-segmentation", tuple(found), (), classes, Unit.HU, "not known")


def new_run(folder: Path, chosen: Recipe, train: Sequence[Case], validation: Sequence[Case]) -> Run:
    """A run folder as `groundglass train` makes it before the first epoch."""
    mean, std = training.measure_training_part(chosen, train)
    split = Split(
        kind="holdout",
        seed=chosen.seed,
        train=tuple(c.id for c in train),
        validation=tuple(c.id for c in validation),
    )
    return Run.create(
        folder,
        chosen,
        split,
        data_format="tiny",
        data_fingerprint="tiny",
        patients_known="not known",
        mean=mean,
        std=std,
        class_pixels=training.count_classes(label_set(chosen.labels), train),
    )


def fitted(folder: Path, chosen: Recipe, train: int = 10, validation: int = 3, **options: Any) -> Run:
    """A finished (or, with max_seconds, an interrupted) training on tiny slices."""
    part, held_out = cases(train), cases(validation, 50)
    run = new_run(folder, chosen, part, held_out)
    training.fit(run, build(chosen), part, held_out, "cpu", **options)
    return run


def resumed(run: Run, train: int = 10, validation: int = 3, **options: Any) -> Run:
    """Go on, as another process would: from the folder alone."""
    opened = Run.open(run.path)
    training.fit(opened, build(opened.recipe), cases(train), cases(validation, 50), "cpu", resume=True, **options)
    return opened
