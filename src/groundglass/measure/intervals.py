"""How sure a number is: percentile bootstrap intervals that resample whole clusters (patients), not images.

Images of one patient resemble each other; resampling them one by one makes intervals too narrow. So does a bootstrap
of few clusters, as a normal interval does that should be a t interval; the quantiles are therefore moved outwards by
as much (the expanded percentile interval). How often intervals then hold the truth, and how often they would without,
`docs/metrics.md` says.

Sources: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, for the percentile interval;
C. Field and A. Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 69 (2007) 369-390, for resampling clusters;
T. Hesterberg, What teachers should know about the bootstrap, Am. Statistician 69 (2015) 371-386, for the expansion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

Array = NDArray[np.float64]

# Weights held at a time (8 bytes each): 1000 resamples of 4000 cases in one go, more cases in several.
_BLOCK = 4_000_000


class Interval(NamedTuple):
    """Limits of an interval, each of the statistic's shape [...] float64; NaN where none can be given."""

    low: Array
    high: Array


def bootstrap(
    statistic: Callable[[Array], Array], clusters: Sequence[str], n_boot: int, seed: int, level: float = 0.95
) -> Interval:
    """Percentile interval of a statistic when whole clusters are drawn with replacement.

    statistic: maps weights [B, N] float64 (how often each case was drawn in each of B resamples) to values [B, ...].
    clusters: the cluster of each of the N cases.
    The limits are quantiles of the resamples in which the statistic is defined, at the levels that make up for the
    number of clusters. With fewer than two clusters, or
    `n_boot` 0, both are NaN.
    """
    names, index = np.unique(np.asarray(clusters, dtype=np.str_), return_inverse=True)
    if len(names) < 2 or n_boot < 1:
        nothing = np.full(np.shape(statistic(np.ones((1, len(index)))))[1:], np.nan)
        return Interval(nothing, nothing.copy())
    values = np.concatenate([statistic(weights) for weights in _resamples(index, len(names), n_boot, seed)])
    tail = _tail(level, len(names))
    return Interval(_quantile(values, tail), _quantile(values, 1 - tail))


def _tail(level: float, n_clusters: int) -> float:
    """The share of resamples below the lower limit. Without expansion: (1 - level) / 2."""
    t = stdtrit(n_clusters - 1, (1 - level) / 2)
    return float(ndtr(t * np.sqrt(n_clusters / (n_clusters - 1))))


def _resamples(index: NDArray[np.intp], n_clusters: int, n_boot: int, seed: int) -> Iterator[Array]:
    """Weights [b, N] of the cases, in blocks that add up to `n_boot` rows."""
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // max(len(index), n_clusters))
    for start in range(0, n_boot, rows):
        size = min(rows, n_boot - start)
        drawn = random.integers(0, n_clusters, (size, n_clusters))
        drawn += np.arange(size)[:, None] * n_clusters
        multiplicity = np.bincount(drawn.ravel(), minlength=size * n_clusters).reshape(size, n_clusters)
        yield multiplicity.astype(np.float64)[:, index]


def _quantile(values: Array, q: float) -> Array:
    """Quantile over the first axis of what is defined; NaN where nothing is."""
    flat = values.reshape(len(values), -1)
    limits = np.full(flat.shape[1], np.nan)
    known = np.isfinite(flat).any(axis=0)
    if known.any():
        limits[known] = np.nanquantile(flat[:, known], q, axis=0)
    return limits.reshape(values.shape[1:])
