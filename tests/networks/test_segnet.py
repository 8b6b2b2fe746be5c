"""SegNet: VGG16's convolutions there, the same back, and every value put where it was found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from groundglass.errors import RecipeError
from groundglass.networks.building import build, build_for_training
from groundglass.networks.segnet import SegNet
from groundglass.networks.torchvision_mend import mend
from tests.learning import tiny
from tests.networks.own import settled


def small(**knobs: object) -> SegNet:
    torch.manual_seed(0)
    return SegNet(2, **{"base_width": 4, **knobs})  # type: ignore[arg-type]


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def test_the_encoder_is_vgg16_bn_s_and_the_decoder_its_mirror() -> None:
    mend()
    from torchvision.models import vgg16_bn

    with torch.device("meta"):
        network, vgg = SegNet(2, in_channels=3), vgg16_bn().features
    theirs = [tuple(layer.weight.shape) for layer in convolutions(vgg)]
    there = [tuple(layer.weight.shape) for layer in convolutions(network.encoder)]
    back = [tuple(layer.weight.shape) for layer in [*convolutions(network.decoder), network.head]]
    assert there == theirs
    assert len(there) == len(back) == 13
    # Each reads what its mirror image writes; the last writes classes instead of the image's channels.
    assert back[:-1] == [(before, after, 3, 3) for after, before, _, _ in reversed(there[1:])]
    assert back[-1] == (2, 64, 3, 3)
    kinds = [type(layer) for layer in vgg if not isinstance(layer, nn.MaxPool2d)]
    assert [type(layer) for layer in network.encoder.modules() if not list(layer.children())] == kinds
    assert not any(isinstance(layer, nn.Linear | nn.ConvTranspose2d) for layer in network.modules())


def test_the_paper_s_size_has_the_paper_s_number_of_parameters() -> None:
    with torch.device("meta"):
        network = SegNet(12, in_channels=3)
    # 29.45 million, table 6 of the paper.
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(29.45e6, rel=1e-3)


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def unpooling_alone(stages: int) -> SegNet:
    """A SegNet of one channel whose stages change nothing, but for its poolings and unpoolings."""
    network = SegNet(1, base_width=1)
    network.encoder = nn.ModuleList(Nothing() for _ in range(stages))
    network.decoder = nn.ModuleList(Nothing() for _ in range(stages))
    network.head = Nothing()  # type: ignore[assignment]
    return network


@pytest.mark.parametrize("place", [(0, 0), (5, 18), (31, 31), (16, 15)])
def test_a_bump_returns_to_its_own_pixel(place: tuple[int, int]) -> None:
    bump = torch.zeros(1, 1, 32, 32)
    bump[0, 0, place[0], place[1]] = 1
    assert torch.equal(unpooling_alone(5)(bump), bump)


def test_unpooling_is_pytorch_s_own() -> None:
    torch.use_deterministic_algorithms(False)  # a training before may have asked for it; PyTorch's own refuses then
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 32)
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        pooled, places = nn.functional.max_pool2d(image, 2, return_indices=True)
        # Other rows and columns, other channels and images must not be mixed up.
        assert torch.equal(unpooling_alone(1)(image), nn.functional.max_unpool2d(pooled, places, [2, 2]))


def test_a_shift_by_the_largest_pooling_shifts_the_answer() -> None:
    network = settled(small())
    # So far from the edges that no answer sees their padding.
    x = torch.zeros(1, 1, 896, 32)
    x[..., 432:464, :] = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        still, moved = network(x), network(x.roll(32, dims=2))
    torch.testing.assert_close(moved[..., 448:480, :], still[..., 416:448, :], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved[..., 448:480, :], still[..., 448:480, :], rtol=1e-4, atol=1e-5)


def test_it_learns_where_a_square_is_and_finds_it_as_the_trainer_runs_it() -> None:
    """Channels last, only deterministic algorithms, in float32 and bfloat16."""
    network = small(base_width=8).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    target = torch.zeros(4, 32, 32, dtype=torch.int64)
    for number in range(4):
        target[number, 4 * number : 4 * number + 12, 8:20] = 1
    x = (target[:, None] + 0.3 * torch.randn(4, 1, 32, 32)).contiguous(memory_format=torch.channels_last)
    torch.use_deterministic_algorithms(True)
    try:
        for step in range(40):
            with torch.autocast("cpu", torch.bfloat16, enabled=step % 2 == 1):
                loss = nn.functional.cross_entropy(network(x), target)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            exact, again = network(x), network(x)
            with torch.autocast("cpu", torch.bfloat16):
                rough = network(x)
    finally:
        torch.use_deterministic_algorithms(False)
    found = exact.argmax(1)
    assert 2 * (found & target).sum() > 0.8 * (found.sum() + target.sum())
    assert torch.equal(exact, again)
    torch.testing.assert_close(network(x.contiguous()), exact, rtol=1e-4, atol=1e-4)
    assert rough.dtype == torch.bfloat16
    # A rounded maximum may be beaten by its neighbour, so single pixels may change.
    assert (rough.argmax(1) == found).float().mean() > 0.97


def test_the_seed_alone_decides_its_weights() -> None:
    architecture = {"name": "segnet", "base_width": 4}
    networks = [build(tiny.recipe(architecture=architecture, seed=seed)) for seed in (1, 1, 2)]
    first, again, another = (nn.utils.parameters_to_vector(network.parameters()) for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, another)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"base_width": 0}, "base_width should be a whole number above 0"),
        ({"base_width": 6.5}, "base_width should be a whole number above 0"),
        ({"batch_norm": 1}, "batch_norm should be true or false"),
        ({"encoder_weights": "imagenet"}, "has no knob 'encoder_weights'"),
    ],
)
def test_a_knob_that_it_cannot_take_is_one_line(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_for_training(tiny.recipe(architecture={"name": "segnet", **knobs}), None, download=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
