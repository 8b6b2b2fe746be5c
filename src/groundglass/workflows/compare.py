"""`groundglass compare`: runs measured on the same cases in one table, with intervals, tests and plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from groundglass.data.dataset import Dataset, Locations
from groundglass.data.defects import Scan
from groundglass.errors import RecipeError, RunError
from groundglass.files import WriteError, staged, write_csv, write_json, write_text
from groundglass.measure.protocols import COVID_CT_SEG
from groundglass.measure.record import FILE, Record, merged, read_record
from groundglass.measure.table import Comparison, compare_records
from groundglass.run import Run
from groundglass.workflows.choosing import check_folds
from groundglass.workflows.curves import draw_together
from groundglass.workflows.evaluate import Evaluation, measure_masks, measure_runs, open_marked, write_tables
from groundglass.workflows.extras import need_train
from groundglass.workflows.masks import is_mask_folder, open_masks
from groundglass.workflows.opening import check_classes, open_clean
from groundglass.workflows.recording import weights_digest

Merge = Literal["lesion"]
_FILES = ("comparison.csv", "pairs.csv", "comparison.json", "paired.png")
_TEX = "comparison.tex"
# Not curves.*, which a run folder has: the same folder may be named for both.
_LEARNING = ("learning.csv", "learning.png")
_TOGETHER = (
    "several runs were evaluated here one after another: the peak memory of each includes that of those before it; "
    "evaluate each by itself to compare it"
)


@dataclass(frozen=True)
class Compared:
    """The comparison, and the folder that its tables and its figure are in."""

    comparison: Comparison
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """What comparison.json holds."""
        return self.comparison.to_dict()


@dataclass(frozen=True)
class _Source:
    """What a user named. runs: of which the certificates count, and which can be evaluated; folders: where their
    evaluation of the data they were trained on lies, the first that is there; masks: whether it is a folder of masks.
    """

    path: Path
    runs: tuple[Run, ...] = ()
    folders: tuple[Path, ...] = ()
    masks: bool = False


def compare(
    runs: Sequence[str | Path],
    data: Locations | None = None,
    metric: str | None = None,
    out: str | Path = "compare",
    latex: bool = False,
    csv: str | Path | None = None,
    bootstrap: int = 1000,
    merge: Merge | None = None,
    device: str = "auto",
) -> Compared:
    """Compare two or more evaluations of the same cases, and write tables and a figure to `out`.

    runs: run folders (their held-out evaluation), recipe folders of a cross-validation (out of fold), folders that
    hold a measured.json, or folders of masks (with `data` only, measured on exactly the cases of the others).
    data: whatever has no evaluation of these data is evaluated first, held-out, into its own folder. metric: a class
    and a measure, by default `any_lesion_dice`, or the Dice of the first class where there is no lesion; in it every
    pair is tested. latex: also comparison.tex. csv: the table also as this file. bootstrap: resamples behind the
    intervals. merge: `lesion` compares findings of any type, also of runs that tell different classes apart. device:
    where to evaluate.
    Raises `RunError` when there are fewer than two, one is there twice, has no evaluation, or was scored on other
    cases, data or classes or by other conventions; `RecipeError`, `DataError`. Then nothing is written.
    """
    if merge is not None and merge not in get_args(Merge):
        raise RecipeError(f"--merge {merge}: choose {' or '.join(get_args(Merge))}")
    if csv is not None and Path(csv).is_dir():
        raise WriteError(f"{csv}: is a folder; name a file")
    sources = [_source(Path(path)) for path in runs]
    _check_distinct(sources)
    opened = None if data is None else _open(data, sources)
    fresh: list[Evaluation] = []
    records: dict[int, Record] = {}
    for i, source in enumerate(sources):
        if not source.masks:
            records[i] = _record(source, opened, fresh, device)
    for i, source in enumerate(sources):
        if source.masks:
            records[i] = _mask_record(source, opened, records[min(records)] if records else None, merge)
    found = [records[i] if merge is None else merged(records[i]) for i in range(len(sources))]
    names = _names([source.path for source in sources])
    comparison = compare_records(names, found, metric, bootstrap)
    leaks = [note for name, source, r in zip(names, sources, found, strict=True) for note in _leaks(name, source, r)]
    together = [_TOGETHER] if len(fresh) > 1 else []
    comparison = replace(comparison, notes=(*leaks, *together, *comparison.notes))
    folder = Path(out)
    _write(comparison, folder, latex, csv, _learned(names, sources, found))
    for evaluation in fresh:
        write_tables(evaluation)
    return Compared(comparison, folder)


def _source(path: Path) -> _Source:
    """What `path` is. Raises `RunError`."""
    if not path.exists():
        raise RunError(f"{path}: does not exist")
    if (path / FILE).is_file():
        inside = [path.parent.parent, *sorted(path.parent.glob("fold*of*"))]
        return _Source(path, tuple(Run.open(run) for run in inside if (run / "run.json").is_file()))
    if (path / "run.json").is_file():
        run = Run.open(path)
        return _Source(path, (run,), (run.path / "evaluation" / "held-out",))
    folds = [Run.open(run.parent) for run in sorted(path.glob("fold*of*/run.json"))]
    if folds:
        finished = tuple(run for run in folds if run.manifest.state == "finished")
        if not finished:
            raise RunError(f"{path}: no fold of this cross-validation is finished")
        return _Source(path, finished, (path / "out-of-fold", finished[0].path / "evaluation" / "out-of-fold"))
    if is_mask_folder(path):
        return _Source(path, masks=True)
    if (path / "cv.json").is_file():
        raise RunError(f"{path}: is a whole cross-validation; name the folders of its recipes in it")
    raise RunError(f"{path}: is no run, no recipe's folder of a cross-validation, no evaluation and no folder of masks")


def _check_distinct(sources: Sequence[_Source]) -> None:
    if len(sources) < 2:
        raise RunError("name at least two runs to compare")
    seen: dict[Path, Path] = {}
    for source in sources:
        other = seen.setdefault(source.path.resolve(), source.path)
        if other is not source.path:
            raise RunError(f"{source.path}: is named twice; name each run once")


def _open(data: Locations, sources: Sequence[_Source]) -> tuple[Dataset, Scan]:
    """The data, which must fit every run that may have to be evaluated on them."""
    runs = [source.runs[0] for source in sources if source.folders]
    if not runs:
        return open_marked(data)
    dataset, scan = open_clean(data, runs[0].recipe)
    for run in runs[1:]:
        check_classes(run.recipe, dataset)
    return dataset, scan


def _record(source: _Source, opened: tuple[Dataset, Scan] | None, fresh: list[Evaluation], device: str) -> Record:
    """The record of an evaluation, or of runs; those without one are evaluated where there are data, into `fresh`."""
    if not source.folders:
        record = read_record(source.path / FILE)
        if opened is not None and record.fingerprint != opened[1].fingerprint:
            raise RunError(f"{source.path}: was scored on other data than those of --data (the fingerprints differ)")
        return record
    command = f"groundglass evaluate {' '.join(str(run.path) for run in source.runs)} --data DATA"
    folders = source.folders
    if opened is not None and source.runs[0].manifest.data_fingerprint != opened[1].fingerprint:
        kind = "other-data" if len(source.runs) == 1 else "ensemble"
        folders = (source.runs[0].path / "evaluation" / f"{kind}-{opened[1].fingerprint[:8]}",)
    answers = tuple(weights_digest(run) for run in source.runs)
    why = f"has no evaluation to compare ({folders[0] / FILE})"
    for folder in folders:
        if (folder / FILE).is_file():
            record = read_record(folder / FILE)
            of_these = opened is None or record.fingerprint == opened[1].fingerprint
            if record.answers == answers and of_these:
                return record
            why = "was trained on after it was evaluated"
    if opened is None:
        raise RunError(f"{source.path}: {why}; give --data, or run: {command}")
    need_train()
    check_folds(source.runs)
    fresh.append(measure_runs(source.runs, *opened, device))
    return fresh[-1].record


def _mask_record(
    source: _Source, opened: tuple[Dataset, Scan] | None, first: Record | None, merge: Merge | None
) -> Record:
    """Masks measured on the cases of `first`, or on all labelled cases where everything is masks."""
    if opened is None:
        raise RunError(f"{source.path}: is a folder of masks; give the data they are of with --data")
    dataset, scan = opened
    wanted = None if first is None else set(first.ids)
    cases = [case for case in dataset.cases if wanted is None or case.id in wanted]
    if first is not None and len(cases) != len(first.ids):
        raise RunError(f"{source.path}: the cases of the other runs are not in the data; evaluate them on these data")
    labels = None if first is None or merge is not None else first.label_set
    return measure_masks(
        open_masks(source.path, cases, dataset), cases, dataset, scan, bootstrap=0, labels=labels
    ).record


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell all of them apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts))):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _leaks(name: str, source: _Source, record: Record) -> list[str]:
    """What the leak certificates of the runs say against their scores on the data of their split."""
    for run in source.runs:
        found = run.certificate()
        if found is not None and found.data_fingerprint == record.fingerprint and found.verdict == "leaky by source":
            why = found.divided or f"{len(found.leaks)} pairs of near duplicates between training and scored cases"
            return [f"{name}: its split leaks, so its score is too good (leaks.json of {run.path.name}): {why}"]
    return []


def _learned(names: Sequence[str], sources: Sequence[_Source], records: Sequence[Record]) -> dict[str, list[Run]]:
    """By name the runs that were measured, where they have curves."""
    found = {}
    for name, source, record in zip(names, sources, records, strict=True):
        drawn = [run for run in source.runs if run.curves.is_file()]
        if not source.folders:
            # A folder of tables can lie beside folds that came later, or after their weights had changed.
            drawn = [run for run in drawn if run.best.is_file() and weights_digest(run) in record.answers]
        if drawn:
            found[name] = drawn
    return found


def _write(
    comparison: Comparison, folder: Path, latex: bool, csv: str | Path | None, learned: Mapping[str, Sequence[Run]]
) -> None:
    from groundglass.show.paired import latex as as_latex
    from groundglass.show.paired import paired

    rows = table_rows(comparison)
    optional = {_TEX: latex, **dict.fromkeys(_LEARNING, bool(learned))}
    with staged(folder, [*_FILES, *(name for name, wanted in optional.items() if wanted)]) as stage:
        write_csv(stage / "comparison.csv", list(rows[0]), rows)
        pairs = comparison.to_dict()["pairs"]
        write_csv(stage / "pairs.csv", ["metric", *pairs[0]], ({"metric": comparison.metric.name, **p} for p in pairs))
        write_json(stage / "comparison.json", comparison.to_dict())
        paired(comparison, stage / "paired.png")
        if latex:
            write_text(stage / _TEX, as_latex(comparison))
        if learned:
            of_folds = all(run.split.fold for runs in learned.values() for run in runs)
            draw_together(learned, stage / _LEARNING[1], "Training and validation", "folds" if of_folds else "runs")
        # Within, so that a folder or a file that refuses leaves neither.
        if csv is not None:
            write_csv(csv, list(rows[0]), rows)
    for name, wanted in optional.items():
        if not wanted:
            # One of an earlier comparison would contradict the tables beside it.
            (folder / name).unlink(missing_ok=True)


def table_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A row a run with every number: means, intervals and n of each column, protocols, cost, and the conventions."""
    rows = []
    for i, (name, record) in enumerate(zip(comparison.names, comparison.records, strict=True)):
        row: dict[str, Any] = {"run": name, "kind": record.kind, "part": record.part, "tta": record.tta}
        row |= {"n_cases": len(record.cases), "n_clusters": comparison.n_clusters}
        for column, cells in comparison.cells.items():
            cell = cells[i]
            row |= {column: cell.value, f"{column}_low": cell.low, f"{column}_high": cell.high, f"{column}_n": cell.n}
            row[f"{column}_best"] = cell.best
        for label in dict.fromkeys(column.label for column in comparison.columns):
            slug, found = label.replace(" ", "_"), record.protocol(label)
            if found is not None:
                numbers = {"mean_dice": found.numbers.get("meanDic"), "max_dice": found.numbers.get("maxDic")}
                row |= {f"{slug}_inf_net_{key}": value for key, value in numbers.items()}
                row |= {f"{slug}_inf_net_n": found.n, f"{slug}_inf_net_dropped": found.n_dropped}
            if any(other.protocol(label, COVID_CT_SEG.name) for other in comparison.records):
                volumes = record.protocol(label, COVID_CT_SEG.name)
                row[f"{slug}_volume_dsc"] = volumes.numbers.get("DSC") if volumes else None
                row[f"{slug}_volume_nsd"] = volumes.numbers.get("NSD") if volumes else None
                row[f"{slug}_volume_n"] = volumes.n if volumes else None
            row[f"{slug}_tolerance"] = record.conventions.tolerances[label]
        row |= {"distance_unit": record.conventions.unit, "area_unit": record.conventions.area_unit}
        rows.append(row | record.cost.model_dump())
    return rows
