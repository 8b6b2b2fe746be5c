"""`groundglass list`: what can be chosen by name. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundglass import recipes, registry
from groundglass.errors import RecipeError, RunError, nearest
from groundglass.labels import LABEL_SETS
from groundglass.measure.metrics import METRICS, SCORES
from groundglass.run import Run

Rows = list[dict[str, Any]]


def catalogue(kind: str | None = None, runs: str | Path = "runs") -> dict[str, Rows]:
    """Names and descriptions of one kind, or of all: recipes, architectures, encoders, labels, losses, metrics,
    datasets, models. `models` are the trained runs in the folder `runs`. Raises `RecipeError` for an unknown kind."""
    makers: dict[str, Callable[[], Rows]] = {
        "recipes": lambda: [{"name": n, "what": what} for n, what in recipes.shipped().items()],
        "architectures": _architectures,
        "encoders": _encoders,
        "labels": lambda: [{"name": s.name, "what": ", ".join(s.classes)} for s in LABEL_SETS.values()],
        "losses": lambda: [{"name": n, "what": e.summary} for n, e in registry.LOSSES.items()],
        "metrics": _metrics,
        "datasets": lambda: [{"name": n, "what": e.summary} for n, e in registry.FORMATS.items()],
        "models": lambda: _models(Path(runs)),
    }
    if kind is None:
        # The encoders are hundreds; they are listed when asked for.
        return {name: make() for name, make in makers.items() if name != "encoders"}
    if kind not in makers:
        raise RecipeError(f"unknown kind '{kind}'; {nearest(kind, makers)}")
    return {kind: makers[kind]()}


def _architectures() -> Rows:
    return [
        {"name": n, "what": e.summary, "knobs": ", ".join(f"{k}={v}" for k, v in e.knobs.items())}
        for n, e in registry.ARCHITECTURES.items()
    ]


def _encoders() -> Rows:
    table = registry.library_names()
    own = [{"name": n, "what": "segmentation_models_pytorch"} for n in table["encoders"]]
    return own + [{"name": f"tu-{n}", "what": "timm"} for n in table["timm_models"]]


def _metrics() -> Rows:
    measures = [{"name": n, "what": m.description} for n, m in METRICS.items()]
    return measures + [{"name": n, "what": s.description} for n, s in SCORES.items()]


def _models(folder: Path) -> Rows:
    rows: Rows = []
    for path in sorted(folder.glob("*/run.json")):
        try:
            run = Run.open(path.parent)
        except RunError as error:
            rows.append({"name": path.parent.name, "what": str(error)})
            continue
        m = run.manifest
        fold = f", fold {run.split.fold}" if run.split.fold else ""
        best = "" if m.kept_value is None else f", best {run.recipe.checkpoint.metric} {m.kept_value:.4f}"
        rows.append({"name": str(path.parent), "what": f"recipe {run.recipe.name}{fold}, {m.state}{best}"})
    return rows
