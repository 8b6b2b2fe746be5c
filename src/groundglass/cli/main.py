"""The command line: parse, call the workflow of the same name, print. A user's error is one line and exit code 2."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from groundglass.errors import GroundglassError

app = typer.Typer(
    name="groundglass",
    help="Segment COVID-19 findings in chest images, and measure them honestly. "
    "Research software, not a medical device.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    list[str],
    typer.Option("--data", help="Folder, manifest CSV, or phantom:N[:seed]; several become one.", metavar="DATA"),
]
Runs = Annotated[list[str], typer.Argument(help="Run folders, or one folder of masks.", metavar="RUN...")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
StartFrom = Annotated[
    str | None, typer.Option(help="Begin with the weights of this run (cv: of the same fold).", metavar="RUN")
]
Tta = Annotated[Literal["none", "flips"], typer.Option(help="Test-time augmentation.")]
Settings = Annotated[
    list[str], typer.Option("--set", help="Change a setting: a.b=value. May be repeated.", metavar="KEY=VALUE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("groundglass"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog="Example: groundglass check data/covid-segmentation --html page.html")
def check(
    data: Annotated[
        list[str],
        typer.Argument(help="Folder, manifest CSV, or phantom:N[:seed]; several are taken as one.", metavar="DATA..."),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write the report to this JSON file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also draw a page to look at: this file.", metavar="FILE")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Also list near duplicates: this CSV.", metavar="FILE")] = None,
    twins: Annotated[bool, typer.Option(help="Search for near duplicates.")] = True,
    identifiers: Annotated[
        bool, typer.Option("--identifiers", help="Print patients' identifiers in file names on the page.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a data set is and what is wrong with it. Exit code 2 when it has errors."""
    from groundglass.cli.printing import print_check
    from groundglass.workflows.check import check as verb

    report = verb(data, out, html, pairs, twins, identifiers)
    if as_json:
        _json(report.to_dict())
    else:
        print_check(report)
    if report.errors:
        first = report.errors[0]
        raise GroundglassError(f"{first} ({len(report.errors)} errors in all)")
    if as_json:
        return
    for name, path in (("Report", out), ("Page", html), ("Pairs", pairs)):
        if path is not None:
            typer.echo(f"{name}: {path}")


@app.command(epilog="Example: groundglass recipe effnet-lite --set epochs=40 -o my.yaml")
def recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe, or a YAML file.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write it to this new file.")] = None,
    settings: Settings = [],  # noqa: B006
) -> None:
    """Show a recipe, or write it to a file to be changed."""
    from groundglass.workflows.recipe import recipe as verb

    text = verb(name, out, settings)
    typer.echo(f"Recipe: {out}" if out is not None else text.rstrip())


@app.command(epilog="Example: groundglass train effnet-lite --data data/covid-segmentation --fold 1/5 --max-time 30m")
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, or a YAML file.")],
    data: Data,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Run folder. Default: runs/NAME.")] = None,
    fold: Annotated[str | None, typer.Option(help="Fold k/n of a cross-validation, such as 1/5.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    max_time: Annotated[str | None, typer.Option(help="Stop, resumable, after 90s, 20m or 3h.")] = None,
    encoder_weights: Annotated[str | None, typer.Option(help="File of ImageNet weights.", metavar="FILE")] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow ImageNet weights to be fetched.")] = False,
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    test: Annotated[int, typer.Option(help="Put so many cases aside, in whole patients, for --part test.", min=0)] = 0,
    start_from: StartFrom = None,
    first_stage: Annotated[
        str | None, typer.Option(help="Run that finds the lungs, for a recipe with a first_stage.", metavar="RUN")
    ] = None,
) -> None:
    """Train a recipe on a data set, into a run folder."""
    from groundglass.workflows.train import train as verb

    verb(
        recipe,
        data,
        out,
        fold,
        resume,
        max_time,
        encoder_weights,
        download,
        device,
        settings,
        test,
        start_from,
        first_stage,
    )


@app.command(epilog="Example: groundglass cv unet effnet-lite --data data/covid-segmentation --validate-on medseg")
def cv(
    recipes: Annotated[list[str], typer.Argument(help="Shipped recipes, or YAML files.", metavar="RECIPE...")],
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder; the same command goes on in it.")] = Path("cv"),
    folds: Annotated[int, typer.Option(help="How many folds.")] = 5,
    fold: Annotated[int | None, typer.Option(help="Train only this fold, from 1.", metavar="K")] = None,
    test: Annotated[int, typer.Option(help="Put so many cases aside, in whole patients, for the end.")] = 0,
    seed: Annotated[int, typer.Option(help="Of folds and test part, the same for all recipes.", min=0)] = 0,
    ungrouped: Annotated[
        bool, typer.Option("--ungrouped", help="Divide single images: leaks, and measures what grouping costs.")
    ] = False,
    validate_on: Annotated[
        list[str], typer.Option(help="Source that may validate; may be repeated.", metavar="SOURCE")
    ] = [],  # noqa: B006
    jobs: Annotated[int, typer.Option(help="Trainings at a time, each in its own process.")] = 1,
    max_time: Annotated[str | None, typer.Option(help="For each fold: 90s, 20m or 3h.")] = None,
    encoder_weights: Annotated[str | None, typer.Option(help="File of ImageNet weights.", metavar="FILE")] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow ImageNet weights to be fetched.")] = False,
    save_probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write probabilities.")] = False,
    figures: Annotated[bool, typer.Option(help="Draw the pictures.")] = True,
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    start_from: StartFrom = None,
    as_json: AsJson = False,
) -> None:
    """Cross-validate recipes over the same folds, and score them on cases they did not learn from."""
    from groundglass.cli.printing import print_cv
    from groundglass.workflows.cv import cv as verb

    result = verb(
        recipes,
        data,
        out,
        folds,
        fold,
        test,
        seed,
        ungrouped,
        validate_on,
        jobs,
        max_time,
        encoder_weights,
        download,
        save_probabilities,
        figures,
        device,
        settings,
        start_from,
    )
    if as_json:
        _json(result.to_dict())
    else:
        print_cv(result)


@app.command(epilog="Example: groundglass evaluate runs/effnet-lite --data data/covid-segmentation")
def evaluate(
    runs: Runs,
    data: Data,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder. Default: RUN/evaluation/PART.")] = None,
    part: Annotated[Literal["held-out", "train", "test", "all"], typer.Option(help="Which cases.")] = "held-out",
    tta: Tta = "none",
    device: Device = "auto",
    bootstrap: Annotated[int, typer.Option(help="Resamples behind the intervals; 0: none.", min=0)] = 1000,
    figures: Annotated[bool, typer.Option(help="Draw the pictures.")] = True,
    labels: Annotated[str | None, typer.Option(help="The label set to score masks in.", metavar="SET")] = None,
    roi: Annotated[
        Literal["truth", "predicted", "none"] | None, typer.Option(help="What a second stage sees, other than trained.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Decide lesions by this probability, whatever the recipe says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score runs on cases they did not learn from; several runs are folds of one recipe. Or score finished masks."""
    from groundglass.cli.printing import print_evaluation
    from groundglass.workflows.evaluate import evaluate as verb

    result = verb(runs, data, out, part, tta, device, bootstrap, figures, labels, roi, threshold)
    if as_json:
        _json(result.to_dict())
    else:
        print_evaluation(result)


@app.command(epilog="Example: groundglass compare runs/unet runs/effnet-lite --data data/covid-segmentation --latex")
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Runs, recipes of a cv, evaluations or folders of masks.", metavar="RUN...")
    ],
    data: Annotated[
        str | None, typer.Option(help="Evaluate on these data what was not yet; needed for masks.", metavar="DATA")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="A class and a measure, in which every pair is tested; by default any_lesion_dice."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the tables and the figure.")] = Path("compare"),
    latex: Annotated[bool, typer.Option("--latex", help="Also write comparison.tex.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file too.", metavar="FILE")] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples behind the intervals; 0: none.", min=0)] = 1000,
    merge: Annotated[
        Literal["lesion"] | None, typer.Option(help="Compare findings of any type, whatever classes runs tell apart.")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare runs on the same cases: one table, paired tests, plain sentences."""
    from groundglass.cli.printing import print_comparison
    from groundglass.workflows.compare import compare as verb

    result = verb(runs, data, metric, out, latex, csv, bootstrap, merge, device)
    if as_json:
        _json(result.to_dict())
    else:
        print_comparison(result)


@app.command(epilog="Example: groundglass predict runs/effnet-lite slices/ -o masks --probabilities")
def predict(
    run: Annotated[str, typer.Argument(help="Run folder; several, with commas between, are averaged.")],
    inputs: Annotated[list[str], typer.Argument(help="Files (.npy, .png, .jpg) or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write to.")],
    tta: Tta = "none",
    unit: Annotated[str | None, typer.Option(help="HU or picture, where the file cannot say.")] = None,
    save_probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write probabilities.")] = False,
    device: Device = "auto",
    modality: Annotated[
        str | None, typer.Option(help="CT or X-ray: what the files are, where they are taken for the other.")
    ] = None,
) -> None:
    """Segment pictures and npy stacks; masks come on the grid and in the form of the input."""
    from groundglass.workflows.predict import predict as verb

    written = verb(run.split(","), inputs, out, tta, unit, save_probabilities, device, modality)
    typer.echo(f"{len(written)} label maps: {out} (values: see docs/data.md; shares: {out / 'areas.csv'})")
    typer.echo("Research software, not a medical device.")


@app.command(epilog="Example: groundglass submit runs/effnet-lite --data data/covid-segmentation -o submission.csv")
def submit(
    runs: Annotated[list[str], typer.Argument(help="Run folders, or one folder of masks.", metavar="RUN...")],
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")] = Path("submission.csv"),
    tta: Tta = "none",
    device: Device = "auto",
) -> None:
    """Write the Kaggle submission for the test images; several runs are averaged by probability."""
    from groundglass.workflows.submit import submit as verb

    typer.echo(f"Submission: {verb(runs, data, out, tta, device)}")


@app.command(name="list", epilog="Example: groundglass list architectures --json")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(help="recipes, architectures, encoders, labels, losses, metrics, datasets or models."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where the trained models are.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List what can be chosen by name."""
    from groundglass.cli.printing import print_catalogue
    from groundglass.workflows.catalogue import catalogue

    found = catalogue(kind, runs)
    if as_json:
        _json(found)
    else:
        print_catalogue(found)


@app.command(epilog="Example: groundglass demo -o demo")
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write to.")] = Path("demo"),
    recipe: Annotated[str, typer.Option(help="The recipe to train.")] = "demo",
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
) -> None:
    """The whole path on synthetic chests, in a few minutes, with one page at the end."""
    from groundglass.workflows.demo import demo as verb

    verb(out, recipe, settings, device)


def _json(value: Any) -> None:
    from groundglass.files import finite

    typer.echo(json.dumps(finite(value), indent=2, ensure_ascii=False))


def main() -> None:
    """Entry point of the `groundglass` command."""
    _tune_allocator(sys.argv[1:])
    # A polite kill ends like Ctrl-C: the run is told, and can be resumed.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except GroundglassError as error:
        typer.echo(f"groundglass: {error}", err=True)
        code = 2
    except KeyboardInterrupt:
        typer.echo("groundglass: interrupted", err=True)
        code = 130
    except typer.Abort:
        code = 130
    except Exception as error:
        code = _usage(error)
    sys.exit(code)


def _usage(error: Exception) -> int:
    """Click's own errors (a missing option, an unknown verb) in one line; anything else is a bug and raises."""
    message = getattr(error, "format_message", None)
    if message is None:
        raise error
    text = " ".join(message().split()).replace("Value error, ", "")
    typer.echo(f"groundglass: {text[:1].lower()}{text[1:]} (see groundglass --help)", err=True)
    return 2


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _tune_allocator(arguments: list[str]) -> None:
    """Start once more with the allocator's settings, which count only from a program's start, for verbs that train."""
    if not {"train", "cv", "demo"} & set(arguments[:1]) or {"-h", "--help"} & set(arguments):
        return
    from groundglass.learning.allocator import ALLOCATOR, allocator_is_tuned

    if not allocator_is_tuned():
        os.environ.update(ALLOCATOR)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
