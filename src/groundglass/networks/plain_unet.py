"""The original U-Net, trained from scratch (systems 002, 003 and 004)."""

from __future__ import annotations

import torch
from torch import nn


class PlainUNet(nn.Module):
    """U-Net of Ronneberger, Fischer and Brox (2015): two 3x3 convolutions a level, 2x2 max-pooling, transposed
    convolutions, concatenated skips. Convolutions are padded, so that output and input have one size.

    Input [N, in_channels, H, W] float32, H and W multiples of 2**depth; output logits [N, classes, H, W].
    base_width: channels of the first level, doubled at each of `depth` poolings (64 and 4 in the paper);
    batch_norm: normalise after each convolution (not in the paper, which predates its spread; off trains far slower).
    """

    def __init__(
        self, classes: int, in_channels: int = 1, base_width: int = 64, depth: int = 4, batch_norm: bool = True
    ) -> None:
        super().__init__()
        widths = [base_width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            _double_convolution(before, after, batch_norm)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2)
            for shallow, deep in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True)
        )
        self.decoder = nn.ModuleList(
            _double_convolution(2 * width, width, batch_norm) for width in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(base_width, classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


def _double_convolution(before: int, after: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, kernel_size=3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
