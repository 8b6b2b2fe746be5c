"""What every network of ours holds that is trained from scratch."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from groundglass.networks.plain_unet import PlainUNet
from groundglass.networks.segnet import SegNet
from groundglass.networks.small_covid_net import SmallCovidNet
from tests.networks.own import settled

Make = Callable[..., nn.Module]


def plain_unet(classes: int = 2, **knobs: int) -> nn.Module:
    return PlainUNet(classes, base_width=4, depth=3, **knobs)


def segnet(classes: int = 2, **knobs: int) -> nn.Module:
    return SegNet(classes, base_width=4, **knobs)


def small_covid_net(classes: int = 2, **knobs: int) -> nn.Module:
    return SmallCovidNet(classes, width=4, **knobs)


# Sides are multiples of these: each network halves its image so often.
STEP = {plain_unet: 2**3, segnet: 2**5, small_covid_net: 2**4}


@pytest.fixture(params=list(STEP), ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    """Builds a small one, with the same random weights at each test's first call."""
    torch.manual_seed(0)
    found: Make = request.param
    return found


@pytest.mark.parametrize("times", [(1, 1), (3, 5)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_answer_has_the_size_of_the_question(times: tuple[int, int], batch_norm: bool, make: Make) -> None:
    network = make(3, in_channels=2, batch_norm=batch_norm)
    size = [number * STEP[make] for number in times]
    assert network(torch.rand(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_parameter_learns(batch_norm: bool, make: Make) -> None:
    network = make(batch_norm=batch_norm)
    network(torch.rand(4, 1, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_images_of_a_batch_do_not_look_at_each_other(make: Make) -> None:
    network = settled(make())
    x, order = torch.rand(4, 1, 32, 32), torch.tensor([2, 0, 3, 1])
    with torch.inference_mode():
        torch.testing.assert_close(network(x[order]), network(x)[order])
        torch.testing.assert_close(network(x[1:2]), network(x)[1:2])


def test_weights_survive_a_file(make: Make) -> None:
    network = settled(make())
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    other = make().eval()
    x = torch.rand(1, 1, 32, 32)
    assert not torch.equal(other(x), network(x))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), network(x))
