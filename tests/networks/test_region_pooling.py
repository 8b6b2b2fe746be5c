"""Our region pooling is torchvision's roi_align: values, gradients, levels."""

from __future__ import annotations

import pytest
import torch

from groundglass.networks.region_pooling import RegionPooling, region_align
from groundglass.networks.torchvision_mend import mend

mend()

from torchvision.ops.poolers import MultiScaleRoIAlign  # noqa: E402
from torchvision.ops.roi_align import _roi_align  # noqa: E402

# torchvision's own fallback in Python, without the compiler that it is wrapped in.
oracle = getattr(_roi_align, "__wrapped__", _roi_align)


def boxes_in(side: float, count: int) -> torch.Tensor:
    """Boxes of all sizes; the first three are the whole image, a sliver at its far corner and one below a pixel."""
    corners = torch.rand(count, 4) * side
    low, high = torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])
    boxes = torch.cat([low, high + 1], dim=1).clamp(max=side)
    special = torch.tensor([[0, 0, side, side], [side - 1, 0, side, side], [3.2, 3.3, 3.6, 3.5]])
    return torch.cat([special, boxes])


def by_image(boxes: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate(boxes)])


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0625])
@pytest.mark.parametrize("size", [7, 14])
def test_values_and_gradients_are_torchvision_s(size: int, scale: float, samples: int) -> None:
    torch.manual_seed(0)
    side = int(64 * scale)
    ours = torch.rand(2, 3, side, side, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    boxes = [boxes_in(64, 5), boxes_in(64, 0)]
    pooled = region_align(ours, boxes, size, scale, samples)
    expected = oracle(theirs, by_image(boxes), scale, size, size, samples, True)
    assert pooled.shape == (11, 3, size, size)
    torch.testing.assert_close(pooled, expected, atol=2e-5, rtol=1e-4)
    weight = torch.rand_like(pooled)
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    assert ours.grad is not None
    assert ours.grad.abs().sum() > 0
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)


def test_an_image_without_boxes_and_no_boxes_at_all() -> None:
    features, none = torch.rand(2, 3, 8, 8), torch.zeros(0, 4)
    one = torch.tensor([[1.0, 2.0, 5.0, 6.0]])
    assert region_align(features, [none, none], 7).shape == (0, 3, 7, 7)
    alone = region_align(features[1:], [one], 7)
    assert torch.equal(region_align(features, [none, one], 7), alone)


def test_no_gradient_goes_to_the_boxes() -> None:
    boxes = torch.tensor([[1.0, 2.0, 5.0, 6.0]], requires_grad=True)
    features = torch.rand(1, 1, 8, 8, requires_grad=True)
    region_align(features, [boxes], 3).sum().backward()
    assert boxes.grad is None or not boxes.grad.any()


def test_each_box_is_pooled_from_torchvision_s_level_in_the_order_given() -> None:
    torch.manual_seed(0)
    sides = {"0": 64, "1": 32, "2": 16, "3": 8}
    # Each map is constant and says its level, which no bin can hide.
    maps = {name: torch.full((2, 1, side, side), float(name)) for name, side in sides.items()}
    maps["unused"] = torch.full((2, 1, 4, 4), 9.0)
    lengths = torch.tensor([5.0, 60.0, 111.9, 112.1, 200.0, 223.9, 224.1, 256.0])
    boxes = torch.stack([lengths * 0, lengths * 0, lengths, lengths], dim=1)
    mixed = [boxes[torch.randperm(8)], boxes[torch.randperm(8)]]
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 3, 2)
    pooled = RegionPooling(("0", "1", "2", "3"), 3)(maps, mixed, [(256, 256)] * 2)
    assert theirs.canonical_scale == 224
    from torchvision.ops.poolers import _setup_scales

    scales, levels = _setup_scales([maps[name] for name in sides], [(256, 256)], 224, 4)
    assert scales == [0.25, 0.125, 0.0625, 0.03125]
    assert pooled.mean(dim=(1, 2, 3)).tolist() == levels(mixed).tolist()
    assert len(set(levels(mixed).tolist())) == 3
