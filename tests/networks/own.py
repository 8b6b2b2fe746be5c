"""A network that somebody wrote outside groundglass, chosen as `tests.networks.own:TinyNet`."""

from __future__ import annotations

from collections import defaultdict
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from groundglass.model.instances import Instance


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


class Judging(TinyNet):
    """Brings its own loss: how far its lesions are from the truth."""

    broken: ClassVar[bool] = False

    def loss(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if Judging.broken:
            raise RuntimeError("no such loss")
        known = target < 2
        return ((self(x).softmax(dim=1)[:, 1] - target.float())[known] ** 2).mean()


class Drawing(Judging):
    """Its loss is of pixels that it draws. `drawn`: what it drew, by mode."""

    drawn: ClassVar[defaultdict[str, list[float]]] = defaultdict(list)

    def loss(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        picked = torch.rand(target.shape)
        if torch.is_grad_enabled() or not self.training:
            Drawing.drawn["train" if self.training else "validation"].append(float(picked[0, 0, 0]))
        return super().loss(x, torch.where(picked < 0.5, target, 2))


class Bright(TinyNet):
    """Finds what is brighter than 0.8 of the scaled image, and tells its left half of the square from the right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Also learns nothing useful, so that it can be trained.
        bright = (x[:, :1] > 0.8).float() * 20 - 10
        return torch.cat([-bright, bright], dim=1) + 0 * super().forward(x)

    def instances(self, x: torch.Tensor) -> list[list[Instance]]:
        return [self._halves((image[0] > 0.8).cpu().numpy()) for image in x]

    def _halves(self, bright: NDArray[np.bool_]) -> list[Instance]:
        found = []
        for score, columns in ((0.9, slice(0, bright.shape[1] // 2)), (0.6, slice(bright.shape[1] // 2, None))):
            half = np.zeros_like(bright)
            half[:, columns] = bright[:, columns]
            if half.any():
                rows, places = np.nonzero(half)
                box = (places.min(), rows.min(), places.max() + 1, rows.max() + 1)
                found.append(Instance(tuple(map(float, box)), score, half.astype(np.float32)))  # type: ignore[arg-type]
        return found


def not_a_network(classes: int) -> str:
    """What somebody may name by mistake."""
    return f"{classes} classes"


Net = TypeVar("Net", bound=nn.Module)


def settled(network: Net) -> Net:
    """Ready to answer, with the running means of some batches [4, 1, 32, 32]."""
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(4, 1, 32, 32))
    return network.eval()
