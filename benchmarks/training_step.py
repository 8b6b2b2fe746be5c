"""What does a training step cost, and what do the allocator's settings and bf16 gain?

    python -m benchmarks.training_step [--recipes NAME...] [--size PX] [--batch N] [--steps N] [--threads N]
                                       [--rounds N] [--json FILE]

What is timed is what is trained: the recipe's own network, losses and optimiser, forward, backward and update, on
random pixels, since time does not depend on what is seen. Encoders have random weights, and `unet` the width 32 that
its header names for a laptop. Augmentation and validation are not in it (see benchmarks.loading).

Six variants take turns, each in a fresh process:
    allocator  plain: as the C library comes; tuned: the variables of groundglass.learning.allocator, which the command
               line sets before it trains. glibc returns large buffers to the system after each step and faults them
               in again at the next; tuned, it keeps them.
    precision  fp32; fp32 channels_last: another order in memory; bf16 channels_last: what `precision: auto` takes where
               the processor has AVX512-BF16 or AMX. Without such hardware bf16 is slower, not faster.
The first step of each process warms up and is not counted.

`gain` is against the recipe's first row, by wall time. `CPU s` is the processor time of a step over all threads and
`CPU gain` its ratio: when something else runs on the machine it moves less than wall time does. With more than one
thread on a busy machine it counts waiting as work: use --threads 1 there. `system` is the part spent in the kernel,
which is where page faults show. `peak MB` is the most memory the process held.
"""

from __future__ import annotations

import os
from functools import partial
from statistics import median

from groundglass.networks.torchvision_mend import mend

mend()  # before Lightning, as in groundglass.learning.training

import monai.losses  # noqa: E402, F401  (so that no timed process has to import it)
import torch  # noqa: E402

from benchmarks.timing import Answer, Child, Report, cores, interleave, parser, peak_mb, seconds  # noqa: E402
from groundglass import recipes  # noqa: E402
from groundglass.labels import label_set  # noqa: E402
from groundglass.learning import losses  # noqa: E402
from groundglass.learning.allocator import ALLOCATOR  # noqa: E402
from groundglass.learning.device import autocast, bf16_gains  # noqa: E402
from groundglass.learning.learner import optimiser  # noqa: E402
from groundglass.networks.building import build, in_channels  # noqa: E402

RECIPES = {
    "effnet-lite": ("architecture.encoder_weights=none",),
    "effnet-b0": ("architecture.encoder_weights=none",),
    "effnet-b2": ("architecture.encoder_weights=none",),
    "unet": ("architecture.base_width=32",),
    "demo": (),
}
PRECISIONS = {
    "fp32": ("fp32", torch.contiguous_format),
    "fp32 channels_last": ("fp32", torch.channels_last),
    "bf16 channels_last": ("bf16", torch.channels_last),
}


def measure(recipe: str, precision: str, size: int, batch: int, steps: int, threads: int) -> Answer:
    """Images per second, CPU and kernel seconds a step, and peak memory, of `steps` steps after one to warm up."""
    torch.set_num_threads(threads)
    chosen = recipes.load(recipe, (*RECIPES[recipe], f"image_size={size}"))
    kind, layout = PRECISIONS[precision]
    labels = label_set(chosen.labels)
    network = build(chosen).to(memory_format=layout).train()
    loss = losses.build(chosen.loss, labels, dict.fromkeys(labels.classes, 1))
    update = optimiser(chosen, network)
    n = min(batch, chosen.batch_size)
    x = torch.randn(n, in_channels(chosen), size, size).contiguous(memory_format=layout)
    target = torch.randint(0, len(labels.classes), (n, size, size))

    def step() -> None:
        update.zero_grad()
        with autocast(kind, "cpu"):
            logits = network(x)
        loss(logits, target).backward()
        update.step()

    step()
    before = os.times()
    taken = [seconds(step) for _ in range(steps)]
    after = os.times()
    system = (after.system - before.system) / steps
    return {
        "batch": n,
        "images_per_s": n / median(taken),
        "cpu_s": (after.user - before.user) / steps + system,
        "system_s": system,
        "peak_mb": peak_mb(),
    }


def main() -> None:
    made = parser(__doc__, rounds=2, threads=cores())
    made.add_argument("--recipes", nargs="+", choices=RECIPES, default=["effnet-lite", "effnet-b2", "unet"])
    made.add_argument("--size", type=int, default=256, help="image side in pixels (default 256)")
    made.add_argument("--batch", type=int, default=8, help="at most so many images a step (default 8)")
    made.add_argument("--steps", type=int, default=1, help="timed steps of a turn (default 1)")
    options = made.parse_args()
    report = Report("What does a training step cost, and what do the allocator's settings and bf16 gain?")
    if not bf16_gains("cpu"):
        print("This processor has no bf16 arithmetic: bf16 will be slower, and `precision: auto` does not take it.")
    name = "benchmarks.training_step"
    with Child(name, without=tuple(ALLOCATOR)) as plain, Child(name, ALLOCATOR) as tuned:
        for recipe in options.recipes:
            asked = {"recipe": recipe, "size": options.size, "batch": options.batch}
            asked |= {"steps": options.steps, "threads": options.threads}
            variants = {
                (recipe, allocator, precision): partial(child.ask, precision=precision, **asked)
                for precision in PRECISIONS
                for allocator, child in (("plain", plain), ("tuned", tuned))
            }
            answers = interleave(variants, options.rounds)
            first = next(iter(answers.values()))
            rows = [
                (
                    precision,
                    allocator,
                    round(a["images_per_s"], 2),
                    f"{a['images_per_s'] / first['images_per_s']:.2f}x",
                    round(a["cpu_s"], 2),
                    f"{first['cpu_s'] / a['cpu_s']:.2f}x",
                    round(a["system_s"], 2),
                    round(a["peak_mb"]),
                )
                for (_, allocator, precision), a in answers.items()
            ]
            report.table(
                f"{recipe}, {options.size} px, batch {int(first['batch'])}, {options.threads} threads, "
                f"median of {options.rounds}",
                ["precision", "allocator", "images/s", "gain", "CPU s", "CPU gain", "system", "peak MB"],
                rows,
            )
    report.write(options.json)


if __name__ == "__main__":
    main()
