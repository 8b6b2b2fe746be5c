"""Slices: prepared like any prediction, augmented by (seed, epoch, case) and by nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.data import DataLoader

from groundglass.case import Decoded
from groundglass.errors import RecipeError
from groundglass.labels import BY_NAME, LABEL_SETS
from groundglass.learning import loading
from groundglass.learning.device import autocast, bf16_gains, choose_device, choose_precision
from groundglass.learning.loading import Order, Slices, loader
from groundglass.model.prepare import Preparation, clip01, scale, shrink
from tests.learning import tiny

RECIPE = tiny.recipe(augmentation=[*tiny.MOVES, {"name": "elastic"}])
PREPARATION = Preparation(RECIPE.intensity, RECIPE.image_size)


def slices(training: bool = True, recipe: object = RECIPE) -> Slices:
    return Slices(tiny.cases(5), recipe, PREPARATION, training)  # type: ignore[arg-type]


def same(one: tuple, other: tuple) -> bool:  # type: ignore[type-arg]
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(one, other, strict=True))


def test_a_slice_is_prepared_as_a_prediction_prepares_it() -> None:
    x, target, position = slices(training=False)[7, 2]
    case = tiny.cases(5)[2]
    expected = scale(shrink(clip01(case.image(), case.unit, RECIPE.intensity), 32)[0], PREPARATION)
    np.testing.assert_array_equal(x[0].numpy(), expected)
    assert position == 2
    assert target.dtype == torch.int64
    assert set(target.unique().tolist()) <= {0, 1, 2, 3}


def test_augmentation_depends_on_seed_epoch_and_case_alone() -> None:
    forwards, backwards = slices(), slices()
    keys = list(itertools.product(range(3), range(5)))
    seen = {key: forwards[key] for key in keys}
    assert all(same(seen[key], backwards[key]) for key in reversed(keys))
    assert not same(seen[0, 1], seen[1, 1])
    other = slices(recipe=RECIPE.model_copy(update={"seed": 1}))
    assert not same(seen[0, 1], other[0, 1])


def test_what_is_partly_known_stays_so_and_what_comes_from_outside_is_background() -> None:
    """In an image of nothing but untyped lesion, padding and the corners of a turned slice are known to be empty."""
    turned = tiny.recipe(augmentation=[{"name": "rotate", "degrees": 40, "p": 1}, {"name": "scale", "p": 1}])
    case = tiny.case(0)
    untyped = np.full(case.shape, BY_NAME["lesion"].value, np.uint8)
    whole = [replace(case, load_labels=lambda: Decoded(untyped))]
    code = LABEL_SETS["ct4"].codes.index((1, 2))
    for training in (True, False):
        slices = Slices(whole, turned, PREPARATION, training)
        for epoch in range(5):
            x, target, _ = slices[epoch, 0]
            assert target.dtype == torch.int64
            assert set(target.unique().tolist()) == {0, code}
            # Outside there is air, the lowest intensity; one pixel of it may be blended with the slice.
            assert (x[0][ndimage.binary_erosion(target == 0, border_value=1)] == -1).all()


def test_validation_is_never_augmented() -> None:
    held_out = slices(training=False)
    assert same(held_out[0, 3], held_out[9, 3])


def test_slices_that_are_not_kept_in_memory_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = slices()
    monkeypatch.setattr(loading, "CACHE_BYTES", 0)
    read_again = slices()
    for _ in range(2):
        assert same(kept[1, 4], read_again[1, 4])


@pytest.mark.slow
def test_worker_processes_change_nothing() -> None:
    order = Order(5, seed=3, shuffle=True)
    alone, shared = (list(DataLoader(slices(), batch_size=2, sampler=order, num_workers=n)) for n in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_the_order_is_shuffled_per_epoch_and_repeats_by_seed() -> None:
    def order(seed: int, epoch: int, shuffle: bool = True) -> list[tuple[int, int]]:
        found = Order(9, seed, shuffle)
        found.set_epoch(epoch)
        return list(found)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != [(1, p) for _, p in order(0, 2)]
    assert order(0, 1) != order(1, 1)
    assert sorted(order(0, 4)) == order(0, 4, shuffle=False) == [(4, p) for p in range(9)]


@pytest.mark.parametrize(
    ("cases", "batch", "training", "sizes"),
    [
        (9, 4, True, [4, 4]),
        (9, 4, False, [4, 4, 1]),
        (10, 4, True, [4, 4, 2]),
        (1, 4, True, [1]),
        (3, 1, True, [1, 1, 1]),
    ],
)
def test_a_last_training_batch_of_one_slice_is_dropped(
    cases: int, batch: int, training: bool, sizes: list[int]
) -> None:
    recipe = tiny.recipe(batch_size=batch)
    batches = loader(Slices(tiny.cases(cases), recipe, PREPARATION, training), recipe, training, "cpu")
    assert [len(x) for x, _, _ in batches] == sizes
    assert len(batches) == len(sizes)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(RecipeError, match="no CUDA device answers"):
        choose_device("cuda")
    with pytest.raises(RecipeError, match="choose auto, cpu or cuda"):
        choose_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"


def test_precision_is_what_the_recipe_says_and_auto_what_the_hardware_gains_by() -> None:
    chosen = {p: choose_precision(tiny.recipe(precision=p), "cpu") for p in ("auto", "fp32", "bf16")}
    assert chosen == {"auto": "bf16" if bf16_gains("cpu") else "fp32", "fp32": "fp32", "bf16": "bf16"}
    with pytest.raises(RecipeError, match="fp16 needs a GPU"):
        choose_precision(tiny.recipe(precision="fp16"), "cpu")
    layer, x = torch.nn.Linear(2, 2), torch.rand(1, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(precision, "cpu"):
            assert layer(x).dtype == dtype
