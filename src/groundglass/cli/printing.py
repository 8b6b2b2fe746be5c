"""How results look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import typer

from groundglass.measure.cohorts import ALL, PREDICTION, CohortRow, Number
from groundglass.measure.protocols import COVID_CT_SEG, INF_NET
from groundglass.measure.record import shown_labels
from groundglass.measure.summary import ANY_LESION
from groundglass.show.tables import format_value, print_table

if TYPE_CHECKING:  # only named in signatures; with Matplotlib behind them they would delay every command
    from groundglass.workflows.check import Report
    from groundglass.workflows.compare import Compared
    from groundglass.workflows.cv import CrossValidation
    from groundglass.workflows.evaluate import Evaluation
    from groundglass.workflows.pooling import Score

# Of each kind of defect so many are shown; all are in the JSON report.
_SHOWN = 3
# Of near duplicates so many are named; all are in the JSON report.
_PAIRS_SHOWN = 20
# Of the averages these are shown; all are in summary.csv, with how many cases left each mean as undefined.
_AVERAGES = ("pooled", "per image, positives", "per patient, positives", "per group, positives")
# Lungs are in nearly every image, and systems report their means over all.
_AVERAGES_OF_LUNGS = ("pooled", "per image", "per patient", "per group")
# The measures of cohorts in few words; false alarms are counted in the images without a lesion.
_COHORT_MEASURES = {
    "any_lesion_dice_empty1": "Dice, all",
    "any_lesion_iou_empty1": "IoU, all",
    "any_lesion_dice": "Dice, with lesion",
    "any_lesion_dice_pooled": "Dice, pooled",
    "false_positive_rate": "false alarms, share",
    "false_positive_pixels": "false pixels, mean",
}
# Of the numbers of a protocol these are shown; all are in summary.json.
_PROTOCOL_NUMBERS = {INF_NET.name: ("meanDic", "maxDic", "MAE"), COVID_CT_SEG.name: ("DSC", "DSC sd", "NSD", "NSD sd")}


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
    _print_twins(report, facts["twins"])
    typer.echo(f"{len(report.errors)} errors, {len(report.warnings)} warnings")


def _print_twins(report: Report, found: Mapping[str, Any] | None) -> None:
    """What the search for near duplicates found, in counts and by file and row."""
    if found is None:
        return
    if not found["pairs"]:
        typer.echo(f"near duplicates: none among {found['images']} images")
        return
    groups = found["groups"]
    rows = [
        ["pairs", found["pairs"]],
        ["of what kind", _counts({kind: n for kind, n in found["kinds"].items() if n})],
        ["clusters", f"{found['clusters']}, the largest of {found['largest_cluster']} images"],
        *([f"across {border}", n] for border, n in found["across"].items() if n),
        ["groups in a split", f"{groups['apart']} without, {groups['together']} with near duplicates joined"],
    ]
    print_table(["what", "value"], rows, f"near duplicates among {found['images']} images")
    for volumes in found["one_scan"]:
        typer.echo(volumes)
    for link in report.links[:_PAIRS_SHOWN]:
        across = f" (across {', '.join(link.across)})" if link.across else ""
        sure = f"confidence {link.pair.confidence:.3f}"
        typer.echo(f"{link.pair.kind}: {link.first.place} and {link.second.place}, {sure}{across}")
    if len(report.links) > _PAIRS_SHOWN:
        typer.echo(f"and {len(report.links) - _PAIRS_SHOWN} more pairs (all with --json, -o or --pairs)")


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
    wanted = _AVERAGES if s.labels.lesions else _AVERAGES_OF_LUNGS
    for metric in ("dice", *([] if s.labels.lesions else ["iou"]), "precision", "recall"):
        found = [r for r in s.averages if r.metric == metric and r.label in shown_labels(s.labels)]
        averages = [a for a in dict.fromkeys(r.average for r in found) if a in wanted]
        cells = {(r.label, r.average): f"{format_value((r.value, r.low, r.high))} n {r.n}" for r in found}
        rows = [[label, *(cells[label, a] for a in averages)] for label in dict.fromkeys(r.label for r in found)]
        print_table([metric, *averages], rows)
    negatives = [
        [n.label, n.n_positive, n.n_negative, n.n_with_false_positives, n.mean_fp_pixels]
        for n in s.negatives
        if n.label in shown_labels(s.labels)
    ]
    print_table(["class", "positive", "negative", "with false positives", "mean false pixels"], negatives)
    _print_cohorts(result)
    _print_boundaries(result)
    _print_protocols(result)
    for line in result.certificate:
        typer.echo(line)
    for note in result.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"Tables: {result.folder}")
    if result.figures:
        typer.echo(f"Figures: {result.figures[0].parent}")


def _print_cohorts(result: Evaluation) -> None:
    """The prediction beside its rivals, then by cohort: one table each, and what they say in words."""
    table = result.cohorts
    if table is None or not table.informative:
        return
    everyone = {row.answer: row for row in table.rows if row.cohort == ALL}
    cohorts = {name: table.row(name) for name in table.cohorts} if len(table.cohorts) > 1 else {}
    for title, rows in (
        (f"{ALL}: {_held(everyone[PREDICTION])}; over all, empty on empty is 1", everyone),
        ("prediction by cohort", {f"{name}: {_held(row)}": row for name, row in cohorts.items()}),
    ):
        cells = [
            [heading, *(_with_limits(row.numbers[name]) for row in rows.values())]
            for name, heading in _COHORT_MEASURES.items()
        ]
        if rows:
            print_table(["any lesion", *rows], cells, title)
    for sentence in table.sentences():
        typer.echo(sentence)


def _with_limits(number: Number) -> tuple[float, float, float]:
    return number.value, number.low, number.high


def _held(row: CohortRow) -> str:
    return f"{row.n_lesion} with a lesion, {row.n_empty} without"


def _print_boundaries(result: Evaluation) -> None:
    found = result.boundaries()
    columns = ("hd95", "surface_dice", "area_error")
    cells = {(r["class"], r["measure"]): (r["value"], r["low"], r["high"]) for r in found["rows"]}
    rows = [
        [label, *(cells[label, column] for column in columns), f"{size:g} {found['unit']}"]
        for label, size in found["tolerances"].items()
    ]
    headings = ["class", f"HD95 ({found['unit']})", "surface Dice", f"area error ({found['area_unit']})", "tolerance"]
    print_table(headings, rows, "means over positive images; of the area error over all")


def _print_protocols(result: Evaluation) -> None:
    """Numbers of published protocols under their own names, and what is not as it was published."""
    protocols, said = result.record.protocols, []
    for name in dict.fromkeys(found.name for found in protocols):
        rows = []
        for found in (found for found in protocols if found.name == name):
            numbers = [found.numbers.get(number) for number in _PROTOCOL_NUMBERS[name]]
            rows.append([found.label, *numbers, found.n, found.n_dropped, found.n_partly_known])
            said += [(name, key, text) for key, text in found.settings.items() if isinstance(text, str)]
        what = "volumes" if name == COVID_CT_SEG.name else "images"
        columns = ["class", *_PROTOCOL_NUMBERS[name], what, "empty", "partly known"]
        print_table(columns, rows, f"published protocol {name}")
    for name, key, text in dict.fromkeys(said):
        parts = text.split("; ")
        more = f"; and {len(parts) - _SHOWN} more (all in summary.json)" if len(parts) > _SHOWN else ""
        typer.echo(f"{name}: {key.replace('_', ' ')}: {'; '.join(parts[:_SHOWN])}{more}")


def print_comparison(result: Compared) -> None:
    """The table in parts, the paired differences in sentences, repeats with other seeds, and notes."""
    from groundglass.show.paired import blocks, caption

    comparison = result.comparison
    for block in blocks(comparison):
        rows = [[name, *map(str, row)] for name, row in zip(comparison.names, block.rows, strict=True)]
        print_table([block.title, *block.columns], rows)
    typer.echo(caption(comparison))
    typer.echo(f"\nPaired differences in {comparison.metric.name}:")
    for pair in comparison.pairs:
        typer.echo(f"  {pair.text}")
    if comparison.repeats:
        repeats = [
            [r.name, r.spread.n, r.spread.mean, r.spread.sd, r.spread.low, r.spread.high] for r in comparison.repeats
        ]
        title = f"{comparison.metric.name} of repeats with other seeds"
        print_table(["recipe", "seeds", "mean", "sd", "lowest", "highest"], repeats, title)
    for note in comparison.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"Tables and figure: {result.folder}")


def print_cv(result: CrossValidation) -> None:
    """A row a recipe: its score out of fold and, when all folds are done, on the test part."""

    def cells(score: Score | None) -> list[Any]:
        return [None, None] if score is None else [(score.value, score.low, score.high), score.n]

    rows = [
        [r.name, f"{len(r.finished)} of {result.folds}", *cells(r.out_of_fold), *cells(r.test)] for r in result.recipes
    ]
    columns = ["recipe", "folds", "out of fold", "n", "test part", "n"]
    scored = {score.label for r in result.recipes for score in (r.out_of_fold, r.test) if score is not None}
    title = "any-lesion Dice, mean over the n images with lesions, with 95 % intervals"
    if scored - {ANY_LESION}:
        title = f"Dice of {' or '.join(sorted(scored))}, mean over the n images that hold it, with 95 % intervals"
    print_table(columns, rows, title)
    for r in result.recipes:
        if r.missing:
            missing = ", ".join(f"{k}/{result.folds}" for k in r.missing)
            typer.echo(f"note: {r.name}: folds {missing} are not finished; their cases are not in the score")
    typer.echo(f"Folder: {result.folder}")


def print_catalogue(found: Mapping[str, list[dict[str, Any]]]) -> None:
    """One table a kind."""
    for kind, rows in found.items():
        columns = list(rows[0]) if rows else ["name", "what"]
        print_table(columns, [[row.get(column, "") for column in columns] for row in rows], kind)
