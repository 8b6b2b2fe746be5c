"""A network that somebody wrote outside groundglass, chosen as `tests.networks.own:TinyNet`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn


class TinyNet(nn.Module):
    """Two convolutions, with the dropout that a resumed training must draw alike. `seen`: dtypes its first convolution
    answered in, since somebody last cleared the set."""

    seen: ClassVar[set[torch.dtype]] = set()

    def __init__(self, classes: int, in_channels: int = 1, width: int = 6, dropout: float = 0.2) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        TinyNet.seen.add(x.dtype)
        return self.head(self.dropout(torch.relu(self.norm(x))))


class Halved(TinyNet):
    """Answers on a grid of its own, which is not what is asked of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[..., ::2, ::2]


def not_a_network(classes: int) -> str:
    """What somebody may name by mistake."""
    return f"{classes} classes"
