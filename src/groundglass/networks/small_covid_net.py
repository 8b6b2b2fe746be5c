"""SmallCovid-Net, trained from scratch (system 004)."""

from __future__ import annotations

import torch
from torch import nn


class SmallCovidNet(nn.Module):
    """SmallCovid-Net: a convolution and a deconvolution phase as SegNet has, with far fewer layers and 24 filters in
    every block.

    Input [N, in_channels, H, W] float32, H and W multiples of 2**blocks; output logits [N, classes, H, W].
    width: filters of every block (24 in the paper); blocks: blocks of each phase, so also poolings and up-samplings;
    batch_norm: normalise after each convolution.

    Stated by the paper: the two phases, 24 filters, ReLU, "improved from SegNet and U-Net".
    Assumed here, since the paper is silent:
    - a block is one 3x3 convolution, batch normalisation (SegNet's) and ReLU: SegNet and U-Net take two or three
      convolutions, and a second one here would give this network as many layers as U-Net has;
    - four blocks a phase (U-Net's poolings) and one between the phases, at the lowest resolution: 14 layers, where
      SegNet has 26 and U-Net 23; an answer sees 94 to 110 pixels a side;
    - 2x2 max-pooling, and 2x2 transposed convolutions that keep the 24 filters (U-Net's way up);
    - skips by concatenation (U-Net), not by SegNet's pooling indices;
    - a 1x1 convolution to the logits, whose softmax is the probability, not a sigmoid.
    """

    def __init__(
        self, classes: int, in_channels: int = 1, width: int = 24, blocks: int = 4, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.ModuleList(
            _block(width if level else in_channels, width, batch_norm) for level in range(blocks)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottom = _block(width, width, batch_norm)
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, kernel_size=2, stride=2) for _ in range(blocks))
        self.deconvolution = nn.ModuleList(_block(2 * width, width, batch_norm) for _ in range(blocks))
        self.head = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.convolution:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, block in zip(self.up, self.deconvolution, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


def _block(before: int, after: int, batch_norm: bool) -> nn.Sequential:
    normalised = [nn.BatchNorm2d(after)] if batch_norm else []
    convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=not batch_norm)
    return nn.Sequential(convolution, *normalised, nn.ReLU(inplace=True))
