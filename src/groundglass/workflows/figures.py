"""The pictures of an evaluation: the sources' and ours, over a few cases chosen by rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.labels import LESION_VALUES
from groundglass.measure.counts import stack
from groundglass.measure.summary import ANY_LESION, Summary
from groundglass.model.decide import decide
from groundglass.model.predict import Model, Tta, mean_thresholds, probabilities
from groundglass.model.prepare import clip01, scale, to_hu
from groundglass.run import Run
from groundglass.show import figures as sheets
from groundglass.show.curves import curves
from groundglass.show.overlay import masks_of
from groundglass.show.progress import progress
from groundglass.show.statistics import confusion_matrix, histograms, metric_intervals
from groundglass.workflows.choosing import Asked, Chosen

SHOWN = 5
# Histograms take every n-th pixel of at most this many cases a source.
_SAMPLED_CASES, _SAMPLED_STEP = 40, 7


def draw(
    target: Path,
    run: Run | None,
    chosen: Chosen,
    models: Sequence[Model],
    summary: Summary,
    tta: Tta,
    dataset: Dataset,
) -> tuple[Path, ...]:
    """Write every picture to `target`, with the curves of `run` where there is one; returns their paths.

    Shown are up to five lesion-bearing cases evenly spread over the Dice of all, from worst to best, so that the
    pictures neither flatter nor shame.
    """
    dice = {row["case"]: float(row["dice"]) for row in summary.per_case_rows() if row["class"] == ANY_LESION}
    shown = _spread(chosen.cases, dice)
    # What is not held out is named beside each score.
    named = "" if chosen.part == "held-out" else f" ({chosen.part})"
    panels = [
        _panel([models[i] for i in which], case, tta, dice.get(case.id, float("nan")), named) for case, which in shown
    ]
    low, high = models[0].preparation.intensity.clip_hu
    window = (low, high)
    names = list(summary.labels.classes)
    n = f"{len(chosen.cases)} cases, {chosen.part}"
    lesions = summary.labels.lesions
    with progress("Drawing figures", 8) as bar:
        drawn = [
            sheets.image_grid(panels, target / "images.png", window=window),
            sheets.truth_prediction(panels, target / "truth_prediction.png", window=window),
            sheets.class_map(panels, target / "class_map_002.png", window=window),
        ]
        bar(3)
        if "ground-glass" in names and "consolidation" in names:
            drawn.append(sheets.per_category(panels, target / "categories_000.png", window=window))
            drawn.append(sheets.source_agreement(panels, target / "agreement_000.png"))
        bar(5)
        # Partly known pixels have no class of the expert's to stand in the row of.
        total = stack(summary.cases).sum(axis=0)[: len(names)]
        drawn.append(confusion_matrix(total, names, target / "confusion.png", n=n))
        rows = [
            row
            for row in summary.rows()
            if row["metric"] in ("dice", "precision", "recall")
            and row["average"] == "pooled"
            and row["class"] in (*lesions, ANY_LESION)
        ]
        title = f"Measures with 95% confidence intervals, {chosen.part}"
        drawn.append(metric_intervals(rows, target / "measures.png", title=title))
        bar(7)
        drawn.append(_histograms(dataset, models[0], target / "intensities.png"))
        if run is not None and run.curves.is_file():
            watched, kept = run.recipe.checkpoint.metric, run.manifest.kept_epoch
            drawn.append(curves(run.curves, target / "curves.png", watched, title=run.recipe.name, kept=kept))
        bar(8)
    return tuple(drawn)


def _spread(chosen: Sequence[Asked], dice: dict[str, float]) -> list[Asked]:
    """Up to five cases with lesions at evenly spaced ranks of Dice; the first ones where none has lesions."""
    scored = [item for item in chosen if np.isin(item[0].labels(), LESION_VALUES).any()]
    scored.sort(key=lambda item: dice.get(item[0].id, 0.0))
    pool = scored or list(chosen)
    ranks = np.unique(np.linspace(0, len(pool) - 1, min(SHOWN, len(pool))).round().astype(int))
    return [pool[rank] for rank in ranks]


def _panel(models: Sequence[Model], case: Case, tta: Tta, dice: float, named: str) -> sheets.Panel:
    labels, thresholds = models[0].labels, mean_thresholds(models)
    p = probabilities(models, case.image(), case.unit, tta)
    prediction = labels.decode(decide(p, labels, thresholds))
    masks = dict(masks_of(prediction))
    for name, value in (thresholds or {}).items():
        # Before the decision two lesion classes may both reach their thresholds; system 000 shows that as mixed.
        masks[name] = p[labels.classes.index(name)] >= value
    spacing = case.geometry.spacing_mm
    return sheets.Panel(
        image=to_hu(case.image(), case.unit, models[0].preparation.intensity),
        labels=labels.decode(labels.encode(case.labels())),
        prediction=prediction,
        title=f"{case.id}{named}, lesion Dice {dice:.2f}" if dice == dice else f"{case.id}{named}",
        spacing_mm=(spacing[-2], spacing[-1]) if spacing else None,
        predicted_masks=masks,
    )


def _histograms(dataset: Dataset, model: Model, path: Path) -> Path:
    before: dict[str, np.ndarray] = {}
    after: dict[str, np.ndarray] = {}
    for source in dataset.sources:
        cases = [case for case in dataset.cases if case.source == source]
        cases = cases[:: max(1, len(cases) // _SAMPLED_CASES)]
        images = [(case.image().ravel()[::_SAMPLED_STEP], case.unit) for case in cases]
        intensity = model.preparation.intensity
        before[source] = np.concatenate([to_hu(x, unit, intensity) for x, unit in images])
        after[source] = scale(np.concatenate([clip01(x, unit, intensity) for x, unit in images]), model.preparation)
    return histograms(before, after, path, limits=model.preparation.intensity.clip_hu)
