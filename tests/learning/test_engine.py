"""A trained run as a model that answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from groundglass.errors import RunError
from groundglass.learning.engine import TorchEngine, model_of
from groundglass.model.predict import segment
from groundglass.networks.building import build
from groundglass.run import Run
from tests.learning import tiny
from tests.networks.own import TinyNet


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = tiny.recipe(
        epochs=1, intensity={"clip_hu": [-1000, 200], "scale": {"name": "standardise"}}, augmentation=tiny.MOVES
    )
    return tiny.fitted(tmp_path_factory.mktemp("engine") / "run", recipe)


def batch(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 1, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_probabilities_sum_to_one_and_do_not_depend_on_the_rest_of_the_batch(precision: str) -> None:
    engine = TorchEngine(build(tiny.recipe()), 1, "cpu", precision)
    together = engine(batch())
    assert (together.shape, together.dtype) == ((4, 4, 32, 32), np.float32)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    assert together.min() >= 0
    for i in range(4):
        np.testing.assert_allclose(
            engine(batch()[i : i + 1])[0], together[i], atol=1e-5 if precision == "fp32" else 0.02
        )
    np.testing.assert_array_equal(engine(batch()), together)


def test_a_precision_reaches_the_network() -> None:
    network = build(tiny.recipe(architecture=tiny.OWN))
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        TinyNet.seen.clear()
        TorchEngine(network, 1, "cpu", precision)(batch())
        assert TinyNet.seen == {dtype}


def test_grey_fills_as_many_channels_as_the_network_takes() -> None:
    network = build(tiny.recipe(architecture={**tiny.OWN, "in_channels": 3}))
    x = batch()
    with torch.inference_mode():
        expected = torch.softmax(network.eval()(torch.from_numpy(x).repeat(1, 3, 1, 1)), dim=1).numpy()
    np.testing.assert_allclose(TorchEngine(network, 3, "cpu", "fp32")(x), expected, atol=1e-6)


def test_a_run_answers_with_its_kept_weights_and_its_own_statistics(run: Run) -> None:
    model = model_of(Run.open(run.path), "cpu")
    kept = torch.load(run.best, weights_only=True)["weights"]
    assert all(torch.equal(value, kept[key]) for key, value in model.engine.network.state_dict().items())  # type: ignore[attr-defined]
    assert (model.preparation.mean, model.preparation.std) == (run.manifest.mean, run.manifest.std)
    assert model.preparation.std
    case = tiny.case(70)
    labels, p, _ = segment([model], case.image(), case.unit)
    assert labels.shape == case.shape
    assert p.shape == (4, *case.shape)
    assert set(np.unique(labels)) <= {0, 1, 2, 3}


@pytest.mark.parametrize("fault", ["missing", "empty", "torn", "version", "other network", "no weights"])
def test_weights_that_cannot_be_used_are_one_line(run: Run, tmp_path: Path, fault: str) -> None:
    import shutil

    copy = Run.open(shutil.copytree(run.path, tmp_path / "copy"))
    kept = torch.load(copy.best, weights_only=True)
    if fault == "missing":
        copy.best.unlink()
    elif fault == "empty":
        copy.best.write_bytes(b"")
    elif fault == "torn":
        copy.best.write_bytes(copy.best.read_bytes()[:1000])
    elif fault == "version":
        torch.save({**kept, "format_version": 99}, copy.best)
    elif fault == "other network":
        torch.save({**kept, "weights": build(tiny.recipe(architecture=tiny.OWN)).state_dict()}, copy.best)
    else:
        torch.save({"a": 1}, copy.best)
    with pytest.raises(RunError) as caught:
        model_of(copy, "cpu")
    assert "\n" not in str(caught.value)
    assert str(copy.path) in str(caught.value)
    assert fault != "version" or "has format 99" in str(caught.value)
