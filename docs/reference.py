"""Write the reference tables of the documentation from the code, so that they cannot rot.

    python docs/reference.py          rewrite the tables in docs/*.md
    python docs/reference.py --check  change nothing; exit code 1 where a table is not what the code says

A table stands between `<!-- reference: NAME -->` and `<!-- end -->`. What a setting means is written here, beside the
code that collects values and defaults; a setting without a meaning, or a meaning without a setting, is an error.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from typer.models import OptionInfo

from groundglass import recipes, registry
from groundglass.cli.main import app
from groundglass.labels import LABEL_SETS, LABELS, PRECEDENCE
from groundglass.recipes import augmentations as a
from groundglass.recipes import settings as s
from groundglass.show.colours import PALETTES

DOCS = Path(__file__).parent
MARKED = re.compile(r"(<!-- reference: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Where in a recipe each model stands. Several models at one place are variants, chosen by `name` or as KINDS says.
PLACES: Mapping[str, tuple[type[BaseModel], ...]] = {
    "": (s.Recipe,),
    "split": (s.HoldOut, s.Rows, s.Parts),
    "intensity": (s.Hounsfield, s.Grey),
    "intensity.scale": (s.Standardise, s.Unit, s.Symmetric),
    "augmentation.N": (
        a.Clahe,
        a.BrightnessContrast,
        a.Gamma,
        a.Noise,
        a.Flip,
        a.Rotate,
        a.Crop,
        a.Scale,
        a.Shift,
        a.Elastic,
    ),
    "architecture": (s.Architecture,),
    "first_stage": (s.FirstStage,),
    "loss.N": (s.LossTerm,),
    "optimiser": (s.Adam, s.Sgd),
    "schedule": (s.Constant, s.OneCycle, s.Cosine, s.Plateau),
    "early_stopping": (s.EarlyStopping,),
    "checkpoint": (s.Checkpoint,),
    "decision": (s.Argmax, s.Thresholds),
}

# Variants that another setting chooses, and what they are.
KINDS: Mapping[str, tuple[str, str]] = {
    "Hounsfield": ("modality: CT", "Hounsfield units"),
    "Grey": ("modality: X-ray", "grey values, which mean nothing by themselves"),
}

_P = "probability that a slice gets this step"
_RATE = "learning rate; with a schedule, its peak or start"
_DECAY = "weight decay"
_SOURCES = "parts of the data set that may train, by name; null: all"
_SCALE = "what the clipped interval becomes"
_WATCHED = "what is watched: `train/` or `validation/` and a measure (see below)"

MEANINGS: Mapping[str, str] = {
    "Recipe.name": "name of the recipe, and by default of the run folder",
    "Recipe.modality": "the kind of image; data of another kind are refused",
    "Recipe.labels": "the label set that is learned",
    "Recipe.split": "which cases train and which validate",
    "Recipe.intensity": "from intensities to the network's input",
    "Recipe.image_size": "side in pixels of the square the network sees; the aspect is kept, the rest padded with air",
    "Recipe.augmentation": "steps that vary a training slice, in order; intensity steps act before geometric ones",
    "Recipe.architecture": "the network and its knobs",
    "Recipe.first_stage": "what is taken from a run that finds the lungs (`--first-stage RUN`); null: none",
    "Recipe.loss": "terms of a weighted sum",
    "Recipe.optimiser": "how weights are moved",
    "Recipe.schedule": "how the learning rate moves",
    "Recipe.batch_size": "slices a step",
    "Recipe.epochs": "passes over the training part (or `steps_per_epoch`), at most",
    "Recipe.steps_per_epoch": "batches of an epoch, the training part drawn over and over; null: once through it",
    "Recipe.early_stopping": "when to stop before the last epoch; null: never",
    "Recipe.checkpoint": "which epoch's weights are kept",
    "Recipe.precision": "arithmetic of the network; `auto`: bf16 where hardware gains by it, else fp32; fp16: GPU only",
    "Recipe.decision": "from probabilities to classes",
    "Recipe.seed": "start of every random choice",
    "HoldOut.name": "a seeded share of the groups (patients, volumes), balanced in number and in lesion",
    "HoldOut.fraction": "share that validates",
    "HoldOut.train_sources": _SOURCES,
    "HoldOut.validation_sources": "parts that may validate; null: all",
    "Rows.name": "named rows validate; every other case trains",
    "Rows.rows": "rows by source, counted from 0, both ends included: `medseg: 0..23` or `0,2,5..9`",
    "Rows.train_sources": _SOURCES,
    "Parts.name": "the source's own division: its Train trains, its Val validates, its Test is put aside",
    "Parts.sources": "sources that take part, by name; null: all that are divided",
    "Hounsfield.clip_hu": "lower and upper bound in HU; values beyond them are clipped",
    "Hounsfield.scale": _SCALE,
    "Hounsfield.picture_window_hu": "the HU window that 0..255 of a picture stands for",
    "Grey.clip_grey": "lower and upper bound within a picture's 0..255; values beyond them are clipped",
    "Grey.scale": _SCALE,
    "Standardise.name": "(x - mean) / std, once for the whole training part, stored in the run",
    "Standardise.percentiles": "only values between these percentiles count",
    "Standardise.sources": "parts whose training cases count; null: all",
    "Unit.name": "0..1",
    "Symmetric.name": "-1..1, as encoders with mean 0.5 and std 0.5 expect",
    "Clahe.name": "contrast-limited adaptive histogram equalisation (intensity)",
    "Clahe.p": _P,
    "Clahe.clip_limit": "limit of the contrast, as a share",
    "Clahe.tiles": "tiles along each side",
    "BrightnessContrast.name": "(x - 0.5)(1 + c) + 0.5 + b on 0..1 (intensity)",
    "BrightnessContrast.p": _P,
    "BrightnessContrast.brightness": "largest b, either sign",
    "BrightnessContrast.contrast": "largest c, either sign",
    "Gamma.name": "x ** g on 0..1 (intensity)",
    "Gamma.p": _P,
    "Gamma.range": "bounds of g, drawn evenly on a logarithmic scale",
    "Noise.name": "Gaussian noise on 0..1 (intensity)",
    "Noise.p": _P,
    "Noise.std": "largest standard deviation",
    "Flip.name": "left-right or up-down (geometry)",
    "Flip.p": _P,
    "Rotate.name": "turn around the centre (geometry)",
    "Rotate.p": _P,
    "Rotate.degrees": "largest angle, either sign",
    "Crop.name": "a window anywhere inside, enlarged to the full size (geometry)",
    "Crop.p": _P,
    "Crop.scale": "bounds of the window's side, as a share",
    "Scale.name": "zoom around the centre (geometry)",
    "Scale.p": _P,
    "Scale.range": "bounds of the factor; below 1 the image shrinks",
    "Shift.name": "move along both axes (geometry)",
    "Shift.p": _P,
    "Shift.fraction": "largest move, as a share of the side",
    "Elastic.name": "a smooth random displacement (geometry)",
    "Elastic.p": _P,
    "Elastic.alpha": "largest displacement, as a share of the side",
    "Elastic.sigma": "smoothness of the displacement, as a share of the side",
    "Architecture.name": "a network from the table below, or your own `mypackage.module:Class`",
    "FirstStage.roi": "what an image shows: `truth` the lungs that a reader marked, `predicted` those that the first "
    "stage finds, `none` all of it ([X-rays](x-rays.md))",
    "FirstStage.weights": "what the network begins with: `all` weights of the first stage that fit, those of its "
    "`encoder`, or `none`",
    "LossTerm.name": "a loss from the table below",
    "LossTerm.weight": "its weight in the sum",
    "LossTerm.class_weights": "`balanced` (mean pixel count / class pixel count in the training part), a weight per "
    "class name (others weigh 1), or null",
    "Adam.name": "Adam, or with decoupled weight decay AdamW",
    "Adam.learning_rate": _RATE,
    "Adam.weight_decay": _DECAY,
    "Sgd.name": "stochastic gradient descent",
    "Sgd.learning_rate": _RATE,
    "Sgd.weight_decay": _DECAY,
    "Sgd.momentum": "momentum",
    "Constant.name": "never changes",
    "OneCycle.name": "up to the learning rate, then down to nearly zero",
    "OneCycle.step": "moved after every batch or every epoch",
    "OneCycle.warmup": "share of all moves that go up",
    "Cosine.name": "down along a cosine",
    "Cosine.step": "moved after every batch or every epoch",
    "Cosine.final": "last rate, as a share of the first",
    "Plateau.name": "down when nothing gets better",
    "Plateau.metric": _WATCHED,
    "Plateau.factor": "what the rate is multiplied by",
    "Plateau.patience": "epochs without improvement before that",
    "EarlyStopping.metric": _WATCHED,
    "EarlyStopping.patience": "epochs without improvement before training stops",
    "EarlyStopping.min_delta": "less than this is no improvement",
    "Checkpoint.metric": _WATCHED,
    "Checkpoint.keep": "`last`: the last epoch's weights, so that validation cases choose nothing; not beside "
    "`every_improvement`",
    "Checkpoint.every_improvement": "keep only each n-th improvement (000: 5th); the first epoch is always kept",
    "Argmax.name": "the most probable class wins",
    "Thresholds.name": "a lesion class wins where its probability reaches its threshold",
    "Thresholds.values": "`tuned`: found on the validation cases after training; or a threshold per lesion class "
    "(others have 0.5)",
}


def settings() -> str:
    """One table a place in the recipe: setting, meaning, values, default."""
    fields = {f"{m.__name__}.{f}" for models in PLACES.values() for m in models for f in m.model_fields}
    if fields != set(MEANINGS):
        raise SystemExit(f"docs/reference.py: settings and meanings differ: {sorted(fields ^ set(MEANINGS))}")
    parts = []
    for place, models in PLACES.items():
        parts.append(f"### `{place}`" if place else "### The recipe")
        rows = [row for model in models for row in _rows(model, single=len(models) == 1)]
        parts.append(_table(("setting", "meaning", "values", "default"), rows))
    return "\n\n".join(parts)


def _rows(model: type[BaseModel], single: bool) -> Iterator[tuple[str, str, str, str]]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    if model.__name__ in KINDS:
        kind, meaning = KINDS[model.__name__]
        yield f"**`{kind}`**", meaning, "", ""
    # The variant's name comes first, whatever order inheritance gives the fields.
    for name in sorted(model.model_fields, key=lambda f: f != "name"):
        spec = schema["properties"][name]
        text = _values(spec, schema.get("$defs", {}))
        meaning = MEANINGS[f"{model.__name__}.{name}"]
        if name == "name" and not single:  # it chooses the variant, and so has no default
            yield f"**`name: {text.replace('`', '')}`**", meaning, "", ""
        else:
            default = "required" if name in required else f"`{_plain(model.model_fields[name].get_default())}`"
            yield f"`{name}`", meaning, text, default


def _plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", ""))
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    words = {"None": "null", "True": "true", "False": "false"}
    return words.get(str(value), str(value))


def _values(spec: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in a few words."""
    if "const" in spec:
        return f"`{spec['const']}`"
    if "enum" in spec:
        return " or ".join(f"`{value}`" for value in spec["enum"])
    if "$ref" in spec or "oneOf" in spec:
        return "see below"
    if "anyOf" in spec:
        return " or ".join(dict.fromkeys(_values(option, models) for option in spec["anyOf"]))
    match spec.get("type"):
        case "null":
            return "null"
        case "object":
            return f"mapping of names to {_values(spec['additionalProperties'], models)}"
        case "array" if "prefixItems" in spec:
            return "two numbers"
        case "array":
            inner = _values(spec["items"], models)
            return "list, see below" if inner == "see below" else f"list of {inner}s"
        case "string":
            return "text"
    return _bounds(spec)


def _bounds(spec: Mapping[str, Any]) -> str:
    kind = "whole number" if spec["type"] == "integer" else "number"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {spec[key]:.12g}" for key, sign in signs.items() if key in spec]
    steps = [f"a multiple of {spec['multipleOf']}"] if "multipleOf" in spec else []
    return " ".join([kind, ", ".join([*limits, *steps])]).strip()


def architectures() -> str:
    rows = []
    for name, entry in registry.ARCHITECTURES.items():
        knobs = [f"`{knob}: {_plain(value)}`" for knob, value in entry.knobs.items()]
        rows.append((f"`{name}`", entry.summary, ", ".join(knobs)))
    return _table(("name", "what", "knobs with their defaults"), rows)


def losses() -> str:
    return _table(("name", "what"), [(f"`{name}`", entry.summary) for name, entry in registry.LOSSES.items()])


def label_sets() -> str:
    rows = [
        (
            f"`{name}`",
            ", ".join(chosen.classes),
            "; ".join(f"{a} → {b}" for a, b in chosen.merges.items()),
        )
        for name, chosen in LABEL_SETS.items()
    ]
    return _table(("name", "classes, in channel order", "merged"), rows)


def watched() -> str:
    measures = {name: dict.fromkeys(m.partition("/")[2] for m in recipes.epoch_metrics(name)) for name in LABEL_SETS}
    rows = [(f"`{name}`", ", ".join(f"`{measure}`" for measure in found)) for name, found in measures.items()]
    return _table(("label set", "measures"), rows)


def shipped() -> str:
    return _table(("recipe", "what"), [(f"`{name}`", what) for name, what in recipes.shipped().items()])


def labels() -> str:
    drawn = {name: PALETTES[name] for name in ("safe", "000", "002")}
    rows = [
        (label.value, label.name, "yes" if label.lesion else "", *(f"`{p[label.name]}`" for p in drawn.values()))
        for label in LABELS
    ]
    table = _table(("value", "name", "lesion", "colour", "colour in 000's pictures", "in 002's"), rows)
    return f"{table}\n\nOrder of precedence: {' > '.join(PRECEDENCE)}."


def formats() -> str:
    return _table(("format", "what"), [(f"`{name}`", entry.summary) for name, entry in registry.FORMATS.items()])


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a verb. names: `-o`, `--out`, empty for an argument; value: what follows, empty for a
    switch."""

    names: tuple[str, ...]
    value: str
    meaning: str
    required: bool
    default: Any


def verbs() -> dict[str, tuple[Any, list[Parameter]]]:
    """Every verb of the command line with its parameters, as the functions of `groundglass.cli.main` declare them."""
    found = {}
    for command in app.registered_commands:
        function: Any = command.callback
        signature = inspect.signature(function, eval_str=True)
        found[command.name or function.__name__] = (command, [_parameter(p) for p in signature.parameters.values()])
    return found


def _parameter(parameter: inspect.Parameter) -> Parameter:
    kind, info = get_args(parameter.annotation)
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    word = "PATH" if kind is Path or Path in get_args(kind) else parameter.name.upper().replace("_", "-")
    many = "..." if kind == list[str] else ""
    choices = "|".join(get_args(kind)) if get_origin(kind) is Literal else ""
    value = info.metavar or choices or {bool: "", int: "N"}.get(kind, word + many)
    # With Annotated, Typer takes the first declaration as the option's default.
    names = tuple(name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str))
    if isinstance(info, OptionInfo) and not names:
        long = parameter.name.replace("_", "-")
        names = (f"--{long}", f"--no-{long}") if kind is bool else (f"--{long}",)
    return Parameter(names, value, info.help or "", required, default)


def commands() -> str:
    """Every verb with its arguments, options and example."""
    parts = []
    for name, (command, parameters) in verbs().items():
        arguments = [p.value if p.required else f"[{p.value}]" for p in parameters if not p.names]
        rows = [
            (
                f"`{' '.join([', '.join(p.names), p.value]).strip()}`",
                p.meaning,
                "required" if p.required else _shown(p.default),
            )
            for p in parameters
        ]
        parts += [
            f"## {name}",
            inspect.getdoc(command.callback),
            f"    groundglass {' '.join([name, *arguments, '[OPTIONS]'])}",
            _table(("argument or option", "meaning", "default"), rows),
            f"```console\n$ {(command.epilog or '').removeprefix('Example: ')}\n```",
        ]
    return "\n\n".join(parts)


def _shown(default: Any) -> str:
    if default in (None, [], ()) or default is False:
        return ""
    return "`on`" if default is True else f"`{default}`"


def _table(columns: tuple[str, ...], rows: Any) -> str:
    def line(cells: Any) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), "|" + "---|" * len(columns), *(line(row) for row in rows)])


BLOCKS: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "architectures": architectures,
    "losses": losses,
    "label-sets": label_sets,
    "watched": watched,
    "shipped": shipped,
    "labels": labels,
    "formats": formats,
    "commands": commands,
}


def rewritten(text: str) -> str:
    """`text` with every marked table as the code has it."""
    return MARKED.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n\n{found[3]}", text)


def main() -> int:
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if rewritten(text) != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(rewritten(text), encoding="utf-8", newline="\n")
    print(f"{'stale' if '--check' in sys.argv else 'rewritten'}: {', '.join(stale) or 'none'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
