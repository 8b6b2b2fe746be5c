"""Labelled data sets: opened by what they hold, searched for defects, split without leaks."""

from groundglass.data.dataset import Dataset, Defect, Format
from groundglass.data.defects import Scan, scan
from groundglass.data.opening import open_dataset, require_clean
from groundglass.data.splits import Split, explicit, holdout, kfold

__all__ = [
    "Dataset",
    "Defect",
    "Format",
    "Scan",
    "Split",
    "explicit",
    "holdout",
    "kfold",
    "open_dataset",
    "require_clean",
    "scan",
]
