"""Records of evaluations that never were, for everything that compares some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.labels import label_set
from groundglass.measure.record import Conventions, Cost, Extent, MeasuredCase, ProtocolNumbers, Record, measured_labels

SIZE = 100


def record(
    name: str, tp: Sequence[int] | NDArray[np.int64], clusters: Sequence[int] | None = None, **changes: Any
) -> Record:
    """An evaluation in label set `lesion` of images with 100 lesion pixels of which `tp` [N] are found, none too much.

    Dice of an image: 2 tp / (100 + tp).
    """
    labels = label_set("lesion")
    cases = tuple(
        MeasuredCase(
            case=f"c/{i}",
            source="c",
            cluster=i + 1 if clusters is None else clusters[i],
            confusion=((1000, 0), (SIZE - int(n), int(n)), (0, 0)),
            extents={
                "any lesion": Extent(
                    hd95=float(SIZE - n), surface_dice=n / SIZE, reference=float(SIZE), predicted=float(n)
                )
            },
        )
        for i, n in enumerate(tp)
    )
    protocol = ProtocolNumbers(
        name="inf-net",
        source="a paper",
        label="any lesion",
        numbers={"meanDic": 0.25, "maxDic": 0.5},
        n=len(cases),
        n_dropped=0,
        n_partly_known=0,
        settings={"drop_empty": True},
    )
    facts: dict[str, Any] = {
        "kind": "runs",
        "name": name,
        "method": f"recipe of {name}",
        "seed": 0,
        "answers": (name,),
        "fingerprint": "f" * 64,
        "part": "held-out",
        "label_set": labels.name,
        "classes": labels.classes,
        "codes": labels.codes,
        "decision": "argmax",
        "conventions": Conventions(unit="px", tolerances=dict.fromkeys(measured_labels(labels), 2.0)),
        "cases": cases,
        "protocols": (protocol,),
        "cost": Cost(networks=1, parameters=1_250_000, gflops=2.5, seconds_per_image=0.04, threads=1, device="a CPU"),
    }
    return Record(**(facts | changes))
