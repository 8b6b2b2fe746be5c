"""How long does one slice take to segment, and where does the time go?

    python -m benchmarks.prediction [--recipe NAME] [--set KEY=VALUE...] [--slices N] [--threads N] [--rounds N]
                                    [--json FILE]

A drawn chest of 512 x 512 goes through `groundglass.model.predict.segment` as in `groundglass predict`: prepare (clip,
shrink to the network's square, scale), network, restore (probabilities back onto the 512 grid), decide (threshold or
argmax, class numbers into labels). The network is the recipe's with random weights: time does not depend on them.

Variants take turns, each in a fresh process: fp32 or bf16 (only faster with AVX512-BF16 or AMX), without or with flips
(four views of the slice), with the C library's allocator as it comes or tuned (see benchmarks.training_step).
`ms` is the median over slices of the whole call, the parts are medians of their own, in ms; what is missing to the
whole is averaging flips and copying. The first slice warms up and is not counted.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import Answer, Child, Report, cores, interleave, parser
from groundglass import recipes
from groundglass.data.opening import open_dataset
from groundglass.labels import label_set
from groundglass.learning.allocator import ALLOCATOR
from groundglass.learning.device import bf16_gains
from groundglass.learning.engine import TorchEngine
from groundglass.model.decide import decide
from groundglass.model.predict import Model, Tta, segment
from groundglass.model.prepare import Preparation, clip01, restore, scale, shrink
from groundglass.networks.building import build, in_channels
from groundglass.recipes.settings import Thresholds

PARTS = ("prepare", "network", "restore", "decide")


class TimedEngine:
    """An engine that remembers its last answer and how long it took, in seconds."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine
        self.taken = 0.0
        self.answer: NDArray[np.float32]

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        started = perf_counter()
        self.answer = self.engine(batch)
        self.taken = perf_counter() - started
        return self.answer


def measure(recipe: str, settings: list[str], precision: str, tta: Tta, slices: int, threads: int) -> Answer:
    """Medians in ms over `slices` slices: the whole and its parts."""
    torch.set_num_threads(threads)
    chosen = recipes.load(recipe, settings)
    preparation = Preparation(chosen.intensity, chosen.image_size, mean=-500.0, std=400.0)
    engine = TimedEngine(TorchEngine(build(chosen), in_channels(chosen), "cpu", precision))
    labels = label_set(chosen.labels)
    thresholds = dict.fromkeys(labels.lesions, 0.5) if isinstance(chosen.decision, Thresholds) else None
    model = Model(engine, preparation, labels, thresholds)
    case = open_dataset("phantom:1").cases[2]
    image = np.kron(case.image(), np.ones((2, 2), np.float32))
    taken: dict[str, list[float]] = {name: [] for name in ("ms", *PARTS)}
    for _ in range(slices + 1):
        started = perf_counter()
        segment([model], image, case.unit, tta)
        taken["ms"].append(perf_counter() - started)
        taken["network"].append(engine.taken)

        started = perf_counter()
        x, fit = shrink(clip01(image, case.unit, chosen.intensity), chosen.image_size)
        scale(x, preparation)
        taken["prepare"].append(perf_counter() - started)

        started = perf_counter()
        p = restore(engine.answer[0], fit)
        taken["restore"].append(perf_counter() - started)

        started = perf_counter()
        labels.decode(decide(p, labels, thresholds))
        taken["decide"].append(perf_counter() - started)
    return {name: 1000 * median(values[1:]) for name, values in taken.items()}


def main() -> None:
    made = parser(__doc__, rounds=3, threads=cores())
    made.add_argument("--recipe", default="effnet-lite", help="a shipped recipe or a YAML file")
    made.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    made.add_argument("--slices", type=int, default=5, help="timed slices of a turn (default 5)")
    options = made.parse_args()
    report = Report("How long does one slice take to segment, and where does the time go?")
    if not bf16_gains("cpu"):
        print("This processor has no bf16 arithmetic: bf16 will be slower, and `precision: auto` does not take it.")
    name = "benchmarks.prediction"
    with Child(name, without=tuple(ALLOCATOR)) as plain, Child(name, ALLOCATOR) as tuned:
        asked = {"recipe": options.recipe, "settings": options.settings, "slices": options.slices}
        asked["threads"] = options.threads
        variants = {
            (precision, tta, allocator): partial(child.ask, precision=precision, tta=tta, **asked)
            for tta in ("none", "flips")
            for precision in ("fp32", "bf16")
            for allocator, child in (("plain", plain), ("tuned", tuned))
        }
        answers = interleave(variants, options.rounds)
    first = next(iter(answers.values()))["ms"]
    rows = []
    for (precision, tta, allocator), a in answers.items():
        parts = [round(a[part], 1) for part in PARTS]
        share = f"{a['network'] / a['ms']:.0%}"
        rows.append((precision, tta, allocator, round(a["ms"]), f"{first / a['ms']:.2f}x", *parts, share))
    size = recipes.load(options.recipe, options.settings).image_size
    report.table(
        f"{options.recipe}, {size} px, a slice of 512 x 512, {options.threads} threads, median of {options.rounds}",
        ["precision", "flips", "allocator", "ms", "gain", *PARTS, "network's share"],
        rows,
    )
    report.write(options.json)


if __name__ == "__main__":
    main()
