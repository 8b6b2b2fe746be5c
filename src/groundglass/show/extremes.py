"""A severe, a mild and a normal case, as system 003 shows its own: what a mean over all images is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from groundglass.measure.cohorts import Kind
from groundglass.show.colours import LESIONS
from groundglass.show.figures import Panel, truth_prediction
from groundglass.show.overlay import LUNG_WINDOW, Window

_COLUMNS = ("Image", "Expert", "Prediction")


def extremes(
    panels: Mapping[Kind, Panel],
    path: str | Path,
    window: Window = LUNG_WINDOW,
    palette: str = "safe",
    names: Sequence[str] = LESIONS,
    unit: str = "HU",
    share_of: str = "lung",
) -> Path:
    """One row a case, in the order given: image, expert labels, prediction.

    panels: cases as `measure.cohorts.extreme_cases` chooses them, by kind; names: classes that are drawn; share_of:
    what the share of a lesion is of, `lung` or `image`. The note below tells by which rule they were chosen, so that
    nobody takes them for typical ones. Raises `DataError` without cases, `WriteError`.
    """
    rules: Mapping[Kind, str] = {
        "severe": f"severe: the largest share of the {share_of} is lesion",
        "mild": "mild: the smallest share above 0",
        "normal": "normal: no lesion" + (", the largest lung" if share_of == "lung" else ""),
    }
    title = " and ".join(", ".join(f"a {kind}" for kind in panels).rsplit(", ", 1))
    note = f"Chosen by the expert's labels alone, never by a score; {'; '.join(rules[kind] for kind in panels)}."
    return truth_prediction(
        list(panels.values()),
        path,
        window,
        palette,
        names=names,
        title=f"{title.capitalize()} case",
        unit=unit,
        columns=_COLUMNS,
        note=note,
    )
