"""The pictures of an evaluation: the sources' and ours, over a few cases chosen by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundglass.case import Case
from groundglass.data.dataset import Dataset
from groundglass.labels import BY_NAME
from groundglass.measure.cohorts import Extreme
from groundglass.measure.counts import stack
from groundglass.measure.record import main_label, shown_labels
from groundglass.measure.summary import ANY_LESION
from groundglass.model.decide import decide
from groundglass.model.instances import instances, numbered
from groundglass.model.predict import Model, Tta, case_probabilities, known_lungs, mean_thresholds
from groundglass.model.prepare import bounds, clip01, scale, to_scale
from groundglass.recipes.settings import Grey
from groundglass.run import Run
from groundglass.show import figures as sheets
from groundglass.show import instances as separate
from groundglass.show.curves import curves
from groundglass.show.extremes import extremes
from groundglass.show.overlay import masks_of
from groundglass.show.progress import progress
from groundglass.show.statistics import confusion_matrix, histograms, metric_intervals
from groundglass.workflows.choosing import Asked, Chosen
from groundglass.workflows.evaluate import Evaluation

SHOWN = 5
# Histograms take every n-th pixel of at most this many cases a source.
_SAMPLED_CASES, _SAMPLED_STEP = 40, 7


def draw(
    target: Path,
    run: Run | None,
    chosen: Chosen,
    models: Sequence[Model],
    result: Evaluation,
    tta: Tta,
    dataset: Dataset,
) -> tuple[Path, ...]:
    """Write every picture to `target`, with the curves of `run` where there is one; returns their paths.

    Shown are up to five lesion-bearing cases evenly spread over the Dice of all, from worst to best, so that the
    pictures neither flatter nor shame; of a label set without lesions, cases that hold its first class.
    """
    summary, labels = result.summary, result.summary.labels
    main = main_label(labels)
    scores = {row["case"]: row for row in summary.per_case_rows() if row["class"] == main}

    def panel(item: Asked, name: str = "") -> sheets.Panel:
        case, which = item
        # What is not held out is named beside each score.
        part = "" if chosen.part == "held-out" else f" ({chosen.part})"
        row, what = scores[case.id], "lesion" if main == ANY_LESION else main
        said = f", {what} Dice {float(row['dice']):.2f}" if np.isfinite(row["dice"]) else ""
        alarms = row["fp_pixels_on_empty_reference"]
        if alarms is not None:
            said = f", {what} predicted in {alarms:,} pixels"
        return _panel([models[i] for i in which], case, tta, f"{name}{case.id}{part}{said}")

    few = _spread(chosen.cases, scores)
    panels = [panel(item) for item in few]
    intensity = models[0].preparation.intensity
    window, unit = bounds(intensity), "" if isinstance(intensity, Grey) else "HU"
    names = list(labels.classes)
    n = f"{len(chosen.cases)} cases, {chosen.part}"
    with progress("Drawing figures", 8) as bar:
        found = labels.targets
        drawn = [
            sheets.image_grid(panels, target / "images.png", window=window, unit=unit, names=found),
            sheets.truth_prediction(panels, target / "truth_prediction.png", window=window, unit=unit, names=found),
            sheets.class_map(panels, target / "class_map_002.png", window=window, unit=unit),
        ]
        bar(3)
        separated = [
            _apart([models[i] for i in which], case, of) for (case, which), of in zip(few, panels, strict=True)
        ]
        if apart := [case for case in separated if case is not None]:
            drawn.append(separate.instances(apart, target / "instances.png", window=window, unit=unit, names=found))
        if result.cohorts is not None and result.cohorts.extremes:
            asked, of = {item[0].id: item for item in chosen.cases}, result.cohorts.share_of
            shown = {
                extreme.kind: panel(asked[extreme.case], _heading(extreme, of)) for extreme in result.cohorts.extremes
            }
            path = target / "extremes.png"
            drawn.append(extremes(shown, path, window=window, names=found, unit=unit, share_of=of))
        if "ground-glass" in names and "consolidation" in names:
            drawn.append(sheets.per_category(panels, target / "categories_000.png", window=window, unit=unit))
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
            and row["class"] in shown_labels(labels)
        ]
        title = f"Measures with 95% confidence intervals, {chosen.part}"
        drawn.append(metric_intervals(rows, target / "measures.png", title=title))
        bar(7)
        drawn.append(_histograms(dataset, models[0], target / "intensities.png", unit))
        if run is not None and run.curves.is_file():
            watched, kept = run.recipe.checkpoint.metric, run.manifest.kept_epoch
            drawn.append(curves(run.curves, target / "curves.png", watched, title=run.recipe.name, kept=kept))
        bar(8)
    return tuple(drawn)


def _spread(chosen: Sequence[Asked], scores: Mapping[str, Mapping[str, Any]]) -> list[Asked]:
    """Up to five cases that hold the scored class at evenly spaced ranks of Dice; any where none holds it."""
    scored = [item for item in chosen if scores[item[0].id]["truth_pixels"]]
    scored.sort(key=lambda item: float(scores[item[0].id]["dice"]))
    pool = scored or list(chosen)
    ranks = np.unique(np.linspace(0, len(pool) - 1, min(SHOWN, len(pool))).round().astype(int))
    return [pool[rank] for rank in ranks]


def _heading(extreme: Extreme, of: str) -> str:
    percent = 100 * extreme.share
    share = f"{percent:.{0 if percent >= 10 else 1}f} % of the {of}" if percent else "no lesion"
    return f"{extreme.kind.capitalize()} ({share}): "


def _panel(models: Sequence[Model], case: Case, tta: Tta, title: str) -> sheets.Panel:
    labels, thresholds = models[0].labels, mean_thresholds(models)
    p = case_probabilities(models, case, tta)
    prediction = labels.decode(decide(p, labels, thresholds))
    masks = dict(masks_of(prediction))
    for name, value in (thresholds or {}).items():
        # Before the decision two lesion classes may both reach their thresholds; system 000 shows that as mixed.
        masks[name] = p[labels.classes.index(name)] >= value
    spacing = case.geometry.spacing_mm
    return sheets.Panel(
        image=to_scale(case.image(), case.unit, models[0].preparation.intensity),
        labels=labels.decode(labels.encode(case.labels())),
        prediction=prediction,
        title=title,
        spacing_mm=(spacing[-2], spacing[-1]) if spacing else None,
        predicted_masks=masks,
        classes=labels.classes,
    )


def _apart(models: Sequence[Model], case: Case, panel: sheets.Panel) -> separate.Apart | None:
    """The instances behind a panel's prediction; None where no single model tells them apart."""
    if len(models) != 1:
        return None
    found = instances(models[0], case.image(), case.unit, known_lungs(models, case))
    if found is None:
        return None
    targets = [BY_NAME[name].value for name in models[0].labels.targets]
    return separate.Apart(panel, found, numbered(found, np.isin(panel.predicted(), targets)))


def _histograms(dataset: Dataset, model: Model, path: Path, unit: str) -> Path:
    before: dict[str, np.ndarray] = {}
    after: dict[str, np.ndarray] = {}
    for source in dataset.sources:
        cases = [case for case in dataset.cases if case.source == source]
        cases = cases[:: max(1, len(cases) // _SAMPLED_CASES)]
        images = [(case.image().ravel()[::_SAMPLED_STEP], case.unit) for case in cases]
        intensity = model.preparation.intensity
        before[source] = np.concatenate([to_scale(x, unit, intensity) for x, unit in images])
        after[source] = scale(np.concatenate([clip01(x, unit, intensity) for x, unit in images]), model.preparation)
    return histograms(before, after, path, unit, limits=bounds(model.preparation.intensity))
