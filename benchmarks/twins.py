"""Does the search find near duplicates and slices of one scan, does it take strangers for twins, and how does it grow?

    python -m benchmarks.twins [--data LOCATION ...] [--planted N] [--sizes N,N,...] [--seed N] [--json FILE]

Recall: every image of a data set is searched, and beside them copies of `--planted` of them, each changed in one way
(the table's rows), with a group and a source of their own, so that nothing but the picture can join them. `found` is
the share of copies that end in one cluster with their original. False alarms: pairs between images of two groups,
copies included; whether two groups are really two people only the data set's owner knows, so the groups are named.
Where a volume has several slices, these are searched as if each were alone (`neighbouring slices`).

Growth: seconds and memory of the search among N pictures. Their likenesses are drawn (features of a few hundred
phantoms, mixed and shaken), since 30,000 pictures are not at hand; the time to look at one is measured apart.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.timing import Child, Report, parser, peak_mb, resident_mb, seconds
from groundglass.case import Case, Unit
from groundglass.data.likeness import Likeness, likeness
from groundglass.data.opening import open_dataset
from groundglass.data.twins import Twins, join, search

Picture = NDArray[np.float32]
# Intensities in HU that become black and white before a picture is changed.
WINDOW = (-1250.0, 250.0)


def cropped(x: Picture, random: np.random.Generator) -> Picture:
    side = random.uniform(0.7, 0.9)
    height, width = (round(side * n) for n in x.shape)
    top, left = (int(random.integers(0, n - m + 1)) for n, m in zip(x.shape, (height, width), strict=True))
    return x[top : top + height, left : left + width]


def scaled(x: Picture, random: np.random.Generator) -> Picture:
    factor = random.uniform(0.5, 1.5)
    return cv2.resize(x, (round(x.shape[1] * factor), round(x.shape[0] * factor)), interpolation=cv2.INTER_AREA)


def recompressed(x: Picture, random: np.random.Generator) -> Picture:
    held = io.BytesIO()
    Image.fromarray((x * 255).astype(np.uint8)).save(held, "JPEG", quality=int(random.integers(25, 60)))
    return np.asarray(Image.open(held), np.float32) / 255


def evened(x: Picture, random: np.random.Generator) -> Picture:
    tiles = int(random.integers(4, 12))
    grey = cv2.createCLAHE(float(random.uniform(2, 6)), (tiles, tiles)).apply((x * 255).astype(np.uint8))
    return grey.astype(np.float32) / 255


def windowed(x: Picture, random: np.random.Generator) -> Picture:
    low, high = random.uniform(0.0, 0.15), random.uniform(0.7, 1.0)
    return np.clip((x - low) / (high - low), 0, 1).astype(np.float32)


def gamma(x: Picture, random: np.random.Generator) -> Picture:
    return (x ** np.exp(random.uniform(np.log(0.5), np.log(2.0)))).astype(np.float32)


def mirrored(x: Picture, random: np.random.Generator) -> Picture:
    return x[:, ::-1]


def upside_down(x: Picture, random: np.random.Generator) -> Picture:
    return x[::-1]


def turned(x: Picture, random: np.random.Generator) -> Picture:
    height, width = x.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(random.uniform(-10, 10)), 1.0)
    return np.asarray(cv2.warpAffine(x, turn, (width, height)), np.float32)


def all_at_once(x: Picture, random: np.random.Generator) -> Picture:
    """Cropped, scaled, mirrored or not, gamma, recompressed."""
    for change in (cropped, scaled, *((mirrored,) if random.random() < 0.5 else ()), gamma, recompressed):
        x = change(np.ascontiguousarray(x), random)
    return x


CHANGES: Mapping[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "cropped to 70-90 % of its side": cropped,
    "scaled to 50-150 %": scaled,
    "JPEG of quality 25-60": recompressed,
    "CLAHE": evened,
    "another window": windowed,
    "gamma 0.5-2": gamma,
    "mirrored left to right": mirrored,
    "mirrored top to bottom": upside_down,
    "turned by up to 10 degrees": turned,
    "cropped, scaled, mirrored, gamma, JPEG at once": all_at_once,
}
NEIGHBOURS, RESAMPLED = "neighbouring slices (as if alone)", "halfway between two slices, coarser by half"


def plant(location: str, planted: int, seed: int) -> dict[str, Any]:
    """Recall by change, and false alarms, of one data set."""
    dataset = open_dataset(location)
    cases = [*dataset.cases, *dataset.test]
    random = np.random.default_rng(seed)
    pictures = {case.id: _as_picture(case) for case in cases}
    chosen = [cases[i] for i in np.sort(random.permutation(len(cases))[:planted])]
    seen = {case_id: likeness(x * 255, Unit.PICTURE) for case_id, x in pictures.items()}
    # What is really one person: the data set's groups, or where it has none, nobody can say.
    person = {case.id: case.group for case in cases}
    twins = [cases]
    original: dict[str, tuple[str, str]] = {}
    for change, function in CHANGES.items():
        for case in chosen:
            x = function(pictures[case.id], random)
            _add(twins, seen, original, case, change, np.ascontiguousarray(x))
    volumes = _volumes(dataset.cases)
    for members in volumes.values():
        for first, second in list(pairwise(members))[:: max(1, len(members) // 8)]:
            if pictures[first.id].shape == pictures[second.id].shape:
                x = (pictures[first.id] + pictures[second.id]) / 2
                small = cv2.resize(x, (x.shape[1] // 2, x.shape[0] // 2), interpolation=cv2.INTER_AREA)
                _add(twins, seen, original, first, RESAMPLED, small)
    found = search([case for part in twins for case in part], seen, {})
    joined = {case_id: number for number, cluster in enumerate(found.clusters) for case_id in cluster}
    answers: dict[str, list[bool]] = defaultdict(list)
    for copy, (change, case_id) in original.items():
        answers[change].append(copy in joined and joined[copy] == joined.get(case_id))
    person |= {copy: person[case_id] for copy, (_, case_id) in original.items()}
    strangers = [pair for pair in found.pairs if person[pair.first] != person[pair.second]]
    n_strangers = _stranger_pairs(list(person.values()))
    if volumes:
        alone = [replace(case, group=case.id) for members in volumes.values() for case in members]
        again = search(alone, seen, {})
        number = {case_id: place for place, cluster in enumerate(again.clusters) for case_id in cluster}
        for members in volumes.values():
            for first, second in pairwise(members):
                answers[NEIGHBOURS].append(first.id in number and number[first.id] == number.get(second.id))
    return {
        "location": location,
        "images": found.n_images,
        "answers": dict(answers),
        "strangers": n_strangers,
        "alarms": len(strangers),
        "alarmed": join([(person[pair.first], person[pair.second]) for pair in strangers]),
    }


def _as_picture(case: Case) -> Picture:
    """Grey values [H, W] float32 in 0..1."""
    low, high = (0.0, 255.0) if case.unit is Unit.PICTURE else WINDOW
    return np.clip((case.image() - low) / (high - low), 0, 1).astype(np.float32)


def _add(
    twins: list[list[Case]],
    seen: dict[str, Likeness],
    original: dict[str, tuple[str, str]],
    case: Case,
    change: str,
    x: Picture,
) -> None:
    copy = replace(case, id=f"{change}/{case.id}", source=f"{change} {len(original)}", group=f"{change}/{case.id}")
    twins.append([copy])
    seen[copy.id] = likeness(x * 255, Unit.PICTURE)
    original[copy.id] = (change, case.id)


def _volumes(cases: Sequence[Case]) -> dict[str, list[Case]]:
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        members[case.group].append(case)
    return {group: found for group, found in members.items() if len(found) > 1}


def _stranger_pairs(people: Sequence[str]) -> int:
    counts = np.unique(people, return_counts=True)[1]
    return int((len(people) * (len(people) - 1) - (counts * (counts - 1)).sum()) // 2)


def measure(size: int) -> dict[str, Any]:
    """Seconds and memory of a search among `size` drawn likenesses, in this process."""
    before = resident_mb()
    known = list(_drawn(size))
    cases = [Case(f"{i}", "drawn", f"{i}", (1, 1), Unit.PICTURE, _no_image) for i in range(size)]
    held: list[Twins] = []
    started = time.process_time()
    taken = seconds(lambda: held.append(search(cases, {f"{i}": x for i, x in enumerate(known)}, {})))
    spent = time.process_time() - started
    return {
        "s": taken,
        "processor_s": spent,
        "compared": held[0].n_compared,
        "pairs": len(held[0].pairs),
        "memory_mb": peak_mb() - before,
    }


def _no_image() -> NDArray[np.float32]:
    raise NotImplementedError("drawn likenesses have no image")


def _drawn(size: int) -> Iterator[Likeness]:
    """Likenesses like those of phantoms, none like another: each takes half its features from one phantom."""
    base = [likeness(case.image(), case.unit) for case in open_dataset("phantom:40").cases[::2]]
    every = np.concatenate([x.descriptors for x in base])
    random = np.random.default_rng(0)
    for i in range(size):
        a = base[i % len(base)]
        n = len(a.points)
        take = random.random(n) < 0.3
        descriptors = np.where(take[:, None], a.descriptors, every[random.integers(0, len(every), n)])
        shaken = np.clip(descriptors.astype(np.float32) + random.normal(0, 8, (n, 128)), 0, 255).astype(np.uint8)
        points = np.where(take[:, None], a.points + random.normal(0, 12, (n, 2)), random.uniform(0, 255, (n, 2)))
        yield Likeness(points.astype(np.float32), shaken, a.size, a.small.copy())


def main() -> None:
    made = parser(__doc__, rounds=1)
    made.add_argument("--data", nargs="*", default=["phantom:60"], help="data sets (default phantom:60)")
    made.add_argument("--planted", type=int, default=40, help="copies of each kind (default 40)")
    made.add_argument("--sizes", default="1000,3000", help="numbers of pictures (default 1000,3000)")
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    report = Report("Does the search find twins, and only twins? How does it grow?")
    for location in options.data:
        told = plant(location, options.planted, options.seed)
        rows = [(change, f"{np.mean(found):.1%}", len(found)) for change, found in told["answers"].items()]
        name = location.rstrip("/").rpartition("/")[2]
        report.table(f"Planted among {name}: {told['images']:,} images", ["change", "found", "n"], rows)
        groups = "; ".join(" = ".join(sorted(group)) for group in told["alarmed"]) or "none"
        columns = ["pairs named across groups", "pairs across groups", "groups joined"]
        report.table(f"Across groups, {name}", columns, [(told["alarms"], f"{told['strangers']:,}", groups)])
    cases = open_dataset("phantom:4").cases
    images = [(case.image(), case.unit) for case in cases]
    look = seconds(lambda: [likeness(*image) for image in images]) / len(images)
    rows = []
    with Child("benchmarks.twins") as child:
        for size in (int(text) for text in options.sizes.split(",")):
            ask = partial(child.ask, size=size)
            answer = ask()
            rows.append(
                (f"{size:,}", *(round(answer[k], 1) for k in ("s", "processor_s", "compared", "pairs", "memory_mb")))
            )
    columns = ["pictures", "search s", "processor s", "pairs compared", "pairs found", "memory MB"]
    report.table(f"Growth; to look at one picture takes {1000 * look:.0f} ms more", columns, rows)
    report.write(options.json)


if __name__ == "__main__":
    main()
