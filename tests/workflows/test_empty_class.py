"""A class that the label set knows and nobody marked: every verb goes through, says so, and ranks nobody by it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY, Cli

SETTINGS = (*TINY, "epochs=1", "split={name: rows, rows: {medseg: 0..5}}", "decision.name=thresholds")


@pytest.fixture
def without(drawn: Path, tmp_path: Path) -> Path:
    """The drawn slices with healthy lung where consolidation was."""
    folder = Path(shutil.copytree(drawn, tmp_path / "without"))
    for path in folder.glob("masks_*.npy"):
        masks = np.load(path)
        masks[..., 2] |= masks[..., 1]
        masks[..., 1] = 0
        np.save(path, masks)
    return folder


def test_a_class_that_nobody_marked(without: Path, tmp_path: Path, cli: Cli) -> None:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    runs = [tmp_path / f"seed{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        trained = cli("train", "demo", "--data", without, "-o", run, *settings, "--set", f"seed={seed}")
        assert trained.code == 0, trained.err
        assert json.loads((run / "run.json").read_text())["class_pixels"]["consolidation"] == 0
        scored = cli("evaluate", run, "--data", without, "--bootstrap", 20, "--no-figures")
        assert scored.code == 0, scored.err
        summary = json.loads((run / "evaluation" / "held-out" / "summary.json").read_text())
        found = [row for row in summary["negatives"] if row["class"] == "consolidation"]
        assert [(row["n_positive"], row["n_negative"]) for row in found] == [(0, 6)]
        assert re.search(r"consolidation\s*│\s*(n/a|0\.000)", scored.out)
        assert not re.search(r"\bnan\b", scored.out.lower())

    answer = cli("compare", *runs, "--metric", "consolidation_dice", "--bootstrap", 20, "--latex", "-o", tmp_path / "c")
    assert answer.code == 0, answer.err
    assert "seed0 and seed1 cannot be compared: no images in which both are defined" in answer.out
    assert not re.search(r"\bnan\b", (answer.out + (tmp_path / "c" / "comparison.tex").read_text()).lower())
    with open(tmp_path / "c" / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["consolidation_dice"] for row in rows] == ["", ""]
    assert not {row["consolidation_dice_best"] for row in rows} & {"True", "1"}
    # What is marked is compared as ever.
    assert all(row["ground-glass_dice"] for row in rows)
    other = cli("compare", *runs, "--metric", "ground-glass_dice", "--bootstrap", 20, "-o", tmp_path / "c")
    assert other.code == 0, other.err
    assert "cannot be compared" not in other.out
