"""The run folder: made once, opened strictly, and silent about the machine it was made on."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from groundglass import recipes
from groundglass.data.splits import Split
from groundglass.errors import RunError
from groundglass.run import FORMAT_VERSION, Run, environment

SPLIT = Split(kind="kfold", seed=3, train=("a", "b"), validation=("c",), fold="2/3")


def make(folder: Path) -> Run:
    return Run.create(
        folder,
        recipes.load("demo", ["epochs=3"]),
        SPLIT,
        data_format="phantom",
        data_fingerprint="f" * 64,
        patients_known="given",
        mean=float("nan"),
        environment=environment(),
    )


def test_what_is_created_is_what_is_opened(tmp_path: Path) -> None:
    made = make(tmp_path / "run")
    made.manifest.thresholds = {"ground-glass": 0.25}
    made.manifest.kept_value = float("nan")
    made.save()
    opened = Run.open(tmp_path / "run")
    assert opened.recipe == made.recipe
    assert opened.split == SPLIT
    assert opened.manifest.thresholds == {"ground-glass": 0.25}
    assert opened.manifest.kept_value is None  # not a number is null on disk
    assert opened.manifest.state == "training"
    assert opened.manifest.format_version == FORMAT_VERSION
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json", "recipe.yaml", "split.json"}


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(RunError, match="a run is there already"):
        make(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file, not a folder"):
        make(tmp_path / "file")


def test_a_run_of_another_format_names_who_made_it(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    raw = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(raw | {"format_version": 7, "groundglass": "9.9", "new": 1}))
    with pytest.raises(RunError, match=r"has run format 7; .* \(9\.9\)"):
        Run.open(run.path)


def test_weights_are_asked_for(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    with pytest.raises(RunError, match="no weights yet"):
        run.need_weights()
    run.best.parent.mkdir()
    run.best.write_bytes(b"x")
    assert run.need_weights() == run.best


def test_the_environment_names_versions_and_no_machine() -> None:
    found = environment()
    assert {"python", "system", "numpy", "torch"} <= set(found)
    text = json.dumps(found)
    for private in (socket.gethostname(), str(Path.home())):
        assert private not in text or len(private) < 3
