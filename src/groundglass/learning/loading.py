"""Slices for training and validation: prepared once, kept in memory while they fit, augmented per epoch and case."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from groundglass.case import Case
from groundglass.labels import label_set
from groundglass.learning.augmentation import augment
from groundglass.model.prepare import Preparation, clip01, scale, shrink, shrink_labels, within
from groundglass.recipes.settings import Recipe

# Prepared slices are kept in memory up to this many bytes; beyond it they are read again each epoch.
CACHE_BYTES = 2 * 1024**3

Prepared = tuple[NDArray[np.float32], NDArray[np.uint8]]


class Slices(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Items (x [1, S, S] float32, target [S, S] int64 codes, position in `cases`).

    Indexed by (round, position), so that a slice's augmentation depends on nothing else than seed, round and case;
    neither the number of worker processes nor a resumed training changes it.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        recipe: Recipe,
        preparation: Preparation,
        training: bool,
        lungs: Callable[[Case], NDArray[np.bool_]] | None = None,
    ) -> None:
        self.cases, self.lungs = cases, lungs
        self.preparation = preparation
        self.labels = label_set(recipe.labels)
        self.seed = recipe.seed
        self.steps = recipe.augmentation if training else ()
        self._kept: dict[int, Prepared] = {}
        self.may_keep = len(cases) * recipe.image_size**2 * 5 <= CACHE_BYTES

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        round_, position = key
        x, target = self.prepared(position)
        if self.steps:
            rng = np.random.default_rng([self.seed, round_, position])
            x, target = augment(x, target, self.steps, rng)
        x = scale(x, self.preparation)
        return torch.from_numpy(x)[None], torch.from_numpy(target.astype(np.int64)), position

    def prepared(self, position: int) -> Prepared:
        """Clipped image [S, S] in 0..1 and codes [S, S] of its labels, before augmentation and scaling."""
        if position in self._kept:
            return self._kept[position]
        case, size = self.cases[position], self.preparation.image_size
        seen = clip01(case.image(), case.unit, self.preparation.intensity)
        x, _ = shrink(seen if self.lungs is None else within(seen, self.lungs(case)), size)
        item = (x, self.labels.encode(shrink_labels(case.labels(), size)))
        if self.may_keep:
            self._kept[position] = item
        return item


class Order(Sampler[tuple[int, int]]):
    """(round, position) of every slice; shuffled per (seed, round) when training. An epoch is one round through the
    slices, or as many as `drawn` slices need."""

    def __init__(self, length: int, seed: int, shuffle: bool, drawn: int | None = None) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.drawn = length if drawn is None else drawn
        self.epoch = 0

    def __len__(self) -> int:
        return self.drawn

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rounds = -(-self.drawn // self.length)
        keys: list[tuple[int, int]] = []
        for number in range(self.epoch * rounds, (self.epoch + 1) * rounds):
            positions = np.arange(self.length)
            if self.shuffle:
                positions = np.random.default_rng([self.seed, number]).permutation(self.length)
            keys += [(number, int(p)) for p in positions]
        return iter(keys[: self.drawn])


def loader(slices: Slices, recipe: Recipe, training: bool, device: str) -> DataLoader:
    """Batches of the recipe's size. A last training batch of a single slice is dropped, since batch normalisation
    cannot learn from one small map. Worker processes only feed a GPU; on a CPU they would fight for its cores."""
    workers = min(8, max(1, (os.cpu_count() or 2) - 1)) if device == "cuda" else 0
    if workers and slices.may_keep:
        # Prepared here, before the workers are forked: each would prepare all of them again.
        for position in range(len(slices)):
            slices.prepared(position)
    steps = recipe.steps_per_epoch if training else None
    drawn = len(slices) if steps is None else steps * recipe.batch_size
    drop = training and drawn > recipe.batch_size > 1 and drawn % recipe.batch_size == 1
    return DataLoader(
        slices,
        batch_size=recipe.batch_size,
        sampler=Order(len(slices), recipe.seed, shuffle=training, drawn=drawn),
        drop_last=drop,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device == "cuda",
    )
