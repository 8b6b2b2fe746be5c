import pytest
import torch

from groundglass.networks.plain_unet import PlainUNet


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def by_formula(base: int, depth: int, classes: int) -> int:
    """Ronneberger, Fischer and Brox (2015), figure 1, with biases and one input channel."""

    def convolution(side: int, before: int, after: int) -> int:
        return side * side * before * after + after

    widths = [base * 2**level for level in range(depth + 1)]
    total, before = 0, 1
    for width in widths:
        total += convolution(3, before, width) + convolution(3, width, width)
        before = width
    for width in reversed(widths[:-1]):
        total += convolution(2, 2 * width, width)
        total += convolution(3, 2 * width, width) + convolution(3, width, width)
    return total + convolution(1, base, classes)


def test_the_paper_s_size_has_the_paper_s_number_of_parameters() -> None:
    with torch.device("meta"):
        count = parameters(PlainUNet(4, batch_norm=False))
    assert count == by_formula(64, 4, 4)
    assert round(count / 1e6, 1) == 31.0


@pytest.mark.parametrize(("base", "depth", "classes"), [(4, 1, 2), (8, 3, 4), (6, 4, 3)])
def test_smaller_ones_follow_the_formula_too(base: int, depth: int, classes: int) -> None:
    assert parameters(PlainUNet(classes, 1, base, depth, batch_norm=False)) == by_formula(base, depth, classes)


def test_every_level_sees_the_image() -> None:
    network = PlainUNet(2, base_width=4, depth=3)
    network(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
