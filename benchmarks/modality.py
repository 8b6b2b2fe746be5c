"""How often does the input gate take a chest X-ray for a CT slice, or the reverse?

    python -m benchmarks.modality [--data LOCATION ...] [--changes N] [--seed N] [--fit] [--json FILE]

Every image is shown to the gate as it is, and `--changes` times changed in one way (the second table's rows). Images in
Hounsfield units are shown as pictures in three windows: of Radiopaedia's slices, a wide one, and of soft tissue.

The rule was set on one half of each data set: its Train part where it has parts, else the first half of its patients,
volumes or, where neither is known, images. Drawn X-rays of seed 1 took part with a small weight, since their edges are
sharper than a patient's; other phantoms took none. `--fit` sets the rule anew on what took part and prints the lines
for scans/modality.py; give it the data sets that stand there.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import Report, parser
from benchmarks.twins import CHANGES as OF_TWINS
from benchmarks.twins import Picture, upside_down
from groundglass.case import Modality, Unit
from groundglass.data.opening import GENERATED, open_dataset
from groundglass.scans.modality import MOST, TERMS, judge, traits

WINDOWS = ((-1350.0, 150.0), (-1000.0, 400.0), (-160.0, 240.0))
# Of drawn X-rays, beside a data set of patients.
DRAWN_WEIGHT = 0.05
SET, HELD_OUT = "set on", "held out"
PLAIN, NEGATIVE = "as it is", "negative (MONOCHROME1)"


def boxed(x: Picture, random: np.random.Generator) -> Picture:
    """In a black or white letter box of up to a quarter of each side."""
    sides = [int(random.uniform(0, 0.25) * n) for n in (x.shape[0], x.shape[0], x.shape[1], x.shape[1])]
    return np.pad(x, (sides[:2], sides[2:]), constant_values=float(random.choice([0.0, 0.0, 1.0])))


def noisy(x: Picture, random: np.random.Generator) -> Picture:
    return np.clip(x + random.normal(0, random.uniform(0.01, 0.06), x.shape), 0, 1).astype(np.float32)


def negative(x: Picture, random: np.random.Generator) -> Picture:
    return 1 - x


CHANGES: Mapping[str, Callable[[Picture, np.random.Generator], Picture]] = {
    **OF_TWINS,
    "letter box": boxed,
    "noise of 1-6 %": noisy,
    NEGATIVE: negative,
}


class Shown(NamedTuple):
    """One picture that the gate was shown."""

    source: str
    half: str
    modality: Modality
    change: str
    traits: dict[str, float]
    guess: Modality | None


def show(location: str, changes: int, seed: int) -> Iterator[Shown]:
    """Every image of a data set as it is, and `changes` times changed."""
    dataset = open_dataset(location)
    cases = [*dataset.cases, *dataset.test]
    groups = sorted({case.group for case in cases})
    first = set(groups[: (len(groups) + 1) // 2])
    name = location.rstrip("/").rpartition("/")[2]
    for case in cases:
        half = SET if (case.part == "train" if case.part else case.group in first) else HELD_OUT
        if location.startswith(GENERATED):
            half = SET if location.startswith("phantom-xray:") and location.endswith(":1") else HELD_OUT
        image = case.image()
        windows = WINDOWS if case.unit is Unit.HU else ((0.0, 255.0),)
        for low, high in windows:
            x = np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
            source = f"{name} {low:.0f}..{high:.0f}" if case.unit is Unit.HU else f"{name} {case.cohort}".strip()
            # No X-ray is looked at upside down, and the negative of a CT slice is nobody's picture.
            excluded = upside_down if case.modality == "X-ray" else negative
            possible = [change for change, function in CHANGES.items() if function is not excluded]
            random = np.random.default_rng([seed, zlib.crc32(f"{case.id} {low}".encode())])
            for change in (PLAIN, *random.permutation(possible)[:changes]):
                y = x if change == PLAIN else np.ascontiguousarray(CHANGES[change](x, random))
                grey = y * 255
                found = traits(grey)
                yield Shown(source, half, case.modality, change, found, judge(found))


def row(name: str, shown: list[Shown]) -> tuple[str, int, str, str, str, str]:
    """Name, n, wrong, wrong in %, none, none in %."""
    counts = Counter("none" if x.guess is None else "right" if x.guess == x.modality else "wrong" for x in shown)
    n = max(1, len(shown))
    return (
        name,
        len(shown),
        str(counts["wrong"]),
        f"{100 * counts['wrong'] / n:.2f}",
        str(counts["none"]),
        f"{100 * counts['none'] / n:.1f}",
    )


def fit(shown: list[Shown]) -> list[str]:
    """The rule set on the first halves: each data set counts alike within its modality, and both modalities alike."""
    from sklearn.linear_model import LogisticRegression

    used = [x for x in shown if x.half == SET and x.change != NEGATIVE]
    names = list(used[0].traits)
    values = np.array([[x.traits[name] for name in names] for x in used])
    x_ray = np.array([x.modality == "X-ray" for x in used])
    weights: NDArray[np.float64] = np.zeros(len(used))
    sets = np.array([x.source.partition(" ")[0] for x in used])
    for one in np.unique(sets):
        weights[sets == one] = (DRAWN_WEIGHT if one.startswith(GENERATED) else 1) / np.sum(sets == one)
    for side in (x_ray, ~x_ray):
        weights[side] *= len(used) / 2 / weights[side].sum()
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    scaled = np.clip((values - mean) / deviation, -MOST, MOST)
    model = LogisticRegression(max_iter=2000).fit(scaled, x_ray, sample_weight=weights)
    lines = [
        f'"{name}": Term({weight:.2f}, {middle:.3f}, {spread:.3f}, {low:.3f}, {high:.3f}),'
        for name, weight, middle, spread, low, high in zip(
            names, model.coef_[0], mean, deviation, values.min(axis=0) - 5e-4, values.max(axis=0) + 5e-4, strict=True
        )
    ]
    return [*lines, f"BIAS = {model.intercept_[0]:.2f}"]


def main() -> None:
    made = parser(__doc__, rounds=1)
    made.add_argument(
        "--data", nargs="*", default=["phantom:10", "phantom-xray:60"], help="data sets (default phantoms)"
    )
    made.add_argument("--changes", type=int, default=2, help="changes of each image (default 2)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--fit", action="store_true", help="set the rule anew, and print it")
    options = made.parse_args()
    report = Report("How often does the input gate take a chest X-ray for a CT slice, or the reverse?")
    shown = [x for location in options.data for x in show(location, options.changes, options.seed)]
    columns = ["n", "wrong", "wrong %", "none", "none %"]
    rows = []
    for half in (SET, HELD_OUT):
        for source in dict.fromkeys(x.source for x in shown):
            for plain in (True, False):
                chosen = [
                    x
                    for x in shown
                    if (x.source, x.half, x.change == PLAIN) == (source, half, plain) and x.change != NEGATIVE
                ]
                if chosen:
                    name, *numbers = row(source, chosen)
                    rows.append((half, name, chosen[0].modality, PLAIN if plain else "changed", *numbers))
    report.table("By source", ["half", "images", "modality", "shown", *columns], rows)
    rows = []
    for change in (PLAIN, *CHANGES):
        for modality in ("CT", "X-ray"):
            chosen = [x for x in shown if (x.change, x.modality, x.half) == (change, modality, HELD_OUT)]
            if chosen:
                name, *numbers = row(change, chosen)
                rows.append((name, modality, *numbers))
    report.table("By change, held out", ["change", "modality", *columns], rows)
    if options.fit:
        print(f"\n{len(TERMS)} terms, set on the first halves:")
        print("\n".join(fit(shown)))
    report.write(options.json)


if __name__ == "__main__":
    main()
