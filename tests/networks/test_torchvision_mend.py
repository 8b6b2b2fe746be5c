import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from groundglass.networks.torchvision_mend import nms


def brute_force(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    def iou(a: list[float], b: list[float]) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        both = width * height
        return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)

    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -float(scores[i])):
        if all(iou(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.9])
def test_nms_equals_brute_force(threshold: float) -> None:
    torch.manual_seed(0)
    for count in (1, 2, 60):
        corners, sides = torch.rand(count, 2) * 100, torch.rand(count, 2) * 50 + 1
        boxes, scores = torch.cat([corners, corners + sides], dim=1), torch.rand(count)
        assert nms(boxes, scores, threshold).tolist() == brute_force(boxes, scores, threshold)
    assert 1 < len(nms(boxes, scores, 0.3)) < 60


def test_nms_of_nothing_is_nothing() -> None:
    kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)


@pytest.mark.slow
def test_torchvision_imports_after_mending_once_or_twice_and_nothing_is_said() -> None:
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    done = run("""
from groundglass.networks.torchvision_mend import mend
needed = mend()
assert mend() is False
import warnings; warnings.simplefilter("default")
import torch, torchvision
boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]]).float()
assert torch.ops.torchvision.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
assert mend() is False
""")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == ""
