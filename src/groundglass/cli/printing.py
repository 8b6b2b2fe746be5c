"""How results look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import typer

from groundglass.measure.summary import ANY_LESION
from groundglass.show.tables import format_value, print_table

if TYPE_CHECKING:  # only named in signatures; with Matplotlib behind them they would delay every command
    from groundglass.workflows.check import Report
    from groundglass.workflows.evaluate import Evaluation

# Of each kind of defect so many are shown; all are in the JSON report.
_SHOWN = 3
# Of the averages these are shown; all are in summary.csv, with how many cases left each mean as undefined.
_AVERAGES = ("pooled", "per image, positives", "per patient, positives", "per group, positives")


def print_check(report: Report) -> None:
    """Facts, class shares and defects of a data set."""
    facts = report.to_dict()
    rows = [
        ["format", facts["format"]],
        ["cases", f"{facts['cases']} labelled, {facts['unlabelled']} without masks"],
        ["sources", _counts(facts["sources"])],
        ["patients", _patients(facts)],
        ["shapes", _counts(facts["shapes"])],
        ["intensities", _intensities(report)],
        ["with lesion", f"{sum(share > 0 for share in report.scan.lesion.values())} cases"],
    ]
    print_table(["what", "value"], rows, report.dataset.location)
    shares = [[name, n, f"{100 * report.scan.shares[name]:.3f} %"] for name, n in report.scan.pixels.items()]
    if shares:
        print_table(["class", "pixels", "share"], shares)
    for name, defects in (("error", report.errors), ("warning", report.warnings)):
        for kind, same in groupby(sorted(defects, key=lambda d: d.kind), key=lambda d: d.kind):
            found = list(same)
            for defect in found[:_SHOWN]:
                typer.echo(f"{name} {kind}: {defect}")
            if len(found) > _SHOWN:
                typer.echo(f"{name} {kind}: and {len(found) - _SHOWN} more (all with --json)")
    typer.echo(f"{len(report.errors)} errors, {len(report.warnings)} warnings")


def _intensities(report: Report) -> str:
    low, high = report.scan.minimum, report.scan.maximum
    return "none could be read" if low is None or high is None else f"{report.dataset.unit}, {low:g} to {high:g}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({n})" for name, n in counts.items())


def _patients(facts: Mapping[str, Any]) -> str:
    known = facts["patients_known"]
    if facts["patients"]:
        return f"{facts['patients']}, {known}"
    return f"{known}; {facts['groups']} volumes" if facts["groups"] else str(known)


def print_evaluation(result: Evaluation) -> None:
    """Named scores and the main measures per class, with n, and where all of it lies."""
    s = result.summary
    scores = [[row.metric, (row.value, row.low, row.high), row.n, row.n_undefined] for row in s.benchmarks]
    title = f"{len(s.cases)} cases ({result.part}); 95 % intervals by {s.clusters}"
    print_table(["score", "value", "n", "undefined"], scores, title)
    for metric in ("dice", "precision", "recall"):
        found = [r for r in s.averages if r.metric == metric and r.label in (*s.labels.lesions, ANY_LESION)]
        averages = [a for a in dict.fromkeys(r.average for r in found) if a in _AVERAGES]
        cells = {(r.label, r.average): f"{format_value((r.value, r.low, r.high))} n {r.n}" for r in found}
        rows = [[label, *(cells[label, a] for a in averages)] for label in dict.fromkeys(r.label for r in found)]
        print_table([metric, *averages], rows)
    negatives = [
        [n.label, n.n_positive, n.n_negative, n.n_with_false_positives, n.mean_fp_pixels]
        for n in s.negatives
        if n.label in (*s.labels.lesions, ANY_LESION)
    ]
    print_table(["class", "positive", "negative", "with false positives", "mean false pixels"], negatives)
    for note in result.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"Tables: {result.folder}")
    if result.figures:
        typer.echo(f"Figures: {result.figures[0].parent}")


def print_catalogue(found: Mapping[str, list[dict[str, Any]]]) -> None:
    """One table a kind."""
    for kind, rows in found.items():
        columns = list(rows[0]) if rows else ["name", "what"]
        print_table(columns, [[row.get(column, "") for column in columns] for row in rows], kind)
