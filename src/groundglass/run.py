"""The run folder: what a training leaves behind, and how it is opened again.

RUN/run.json             format version, state, data fingerprint, statistics, best epoch, thresholds, environment
    recipe.yaml          the whole recipe, defaults included
    split.json           case ids that train, validate and test
    leaks.json, .png     the leak certificate of the split, and the pairs that it divides
    first_stage/         a copy of the run that finds the lungs, where there is one
    tensors.csv          the tensors that were taken from another run's weights, and those that were not
    weights/best.pt      the kept weights, tensors only
    weights/last.ckpt    everything that --resume needs
    curves.csv, .png     loss and scores, training and validation, each epoch
    tensorboard/         the same for TensorBoard
    evaluation/NAME/     tables of `groundglass evaluate`
    figures/             pictures of `groundglass evaluate`
"""

from __future__ import annotations

import json
import platform
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from groundglass import recipes
from groundglass.data.leaks import Certificate
from groundglass.data.splits import Split
from groundglass.errors import RunError
from groundglass.files import atomic, write_json, write_text
from groundglass.recipes.settings import Recipe

FORMAT_VERSION = 1
MAX_TIME = "max-time reached"
State = Literal["training", "interrupted", "finished"]


class Manifest(BaseModel):
    """What run.json holds. mean and std are in HU; seconds are spent training, over all sessions. earlier_hashes: of
    the pixels of all cases that the runs trained on from whose weights this one began."""

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    state: State = "training"
    why_ended: str = ""
    recipe: str
    created: str
    groundglass: str
    data_format: str
    data_fingerprint: str
    data_warnings: list[str] = []
    patients_known: str
    case_hashes: dict[str, str] = {}
    earlier_hashes: list[str] = []
    mean: float | None = None
    std: float | None = None
    class_pixels: dict[str, int] = {}
    weights_from: str = ""
    parameters: int = 0
    epochs_done: int = 0
    kept_epoch: int | None = None
    kept_value: float | None = None
    thresholds: dict[str, float] | None = None
    seconds: float = 0.0
    environment: dict[str, str] = {}


class Run:
    """One run folder. `create` makes it, `open` checks it; `save` writes the manifest atomically."""

    def __init__(self, path: Path, recipe: Recipe, split: Split, manifest: Manifest) -> None:
        self.path = path
        self.recipe = recipe
        self.split = split
        self.manifest = manifest

    @classmethod
    def create(cls, path: str | Path, recipe: Recipe, split: Split, **facts: Any) -> Run:
        """Make a new run folder. Raises `RunError` when one is there already."""
        folder = Path(path)
        if (folder / "run.json").exists():
            raise RunError(f"{folder}: a run is there already; choose another --out, or --resume it")
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder}: is a file, not a folder")
        manifest = Manifest(
            recipe=recipe.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            groundglass=metadata.version("groundglass"),
            **facts,
        )
        run = cls(folder, recipe, split, manifest)
        write_text(folder / "recipe.yaml", recipe.to_yaml())
        write_json(folder / "split.json", split.model_dump(mode="json"))
        run.save()
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder. Raises `RunError` when it is none, damaged, or of another format version."""
        folder = Path(path)
        if not (folder / "run.json").is_file():
            raise RunError(f"{folder}: is not a run folder (no run.json there)")
        try:
            raw = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            version = raw.get("format_version")
            if version != FORMAT_VERSION:
                raise RunError(
                    f"{folder}: has run format {version}; this groundglass reads format {FORMAT_VERSION}. Use the "
                    f"groundglass that made it ({raw.get('groundglass', 'unknown')}), or train again"
                )
            manifest = Manifest.model_validate(raw)
            split = Split.model_validate_json((folder / "split.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            raise RunError(f"{folder}: is damaged ({' '.join(str(error).split())[:120]})") from None
        return cls(folder, recipes.load(folder / "recipe.yaml"), split, manifest)

    @property
    def best(self) -> Path:
        return self.path / "weights" / "best.pt"

    @property
    def last(self) -> Path:
        return self.path / "weights" / "last.ckpt"

    @property
    def curves(self) -> Path:
        return self.path / "curves.csv"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def leaks(self) -> Path:
        return self.path / "leaks.json"

    def first_stage(self) -> Run | None:
        """The run that finds the lungs for this one; None where the recipe has none. Raises `RunError` where it is
        missing or damaged."""
        return None if self.recipe.first_stage is None else Run.open(self.path / "first_stage")

    def keep_first_stage(self, first: Run) -> None:
        """Copy what `first` needs to predict, so that this run stands alone. Raises `RunError` without weights."""
        folder = self.path / "first_stage"
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        for path in (first.need_weights(), *(first.path / name for name in ("recipe.yaml", "split.json", "run.json"))):
            with atomic(folder / path.relative_to(first.path)) as copy:
                shutil.copyfile(path, copy)

    def certificate(self) -> Certificate | None:
        """The leak certificate; None where a run has none. Raises `RunError` when it is damaged."""
        if not self.leaks.is_file():
            return None
        try:
            return Certificate.model_validate_json(self.leaks.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.leaks}: is damaged ({' '.join(str(error).split())[:120]})") from None

    def trained_hashes(self) -> set[str]:
        """sha256 of the pixels of every case that these weights have been trained on, in whatever run."""
        hashes = self.manifest.case_hashes
        return {hashes[i] for i in self.split.train if i in hashes} | set(self.manifest.earlier_hashes)

    def save(self) -> None:
        write_json(self.path / "run.json", self.manifest.model_dump(mode="json"))

    def need_weights(self) -> Path:
        """The kept weights. Raises `RunError` when no epoch has been finished."""
        if not self.best.is_file():
            raise RunError(f"{self.path}: has no weights yet (no epoch was finished)")
        return self.best


def environment() -> dict[str, str]:
    """Versions of what a result depends on, and the kind of machine; nothing that names it."""
    found = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    for package in ("numpy", "torch", "lightning", "segmentation-models-pytorch", "timm", "monai"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
