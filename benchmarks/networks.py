"""What do the shipped recipes' networks cost to train and to ask, and what do other makers' networks of the same plan?

    python -m benchmarks.networks [--recipes NAME...] [--threads N...] [--size PX] [--batch N] [--steps N] [--rounds N]
                                  [--no-peers] [--quick] [--json FILE]

Of every recipe a step of training (its losses and optimiser, forward, backward and update) and an answer to one image
(network and softmax), at its image size and in its precision (bf16 where that says `auto` and the processor has it),
on drawn images that hold what is sought. All take turns, each in a fresh process; training under the allocator's
settings that the command line sets. The first step of each process warms up and is not counted. Augmentation and
validation are not in it (see benchmarks.loading). Mask R-CNN is asked once more in a step of training, as an epoch
does, since its loss gives no map. Weights are random, which changes no time but Mask R-CNN's: it finds many instances,
where a trained one finds few.

`ms` are of one image. `CPU ms` are processor time over all threads: where something else runs on the machine it moves
less than wall time does, with one thread; several count waiting as work. `batch` is the recipe's, at most --batch. `M`
are millions of parameters, `GFLOPs` one forward pass of one image as `groundglass compare` counts them (with values for
a network that needs some). `MB` is the most memory that a process held which did nothing else, Python and its
libraries included.

Peers take their turns beside the recipe of the same plan, with its losses, optimiser, precision and memory format; `x`
is processor time where ours is 1:
    lesion-unet    MONAI's BasicUNet of the same widths, with its instance normalisation; MONAI's UNet, which has one
                   strided convolution a level; and the U-Net of segmentation_models_pytorch with VGG13's encoder, the
                   nearest to the same widths (at a quarter of them, lesion-unet-better, there is none)
    segnet         the same network with PyTorch's max_unpool2d, which deterministic training refuses
    mask-rcnn      the same network with torchvision's region pooling; where that has no compiled kernel, with its
                   function in Python as it stands

--quick: one round with one thread, pictures of 128 pixels at most, two a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle, islice
from statistics import median
from time import process_time

from groundglass.networks.torchvision_mend import mend

mend()  # before Lightning, as in groundglass.learning.training

import monai.losses  # noqa: E402  (so that no timed process has to import it)
import monai.networks.nets  # noqa: E402
import numpy as np  # noqa: E402
import segmentation_models_pytorch as smp  # noqa: E402
import torch  # noqa: E402
import torchvision.ops.poolers  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torchvision.extension import _has_ops  # noqa: E402
from torchvision.ops.roi_align import _roi_align  # noqa: E402

from benchmarks.timing import Answer, Child, Report, interleave, parser, peak_mb, seconds  # noqa: E402
from groundglass import recipes  # noqa: E402
from groundglass.data.opening import open_dataset  # noqa: E402
from groundglass.labels import label_set  # noqa: E402
from groundglass.learning import losses  # noqa: E402
from groundglass.learning.allocator import ALLOCATOR  # noqa: E402
from groundglass.learning.cost import gflops  # noqa: E402
from groundglass.learning.device import autocast, choose_precision  # noqa: E402
from groundglass.learning.engine import TorchEngine  # noqa: E402
from groundglass.learning.learner import optimiser  # noqa: E402
from groundglass.learning.loading import Slices  # noqa: E402
from groundglass.model.prepare import Preparation  # noqa: E402
from groundglass.networks import segnet  # noqa: E402
from groundglass.networks.building import build, in_channels  # noqa: E402
from groundglass.recipes import Recipe  # noqa: E402

OURS = "groundglass"
PARTS = {"train": "A training step", "answer": "An answer"}
_SETTING = ("px", "batch", "precision")
_NUMBERS = ("M", "GFLOPs", "ms", "CPU ms", "MB")
_CASES = {"CT": "phantom:3", "X-ray": "phantom-xray:4"}


def _widths(recipe: Recipe) -> list[int]:
    knobs = recipe.architecture.knobs
    return [int(knobs["base_width"]) * 2**level for level in range(int(knobs["depth"]) + 1)]


def _basic_unet(recipe: Recipe) -> nn.Module:
    widths, classes = _widths(recipe), len(label_set(recipe.labels).classes)
    features = (*widths, widths[0])
    return monai.networks.nets.BasicUNet(spatial_dims=2, in_channels=1, out_channels=classes, features=features)


def _strided_unet(recipe: Recipe) -> nn.Module:
    widths, classes = _widths(recipe), len(label_set(recipe.labels).classes)
    return monai.networks.nets.UNet(
        spatial_dims=2, in_channels=1, out_channels=classes, channels=widths, strides=(2,) * (len(widths) - 1)
    )


def _vgg_unet(recipe: Recipe) -> nn.Module:
    return smp.Unet(
        "vgg13_bn",
        encoder_depth=4,
        encoder_weights=None,
        decoder_channels=_widths(recipe)[-2::-1],
        in_channels=1,
        classes=len(label_set(recipe.labels).classes),
    )


def _unpooling_segnet(recipe: Recipe) -> nn.Module:
    segnet._unpool = lambda x, place: functional.max_unpool2d(x, place, kernel_size=2)
    return build(recipe)


def _pooling_mask_rcnn(recipe: Recipe) -> nn.Module:
    network = build(recipe)
    names, regions = ["0", "1", "2", "3"], network.regions
    regions.box_roi_pool = torchvision.ops.poolers.MultiScaleRoIAlign(names, 7, 2)
    regions.mask_roi_pool = torchvision.ops.poolers.MultiScaleRoIAlign(names, 14, 2)
    if not _has_ops():
        torchvision.ops.poolers.roi_align = _in_python
    return network


def _in_python(
    x: torch.Tensor, boxes: torch.Tensor, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int
) -> torch.Tensor:
    """torchvision's fallback without the compiler that it is wrapped in, whose first call takes minutes."""
    pooled: torch.Tensor = _roi_align.__wrapped__(x, boxes, spatial_scale, *output_size, sampling_ratio, False)
    return pooled


PEERS: Mapping[str, Mapping[str, Callable[[Recipe], nn.Module]]] = {
    "lesion-unet": {"MONAI BasicUNet": _basic_unet, "MONAI UNet": _strided_unet, "smp Unet, VGG13": _vgg_unet},
    "lesion-unet-better": {"MONAI BasicUNet": _basic_unet, "MONAI UNet": _strided_unet},
    "segnet": {"max_unpool2d": _unpooling_segnet},
    "segnet-better": {"max_unpool2d": _unpooling_segnet},
    "mask-rcnn": {"torchvision's pooling": _pooling_mask_rcnn},
}


def measure(recipe: str, maker: str, part: str, size: int | None, batch: int, steps: int, threads: int) -> Answer:
    """Of a step of training or an answer (`part`): wall and processor seconds per image, and peak memory in MB."""
    torch.set_num_threads(threads)
    chosen = _recipe(recipe, size)
    network = build(chosen) if maker == OURS else PEERS[recipe][maker](chosen)
    precision = choose_precision(chosen, "cpu")
    n = min(batch, chosen.batch_size) if part == "train" else 1
    x, target = _batch(chosen, n)
    if part == "train":
        run = _step(chosen, network, precision, x, target)
    else:
        run = partial(TorchEngine(network, in_channels(chosen), "cpu", precision), x.numpy())
    run()
    before = process_time()
    wall = median(seconds(run) for _ in range(steps))
    cpu = (process_time() - before) / steps
    said = {"batch": n, "px": chosen.image_size, "precision": precision}
    return {"wall": wall / n, "cpu": cpu / n, "mb": peak_mb(), **said}


def count(recipe: str, maker: str, size: int | None) -> Answer:
    """Parameters in millions and GFLOPs of one forward pass of one image."""
    chosen = _recipe(recipe, size)
    network = (build(chosen) if maker == OURS else PEERS[recipe][maker](chosen)).eval()
    operations = gflops(chosen) if maker == OURS else None
    if operations is None:
        x, _ = _batch(chosen, 1)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(x.repeat(1, in_channels(chosen), 1, 1))
        operations = counter.get_total_flops() / 1e9
    return {"millions": sum(p.numel() for p in network.parameters()) / 1e6, "gflops": operations}


def _recipe(name: str, size: int | None) -> Recipe:
    chosen = recipes.load(name)
    return recipes.change(chosen, [f"image_size={min(size or chosen.image_size, chosen.image_size)}"])


def _batch(recipe: Recipe, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn images [n, 1, S, S] that hold what is to be found, and their codes [n, S, S]."""
    labels = label_set(recipe.labels)
    sought = [labels.classes.index(name) for name in labels.targets]
    sources = getattr(recipe.split, "sources", None)
    drawn = (c for c in open_dataset(_CASES[recipe.modality]).cases if sources is None or c.source in sources)
    cases = list(islice((c for c in drawn if np.isin(labels.encode(c.labels()), sought).any()), 2))
    slices = Slices(cases, recipe, Preparation(recipe.intensity, recipe.image_size, -500.0, 400.0), training=False)
    x, target, _ = zip(*(slices[0, position] for position in islice(cycle(range(len(cases))), n)), strict=True)
    return torch.stack(x), torch.stack(target)


def _step(
    recipe: Recipe, network: nn.Module, precision: str, x: torch.Tensor, target: torch.Tensor
) -> Callable[[], None]:
    """A training step as groundglass.learning makes it."""
    labels = label_set(recipe.labels)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    loss = losses.build(recipe.loss, labels, dict.fromkeys(labels.classes, 1)) if not recipe.own_loss else None
    update = optimiser(recipe, network)
    x = x.repeat(1, in_channels(recipe), 1, 1).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        update.zero_grad()
        with autocast(precision, "cpu"):
            value = losses.own(network, x, target)[0] if loss is None else loss(network(x), target)
        value.backward()
        update.step()

    return step


def main() -> None:
    shipped = list(recipes.shipped())
    made = parser(__doc__, rounds=3)
    made.add_argument("--recipes", nargs="+", choices=shipped, default=shipped, metavar="NAME")
    made.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="torch's threads (default 1 2)")
    made.add_argument("--size", type=int, help="image side in pixels, at most (default the recipe's)")
    made.add_argument("--batch", type=int, default=4, help="images a training step, at most (default 4)")
    made.add_argument("--steps", type=int, default=1, help="timed steps of a turn (default 1)")
    made.add_argument("--no-peers", dest="peers", action="store_false", help="recipes alone")
    made.add_argument("--quick", action="store_true", help="one round, one thread, 128 px at most, batch 2, one step")
    options = made.parse_args()
    if options.quick:
        options.rounds, options.threads, options.batch, options.steps = 1, [1], 2, 1
        options.size = min(options.size or 128, 128)
    report = Report("What do the shipped recipes' networks cost, and what do other makers' of the same plan?")
    asked = {"size": options.size, "batch": options.batch, "steps": options.steps}
    makers = {name: [OURS, *(PEERS.get(name, ()) if options.peers else ())] for name in options.recipes}
    counted = {(name, maker): count(name, maker, options.size) for name, among in makers.items() for maker in among}
    module = "benchmarks.networks"
    with Child(module, ALLOCATOR) as tuned, Child(module, without=tuple(ALLOCATOR)) as plain:
        variants = {
            (name, maker, part, threads): partial(
                child.ask, recipe=name, maker=maker, part=part, threads=threads, **asked
            )
            for name, among in makers.items()
            for threads in options.threads
            for part, child in (("train", tuned), ("answer", plain))
            for maker in among
        }
        answers = interleave(variants, options.rounds)
    for threads in options.threads:
        for part, title in PARTS.items():
            under = f"{threads} threads, median of {options.rounds}"
            found = {(name, maker): answers[name, maker, part, threads] for name in makers for maker in makers[name]}
            rows = [
                (name, *_setting(found[name, OURS]), *_numbers(counted[name, OURS], found[name, OURS]))
                for name in makers
            ]
            report.table(f"{title}: the shipped recipes, {under}", ["recipe", *_SETTING, *_NUMBERS], rows)
            beside = [(name, maker) for name in makers for maker in makers[name] if len(makers[name]) > 1]
            rows = [
                (
                    *pair,
                    *_numbers(counted[pair], found[pair]),
                    f"{found[pair]['cpu'] / found[pair[0], OURS]['cpu']:.2f}",
                )
                for pair in beside
            ]
            if rows:
                report.table(f"{title}: peers, {under}", ["recipe", "network", *_NUMBERS, "x"], rows)
    report.write(options.json)


def _setting(answer: Answer) -> tuple[int | str, ...]:
    # Medians of whole numbers, which are all the same.
    return (int(answer["px"]), int(answer["batch"]), answer["precision"])


def _numbers(size: Answer, answer: Answer) -> tuple[float, ...]:
    times = (round(1000 * answer["wall"]), round(1000 * answer["cpu"]), round(answer["mb"]))
    return (round(size["millions"], 3), round(size["gflops"], 1), *times)


if __name__ == "__main__":
    main()
