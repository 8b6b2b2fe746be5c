"""Make a torchvision whose compiled part does not fit the installed torch importable.

The registry's torchvision wheels are CUDA builds. Beside a CPU build of torch their compiled part cannot load, and
`import torchvision` ends in "operator torchvision::nms does not exist"; so do timm, segmentation_models_pytorch,
torchmetrics and Lightning. What torchvision needs in order to import is that its operators are declared. `mend`
declares them, with a CPU kernel for `nms`, only where the compiled part is missing; elsewhere it does nothing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A declaration lives as long as the library object that made it.
_declared: list[torch.library.Library] = []


def mend() -> bool:
    """Declare torchvision's operators if they are missing and torchvision is installed; True when that was needed."""
    if _declared or not _compiled_part_is_broken():
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    library.impl("nms", nms, "CPU")
    _declared.append(library)
    return True


def _compiled_part_is_broken() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return False
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    folder = Path(next(iter(spec.submodule_search_locations)))
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        compiled = folder / f"_C{suffix}"
        if compiled.exists():
            try:
                torch.ops.load_library(str(compiled))
            except OSError:
                return True
            return False
    return True


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression. boxes [N, 4] as (x1, y1, x2, y2), scores [N]; returns kept indices [K] int64,
    highest score first, as torchvision.ops.nms defines it."""
    order = torch.argsort(scores, descending=True, stable=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        top_left = torch.maximum(boxes[best, :2], boxes[rest, :2])
        bottom_right = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = overlap / (areas[best] + areas[rest] - overlap)
        order = rest[iou <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)
