"""Every benchmark runs and prints what it measured. How fast anything is, no test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The smallest question of each, and the words its tables must hold.
BENCHMARKS = {
    "startup": (["--rounds", "1"], ["groundglass --help", "torch loaded"]),
    "submission": (["--rounds", "1", "--images", "1"], ["csv writerow", "524,288 rows"]),
    "evaluation": (["--rounds", "1", "--slices", "1"], ["scikit-learn", "MONAI", "largest difference"]),
    "loading": (["--rounds", "1", "--slices", "2"], ["later epochs", "elastic", "one at a time"]),
    "prediction": (
        ["--rounds", "1", "--slices", "1", "--threads", "1", "--recipe", "demo", "--set", "image_size=32"],
        ["network", "flips", "bf16"],
    ),
    "twins": (
        ["--data", "phantom:2", "--planted", "1", "--sizes", "20"],
        ["at once", "neighbouring slices (as if alone)", "pairs across groups", "pairs compared"],
    ),
    "modality": (
        ["--data", "phantom:1", "phantom-xray:4", "--changes", "1"],
        ["held out", "as it is", "wrong %", "X-ray"],
    ),
    "region_pooling": (
        ["--rounds", "1", "--size", "32", "--channels", "2", "--boxes", "4"],
        ["ours", "torchvision", "boxes, 7 x 7", "expert's masks"],
    ),
    "networks": (
        ["--quick", "--size", "64", "--recipes", "segnet-better", "mask-rcnn-better", "cxr-infection"],
        ["A training step: the shipped recipes", "An answer: peers", "GFLOPs", "max_unpool2d"],
    ),
    "training_step": (
        ["--rounds", "1", "--steps", "1", "--threads", "1", "--recipes", "demo", "--size", "32", "--batch", "2"],
        ["channels_last", "tuned", "peak MB"],
    ),
}


def test_every_benchmark_is_tried() -> None:
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert files - {"__init__", "timing"} == set(BENCHMARKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_prints_and_writes_its_tables(name: str, tmp_path: Path) -> None:
    if name in ("evaluation", "prediction", "training_step", "loading", "region_pooling", "networks"):
        pytest.importorskip("torch")
    options, words = BENCHMARKS[name]
    out = tmp_path / "tables.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options, "--json", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for word in words:
        assert word in done.stdout
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["machine"]["cores"] >= 1
    for table in written["tables"]:
        assert table["rows"]
        for row in table["rows"]:
            assert len(row) == len(table["columns"])
            # NaN and infinity would have become null: every cell was measured.
            assert None not in row
    if name == "startup":
        torch_loaded = {row[0]: row[-1] for row in written["tables"][0]["rows"]}
        assert torch_loaded.pop("python -c 'import torch'") is True
        assert not any(torch_loaded.values())


def test_variants_take_turns_and_the_median_counts() -> None:
    from benchmarks.timing import interleave

    asked: list[str] = []
    numbers = iter([1.0, 10.0, 2.0, 20.0, 300.0, 30.0])

    def ask(name: str) -> dict[str, float]:
        asked.append(name)
        return {"s": next(numbers)}

    answers = interleave({"a": lambda: ask("a"), "b": lambda: ask("b")}, rounds=3)
    assert asked == ["a", "b", "a", "b", "a", "b"]
    assert answers == {"a": {"s": 2.0}, "b": {"s": 20.0}}
