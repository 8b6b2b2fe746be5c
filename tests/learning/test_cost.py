"""Arithmetic of a network, against a count by hand."""

from __future__ import annotations

import pytest
import torch

from groundglass import recipes
from groundglass.learning.cost import device_name, gflops, threads


@pytest.mark.parametrize("side", [32, 64])
def test_two_operations_a_weight_and_place(side: int) -> None:
    """TinyNet: 3x3 convolutions from 1 to 6 and from 6 to 4 channels."""
    recipe = recipes.load("demo", [f"image_size={side}", "architecture={name: 'tests.networks.own:TinyNet', width: 6}"])
    by_hand = 2 * 9 * (1 * 6 + 6 * 4) * side**2
    assert gflops(recipe) == pytest.approx(by_hand / 1e9)


class Values(torch.nn.Module):
    """Looks at its input's values, which a pass of shapes does not have."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if float(x.sum()) > 0 else self.layer(-x)


def test_a_network_that_needs_values_has_no_count() -> None:
    recipe = recipes.load("demo", ["image_size=32", "architecture={name: 'tests.learning.test_cost:Values'}"])
    assert gflops(recipe) is None


def test_the_processor_is_a_kind_and_no_name() -> None:
    import platform

    assert device_name("cpu").endswith("CPU")
    assert platform.node() not in device_name("cpu")
    assert threads() >= 1
