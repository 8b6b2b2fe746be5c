"""Slices for training and validation: prepared once, kept in memory while they fit, augmented per epoch and case."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from groundglass.case import Case
from groundglass.labels import label_set
from groundglass.learning.augmentation import augment
from groundglass.model.prepare import Preparation, clip01, scale, shrink, shrink_labels
from groundglass.recipes.settings import Recipe

# Prepared slices are kept in memory up to this many bytes; beyond it they are read again each epoch.
CACHE_BYTES = 2 * 1024**3

Prepared = tuple[NDArray[np.float32], NDArray[np.uint8]]


class Slices(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Items (x [1, S, S] float32, target [S, S] int64 codes, position in `cases`).

    Indexed by (epoch, position), so that a slice's augmentation depends on nothing else than seed, epoch and case;
    neither the number of worker processes nor a resumed training changes it.
    """

    def __init__(self, cases: Sequence[Case], recipe: Recipe, preparation: Preparation, training: bool) -> None:
        self.cases = cases
        self.preparation = preparation
        self.labels = label_set(recipe.labels)
        self.seed = recipe.seed
        self.steps = recipe.augmentation if training else ()
        self._kept: dict[int, Prepared] = {}
        self.may_keep = len(cases) * recipe.image_size**2 * 5 <= CACHE_BYTES

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        epoch, position = key
        x, target = self.prepared(position)
        if self.steps:
            rng = np.random.default_rng([self.seed, epoch, position])
            x, target = augment(x, target, self.steps, rng)
        x = scale(x, self.preparation)
        return torch.from_numpy(x)[None], torch.from_numpy(target.astype(np.int64)), position

    def prepared(self, position: int) -> Prepared:
        """Clipped image [S, S] in 0..1 and codes [S, S] of its labels, before augmentation and scaling."""
        if position in self._kept:
            return self._kept[position]
        case, size = self.cases[position], self.preparation.image_size
        x, _ = shrink(clip01(case.image(), case.unit, self.preparation.intensity), size)
        item = (x, self.labels.encode(shrink_labels(case.labels(), size)))
        if self.may_keep:
            self._kept[position] = item
        return item


class Order(Sampler[tuple[int, int]]):
    """(epoch, position) of every slice; shuffled per (seed, epoch) when training."""

    def __init__(self, length: int, seed: int, shuffle: bool) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        positions = np.arange(self.length)
        if self.shuffle:
            positions = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(p)) for p in positions])


def loader(slices: Slices, recipe: Recipe, training: bool, device: str) -> DataLoader:
    """Batches of the recipe's size. A last training batch of a single slice is dropped, since batch normalisation
    cannot learn from one small map. Worker processes only feed a GPU; on a CPU they would fight for its cores."""
    workers = min(8, max(1, (os.cpu_count() or 2) - 1)) if device == "cuda" else 0
    if workers and slices.may_keep:
        # Prepared here, before the workers are forked: each would prepare all of them again.
        for position in range(len(slices)):
            slices.prepared(position)
    drop = training and len(slices) > recipe.batch_size > 1 and len(slices) % recipe.batch_size == 1
    return DataLoader(
        slices,
        batch_size=recipe.batch_size,
        sampler=Order(len(slices), recipe.seed, shuffle=training),
        drop_last=drop,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device == "cuda",
    )
