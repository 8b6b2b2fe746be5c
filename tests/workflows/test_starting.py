"""A training that begins with another run's weights has seen what that run has seen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from groundglass import cv, evaluate, train
from groundglass.errors import RunError
from groundglass.learning.engine import read_kept
from groundglass.run import Run
from tests.conftest import TINY, Cli

QUICK = (*TINY, "epochs=1")


@pytest.fixture(scope="module")
def begun(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Fold 1/2 of recipe `demo` on the drawn data."""
    torch.set_num_threads(1)
    return train("demo", drawn, out=tmp_path_factory.mktemp("begun") / "first", fold="1/2", settings=QUICK)


def test_it_begins_with_the_weights_and_remembers_who_was_seen(begun: Run, drawn: Path, tmp_path: Path) -> None:
    frozen = [*QUICK, "optimiser.learning_rate=1e-12"]
    run = train("demo", drawn, out=tmp_path / "next", fold="1/2", settings=frozen, start_from=begun.path)
    before, after = read_kept(begun)["weights"], read_kept(run)["weights"]
    for name, tensor in before.items():
        if tensor.is_floating_point() and "running" not in name:
            torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    assert run.manifest.weights_from.startswith("run first, epoch 1")
    assert run.trained_hashes() == begun.trained_hashes()
    fewer = [*QUICK, "split.train_sources=[medseg]"]
    other = train("demo", drawn, out=tmp_path / "fewer", fold="1/2", settings=fewer, start_from=begun.path)
    assert len(other.split.train) < len(begun.split.train)
    assert other.trained_hashes() >= begun.trained_hashes()
    seen = evaluate([other], drawn, part="train", figures=False, bootstrap=0)
    assert len(seen.summary.cases) == len(begun.split.train)


def test_a_start_that_has_seen_the_held_out_cases_is_refused(begun: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    changes = [word for setting in QUICK for word in ("--set", setting)]
    place = tmp_path / "leaky"
    answer = cli("train", "demo", "--data", drawn, "-o", place, "--fold", "2/2", "--start-from", begun.path, *changes)
    assert answer.code == 2
    assert "has trained on" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not place.exists()


def test_another_network_is_refused(begun: Run, drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="do not fit this recipe's network"):
        train(
            "demo",
            drawn,
            out=tmp_path / "wider",
            fold="1/2",
            settings=[*QUICK, "architecture.base_width=8"],
            start_from=begun.path,
        )
    assert not (tmp_path / "wider").exists()


def test_each_fold_begins_with_its_own(drawn: Path, tmp_path: Path) -> None:
    cv(["demo"], drawn, out=tmp_path / "a", folds=2, settings=QUICK, figures=False)
    cv(["demo"], drawn, out=tmp_path / "b", folds=2, settings=QUICK, figures=False, start_from=tmp_path / "a" / "demo")
    for k in (1, 2):
        run = Run.open(tmp_path / "b" / "demo" / f"fold{k}of2")
        assert run.manifest.weights_from.startswith(f"run fold{k}of2")
    with pytest.raises(RunError, match="has trained on"):
        cv(
            ["demo"],
            drawn,
            out=tmp_path / "c",
            folds=2,
            settings=QUICK,
            figures=False,
            start_from=tmp_path / "a" / "demo" / "fold1of2",
        )
    assert not (tmp_path / "c").exists()
    # Folds of one recipe begin alike: else their score would be of two methods.
    for finished, start, why in (
        ("a", tmp_path / "a" / "demo", "without --start-from"),
        ("b", None, "with --start-from"),
    ):
        place = Path(shutil.copytree(tmp_path / finished, tmp_path / f"{finished}-again"))
        shutil.rmtree(place / "demo" / "fold2of2")
        with pytest.raises(RunError, match=f"was begun {why}"):
            cv(["demo"], drawn, out=place, folds=2, settings=QUICK, figures=False, start_from=start)
        assert not (place / "demo" / "fold2of2").exists()


def test_a_run_stopped_in_its_first_epoch_begins_as_before(begun: Run, drawn: Path, tmp_path: Path) -> None:
    """Else it would forget, or invent, whom its weights have seen."""
    run = train("demo", drawn, out=tmp_path / "run", fold="1/2", settings=QUICK)
    run.last.unlink()
    run.manifest.state = "interrupted"
    run.save()
    again: dict[str, Any] = {"out": run.path, "fold": "1/2", "settings": QUICK, "resume": True}
    with pytest.raises(RunError, match="leave out --start-from"):
        train("demo", drawn, start_from=begun.path, **again)
    run.manifest.earlier_hashes = sorted(begun.trained_hashes())
    run.save()
    with pytest.raises(RunError, match="give the same --start-from again"):
        train("demo", drawn, **again)
