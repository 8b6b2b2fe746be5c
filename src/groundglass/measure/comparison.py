"""Is one method better than another? Both measured on the same cases, compared case by case, cluster by cluster.

Slices of one patient are no independent votes, so the interval and the test both treat a cluster (patient) as one.

Sources: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979) 65-70; P. Good,
Permutation, Parametric and Bootstrap Tests of Hypotheses (2005), for the sign-flip test; B. Phipson and G. Smyth,
Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9 (2010), for the + 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.measure.intervals import bootstrap
from groundglass.measure.metrics import weighted_mean

Array = NDArray[np.float64]

ALPHA = 0.05
# Of n clusters the smallest p of a two-sided sign-flip test is 2 / 2 ** n, which 5 clusters cannot bring below 0.05.
FEWEST_TO_DECIDE = 6
# Of fewer there is nothing to resample; the same limit as in the summary.
_FEWEST_FOR_INTERVAL = 3
# Up to so many clusters, all patterns of signs are tried; beyond, as many as _DRAWS drawn ones.
_ENUMERATED, _DRAWS = 14, 10_000
# Sums that differ by no more than rounding are equal.
_EQUAL = 1e-12


@dataclass(frozen=True)
class Difference:
    """Method a minus method b on the same cases. Numbers are NaN where they cannot be given.

    n: cases in which both are defined; n_undefined: the other cases, left out. n_clusters: clusters of the n cases.
    mean: mean difference over the n cases; low, high: its 95 % interval. p: two-sided, not corrected for the number
    of comparisons.
    """

    n: int
    n_undefined: int
    n_clusters: int
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Spread:
    """What repeats of one recipe differ by: n runs, their mean, sample standard deviation (NaN for one run), limits."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


def compare_pair(a: Array, b: Array, clusters: Sequence[str], n_boot: int = 1000, seed: int = 0) -> Difference:
    """Mean of a - b over cases, with its interval and test. a, b: [N] float64 measured on the same cases, in one order.

    clusters: the cluster of each case, such as its patient. A case in which either method is undefined (NaN) is left
    out and counted. Interval: bootstrap of whole clusters of the paired differences (`intervals.bootstrap`), NaN below
    three clusters or with `n_boot` 0. Test: if neither method is better, the sign of a cluster's differences is a coin
    toss; p is the share of sign patterns (all of them up to 14 clusters, else 10,000 drawn) whose mean is at
    least as far from 0 as the one seen. Raises `DataError` when the lengths differ.
    """
    if not len(a) == len(b) == len(clusters):
        raise DataError(
            f"{len(a)} and {len(b)} values of {len(clusters)} cases cannot be paired; measure the same cases"
        )
    known = np.isfinite(a) & np.isfinite(b)
    difference: Array = (np.asarray(a, np.float64) - b)[known]
    names, index = np.unique(np.asarray(clusters, np.str_)[known], return_inverse=True)
    n_clusters = len(names)
    low = high = p = mean = np.nan
    if len(difference):
        mean = float(difference.mean())
        p = _sign_flip(np.bincount(index, difference).astype(np.float64), seed)
    if n_clusters >= _FEWEST_FOR_INTERVAL:
        interval = bootstrap(lambda weights: weighted_mean(difference, weights), names[index].tolist(), n_boot, seed)
        low, high = float(interval.low), float(interval.high)
    return Difference(int(known.sum()), int((~known).sum()), n_clusters, mean, low, high, p)


def holm(p_values: Sequence[float] | Array) -> Array:
    """p values [M] float64 corrected for M comparisons, in the order given (Holm 1979).

    NaN stands for a comparison that could not be made: it stays NaN and does not count.
    """
    p = np.asarray(p_values, np.float64)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return corrected


def decided(difference: Difference, corrected_p: float | None = None) -> bool:
    """Whether one method is shown to be better: p below 0.05, the interval without 0, and six clusters or more."""
    p = difference.p if corrected_p is None else corrected_p
    clear = difference.low > 0 or difference.high < 0
    return bool(difference.n_clusters >= FEWEST_TO_DECIDE and p < ALPHA and clear)


def sentence(
    difference: Difference,
    names: tuple[str, str],
    corrected_p: float | None = None,
    *,
    higher_is_better: bool = True,
    unit: str = "images",
) -> str:
    """What the comparison of method a with method b, called `names`, says in plain words.

    corrected_p: from `holm` where this is one of several comparisons, else None. unit: what a case is called.
    The method with the better mean is named first, and the numbers are its minus the other's.
    """
    d = difference
    if not d.n:
        return f"{names[0]} and {names[1]} cannot be compared: no {unit} in which both are defined"
    swap = d.mean < 0 if higher_is_better else d.mean > 0
    first, second = names[::-1] if swap else names
    mean, low, high = (-d.mean, -d.high, -d.low) if swap else (d.mean, d.low, d.high)
    where = f"n = {d.n} {unit} in {d.n_clusters} clusters" + (f", {d.n_undefined} left out" if d.n_undefined else "")
    interval = "no interval" if np.isnan(low) else f"95 % interval {low:.3f} to {high:.3f}"
    p = f"p {_p(d.p)}" if corrected_p is None else f"corrected p {_p(corrected_p)}"
    numbers = f"difference {mean:.3f}, {interval}, {p}, {where}"
    if d.n_clusters < FEWEST_TO_DECIDE:
        return f"No test can decide between {first} and {second} with fewer than {FEWEST_TO_DECIDE} clusters: {numbers}"
    verb = "is better" if decided(d, corrected_p) else "is not shown to be better"
    return f"{first} {verb} than {second}: {numbers}"


def seed_spread(values: Sequence[float]) -> Spread:
    """Spread of one number over runs of one recipe that differ by their seed. Raises `DataError` without runs."""
    if not len(values):
        raise DataError("there are no runs to take the spread of; give at least one")
    runs = np.asarray(values, np.float64)
    sd = float(runs.std(ddof=1)) if len(runs) > 1 else np.nan
    return Spread(len(runs), float(runs.mean()), sd, float(runs.min()), float(runs.max()))


def _sign_flip(sums: Array, seed: int) -> float:
    """Two-sided p of the total of `sums` [clusters] when each could as well have had the other sign."""
    seen = abs(sums.sum()) - _EQUAL * np.abs(sums).sum()
    if len(sums) <= _ENUMERATED:
        # The first sign stays: a pattern and its mirror image lie equally far from 0.
        patterns = np.arange(1 << (len(sums) - 1))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((1 - 2 * patterns) @ sums) >= seen).mean())
    reached = sum(int((np.abs(signs @ sums) >= seen).sum()) for signs in _signs(len(sums), seed))
    return (reached + 1) / (_DRAWS + 1)


def _signs(n: int, seed: int) -> Iterator[NDArray[np.int8]]:
    """Random signs [1000, n], in blocks that add up to `_DRAWS` rows."""
    random = np.random.default_rng(seed)
    for _ in range(_DRAWS // 1000):
        yield random.integers(0, 2, (1000, n), dtype=np.int8) * 2 - 1


def _p(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"
