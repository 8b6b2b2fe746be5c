"""Fixtures shared by all rooms."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from groundglass.run import Run
from tests.data.small import drawn_kaggle

UNPACK = Path(__file__).parents[2] / "shared" / "data" / "unpack.py"
# A network that trains in seconds and still finds something of every class.
TINY = (
    "image_size=64",
    "architecture={name: plain-unet, base_width: 4, depth: 2}",
    "loss.0.class_weights=balanced",
    "optimiser.learning_rate=2e-2",
    "batch_size=4",
    "precision=fp32",
)


@pytest.fixture(scope="session")
def covid_segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The competition's five files with real slices, laid out in a temporary folder."""
    if not UNPACK.is_file():
        pytest.skip("the real data packs are not here (../shared/data/unpack.py)")
    folder = tmp_path_factory.mktemp("packs")
    subprocess.run([sys.executable, str(UNPACK), str(folder), "covid-segmentation"], check=True, capture_output=True)
    return folder / "covid-segmentation"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The competition's layout with phantoms of 64 x 64 pixels: 12 + 24 labelled slices, 6 to predict."""
    return drawn_kaggle(tmp_path_factory.mktemp("drawn") / "kaggle")


@pytest.fixture(scope="session")
def run(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of recipe `demo` on `drawn`, decided by argmax. Copy it before changing it."""
    import torch

    from groundglass import train

    torch.set_num_threads(1)
    return train("demo", drawn, out=tmp_path_factory.mktemp("runs") / "tiny", settings=[*TINY, "epochs=4"])


@pytest.fixture(scope="session")
def folds(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Folds 1/2 and 2/2 of recipe `demo` on `drawn`, decided by tuned thresholds, in their default folders."""
    import torch

    from groundglass import train

    torch.set_num_threads(1)
    settings = [*TINY, "epochs=2", "decision.name=thresholds"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("folds"))
        made = [train("demo", drawn, fold=f"{k}/2", settings=settings) for k in (1, 2)]
        return [Run.open(run.path.resolve()) for run in made]


class Answer(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cli("check", folder)` runs the command in this process. Whatever escapes `main` fails the test."""
    from groundglass.cli.main import main
    from groundglass.learning.allocator import ALLOCATOR

    for name, value in ALLOCATOR.items():
        monkeypatch.setenv(name, value)  # else `train` starts the program anew

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["groundglass", *map(str, arguments)])
        handler = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return call
