"""Two published ways to score masks, re-made as their authors' code has them, so that numbers can be set beside theirs.

A protocol is not one of the metrics: it fixes thresholds, empty masks and averages as its authors did, also where
groundglass does otherwise. A number of a protocol may be compared with published numbers of that protocol only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import DataError
from groundglass.measure.boundary import Mask, check_masks, surface_dice_by_area

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """A published way to score: `source` is the paper and the file of its authors' code."""

    name: str
    source: str
    description: str


INF_NET = Protocol(
    "inf-net",
    "D.-P. Fan et al., Inf-Net, IEEE Trans. Med. Imaging 39 (2020) 2626-2637; "
    "github.com/DengPingFan/Inf-Net, EvaluationTool/main.m and Fmeasure_calu.m",
    "each slice's probabilities stretched to 0..1, Dice at 256 thresholds, mean over slices, then over thresholds",
)
COVID_CT_SEG = Protocol(
    "covid-19-ct-seg",
    "J. Ma et al., Toward data-efficient learning: a benchmark for COVID-19 CT lung and infection segmentation, "
    "Med. Phys. 48 (2021) 1197-1210; github.com/JunMa11/COVID-19-CT-Seg-Benchmark, utils/COVID-19-Seg-Evaluation.py",
    "Dice and surface Dice of whole volumes, mean and standard deviation over cases; tolerance 1 mm lung, 3 mm lesion",
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({p.name: p for p in (INF_NET, COVID_CT_SEG)})

# In millimetres, of COVID-19-CT-Seg.
LUNG_TOLERANCE_MM, LESION_TOLERANCE_MM = 1.0, 3.0


@dataclass(frozen=True)
class ProtocolResult:
    """What a protocol says of a set of cases.

    name, source: of the protocol. numbers: by the authors' names, NaN where undefined. n: cases the numbers are made
    of; n_dropped: cases left out. settings: choices that the protocol leaves open.
    """

    name: str
    source: str
    numbers: Mapping[str, float]
    n: int
    n_dropped: int
    settings: Mapping[str, str | float | bool]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


# ---- Inf-Net ---------------------------------------------------------------------------------------------------------

_LEVELS = 256
# Thresholds are whole steps of 1/255. A map that was read from 8 bits into float32 misses them by rounding.
_STEP_ROUNDING = 1e-4


class InfNetCurves(NamedTuple):
    """Scores of one slice at the thresholds 1, 254/255, ... 0, each [256] float64, and its mean absolute error."""

    dice: Array
    precision: Array
    sensitivity: Array
    specificity: Array
    mae: float


def inf_net(probability: NDArray[Any], truth: Mask) -> InfNetCurves:
    """Scores of a map of probabilities [H, W], of any real type, against a reference [H, W] bool at 256 thresholds.

    The map is stretched so that its least value becomes 0 and its greatest 1; a constant map stays as it is, as
    MATLAB's mapminmax leaves it. A pixel counts as predicted from the threshold upwards. Where a threshold finds no
    reference pixel, all four scores are 0, the specificity too: so an empty reference scores 0 whatever is predicted.
    Where the reference fills the slice, so that no specificity exists (NaN in the authors' code), it is 0 here.
    The authors read maps of 8 bits; here nothing is rounded. Raises `DataError` when shapes differ or the map holds
    NaN or values outside 0 to 1 (integers: 0 to 255).
    """
    if probability.shape != truth.shape:
        raise DataError(f"the map is {_size(probability)} and the reference {_size(truth)}; predict on its grid")
    values = probability.astype(np.float64)
    if np.issubdtype(probability.dtype, np.integer):
        values /= 255
    low, high = (float(values.min()), float(values.max())) if values.size else (np.nan, np.nan)
    if not (low >= 0 and high <= 1):
        raise DataError(f"a map from {low:g} to {high:g} holds no probabilities; give numbers from 0 to 1")
    if high > low:
        values = (values - low) / (high - low)
    # The number of the highest threshold (0 to 255) that a pixel reaches, then how many pixels reach each one.
    reached = np.floor(values * (_LEVELS - 1) + _STEP_ROUNDING).astype(np.intp)
    tp, predicted = (
        np.bincount(levels.ravel(), minlength=_LEVELS)[::-1].cumsum().astype(np.float64)
        for levels in (reached[truth], reached)
    )
    positive = float(truth.sum())
    negative = truth.size - positive
    tn = negative - (predicted - tp)
    return InfNetCurves(
        2 * tp / np.maximum(positive + predicted, 1),
        tp / np.maximum(predicted, 1),
        tp / max(positive, 1),
        np.where(tp > 0, tn / max(negative, 1), 0.0),
        float(np.abs(truth - values).mean()),
    )


class InfNet:
    """Gathers slices one by one, in memory that does not grow, and averages them as Inf-Net does.

    drop_empty: leave out slices whose reference is empty, as the authors did (2 of their 50 test slices). Kept, they
    count as 0 at every threshold, whatever is predicted.
    """

    def __init__(self, drop_empty: bool = True) -> None:
        self.drop_empty = drop_empty
        self.n = 0
        self.n_dropped = 0
        self._curves = np.zeros((4, _LEVELS))
        self._mae = 0.0

    def add(self, probability: NDArray[Any], truth: Mask) -> None:
        """One slice, as for `inf_net`."""
        if self.drop_empty and not truth.any():
            self.n_dropped += 1
            return
        *curves, mae = inf_net(probability, truth)
        self.n += 1
        self._curves += np.stack(curves)
        self._mae += mae

    def result(self) -> ProtocolResult:
        """meanDic, meanSen, meanSpe, meanPre: over slices at each threshold, then over thresholds. maxDic: at the one
        threshold, `threshold`, that is best on these very slices, and so no number to expect of other slices. MAE.
        """
        if self.n:
            dice, precision, sensitivity, specificity = self._curves / self.n
            best = int(dice.argmax())
            numbers = {
                "meanDic": float(dice.mean()),
                "maxDic": float(dice[best]),
                "threshold": (_LEVELS - 1 - best) / (_LEVELS - 1),
                "meanSen": float(sensitivity.mean()),
                "meanSpe": float(specificity.mean()),
                "meanPre": float(precision.mean()),
                "MAE": self._mae / self.n,
            }
        else:
            names = ("meanDic", "maxDic", "threshold", "meanSen", "meanSpe", "meanPre", "MAE")
            numbers = dict.fromkeys(names, np.nan)
        settings = {"drop_empty": self.drop_empty}
        return ProtocolResult(INF_NET.name, INF_NET.source, numbers, self.n, self.n_dropped, settings)


# ---- COVID-19-CT-Seg -------------------------------------------------------------------------------------------------


class VolumeScore(NamedTuple):
    """Dice and surface Dice of one volume, both NaN where reference and prediction are empty."""

    dsc: float
    nsd: float


def covid_ct_seg_case(
    truth: Mask, prediction: Mask, spacing_mm: Sequence[float] | None, tolerance_mm: float
) -> VolumeScore:
    """Scores of a whole volume, masks [D, H, W] bool with (slice, row, column) spacing in mm. None: not known, so there
    is no surface Dice (NaN).

    The surface Dice counts area, as the authors' code does (`boundary.surface_dice_by_area`). Both masks empty: NaN;
    one of them: 0. Raises `DataError` when shapes differ, for masks that are no volumes, or a spacing without meaning.
    """
    check_masks(truth, prediction, (1.0,) * truth.ndim if spacing_mm is None else spacing_mm, tolerance_mm)
    total = int(truth.sum()) + int(prediction.sum())
    dsc = 2 * int((truth & prediction).sum()) / total if total else np.nan
    if spacing_mm is None:
        return VolumeScore(dsc, np.nan)
    return VolumeScore(dsc, surface_dice_by_area(truth, prediction, spacing_mm, tolerance_mm))


def covid_ct_seg(cases: Sequence[VolumeScore], tolerance_mm: float) -> ProtocolResult:
    """Mean and sample standard deviation over volumes, one voice each. Those that are empty in reference and prediction
    are left out and counted. NSD is NaN where any other lacks it: both means are of the same volumes."""
    scores = np.asarray(cases, np.float64).reshape(-1, 2)
    defined = scores[np.isfinite(scores[:, 0])]
    mean = defined.mean(axis=0) if len(defined) else np.full(2, np.nan)
    sd = defined.std(axis=0, ddof=1) if len(defined) > 1 else np.full(2, np.nan)
    numbers = {"DSC": mean[0], "DSC sd": sd[0], "NSD": mean[1], "NSD sd": sd[1]}
    return ProtocolResult(
        COVID_CT_SEG.name,
        COVID_CT_SEG.source,
        {name: float(value) for name, value in numbers.items()},
        len(defined),
        len(scores) - len(defined),
        {"tolerance_mm": tolerance_mm},
    )


def _size(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape))
