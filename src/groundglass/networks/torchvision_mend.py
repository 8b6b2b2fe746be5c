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

import numpy as np
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
    # NumPy, since each step is small, and torch takes several times as long to begin one.
    sorted_boxes = boxes[order].detach().numpy()
    x1, y1, x2, y2 = sorted_boxes.T
    areas = (x2 - x1) * (y2 - y1)
    dropped = np.zeros(len(sorted_boxes), bool)
    kept = []
    for best in range(len(sorted_boxes)):
        if dropped[best]:
            continue
        kept.append(best)
        width = np.minimum(x2[best], x2[best:]) - np.maximum(x1[best], x1[best:])
        height = np.minimum(y2[best], y2[best:]) - np.maximum(y1[best], y1[best:])
        overlap = width.clip(min=0) * height.clip(min=0)
        # Compared without dividing, for boxes without area.
        dropped[best:] |= overlap > iou_threshold * (areas[best] + areas[best:] - overlap)
    return order[kept]
