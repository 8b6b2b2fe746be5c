"""The record that an evaluation leaves: who answered, of what, at what cost."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.labels import LabelSet
from groundglass.measure.record import Cost, Record
from groundglass.model.predict import Model, Tta
from groundglass.run import Run
from groundglass.workflows.choosing import Chosen
from groundglass.workflows.masks import Masks
from groundglass.workflows.measuring import Measurement, peak_memory_mb


def record_of_runs(
    runs: Sequence[Run], models: Sequence[Model], chosen: Chosen, scan: Scan, tta: Tta, device: str, found: Measurement
) -> Record:
    """The record of one run, or of several that are folds of one recipe. device: `auto`, `cpu` or `cuda`."""
    recipe = runs[0].recipe
    return Record(
        kind="runs",
        name=recipe.name,
        method=method_of(runs[0]),
        seed=recipe.seed,
        answers=tuple(weights_digest(run) for run in runs),
        fingerprint=scan.fingerprint,
        part=chosen.part,
        tta=tta,
        decision=recipe.decision.name,
        thresholds=tuple(None if m.thresholds is None else dict(m.thresholds) for m in models),
        notes=tuple(chosen.notes),
        cost=_cost(runs, max(len(which) for _, which in chosen.cases), device, found),
        **_measured(found, models[0].labels),
    )


def record_of_masks(
    masks: Masks, labels: LabelSet, scan: Scan, part: str, notes: Sequence[str], found: Measurement
) -> Record:
    """The record of masks of which nobody says how they were made."""
    return Record(
        kind="masks",
        name=masks.folder.resolve().name,
        answers=(masks.digest,),
        fingerprint=scan.fingerprint,
        part=part,
        notes=tuple(notes),
        **_measured(found, labels),
    )


def _measured(found: Measurement, labels: LabelSet) -> dict[str, Any]:
    return {
        "label_set": labels.name,
        "classes": labels.classes,
        "codes": labels.codes,
        "conventions": found.conventions,
        "cases": found.cases,
        "protocols": found.protocols,
    }


def method_of(run: Run) -> str:
    """sha256 of the recipe without its name and seed: the same for repeats that differ by their seed."""
    plain = run.recipe.model_dump(mode="json", exclude={"name", "seed"})
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def weights_digest(run: Run) -> str:
    """sha256 of the kept weights' file. Raises `RunError` where there are none."""
    with open(run.need_weights(), "rb") as weights:
        return hashlib.file_digest(weights, "sha256").hexdigest()


def clusters_of(runs: Sequence[Run], dataset: Dataset, scan: Scan) -> list[tuple[str, ...]]:
    """Ids of near duplicates: of this scan where it searched, else of the runs' certificates for the same data."""
    if scan.twins is not None:
        return list(scan.twins.clusters)
    known = {case.id for case in (*dataset.cases, *dataset.test)}
    found = [run.certificate() for run in runs]
    same = [c for c in found if c is not None and c.data_fingerprint == scan.fingerprint]
    return [ids for certificate in same for cluster in certificate.clusters if (ids := tuple(known & set(cluster)))]


def _cost(runs: Sequence[Run], networks: int, device: str, found: Measurement) -> Cost:
    from groundglass.learning.cost import device_name, gflops, threads
    from groundglass.learning.device import choose_device

    seconds = [second for run in runs for second in _epoch_seconds(run.curves)]
    return Cost(
        networks=networks,
        parameters=runs[0].manifest.parameters,
        gflops=gflops(runs[0].recipe),
        side=runs[0].recipe.image_size,
        seconds_per_epoch=median(seconds) if seconds else None,
        seconds_per_image=found.seconds_per_image,
        threads=threads(),
        peak_memory_mb=peak_memory_mb(),
        device=device_name(choose_device(device)),
    )


def _epoch_seconds(curves: Path) -> list[float]:
    """Seconds of each epoch of a run; none where its table is missing or has no such column."""
    try:
        with open(curves, newline="", encoding="utf-8") as table:
            return [float(row["seconds"]) for row in csv.DictReader(table)]
    except (OSError, KeyError, ValueError, TypeError):
        return []
