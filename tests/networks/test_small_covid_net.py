"""SmallCovid-Net: two phases of blocks with 24 filters, far smaller than its rivals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from groundglass.errors import RecipeError
from groundglass.networks.building import build, build_for_training
from groundglass.networks.plain_unet import PlainUNet
from groundglass.networks.segnet import SegNet
from groundglass.networks.small_covid_net import SmallCovidNet
from tests.learning import tiny
from tests.networks.own import settled


def small(**knobs: object) -> SmallCovidNet:
    torch.manual_seed(0)
    return SmallCovidNet(2, **{"width": 4, **knobs})  # type: ignore[arg-type]


def layers(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_every_block_has_24_filters() -> None:
    *blocks, head = layers(SmallCovidNet(2))
    assert {layer.out_channels for layer in blocks} == {24}
    assert head.out_channels == 2


def test_it_is_far_smaller_than_its_rivals() -> None:
    with torch.device("meta"):
        ours, rivals = SmallCovidNet(2), [SegNet(2), PlainUNet(2)]
    for rival in rivals:
        assert 100 * parameters(ours) < parameters(rival)
        assert 3 * len(layers(ours)) < 2 * len(layers(rival))


@pytest.mark.parametrize(("width", "blocks", "batch_norm"), [(24, 4, True), (24, 4, False), (5, 1, True), (7, 3, True)])
def test_its_parameters_follow_from_its_description(width: int, blocks: int, batch_norm: bool) -> None:
    shift = 2 if batch_norm else 1  # a scale and a shift of the normalisation, or a bias
    first = 9 * width + shift * width
    block = 9 * width * width + shift * width
    joined = 9 * 2 * width * width + shift * width
    up = 4 * width * width + width
    # `blocks` there, one between, `blocks` back with their transposed convolutions, and the head.
    expected = first + (blocks - 1) * block + block + blocks * (up + joined) + 3 * width + 3
    assert parameters(SmallCovidNet(3, width=width, blocks=blocks, batch_norm=batch_norm)) == expected


def test_an_answer_sees_as_many_pixels_as_its_description_says() -> None:
    network = SmallCovidNet(2, width=1).eval()
    # Of four pixels a maximum passes one on, a mean all that can be seen.
    network.pool = nn.AvgPool2d(2)  # type: ignore[assignment]
    for layer in layers(network):
        nn.init.constant_(layer.weight, 0.5)
    extents = set()
    for row in range(112, 128):
        x = torch.ones(1, 1, 256, 32, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(x)[0, 0, row, 16], x)
        extents.add(int((gradient[0, 0].sum(1) > 0).sum()))
    assert extents == {94, 110}
    assert "an answer sees 94 to 110 pixels" in " ".join(str(SmallCovidNet.__doc__).split())


def test_a_shift_by_the_largest_pooling_shifts_the_answer() -> None:
    network = settled(small())
    # Far from the edges, whose padding the network sees.
    x = torch.zeros(1, 1, 320, 32)
    x[..., 144:176, :] = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        still, moved = network(x), network(x.roll(16, dims=2))
    torch.testing.assert_close(moved[..., 144:208, :], still[..., 128:192, :], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved[..., 144:208, :], still[..., 144:208, :], rtol=1e-4, atol=1e-5)


def test_a_mirrored_image_in_mirrored_weights_is_a_mirrored_answer() -> None:
    network = settled(small())
    x = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        answer = network(x)
        for layer in layers(network):
            layer.weight.copy_(layer.weight.flip(3))
        torch.testing.assert_close(network(x.flip(3)).flip(3), answer, rtol=1e-4, atol=1e-5)


def test_bfloat16_channels_last_changes_little() -> None:
    network = settled(small(width=24)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        exact = network(x)
        layout = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(layout), exact, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(layout)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.05 * exact.std()


def test_it_learns_to_find_a_bright_square() -> None:
    torch.manual_seed(0)
    network = SmallCovidNet(2, width=8, blocks=2)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    target = torch.zeros(4, 32, 32, dtype=torch.int64)
    for number in range(4):
        target[number, 4 * number : 4 * number + 12, 8:20] = 1
    x = target[:, None] + 0.5 * torch.randn(4, 1, 32, 32)
    for _ in range(40):
        loss = nn.functional.cross_entropy(network(x), target)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    found = network.eval()(x).argmax(1)
    assert 2 * (found & target).sum() > 0.95 * (found.sum() + target.sum())


def test_the_recipe_s_network_is_the_default_one() -> None:
    network = build(tiny.recipe(labels="lesion", architecture={"name": "small-covid-net"}, checkpoint=LESION))
    assert parameters(network) == parameters(SmallCovidNet(2))


LESION = {"metric": "validation/f1_lesion"}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"width": 0}, "width should be a whole number above 0"),
        ({"blocks": 2.5}, "blocks should be a whole number above 0"),
        ({"batch_norm": "yes"}, "batch_norm should be true or false"),
        ({"depth": 3}, "has no knob 'depth'"),
        ({"blocks": 7}, "cannot take batches of 4 images of 32 pixels"),
    ],
)
def test_a_knob_that_it_cannot_take_is_one_line(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_for_training(tiny.recipe(architecture={"name": "small-covid-net", **knobs}), None, download=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
