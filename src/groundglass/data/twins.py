"""Images that show the same thing: one picture in two guises, or two slices of one scan.

Found by what they show, without labels, names or ids. Each image is summed up in one vector (VLAD, Jegou et al. 2010);
its nearest vectors, also of its mirror image, are looked at closely (`groundglass.data.likeness`). Above a few thousand
images only the vectors of the nearest cells are looked through (an inverted file, Jegou et al. 2011), so that the time
grows like n to the power 1.5 at worst, and nearly like n while the close looks dominate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from groundglass.case import Case
from groundglass.data.likeness import Fit, Likeness, compare, mirrored

Kind = Literal["same-picture", "mirrored-picture", "same-scan"]
Vectors = NDArray[np.float32]

# How many nearest images are looked at closely, and how many nearest to the mirror image; and how many that follow in
# the order of their source, where the slices of a scan often lie together.
NEIGHBOURS, MIRRORED, FOLLOWING = 10, 4, 2
# The sum of matched features and 25 times the correlation ("alikeness") of two images of different people: one pair in
# a thousand reaches 22.1, and each 3.0 more are ten times rarer. Measured by `python -m benchmarks.twins`.
_WEIGHT, _RARE, _DECADE = 25.0, 22.1, 3.0
# A pair is named when fewer than this many pairs so alike are expected by chance in the whole search.
EXPECTED = 0.05
# From here on two images are called one picture and not two slices of one scan.
_PICTURE_CORRELATION = 0.87
_WORDS, _DIMENSIONS, _SAMPLE = 16, 256, 20_000
# Directions in which the vectors are compared, all made to vary alike: what all chests share says nothing.
_WHITENED = 64
_CELLS_FROM, _PROBED = 4096, 12


@dataclass(frozen=True)
class Pair:
    """Two images, by case id in the order of the data set, that should not lie on two sides of a split.

    kind: `same-picture` (cropped, scaled, recompressed, contrast changed), `mirrored-picture` (the same, mirrored), or
    `same-scan` (neighbouring or resampled slices). confidence: 1 less the number of pairs of strangers so alike that
    this search would be expected to find by chance; 1 for equal pixels.
    """

    first: str
    second: str
    kind: Kind
    confidence: float


@dataclass(frozen=True)
class Twins:
    """What the search found.

    n_images: images searched; n_compared: pairs looked at closely. clusters: ids joined by pairs, also by way of
    others, the largest cluster first; nobody is in two.
    """

    n_images: int = 0
    n_compared: int = 0
    pairs: tuple[Pair, ...] = ()
    clusters: tuple[tuple[str, ...], ...] = ()


def search(
    cases: Sequence[Case],
    seen: Mapping[str, Likeness],
    hashes: Mapping[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> Twins:
    """Find the twins among `cases`, whose likenesses and sha256 of pixels are given by id.

    Two cases of one group (a patient or volume that is known) are not compared: they belong together anyway.
    `progress` is called with (images done, all images).
    """
    known = [case for case in cases if case.id in seen]
    places = {case.id: place for place, case in enumerate(known)}
    copies = [pair for pair in _copies(known, hashes) if pair[0] != pair[1]]
    copied = {second for _, second in copies}
    # Of equal pictures only the first is searched for.
    searched = [case for case in known if case.id not in copied]
    pairs = [Pair(first, second, "same-picture", 1.0) for first, second in copies]
    n_compared = 0
    if len(searched) > 1:
        # By chance alone any two may be alike; of those that follow one another there are far fewer.
        anywhere, next_to = len(known) * (len(known) - 1) / 2, float(FOLLOWING * len(known))
        likenesses = [seen[case.id] for case in searched]
        for done, (i, looks) in enumerate(_looks(searched, likenesses), start=1):
            for other, mirror, follows in looks:
                n_compared += 1
                chance = next_to if follows else anywhere
                b = mirrored(likenesses[other]) if mirror else likenesses[other]
                fit = compare(likenesses[i], b, needed(chance), _WEIGHT)
                if fit is not None:
                    pairs.append(_pair(searched[i], searched[other], fit, mirror, chance))
            if progress:
                progress(done, len(searched))
    named = _once(pairs, places)
    return Twins(len(known), n_compared, named, _clusters(named, places))


def needed(chance: float) -> float:
    """The alikeness that a pair must reach among `chance` pairs."""
    return _RARE + _DECADE * (float(np.log10(chance / EXPECTED)) - 3)


def alikeness(fit: Fit) -> float:
    """Matched features and correlation in one number."""
    return fit.matches + _WEIGHT * fit.correlation


def _pair(first: Case, second: Case, fit: Fit, mirror: bool, chance: float) -> Pair:
    expected = chance * 10 ** -(3 + (alikeness(fit) - _RARE) / _DECADE)
    kind: Kind = "same-scan"
    if mirror:
        kind = "mirrored-picture"
    elif fit.correlation >= _PICTURE_CORRELATION:
        kind = "same-picture"
    return Pair(first.id, second.id, kind, round(max(0.0, 1 - expected), 6))


def _copies(cases: Sequence[Case], hashes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(first, later) of every picture that is there more than once."""
    holder: dict[str, str] = {}
    for case in cases:
        if case.id in hashes:
            yield holder.setdefault(hashes[case.id], case.id), case.id


def _once(pairs: Sequence[Pair], places: Mapping[str, int]) -> tuple[Pair, ...]:
    """Each pair once, as what it is most surely, in the order of the data set."""
    best: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        known = best.setdefault((pair.first, pair.second), pair)
        if pair.confidence > known.confidence:
            best[pair.first, pair.second] = pair
    return tuple(sorted(best.values(), key=lambda pair: (places[pair.first], places[pair.second])))


def _clusters(pairs: Sequence[Pair], places: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
    joined = join([(pair.first, pair.second) for pair in pairs])
    ordered = [tuple(sorted(cluster, key=places.__getitem__)) for cluster in joined]
    return tuple(sorted(ordered, key=lambda cluster: (-len(cluster), places[cluster[0]])))


def join(links: Sequence[Sequence[str]]) -> list[list[str]]:
    """Names that are linked, also by way of others, together (union-find); in order of appearance."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for first, *others in links:
        for other in others:
            parent[root(other)] = root(first)
        root(first)
    together: dict[str, list[str]] = {}
    for name in parent:
        together.setdefault(root(name), []).append(name)
    return list(together.values())


def _looks(cases: Sequence[Case], seen: Sequence[Likeness]) -> Iterator[tuple[int, list[tuple[int, bool, bool]]]]:
    """For each image, whom to compare it with: (other, as its mirror image, because it follows), other > image."""
    groups = np.unique([case.group for case in cases], return_inverse=True)[1]
    words = _vocabulary(seen)
    plain, turned = (np.stack([_vector(x, words) for x in found]) for found in (seen, map(mirrored, seen)))
    whiten = _whitening(plain)
    vectors, turned = whiten(plain), whiten(turned)
    looks: list[dict[tuple[int, bool], bool]] = [{} for _ in seen]
    for query, count, mirror in ((vectors, NEIGHBOURS, False), (turned, MIRRORED, True)):
        for i, nearest in enumerate(_nearest(vectors, query, groups, count).tolist()):
            for j in nearest:
                if j >= 0:
                    looks[min(i, j)][max(i, j), mirror] = False
    for step in range(1, FOLLOWING + 1):
        for i, (case, other) in enumerate(zip(cases, cases[step:], strict=False)):
            if case.source == other.source and groups[i] != groups[i + step]:
                looks[i][i + step, False] = True
    for i, found in enumerate(looks):
        yield i, [(j, mirror, follows) for (j, mirror), follows in sorted(found.items())]


def _vocabulary(seen: Sequence[Likeness]) -> Vectors:
    """Typical descriptors [_WORDS, 128], from a sample."""
    random = np.random.default_rng(0)
    chosen = random.permutation(len(seen))[: max(1, _SAMPLE // 64)]
    sample = np.concatenate([seen[i].descriptors for i in np.sort(chosen)]).astype(np.float32) / 255
    if len(sample) < _WORDS:
        return np.zeros((_WORDS, 128), np.float32)
    sample = sample[random.permutation(len(sample))[:_SAMPLE]]
    words, _ = kmeans2(sample, _WORDS, iter=10, minit="points", seed=0)
    return np.asarray(words, np.float32)


def _vector(seen: Likeness, words: Vectors) -> Vectors:
    """One vector [_DIMENSIONS] of length 1 (or 0 where nothing is seen): how the descriptors lie around the words."""
    descriptors = seen.descriptors.astype(np.float32) / 255
    sums = np.zeros_like(words)
    if len(descriptors):
        nearest = (descriptors @ words.T - (words**2).sum(axis=1) / 2).argmax(axis=1)
        for word in np.unique(nearest):
            residual = (descriptors[nearest == word] - words[word]).sum(axis=0)
            sums[word] = residual / max(float(np.linalg.norm(residual)), 1e-6)
    vector = sums.ravel() @ _projection(sums.size)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)


def _whitening(vectors: Vectors) -> Callable[[Vectors], Vectors]:
    """Principal directions with equal variance (Jegou and Chum 2012), from at most `_SAMPLE` of the vectors [N, D]."""
    sample = vectors[np.sort(np.random.default_rng(0).permutation(len(vectors))[:_SAMPLE])]
    mean = sample.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov((sample - mean).T, bias=True))
    # Of a few images only a few directions are known.
    count = max(2, min(_WHITENED, len(sample) // 4))
    scale = directions[:, -count:] / np.sqrt(np.maximum(values[-count:], 1e-6 * max(float(values[-1]), 1e-12)))

    def whiten(some: Vectors) -> Vectors:
        turned = (some - mean) @ scale
        return np.asarray(turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-6), np.float32)

    return whiten


def _projection(size: int) -> Vectors:
    if size not in _PROJECTIONS:
        random = np.random.default_rng(0)
        _PROJECTIONS[size] = random.standard_normal((size, _DIMENSIONS)).astype(np.float32)
    return _PROJECTIONS[size]


_PROJECTIONS: dict[int, Vectors] = {}


def _nearest(vectors: Vectors, queries: Vectors, groups: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """The `count` nearest images [N, count] of other groups, -1 where there are fewer."""
    everyone = np.arange(len(vectors))
    found = np.full((len(vectors), count), -1, np.intp)
    if len(vectors) <= _CELLS_FROM:
        for start in range(0, len(vectors), 512):
            asking = everyone[start : start + 512]
            found[asking] = _top(vectors, queries, groups, asking, everyone, count)
        return found
    random = np.random.default_rng(0)
    n_cells = int(np.sqrt(len(vectors)))
    centres, _ = kmeans2(
        vectors[random.permutation(len(vectors))[: 40 * n_cells]], n_cells, iter=8, minit="points", seed=0
    )
    centres = np.asarray(centres, np.float32)
    half = (centres**2).sum(axis=1) / 2
    cell, asked = ((x @ centres.T - half).argmax(axis=1) for x in (vectors, queries))
    near = (centres @ centres.T - half).argsort(axis=1)[:, ::-1][:, :_PROBED]
    members = [np.flatnonzero(cell == c) for c in range(n_cells)]
    for c in range(n_cells):
        asking = np.flatnonzero(asked == c)
        pool = np.concatenate([members[other] for other in near[c]])
        if len(asking) and len(pool):
            found[asking] = _top(vectors, queries, groups, asking, pool, count)
    return found


def _top(
    vectors: Vectors,
    queries: Vectors,
    groups: NDArray[np.intp],
    asking: NDArray[np.intp],
    pool: NDArray[np.intp],
    count: int,
) -> NDArray[np.intp]:
    product = queries[asking] @ vectors[pool].T
    product[groups[asking][:, None] == groups[pool][None, :]] = -np.inf
    best = np.argsort(-product, axis=1, kind="stable")[:, :count]
    found = np.where(np.isfinite(np.take_along_axis(product, best, axis=1)), pool[best], -1)
    return np.pad(found, ((0, 0), (0, count - found.shape[1])), constant_values=-1)
