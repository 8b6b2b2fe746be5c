"""Features of boxes on one grid (RoIAlign), in torch's own operators.

torchvision's roi_align has a compiled kernel; where that is missing, or results must repeat, it falls back to a slow
function in Python. Bilinear sampling of many boxes at once is what `grid_sample` does, on every device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional


def region_align(
    features: torch.Tensor, boxes: Sequence[torch.Tensor], size: int, scale: float = 1.0, samples: int = 2
) -> torch.Tensor:
    """Average features in size x size bins of each box (He et al. 2017), [K, C, size, size], K boxes in all.

    features: [N, C, H, W]; boxes: for each of the N images [K_i, 4] (x1, y1, x2, y2), within the image, in a
    coordinate of which `scale` features make one and whose 0 is the image's edge, half a pixel from the first centre;
    samples: points per bin and axis. Equals `torchvision.ops.roi_align(..., aligned=True)`. No gradient goes to boxes.
    """
    pooled = [
        _sample(image[None], of_image * scale - 0.5, size, samples)
        for image, of_image in zip(features, boxes, strict=True)
        if len(of_image)
    ]
    return torch.cat(pooled) if pooled else features.new_zeros(0, features.shape[1], size, size)


@torch.no_grad()
def _points(low: torch.Tensor, high: torch.Tensor, count: int, length: int) -> torch.Tensor:
    """[K, count] evenly spaced points between the bounds [K], as `grid_sample` counts along an axis of `length`."""
    steps = (torch.arange(count, device=low.device, dtype=low.dtype) + 0.5) / count
    at = low[:, None] + steps * (high - low)[:, None]
    return (2 * at + 1) / length - 1


def _sample(image: torch.Tensor, boxes: torch.Tensor, size: int, samples: int) -> torch.Tensor:
    """Boxes [K, 4] in pixels of one image [1, C, H, W], counted from the centre of the first -> [K, C, size, size]."""
    (channels, height, width), count, points = image.shape[1:], len(boxes), size * samples
    x = _points(boxes[:, 0], boxes[:, 2], points, width)[:, None, :].expand(-1, points, -1)
    y = _points(boxes[:, 1], boxes[:, 3], points, height)[:, :, None].expand(-1, -1, points)
    # All boxes one below the other, as one tall picture: one call, whatever their number.
    grid = torch.stack([x, y], dim=-1).reshape(1, count * points, points, 2).to(image.dtype)
    drawn = functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return functional.avg_pool2d(drawn, samples).reshape(channels, count, size, size).transpose(0, 1)


class RegionPooling(nn.Module):
    """Stands where torchvision's `MultiScaleRoIAlign` stands: each box is pooled from the map of a feature pyramid on
    which it covers about 14 x 14 cells (equation 1 of Lin et al. 2017, "Feature pyramid networks").

    names: the pyramid's maps, finest first; size: bins per side; samples: points per bin and axis.
    """

    def __init__(self, names: Sequence[str], size: int, samples: int = 2) -> None:
        super().__init__()
        self.names, self.size, self.samples = tuple(names), size, samples

    def forward(
        self, x: Mapping[str, torch.Tensor], boxes: Sequence[torch.Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """Maps [N, C, h, w] by name, boxes [K_i, 4] of each image in its pixels, (height, width) of each -> [K, C,
        size, size] in the order of the boxes."""
        maps = [x[name] for name in self.names]
        longest = max(height for height, _ in image_shapes)
        scales = [2.0 ** round(math.log2(m.shape[-2] / longest)) for m in maps]
        levels = [_levels(b, scales) for b in boxes]
        pooled, places, start = [], [], 0
        starts = [start := start + len(b) for b in boxes]
        for level, (features, scale) in enumerate(zip(maps, scales, strict=True)):
            here = [torch.where(found == level)[0] for found in levels]
            chosen = [b[index] for b, index in zip(boxes, here, strict=True)]
            pooled.append(region_align(features, chosen, self.size, scale, self.samples))
            places += [index + end - len(b) for index, end, b in zip(here, starts, boxes, strict=True)]
        return torch.cat(pooled)[torch.argsort(torch.cat(places))]


def _levels(boxes: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
    """Which map each box [K, 4] is pooled from, [K] int64. A side of 224 pixels belongs on the map of stride 16."""
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    wanted = torch.floor(4 + torch.log2(sides / 224) + 1e-6)
    first, last = (-math.log2(scale) for scale in (scales[0], scales[-1]))
    return (wanted.clamp(first, last) - first).to(torch.int64)
