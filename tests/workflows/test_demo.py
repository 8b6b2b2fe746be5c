"""`demo`: the whole path, and one page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

import groundglass as gg
from groundglass.run import Run
from groundglass.write.submission import verify
from tests.conftest import TINY


@pytest.mark.slow
def test_the_whole_path(tmp_path: Path) -> None:
    result = gg.demo(tmp_path / "demo", settings=[*TINY, "epochs=1"])
    page = result.page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)
    assert "@import" not in page
    assert "<script src" not in page
    run = Run.open(result.folder / "run")
    figures = sorted(run.figures.glob("*.png"))
    assert len(figures) >= 8
    for figure in figures:
        assert base64.b64encode(figure.read_bytes()).decode("ascii") in page, figure.name
    assert "A phantom is not a patient" in page
    summary = json.loads((run.path / "evaluation" / "held-out" / "summary.json").read_text())
    dice = next(row["value"] for row in summary["benchmarks"] if row["metric"] == "any_lesion_dice")
    assert result.any_lesion_dice == pytest.approx(dice)
    assert f"{result.any_lesion_dice:.3f}" in page
    assert any("chosen on these very cases" in note for note in summary["notes"])
    assert all(f"Note: {html.escape(note)}." in page for note in summary["notes"])
    assert json.loads((result.folder / "check.json").read_text())["errors"] == []
    maps = np.load(result.folder / "predictions" / "scan.npy")
    rows, ones = verify(result.folder / "submission.csv")
    assert rows == 2 * maps.size
    assert ones == int(np.isin(maps, (1, 2)).sum())
