"""Leak certificates of runs: a planted copy is found, shown and said aloud, and no division of ours falls for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import groundglass as gg
from groundglass import recipes
from groundglass.data.dataset import Dataset
from groundglass.data.defects import Scan
from groundglass.data.leaks import certify
from groundglass.data.phantoms import draw
from groundglass.run import Run
from groundglass.workflows.dividing import make_split
from groundglass.workflows.opening import open_clean
from tests.cli.test_bad_input import assert_refused, untouched
from tests.conftest import TINY, Cli

SIDE = 64
# The copy is the last of 17 rows; its original trains.
ROWS = "split={name: rows, rows: {data: 12..16}}"
ORIGINAL, COPY = "p2_2", "copy"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of eight drawn patients, and a ninth: a slice of the second, cropped and brighter."""
    folder = tmp_path_factory.mktemp("planted")
    lines = ["patient,image,mask"]

    def put(name: str, patient: str, image: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> None:
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{name}.png")
        Image.fromarray(mask).save(folder / f"{name}_mask.png")
        lines.append(f"{patient},{name}.png,{name}_mask.png")

    slices = {f"p{n}_{k}": draw(0, n, k, size=SIDE) for n in range(1, 9) for k in (2, 3)}
    pictures = {name: np.clip((slice_.hu + 1000) / 1200 * 255, 0, 255) for name, slice_ in slices.items()}
    for name, slice_ in slices.items():
        put(name, name[:2], pictures[name], slice_.labels)
    inner = slice(4, SIDE - 4)
    brighter = np.clip(pictures[ORIGINAL][inner, inner] * 1.15 + 10, 0, 255)
    put(COPY, "p9", brighter, slices[ORIGINAL].labels[inner, inner])
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "dataset.yaml").write_text("labels: {1: ground-glass, 2: consolidation, 3: lung}\n")
    return folder


@pytest.fixture(scope="module")
def opened(planted: Path) -> tuple[Dataset, Scan]:
    return open_clean(str(planted), recipes.load("demo", list(TINY)), twins=True)


@pytest.fixture(scope="module")
def leaky(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose rows put the copy and its original on two sides. Copy it before changing it."""
    torch.set_num_threads(1)
    return gg.train("demo", planted, out=tmp_path_factory.mktemp("leaky") / "run", settings=[*TINY, ROWS, "epochs=1"])


def test_the_planted_copy_and_nothing_else_is_found(opened: tuple[Dataset, Scan]) -> None:
    """Its original, and the slice beside that; nobody else's."""
    twins = opened[1].twins
    assert twins is not None
    assert twins.clusters == ((ORIGINAL, "p2_3", COPY),)
    pair = next(pair for pair in twins.pairs if pair.first == ORIGINAL)
    assert (pair.second, pair.kind) == (COPY, "same-picture")
    assert pair.confidence > 0.95


@pytest.mark.parametrize("fold", [None, "1/2", "2/2"])
@pytest.mark.parametrize("seed", range(5))
def test_no_division_of_ours_puts_it_across(fold: str | None, seed: int, opened: tuple[Dataset, Scan]) -> None:
    dataset, scan = opened
    split = make_split(recipes.load("demo", [*TINY, f"seed={seed}"]), dataset, scan, fold)
    together = {ORIGINAL, "p2_3", COPY}
    assert together <= set(split.train) or together <= set(split.validation)
    assert split.leaky == ""
    assert "joined into 1" in split.groups
    certificate = certify(dataset, scan.fingerprint, scan.twins, split)
    assert (certificate.verdict, certificate.across) == ("no leak found", ())
    assert any("kept together: 2 pairs" in line for line in certificate.lines())


def test_a_divided_cluster_is_not_said_to_be_kept_together(opened: tuple[Dataset, Scan]) -> None:
    """The slice beside the original validates; the copy stays on the original's side by chance."""
    dataset, scan = opened
    split = make_split(recipes.load("demo", [*TINY, "split={name: rows, rows: {data: 3..3}}"]), dataset, scan, None)
    told = certify(dataset, scan.fingerprint, scan.twins, split).lines()
    assert told[0] == "leak certificate: leaky by source"
    assert "1 pairs lie on one side" in told
    assert not any("never divided" in line for line in told)


def test_what_was_seen_before_and_not_searched_is_said(opened: tuple[Dataset, Scan]) -> None:
    dataset, scan = opened
    split = make_split(recipes.load("demo", list(TINY)), dataset, scan, None)
    told = certify(dataset, scan.fingerprint, scan.twins, split, elsewhere=7).lines()
    assert any("trained on 7 images outside these data" in line for line in told)


def test_named_rows_that_divide_it_are_stamped_and_shown(leaky: Run) -> None:
    assert leaky.split.leaky.startswith("leaky by source: the named rows divide 1 of 8 groups; 1 of 5 validation cases")
    certificate = Run.open(leaky.path).certificate()
    assert certificate is not None
    assert certificate.verdict == "leaky by source"
    assert {(pair.first, pair.second) for pair in certificate.leaks} == {(ORIGINAL, COPY), ("p2_3", COPY)}
    with Image.open(leaky.leaks.with_suffix(".png")) as picture:
        shown = np.asarray(picture.convert("L"))
    assert shown.std() > 10, "pictures, and not an empty page"


def test_evaluate_prints_the_certificate_and_keeps_it(leaky: Run, planted: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("evaluate", leaky.path, "--data", planted, "-o", tmp_path / "out", "--bootstrap", 0, "--no-figures")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert "leak certificate: leaky by source" in lines
    assert "patients: given (9 patients); 8 groups, 1 divided" in answer.out
    assert f"the pairs as pictures: {leaky.leaks.with_suffix('.png')}" in lines
    assert any(f"{ORIGINAL}.png" in line and f"{COPY}.png" in line and "(validation)" in line for line in lines)
    kept = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(kept["certificate"]) > 4
    assert all(line in lines for line in kept["certificate"])
    doubts = [note for note in kept["notes"] if "the score is too good" in note]
    assert len(doubts) == 1
    assert doubts[0].startswith("run: leaky by source")
    assert f"note: {doubts[0]}" in lines


def test_a_sound_run_says_that_nothing_was_found(run: Run, drawn: Path, tmp_path: Path) -> None:
    found = gg.evaluate([run], drawn, out=tmp_path, bootstrap=0, figures=False)
    assert found.certificate[0] == "leak certificate: no leak found"
    assert "searched 42 images for near duplicates" in " ".join(found.certificate)
    assert not run.leaks.with_suffix(".png").exists()
    assert not any("too good" in note for note in found.notes)


def test_where_nothing_was_searched_that_is_said(run: Run, drawn: Path, planted: Path, tmp_path: Path) -> None:
    other = gg.evaluate([run], planted, out=tmp_path / "other", bootstrap=0, figures=False)
    (line,) = other.certificate
    assert "nothing was searched between these cases and those it was trained on" in line
    copy = Path(shutil.copytree(run.path, tmp_path / "old"))
    (copy / "leaks.json").unlink()
    old = gg.evaluate([copy], drawn, out=tmp_path / "old-tables", bootstrap=0, figures=False)
    assert old.certificate == ("leak certificate: none; nothing is known about near duplicates across its split",)
    kept = json.loads((tmp_path / "old-tables" / "summary.json").read_text())
    assert kept["certificate"] == list(old.certificate)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format_version": 99}', '{"data_fingerprint": "x", "patients": "", "searched": 1}']
)
def test_a_damaged_certificate_is_one_line(content: str, run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copied"))
    (copy / "leaks.json").write_text(content)
    with untouched(tmp_path):
        answer = cli("evaluate", copy, "--data", drawn, "-o", tmp_path / "out")
    assert_refused(answer, "leaks.json: is damaged")


def test_two_data_sets_are_trained_on_and_scored_as_one(planted: Path, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    settings = [part for setting in (*TINY, "epochs=1") for part in ("--set", setting)]
    both = ("--data", drawn, "--data", planted)
    trained = cli("train", "demo", *both, "-o", tmp_path / "run", *settings)
    assert trained.code == 0, trained.err
    run = Run.open(tmp_path / "run")
    sides = [set(run.split.train), set(run.split.validation)]
    assert len(sides[0] | sides[1]) == 36 + 17
    # The second medseg slice is drawn of the second patient too, in Hounsfield units: found across the two sets.
    assert any({"medseg/001", ORIGINAL, "p2_3", COPY} <= side for side in sides)
    scored = cli("evaluate", run.path, *both, "-o", tmp_path / "out", "--bootstrap", 0, "--no-figures")
    assert scored.code == 0, scored.err
    assert "searched 59 images" in scored.out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["part"] == "held-out"
    with untouched(tmp_path):
        assert_refused(cli("evaluate", run.path, "--data", drawn, "--data", tmp_path / "nowhere"), "does not exist")
        assert_refused(cli("train", "demo", "--data", drawn, "--data", drawn, *settings), "")
