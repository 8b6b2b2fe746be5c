"""Likenesses of many images, collected while a pass over a data set reads them, and the search among them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from groundglass.case import Case, Decoded, Unit
from groundglass.data.dataset import Dataset
from groundglass.data.likeness import Likeness, likeness
from groundglass.data.twins import Twins, search

# Likenesses kept between passes of one process (50 kB each), so that a second look at the same images is quick.
_REMEMBERED = 2048
_memory: dict[tuple[bytes, Unit], Likeness] = {}


class Album:
    """Give `visit` to `groundglass.data.defects.scan`, then `search`. Some 50 kB are kept of every image.

    with Album() as album:
        found = scan(dataset, visit=album.visit)
        twins = album.search(dataset, found.hashes)
    """

    def __init__(self) -> None:
        workers = max(1, min(os.cpu_count() or 1, 8))
        self._pool = ThreadPoolExecutor(workers)
        # Images that wait to be looked at hold memory; so many may.
        self._most_waiting = 4 * workers
        self._waiting: dict[str, Future[Likeness]] = {}
        self._seen: dict[str, Likeness] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def visit(self, case: Case, image: NDArray[np.float32] | None, labels: Decoded | None) -> None:
        """Look at one image (in the background). Images that could not be read, or are all of one value, are left out:
        there is nothing to be alike."""
        if image is None or image.ndim != 2 or not image.size or image.min() == image.max():
            return
        self._waiting[case.id] = self._pool.submit(_remembered, image, case.unit)
        if len(self._waiting) >= self._most_waiting:
            self._collect()

    def search(
        self, dataset: Dataset, hashes: Mapping[str, str], progress: Callable[[int, int], None] | None = None
    ) -> Twins:
        """Twins among all images that were visited; see `groundglass.data.twins.search`."""
        self._collect()
        return search((*dataset.cases, *dataset.test), self._seen, hashes, progress)

    def _collect(self) -> None:
        for case_id, future in self._waiting.items():
            self._seen[case_id] = future.result()
        self._waiting.clear()


def _remembered(image: NDArray[np.float32], unit: Unit) -> Likeness:
    key = (
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() + repr(image.shape).encode(),
        unit,
    )
    found = _memory.get(key)
    if found is None:
        found = likeness(image, unit)
        if len(_memory) >= _REMEMBERED:
            _memory.clear()
        _memory[key] = found
    return found
