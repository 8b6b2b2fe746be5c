"""SegNet, trained from scratch (system 004)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

# Channels, in base widths, of VGG16's 13 convolutions; each stage ends in a pooling.
_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


class SegNet(nn.Module):
    """SegNet of Badrinarayanan, Kendall and Cipolla (2017): the 13 convolutions of VGG16, each of the five stages
    ended by a 2x2 max-pooling that keeps where each maximum lay, and a mirrored decoder of 13 convolutions that puts
    every value back to that place before each stage. No fully connected layers and no concatenated skips.

    Input [N, in_channels, H, W] float32, H and W multiples of 32; output logits [N, classes, H, W].
    base_width: channels of the first stage, of which the others have 2, 4, 8 and 8 times as many (64 in the paper);
    batch_norm: normalise after each convolution, as the paper does. As in the authors' released network the last
    decoder convolution gives the logits, without normalisation or ReLU. All start from He's initialisation (paper).
    """

    def __init__(self, classes: int, in_channels: int = 1, base_width: int = 64, batch_norm: bool = True) -> None:
        super().__init__()
        stages = [[base_width * times for times in stage] for stage in _STAGES]
        before = [in_channels, *(stage[-1] for stage in stages)]
        paths = [[first, *stage] for first, stage in zip(before, stages, strict=False)]
        self.encoder = nn.ModuleList(_convolutions(path, batch_norm) for path in paths)
        # Mirrored, the first stage would end in the image's channels; the logits take their place.
        mirrored = [path[::-1] for path in reversed(paths)]
        mirrored[-1].pop()
        self.decoder = nn.ModuleList(_convolutions(path, batch_norm) for path in mirrored)
        self.head = nn.Conv2d(base_width, classes, kernel_size=3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = []
        for stage in self.encoder:
            x, place = functional.max_pool2d(stage(x), kernel_size=2, return_indices=True)
            places.append(place)
        for stage in self.decoder:
            x = stage(_unpool(x, places.pop()))
        return self.head(x)


def _unpool(x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """x [N, C, H, W] -> [N, C, 2H, 2W], zero but at `place`, the positions that max_pool2d kept.

    As functional.max_unpool2d, which PyTorch refuses where only deterministic algorithms are allowed: places that
    collide would make it random, and after a pooling without overlap none do.
    """
    n, c, h, w = x.shape
    # Channels last, so that networks in that memory format need no copy.
    values, places = (t.permute(0, 2, 3, 1).reshape(n, h * w, c) for t in (x, place))
    return x.new_zeros(n, 4 * h * w, c).scatter(1, places, values).view(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def _convolutions(path: list[int], batch_norm: bool) -> nn.Sequential:
    """3x3 convolutions from each number of channels to the next, each with its ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(path):
        layers.append(nn.Conv2d(before, after, kernel_size=3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
