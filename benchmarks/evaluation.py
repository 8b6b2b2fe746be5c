"""What does it cost to score masks, and do other tools give the same numbers?

    python -m benchmarks.evaluation [--slices N] [--rounds N] [--threads N] [--json FILE]

Slices of 512 x 512 with four classes, all present in reference and prediction, so that no tool's rule for empty masks
matters. `overlap`: six metrics (Dice, IoU, precision, recall, specificity, accuracy) of every class and slice.
groundglass counts each slice once and takes all metrics of all slices from the counts; the others are asked slice by
slice, as one uses them: MONAI by its confusion matrix of one-hot masks (making these included), scikit-learn by its
functions for labels. `boundary`: HD95 and surface Dice of the three classes that are not background, slice by slice;
scikit-learn has none. After the clock has stopped the ways must agree on every number to 1e-6, distances to 1e-5 of
themselves (MONAI computes in float32). One process, ways take turns; drawing the slices is not timed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.metrics.confusion_matrix import compute_confusion_matrix_metric, get_confusion_matrix
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.metrics import jaccard_score, multilabel_confusion_matrix, precision_recall_fscore_support

from benchmarks.timing import Answer, Report, interleave, parser, seconds
from groundglass.labels import label_set
from groundglass.measure.boundary import boundary
from groundglass.measure.counts import class_counts, confusion
from groundglass.measure.metrics import METRICS

LABELS = label_set("ct4")
CLASSES = range(len(LABELS.classes))
SIZE, TOLERANCE = 512, 3.0
Channels = NDArray[np.uint8]
Pair = tuple[Channels, Channels]
Table = NDArray[np.float64]


def slices(n: int) -> list[Pair]:
    """References and predictions [512, 512]: two ellipses of lung with lesions of both types, and a noisy copy."""
    random = np.random.default_rng(0)
    row, column = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    lung = ((abs(column) - 0.4) / 0.3) ** 2 + (row / 0.6) ** 2 < 1
    pairs = []
    for _ in range(n):
        field = gaussian_filter(random.normal(size=(SIZE, SIZE)), 16)
        other = field + 0.4 * gaussian_filter(random.normal(size=(SIZE, SIZE)), 16)
        pairs.append((_draw(field, lung), _draw(other, lung)))
    return pairs


def _draw(field: Table, lung: NDArray[np.bool_]) -> Channels:
    limits = np.quantile(field[lung], [0.85, 0.95])
    found: Channels = np.where(lung, np.array([3, 1, 2])[np.searchsorted(limits, field)], 0).astype(np.uint8)
    return found


# ---- overlap: tables [slice, class, metric] --------------------------------------------------------------------------


def overlap_groundglass(pairs: Sequence[Pair]) -> Table:
    counted = np.stack([confusion(truth, prediction, LABELS) for truth, prediction in pairs])
    counts = [class_counts(counted, (channel,), LABELS) for channel in CLASSES]
    return np.stack([np.stack([metric(c) for metric in METRICS.values()], axis=-1) for c in counts], axis=1)


def overlap_monai(pairs: Sequence[Pair]) -> Table:
    # In the order of METRICS; "threat score" is MONAI's name of the IoU among these.
    names = ("f1 score", "threat score", "precision", "sensitivity", "specificity", "accuracy")
    rows = []
    for truth, prediction in pairs:
        counted = get_confusion_matrix(_one_hot(prediction), _one_hot(truth))
        rows.append(torch.stack([compute_confusion_matrix_metric(name, counted)[0] for name in names], dim=-1).numpy())
    return np.stack(rows).astype(np.float64)


def overlap_scikit_learn(pairs: Sequence[Pair]) -> Table:
    rows = []
    for truth, prediction in pairs:
        t, p, labels = truth.ravel(), prediction.ravel(), list(CLASSES)
        precision, recall, f1, _ = precision_recall_fscore_support(t, p, labels=labels, average=None)
        iou = jaccard_score(t, p, labels=labels, average=None)
        tn, fp, fn, tp = multilabel_confusion_matrix(t, p, labels=labels).reshape(-1, 4).T
        rows.append(np.stack([f1, iou, precision, recall, tn / (tn + fp), (tp + tn) / (tn + fp + fn + tp)], axis=-1))
    return np.stack(rows)


def _one_hot(channels: Channels) -> torch.Tensor:
    """[512, 512] uint8 -> [1, 4, 512, 512] float32, as MONAI's metrics ask for it."""
    return torch.from_numpy(np.stack([channels == channel for channel in CLASSES])[None]).float()


# ---- boundary: tables [slice, class, (HD95, surface Dice)] -----------------------------------------------------------


def boundary_groundglass(pairs: Sequence[Pair]) -> Table:
    return np.array(
        [[boundary(t == channel, p == channel, (1, 1), TOLERANCE) for channel in CLASSES[1:]] for t, p in pairs]
    )


def boundary_monai(pairs: Sequence[Pair]) -> Table:
    rows = []
    for truth, prediction in pairs:
        masks = _one_hot(prediction), _one_hot(truth)
        hd95 = compute_hausdorff_distance(*masks, percentile=95)
        nsd = compute_surface_dice(*masks, class_thresholds=[TOLERANCE] * (len(CLASSES) - 1))
        rows.append(torch.stack([hd95[0], nsd[0]], dim=-1).numpy())
    return np.stack(rows).astype(np.float64)


WAYS: dict[tuple[str, str], Callable[[Sequence[Pair]], Table]] = {
    ("overlap", "groundglass"): overlap_groundglass,
    ("overlap", "MONAI"): overlap_monai,
    ("overlap", "scikit-learn"): overlap_scikit_learn,
    ("boundary", "groundglass"): boundary_groundglass,
    ("boundary", "MONAI"): boundary_monai,
}


def main() -> None:
    made = parser(__doc__, rounds=5, threads=1)
    made.add_argument("--slices", type=int, default=200, help="slices a turn (default 200)")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")  # of its own calls
    report = Report("What does it cost to score masks, and do other tools give the same numbers?")
    pairs = slices(options.slices)
    found: dict[tuple[str, str], Table] = {}

    def measure(way: tuple[str, str]) -> Answer:
        def score() -> None:
            found[way] = WAYS[way](pairs)

        return {"s": seconds(score)}

    answers = interleave({way: partial(measure, way) for way in WAYS}, options.rounds)
    report.table(
        f"{options.slices} slices of {SIZE} x {SIZE}, {options.threads} threads, median of {options.rounds}",
        ["measures", "way", "s", "ms a slice", "time, groundglass = 1"],
        [
            (
                what,
                tool,
                round(answer["s"], 3),
                round(answer["s"] / options.slices * 1000, 2),
                f"{answer['s'] / answers[what, 'groundglass']['s']:.1f}x",
            )
            for (what, tool), answer in answers.items()
        ],
    )
    apart = {way: float(np.max(abs(table - found[way[0], "groundglass"]))) for way, table in found.items()}
    report.table(
        "The same numbers?",
        ["measures", "way", "numbers", "largest difference"],
        [(*way, found[way].size, f"{largest:.1e}") for way, largest in apart.items() if way[1] != "groundglass"],
    )
    report.write(options.json)
    for (what, tool), table in found.items():
        ours = found[what, "groundglass"]
        near = np.allclose(table, ours, rtol=1e-5 if what == "boundary" else 0, atol=1e-6)
        assert near, f"{tool} and groundglass do not agree on {what}"


if __name__ == "__main__":
    main()
