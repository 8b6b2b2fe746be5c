"""What does a region pooling in torch's own operators gain over torchvision's, where that has no compiled kernel?

    python -m benchmarks.region_pooling [--size PX] [--channels C] [--boxes N] [--threads N] [--rounds N] [--json FILE]
                                        [--compiled]

Three poolings of a training step of Mask R-CNN are timed, forward and backward, on random features and boxes: 7 x 7
bins for the boxes' scores, 14 x 14 for a quarter of them for the masks, both on a map of stride 4, and 28 x 28 bins of
the expert's own masks at full size, which are only cut out and have no backward.

Three ways take turns:
    ours              groundglass.networks.region_pooling, one grid_sample an image
    torchvision       the function in Python that torchvision falls back to, as it stands
    torchvision.ops   with --compiled, roi_align as it comes: its compiled kernel, or where that cannot load, the same
                      function after torch.compile, whose first call (`first s`) takes long

`difference` is the largest between the values of a way and ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from groundglass.networks.torchvision_mend import mend

mend()

import torch  # noqa: E402
from torchvision.ops.roi_align import _roi_align, roi_align  # noqa: E402

from benchmarks.timing import Answer, Report, interleave, parser, seconds  # noqa: E402
from groundglass.networks.region_pooling import region_align  # noqa: E402

Pooling = Callable[[torch.Tensor, list[torch.Tensor], int, float], torch.Tensor]
_IMAGES = 2


def _numbered(boxes: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate(boxes)])


def _fallback(features: torch.Tensor, boxes: list[torch.Tensor], bins: int, scale: float) -> torch.Tensor:
    pooled: torch.Tensor = _roi_align.__wrapped__(features, _numbered(boxes), scale, bins, bins, 2, True)
    return pooled


def _as_it_comes(features: torch.Tensor, boxes: list[torch.Tensor], bins: int, scale: float) -> torch.Tensor:
    pooled: torch.Tensor = roi_align(features, _numbered(boxes), (bins, bins), scale, 2, True)
    return pooled


def boxes_in(side: int, count: int) -> list[torch.Tensor]:
    """For each image `count` boxes with sides between 4 pixels and half the image."""
    made = []
    for _ in range(_IMAGES):
        sides = 4 + torch.rand(count, 2) * (side / 2 - 4)
        low = torch.rand(count, 2) * (side - sides)
        made.append(torch.cat([low, low + sides], dim=1))
    return made


def step(pool: Pooling, features: torch.Tensor, boxes: list[torch.Tensor], bins: int, scale: float) -> None:
    pooled = pool(features, boxes, bins, scale)
    if features.requires_grad:
        features.grad = None
        pooled.sum().backward()


def ask(run: Callable[[], None]) -> Answer:
    return {"s": seconds(run)}


def questions(options: argparse.Namespace) -> dict[str, tuple[torch.Tensor, list[torch.Tensor], int, float]]:
    """Features, boxes, bins and scale of each pooling."""
    side = options.size
    features = torch.rand(_IMAGES, options.channels, side // 4, side // 4, requires_grad=True)
    few = max(1, options.boxes // 4)
    return {
        "boxes, 7 x 7": (features, boxes_in(side, options.boxes), 7, 0.25),
        "masks, 14 x 14": (features, boxes_in(side, few), 14, 0.25),
        "expert's masks, 28 x 28": (torch.rand(_IMAGES, 1, side, side).round(), boxes_in(side, few), 28, 1.0),
    }


def main() -> None:
    made = parser(__doc__, rounds=5, threads=1)
    made.add_argument("--size", type=int, default=256, help="image side in pixels (default 256)")
    made.add_argument("--channels", type=int, default=64, help="channels of the map (default 64)")
    made.add_argument("--boxes", type=int, default=64, help="boxes an image (default 64)")
    made.add_argument("--compiled", action="store_true", help="also torchvision's own way, compiled at its first call")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ways: dict[str, Pooling] = {"ours": region_align, "torchvision": _fallback}
    if options.compiled:
        ways["torchvision.ops"] = _as_it_comes
    report = Report("What does a region pooling in torch's own operators gain over torchvision's?")
    for name, (features, boxes, bins, scale) in questions(options).items():
        runs = {way: partial(step, pool, features, boxes, bins, scale) for way, pool in ways.items()}
        first = {way: seconds(run) for way, run in runs.items()}
        with torch.no_grad():
            values = {way: pool(features, boxes, bins, scale) for way, pool in ways.items()}
        answers = interleave({way: partial(ask, run) for way, run in runs.items()}, options.rounds)
        rows = [
            (
                way,
                round(answers[way]["s"] * 1000, 2),
                f"{answers[way]['s'] / answers['ours']['s']:.1f}x",
                round(first[way], 2),
                float(f"{(values[way] - values['ours']).abs().max():.1e}"),
            )
            for way in ways
        ]
        report.table(
            f"{name}: {_IMAGES} x {len(boxes[0])} boxes, {options.size} px, {options.threads} threads, "
            f"median of {options.rounds}",
            ["way", "ms", "against ours", "first s", "difference"],
            rows,
        )
    report.write(options.json)


if __name__ == "__main__":
    main()
