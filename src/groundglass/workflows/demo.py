"""`groundglass demo`: the whole path on phantoms, from nothing to one page with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from groundglass.data.opening import open_dataset
from groundglass.errors import RunError
from groundglass.labels import LESION_VALUES
from groundglass.measure.record import main_label, shown_labels
from groundglass.measure.summary import ANY_LESION
from groundglass.scans.arrays import read_npy
from groundglass.show.page import Section, Table, write_page
from groundglass.show.progress import say
from groundglass.show.tables import format_value
from groundglass.workflows.check import Report, check
from groundglass.workflows.evaluate import Evaluation, evaluate
from groundglass.workflows.predict import predict
from groundglass.workflows.submit import submit
from groundglass.workflows.train import train
from groundglass.write.masks import write_npy

DATA = "phantom:24"


@dataclass(frozen=True)
class Demo:
    """Where the demo left everything, and its score: any-lesion Dice on held-out phantom patients."""

    folder: Path
    page: Path
    any_lesion_dice: float


def demo(out: str | Path = "demo", recipe: str = "demo", settings: Sequence[str] = (), device: str = "auto") -> Demo:
    """Check, train, evaluate, predict and submit on synthetic patients, and write one self-contained page.

    Raises `RunError` when `out` holds a demo already.
    """
    folder = Path(out)
    if (folder / "run").exists():
        raise RunError(f"{folder}: holds a demo already; remove it or choose another --out")
    say(f"1/5 check {DATA}: synthetic chests in Hounsfield units with findings of known area")
    report = check(DATA, folder / "check.json")
    say(
        f"    {len(report.dataset.cases)} labelled slices, {len(report.errors)} errors, {len(report.warnings)} warnings"
    )
    say(f"2/5 train recipe '{recipe}'")
    run = train(recipe, DATA, out=folder / "run", settings=settings, device=device)
    say("3/5 evaluate on patients the network has not seen")
    result = evaluate([run], DATA, device=device)
    for note in result.notes:
        say(f"    note: {note}")
    say("4/5 predict unlabelled slices")
    tests = open_dataset(DATA).test
    stack = write_npy(folder / "scan.npy", (case.image() for case in tests), len(tests))
    maps = predict(run, [stack], folder / "predictions", device=device)
    say("5/5 submit: the Kaggle file, here for phantoms")
    submission = submit([run], DATA, folder / "submission.csv", device=device)
    label = main_label(result.summary.labels)
    dice = result.summary.row(label, "dice", "per image, positives")
    page = write_page(
        folder / "index.html",
        "groundglass demo",
        _sections(report, result, maps, submission),
        note="Synthetic chests (phantoms) only. A phantom is not a patient, and a score on phantoms says nothing about "
        "patients.",
    )
    score = format_value((dice.value, dice.low, dice.high))
    named = ("any-lesion", "lesions") if label == ANY_LESION else (label, label)
    say(f"{named[0]} Dice on held-out phantom patients: {score}, n = {dice.n} slices with {named[1]}")
    say(f"Run: {run.path}   predictions: {maps[0].parent}   submission: {submission}")
    say(f"Open {page} in a browser.")
    return Demo(folder, page, dice.value)


def _sections(report: Report, result: Evaluation, maps: list[Path], submission: Path) -> list[Section]:
    captions = {
        "extremes": "A severe, a mild and a normal slice, chosen by their expert labels alone.",
        "images": "Slices with their expert labels.",
        "truth_prediction": "Expert labels, prediction, and where they differ.",
        "class_map_002": "Predicted classes, in the colours of system 002 and in colour-blind-safe ones.",
        "categories_000": "Predicted area of each category (yellow), as system 000 shows it.",
        "agreement_000": "Prediction and expert labels, as system 000 shows them.",
        "confusion": "Confusion matrix over all pixels of the held-out slices.",
        "measures": "Pooled measures with 95 % intervals (bootstrap by patient).",
        "intensities": "Intensities before and after preprocessing.",
        "curves": "Loss and scores per epoch.",
    }
    summary, scan = result.summary, report.scan
    scores = [[row.metric, (row.value, row.low, row.high), row.n, row.n_undefined] for row in summary.benchmarks]
    classes = [
        [row.label, row.average, (row.value, row.low, row.high), row.n, row.n_undefined]
        for row in summary.averages
        if row.metric == "dice" and row.label in shown_labels(summary.labels)
    ]
    shares = [[name, pixels, f"{100 * scan.shares[name]:.2f} %"] for name, pixels in scan.pixels.items()]
    found = int(np.isin(read_npy(maps[0]), LESION_VALUES).sum())
    return [
        Section(
            "The data",
            f"{len(report.dataset.cases)} labelled slices of "
            f"{len({case.patient for case in report.dataset.cases})} synthetic patients; "
            f"{len(report.errors)} errors and {len(report.warnings)} warnings.",
            tables=[Table(["class", "pixels", "share"], shares, "Labelled pixels by class.")],
        ),
        Section(
            "The scores",
            "\n\n".join(
                (
                    f"Held-out slices: {len(summary.cases)}. Intervals: 95 %, bootstrap by {summary.clusters}.",
                    *(f"Note: {note}." for note in result.notes),
                )
            ),
            tables=[
                Table(
                    ["score", "value [95 % interval]", "n", "n undefined"], scores, "Named scores (docs/metrics.md)."
                ),
                Table(["class", "average", "Dice [95 % interval]", "n", "n undefined"], classes, "Dice per class."),
            ],
        ),
        Section("The pictures", figures=[(path, captions.get(path.stem, path.stem)) for path in result.figures]),
        Section(
            "The outputs",
            f"Label maps of the unlabelled stack: {maps[0].name}, {found} lesion pixels. "
            f"Submission: {submission.name}.",
        ),
    ]
