"""Every fault of a user ends in one line that says what and where, exit code 2, and nothing half written."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import groundglass as gg
from groundglass.data import phantoms, radiographs
from groundglass.errors import RecipeError
from groundglass.run import Run
from tests.conftest import Answer, Cli
from tests.data.broken import BROKEN
from tests.data.small import Trap, kaggle, npy_header, pictures, png_bomb

GROUNDGLASS = [sys.executable, "-m", "groundglass"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in: empty, and apart from the data."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a test puts its broken files."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def assert_refused(answer: Answer, fragment: str) -> None:
    lines = answer.err.splitlines()
    assert answer.code == 2
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("groundglass: ")
    assert fragment in lines[0]
    assert "Traceback" not in answer.out + answer.err


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Nothing below `folder` appears, vanishes or changes."""

    def snapshot() -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()} | {
            p: (0, 0) for p in folder.rglob("*") if p.is_dir()
        }

    before = snapshot()
    yield
    assert snapshot() == before


# Broken data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BROKEN)
def test_check_refuses_every_broken_data_set(name: str, place: Path, tmp_path: Path, cli: Cli) -> None:
    location, expected = BROKEN[name](place)
    with untouched(tmp_path):
        answer = cli("check", location)
    assert_refused(answer, "")
    # The report on standard output names every kind of error; the line below it names the first.
    assert expected in " ".join(answer.err.split()) or expected in answer.out
    assert not (place / "sprung").exists()


SOME = (
    "missing-path",
    "empty-folder",
    "kaggle-without-medseg",
    "kaggle-pickled-images",
    "kaggle-header-promises-terabytes",
    "kaggle-too-few-masks",
    "kaggle-not-a-number",
    "nifti-cut-short",
    "table-with-missing-mask",
    "picture-bomb",
    "mask-of-255",
    "settings-with-python-object",
)


@pytest.mark.parametrize("verb", ["train", "evaluate"])
@pytest.mark.parametrize("name", SOME)
def test_other_verbs_refuse_broken_data_too(
    verb: str, name: str, place: Path, tmp_path: Path, run: Run, cli: Cli
) -> None:
    location, expected = BROKEN[name](place)
    settings = ("--set", "labels=ct3")
    arguments = ("train", "demo", *settings) if verb == "train" else ("evaluate", _with_labels(run, tmp_path, "ct3"))
    with untouched(tmp_path):
        answer = cli(*arguments, "--data", location)
    assert_refused(answer, expected)
    assert not (place / "sprung").exists()


def _with_labels(run: Run, folder: Path, labels: str) -> Path:
    """A copy of the run whose recipe says other labels: enough to come as far as the data."""
    copy = _copy(run, folder)
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace("labels: ct4", f"labels: {labels}"))
    return copy


def test_as_a_program(place: Path) -> None:
    """The same through the real entry points, once for data and once for the command line itself."""
    location, expected = BROKEN["kaggle-pickled-images"](place)
    for arguments, fragment in ((["check", location], expected), (["frobnicate"], "no such command 'frobnicate'")):
        ended = subprocess.run([*GROUNDGLASS, *arguments], capture_output=True, text=True, check=False)
        assert_refused(Answer(ended.returncode, ended.stdout, ended.stderr), fragment)
    assert not (place / "sprung").exists()


# What is typed --------------------------------------------------------------------------------------------------------

DATA = ("--data", "phantom:4")
TYPED: dict[str, tuple[tuple[str, ...], str]] = {
    "verb": (("trian",), "no such command 'trian'"),
    "missing-data": (("train", "demo"), "missing option '--data'"),
    "missing-argument": (("train",), "missing argument"),
    "option": (("train", "demo", "--dat", "x"), "no such option"),
    "recipe": (("train", "effnet-lit", *DATA), "did you mean 'effnet-lite'?"),
    "recipe-file": (("train", "nowhere.yaml", *DATA), "nowhere.yaml"),
    "setting": (("train", "demo", *DATA, "--set", "epoch=3"), "did you mean 'epochs'?"),
    "setting-value": (("train", "demo", *DATA, "--set", "epochs=many"), "'epochs'"),
    "setting-form": (("train", "demo", *DATA, "--set", "epochs"), "write key=value"),
    "image-size": (("train", "demo", *DATA, "--set", "image_size=100"), "'image_size'"),
    "architecture": (("train", "demo", *DATA, "--set", "architecture.name=unett"), "did you mean 'unet'?"),
    "metric": (("train", "demo", *DATA, "--set", "checkpoint.metric=validation/f1"), "unknown metric"),
    "fold": (("train", "demo", *DATA, "--fold", "6/5"), "--fold 6/5"),
    "fold-form": (("train", "demo", *DATA, "--fold", "one"), "--fold one"),
    "folds-of-too-few": (("train", "demo", *DATA, "--fold", "1/9"), "9 parts need 9 groups"),
    "max-time": (("train", "demo", *DATA, "--max-time", "x"), "--max-time x"),
    "device": (("train", "demo", *DATA, "--device", "tpu"), "'--device': 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
    "fp16": (("train", "demo", *DATA, "--device", "cpu", "--set", "precision=fp16"), "fp16 needs a GPU"),
    "phantoms": (("train", "demo", "--data", "phantom:0"), "not a phantom location"),
    "rows-of-no-source": (("train", "effnet-b2", *DATA), "no labelled source 'medseg'"),
    "resume-nothing": (("train", "demo", *DATA, "--resume"), "is not a run folder"),
    "no-run": (("evaluate", "nowhere", *DATA), "nowhere: is not a run folder"),
    "part": (("evaluate", "nowhere", *DATA, "--part", "tests"), "'--part': 'tests' is not one of 'held-out'"),
    "tta": (("evaluate", "nowhere", *DATA, "--tta", "spin"), "'--tta': 'spin' is not one of"),
    "bootstrap": (("evaluate", "nowhere", *DATA, "--bootstrap", "-1"), "--bootstrap"),
    "kind": (("list", "recipe"), "did you mean 'recipes'?"),
    "shown-recipe": (("recipe", "unett"), "did you mean 'unet'?"),
}


@pytest.mark.parametrize("name", TYPED)
def test_typing_errors(name: str, tmp_path: Path, cli: Cli) -> None:
    arguments, fragment = TYPED[name]
    with untouched(tmp_path):
        answer = cli(*arguments)
    assert_refused(answer, fragment)


def test_choices_are_checked_in_python_too(tmp_path: Path) -> None:
    wrong: Any = "spin"
    with untouched(tmp_path):
        for call in (
            lambda: gg.evaluate(["nowhere"], "phantom:4", part=wrong),
            lambda: gg.evaluate(["nowhere"], "phantom:4", tta=wrong),
            lambda: gg.predict("nowhere", [tmp_path], "masks", tta=wrong),
            lambda: gg.submit(["nowhere"], "phantom:4", tta=wrong),
            lambda: gg.train("demo", "phantom:4", device=wrong),
        ):
            with pytest.raises(RecipeError, match="spin: choose"):
                call()


def test_cuda_where_there_is_none(tmp_path: Path, cli: Cli) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with untouched(tmp_path):
        answer = cli("train", "demo", *DATA, "--device", "cuda")
    assert_refused(answer, "no CUDA device answers")


def test_data_that_do_not_fit_the_recipe(place: Path, tmp_path: Path, cli: Cli) -> None:
    pictures(place)
    with untouched(tmp_path):
        everything = cli("train", "unet", "--data", place)
    assert_refused(everything, "no labelled source 'medseg'")
    shutil.rmtree(place / "lungs")
    with untouched(tmp_path):
        lungless = cli("train", "demo", "--data", place)
    assert_refused(lungless, "does not label 'lung'")
    assert "--set labels=ct3" in lungless.err
    (place / "dataset.yaml").write_text("labels: {1: lesion, 2: lesion}\n")
    with untouched(tmp_path):
        merged = cli("train", "demo", "--data", place)
    assert_refused(merged, "does not label 'ground-glass'")
    assert "--set labels=lesion" in merged.err
    shutil.rmtree(place / "masks")
    assert_refused(cli("train", "demo", "--data", place), "has no masks")


# Run folders ----------------------------------------------------------------------------------------------------------


def _copy(run: Run, folder: Path) -> Path:
    return Path(shutil.copytree(run.path, folder / "copied-run"))


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _weights(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    import torch

    kept = torch.load(path, weights_only=True)
    change(kept)
    torch.save(kept, path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "format": (
        lambda f: _edit(f / "run.json", format_version=99),
        "has run format 99; this groundglass reads format 1",
    ),
    "not-json": (lambda f: (f / "run.json").write_text("{"), "is damaged"),
    "a-list": (lambda f: (f / "run.json").write_text("[]"), "is damaged"),
    "unknown-key": (lambda f: _edit(f / "run.json", colour="red"), "is damaged"),
    "no-split": (lambda f: (f / "split.json").unlink(), "is damaged"),
    "split-twice": (lambda f: _edit(f / "split.json", train=["a"], validation=["a"]), "is damaged"),
    "no-recipe": (lambda f: (f / "recipe.yaml").unlink(), "recipe.yaml"),
    "bad-recipe": (lambda f: (f / "recipe.yaml").write_text("name: x\n"), "recipe.yaml"),
    "no-weights": (lambda f: (f / "weights" / "best.pt").unlink(), "has no weights yet"),
    "cut-weights": (lambda f: os.truncate(f / "weights" / "best.pt", 500), "cannot be read as weights"),
    "weights-format": (
        lambda f: _weights(f / "weights" / "best.pt", lambda kept: kept.update(format_version=99)),
        "has format 99; this groundglass reads format 1",
    ),
    "other-network": (
        lambda f: _weights(f / "weights" / "best.pt", lambda kept: kept["weights"].popitem()),
        "does not fit the network",
    ),
    "pickle": (
        lambda f: (f / "weights" / "best.pt").write_bytes(pickle.dumps(Trap(f / "sprung"))),
        "cannot be read as weights",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("verb", ["evaluate", "predict", "submit"])
def test_damaged_runs(verb: str, name: str, run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    damage, fragment = DAMAGE[name]
    copy = _copy(run, tmp_path)
    damage(copy)
    rest = {"evaluate": ("--data", drawn), "submit": ("--data", drawn)}
    last = rest.get(verb, (drawn / "test_images_medseg.npy", "-o", "masks"))
    with untouched(tmp_path):
        answer = cli(verb, copy, *last)
    assert_refused(answer, fragment)
    assert not (copy / "sprung").exists()


def test_out_folder_that_holds_a_run(run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    copy = _copy(run, tmp_path)
    with untouched(tmp_path):
        answer = cli("train", "demo", "--data", drawn, "-o", copy)
    assert_refused(answer, "a run is there already")


def test_resuming_something_else(run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    copy = _copy(run, tmp_path)
    _edit(copy / "run.json", state="interrupted")
    recipe = copy / "recipe.yaml"
    with untouched(tmp_path):
        assert_refused(cli("train", "demo", "--data", drawn, "-o", copy, "--resume"), "another recipe")
        assert_refused(cli("train", recipe, "--data", drawn, "-o", copy, "--resume", "--fold", "1/2"), "not 1/2")
        other = kaggle(tmp_path.parent / f"{tmp_path.name}-other")
        assert_refused(cli("train", recipe, "--data", other, "-o", copy, "--resume"), "trained on other data")
    (copy / "weights" / "last.ckpt").write_bytes(b"torn")
    answer = cli("train", recipe, "--data", drawn, "-o", copy, "--resume")
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("groundglass: ")
    assert "last.ckpt: cannot be read" in answer.err


def test_runs_that_are_no_folds(run: Run, folds: list[Run], drawn: Path, tmp_path: Path, cli: Cli) -> None:
    copy = _copy(run, tmp_path)
    data = ("--data", drawn)
    with untouched(tmp_path):
        assert_refused(cli("evaluate", run.path, copy, *data), "must be different folds")
        assert_refused(cli("evaluate", folds[0].path, folds[0].path, *data), "must be different folds")
        assert_refused(cli("evaluate", folds[0].path, run.path, *data), "is no fold of the recipe")
    _edit(copy / "run.json", data_fingerprint="0" * 64)
    assert_refused(cli("evaluate", run.path, copy, *data), "was trained on other data")


# predict --------------------------------------------------------------------------------------------------------------


def _save(path: Path, array: Any) -> Path:
    np.save(path, array, allow_pickle=False)
    return path


def _not_a_number(folder: Path) -> Path:
    stack = np.full((3, 16, 16), -900, np.float32)
    stack[2, 4, 4] = np.nan
    return _save(folder / "scan.npy", stack)


def _pickle(folder: Path) -> Path:
    np.save(folder / "scan.npy", np.array([Trap(folder / "sprung")], dtype=object), allow_pickle=True)
    return folder


def _colour(folder: Path) -> Path:
    # The size differs from its neighbour, so that only the pixels can betray it.
    Image.new("RGB", (20, 16), (200, 30, 30)).save(folder / "scan.png")
    return folder


def _bomb(folder: Path) -> Path:
    png_bomb(folder / "scan.png")
    return folder


def _same_stem(folder: Path) -> Path:
    Image.new("L", (16, 16)).save(folder / "a.png")
    _save(folder / "a.npy", np.full((16, 16), -900.0))
    return folder


def _text(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda f: f / "scan.png", "scan.png: does not exist"),
    "empty-folder": (lambda f: f, "holds no .png"),
    "other-kind": (lambda f: _text(f, "scan.tif", b"II"), "predict reads .png"),
    "text": (lambda f: _text(f, "scan.png", b"hello"), "is not a PNG or JPEG"),
    "bare-pickle": (lambda f: _text(f, "scan.npy", pickle.dumps(Trap(f / "sprung"))), "is not a .npy file"),
    "pickle": (_pickle, "holds Python objects"),
    "header-lies": (lambda f: _text(f, "scan.npy", npy_header((9, 512, 512)) + bytes(100)), "is cut short"),
    "bomb": (_bomb, "has more pixels"),
    "colour": (_colour, "is a colour picture"),
    "axes": (lambda f: _save(f / "scan.npy", np.zeros((2, 2, 4, 4, 1))), "has shape (2, 2, 4, 4, 1)"),
    "unit-unknown": (lambda f: _save(f / "scan.npy", np.linspace(0, 1, 256).reshape(16, 16)), "--unit HU or picture"),
    "not-a-number": (_not_a_number, "scan.npy row 2: 1 pixels are not a number"),
    "same-stem": (_same_stem, "would be written to the same name"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_predict_refuses(name: str, run: Run, place: Path, elsewhere: Path, cli: Cli) -> None:
    make, fragment = UNREADABLE[name]
    source = make(place)
    answer = cli("predict", run.path, source, "-o", "masks")
    assert_refused(answer, fragment)
    assert list(elsewhere.rglob("*")) == []
    assert not (place / "sprung").exists()


def test_predict_options(run: Run, place: Path, tmp_path: Path, cli: Cli) -> None:
    source = _save(place / "scan.npy", np.full((16, 16), -900.0))
    with untouched(tmp_path):
        assert_refused(cli("predict", run.path, source, "-o", "masks", "--unit", "mmol"), "choose HU or picture")
        assert_refused(
            cli("predict", run.path, source, "-o", "masks", "--tta", "spin"), "'--tta': 'spin' is not one of"
        )
        assert_refused(cli("predict", f"{run.path},nowhere", source, "-o", "masks"), "nowhere: is not a run folder")
        assert_refused(cli("predict", run.path, source, "-o", source), "is a file; give a folder")
        assert_refused(cli("predict", run.path, source), "missing option '-o'")


@pytest.fixture(scope="module")
def for_x_rays(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with a recipe that says it learned X-rays."""
    copy = Path(shutil.copytree(run.path, tmp_path_factory.mktemp("x-rays") / "run"))
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    recipe |= {"modality": "X-ray", "intensity": {"clip_grey": [0, 255], "scale": {"name": "unit"}}}
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return copy


def _ct_picture(folder: Path) -> Path:
    hu = phantoms.draw(3, 1, 2).hu
    Image.fromarray((np.clip((hu + 1000) / 1400, 0, 1) * 255).astype(np.uint8)).save(folder / "ct.png")
    return folder / "ct.png"


def _x_ray(folder: Path) -> Path:
    Image.fromarray(np.clip(radiographs.draw(3, 4).grey, 0, 255).astype(np.uint8)).save(folder / "x-ray.png")
    return folder / "x-ray.png"


@pytest.mark.parametrize("given", ["CT", "X-ray"])
def test_predict_refuses_the_other_modality(
    given: str, run: Run, for_x_rays: Path, place: Path, tmp_path: Path, cli: Cli
) -> None:
    ours, model = (_ct_picture(place), for_x_rays) if given == "CT" else (_x_ray(place), run.path)
    other = "X-ray" if given == "CT" else "CT"
    shown = {"CT": "a CT", "X-ray": "a chest X-ray"}
    with untouched(tmp_path):
        refused = f"{ours}: seems to be {shown[given]}, but {model} is for {shown[other]}"
        assert_refused(cli("predict", model, ours, "-o", "masks"), refused)
        assert_refused(cli("predict", model, ours, "-o", "masks"), f"insist with --modality {other}")
        stated = cli("predict", model, ours, "-o", "masks", "--modality", given)
        assert_refused(stated, f"--modality {given}: {model} is for {shown[other]}")
        assert_refused(cli("predict", model, ours, "-o", "masks", "--modality", "MR"), "choose CT or X-ray")
    assert cli("predict", model, ours, "-o", "masks", "--modality", other.lower()).code == 0
    right = for_x_rays if given == "X-ray" else run.path
    assert cli("predict", right, ours, "-o", "fits").code == 0
    assert cli("predict", right, ours, "-o", "stated", "--modality", given).code == 0


def test_predict_takes_no_hounsfield_units_for_an_x_ray(
    for_x_rays: Path, place: Path, tmp_path: Path, cli: Cli
) -> None:
    """Not even when told so; a file of grey values can be stated to be one."""
    source = _save(place / "scan.npy", phantoms.draw(3, 1, 2).hu)
    with untouched(tmp_path):
        for more in ((), ("--modality", "X-ray")):
            refused = cli("predict", for_x_rays, source, "-o", "masks", *more)
            assert_refused(refused, "scan.npy: holds Hounsfield units")


def test_predict_overwrites_no_input(run: Run, place: Path, tmp_path: Path, monkeypatch: Any, cli: Cli) -> None:
    (place / "slices").mkdir()
    scan = _save(place / "scan.npy", np.full((16, 16), -900.0))
    probabilities = _save(place / "slices" / "a_probabilities.npy", np.full((16, 16), -900.0))
    Image.new("L", (16, 16)).save(place / "slices" / "a.png")
    (place / "link.npy").symlink_to(scan)
    (place / "out").mkdir()
    (place / "out" / "scan.npy").symlink_to(scan)
    monkeypatch.chdir(place)
    with untouched(tmp_path):
        refused = "scan.npy: would be overwritten by what is predicted for"
        assert_refused(cli("predict", run.path, "scan.npy", "-o", "."), refused)
        assert_refused(cli("predict", run.path, scan, "-o", "."), refused)
        assert_refused(cli("predict", run.path, "link.npy", "-o", "slices/.."), "link.npy: would be overwritten")
        assert_refused(cli("predict", run.path, scan, "-o", "out"), refused)
        assert_refused(cli("predict", run.path, "slices", "-o", "slices"), "a.png: would be overwritten")
        # The probabilities of one and the label map of the other.
        both = (probabilities, place / "slices" / "a.png")
        same = "would be written to the same name"
        assert_refused(cli("predict", run.path, *both, "-o", "masks", "--probabilities"), same)
        assert_refused(cli("predict", run.path, both[1], scan, scan, "-o", "masks"), same)
    assert cli("predict", run.path, *both, "-o", "masks", "--unit", "HU").code == 0


def _later_nan(folder: Path) -> None:
    _not_a_number(folder / "z")


def _later_cut(folder: Path) -> None:
    """A JPEG whose header is whole: only decoding tells."""
    Image.effect_noise((64, 64), 90).save(folder / "z" / "z.jpg")
    content = (folder / "z" / "z.jpg").read_bytes()
    (folder / "z" / "z.jpg").write_bytes(content[: len(content) * 3 // 4])


@pytest.mark.parametrize("damage", [_later_nan, _later_cut])
@pytest.mark.parametrize("options", [[], ["--probabilities"]])
def test_a_fault_in_a_later_input_leaves_nothing(
    damage: Callable[[Path], None], options: list[str], run: Run, place: Path, elsewhere: Path, cli: Cli
) -> None:
    _save(place / "a.npy", np.full((2, 16, 16), -900.0))
    (place / "z").mkdir()
    damage(place)
    inputs = (place / "a.npy", place / "z")
    assert_refused(cli("predict", run.path, *inputs, "-o", "deep/masks", *options), f"{place / 'z'}")
    assert list(elsewhere.iterdir()) == []
    assert cli("predict", run.path, place / "a.npy", "-o", "masks", *options).code == 0
    with untouched(elsewhere):
        assert cli("predict", run.path, *inputs, "-o", "masks", *options).code == 2


def test_predict_with_runs_of_two_decisions(run: Run, folds: list[Run], place: Path, tmp_path: Path, cli: Cli) -> None:
    source = _save(place / "scan.npy", np.full((16, 16), -900.0))
    with untouched(tmp_path):
        refused = cli("predict", f"{run.path},{folds[0].path}", source, "-o", "masks")
        assert_refused(refused, "some of these runs decide by thresholds, others by argmax")


def test_predict_where_a_folder_has_the_name_of_a_map(run: Run, place: Path, tmp_path: Path, cli: Cli) -> None:
    source = _save(place / "scan.npy", np.full((16, 16), -900.0))
    (place / "masks" / "scan.npy").mkdir(parents=True)
    with untouched(tmp_path):
        assert_refused(cli("predict", run.path, source, "-o", place / "masks"), "scan.npy: cannot be written (a folder")


# submit ---------------------------------------------------------------------------------------------------------------


def test_submit_refuses(run: Run, drawn: Path, place: Path, tmp_path: Path, cli: Cli) -> None:
    without = kaggle(tmp_path / "without", test=0)
    masks = place / "masks"
    masks.mkdir()
    data = ("--data", drawn)
    with untouched(tmp_path):
        assert_refused(cli("submit", run.path, "--data", without), "has no test images")
        assert_refused(cli("submit", run.path, *data, "--tta", "spin"), "'--tta': 'spin' is not one of")
        assert_refused(cli("submit", masks, *data), "has no test_0.png or test_0.npy")
    for number in range(6):
        Image.new("L", (64, 64)).save(masks / f"test_{number}.png")
    (masks / "test_4.png").unlink()
    assert_refused(cli("submit", masks, *data), "has no test_4.png")
    Image.new("L", (64, 63)).save(masks / "test_4.png")
    assert_refused(cli("submit", masks, *data), "is not of the size 64x64")
    Image.new("L", (64, 64), 255).save(masks / "test_4.png")
    assert_refused(cli("submit", masks, *data), "test_4.png: holds 255")
    Image.new("L", (64, 64), 1).save(masks / "test_4.png")
    with untouched(tmp_path):
        assert_refused(cli("submit", masks, *data, "-o", place), "cannot be written")
        assert_refused(cli("submit", masks, *data, "-o", masks / "test_0.png" / "x.csv"), "cannot be written")


def test_submit_needs_both_lesion_classes(run: Run, drawn: Path, tmp_path: Path, cli: Cli) -> None:
    merged = _with_labels(run, tmp_path, "lesion")
    _weights(merged / "weights" / "best.pt", _keep_two_classes)
    with untouched(tmp_path):
        assert_refused(cli("submit", merged, "--data", drawn), "has no class 'ground-glass'")
        both = f"{run.path},{merged}"
        refused = cli("predict", both, drawn / "test_images_medseg.npy", "-o", tmp_path / "masks")
        assert_refused(refused, "different label sets")


def _keep_two_classes(kept: dict[str, Any]) -> None:
    kept["weights"] = {
        name: w[:2] if w.ndim and w.shape[0] == 4 and "head" in name else w for name, w in kept["weights"].items()
    }


def test_test_images_that_are_broken(run: Run, place: Path, tmp_path: Path, cli: Cli) -> None:
    for name in ("kaggle-infinite-test-image", "kaggle-text-images"):
        folder = place / name
        location, expected = BROKEN[name](folder)
        with untouched(tmp_path):
            assert_refused(cli("submit", run.path, "--data", location), expected)


# What exists is not overwritten ---------------------------------------------------------------------------------------


def test_recipe_and_demo_overwrite_nothing(elsewhere: Path, cli: Cli) -> None:
    (elsewhere / "mine.yaml").write_text("precious")
    (elsewhere / "demo" / "run").mkdir(parents=True)
    with untouched(elsewhere):
        assert_refused(cli("recipe", "demo", "-o", "mine.yaml"), "exists already")
        assert_refused(cli("demo", "-o", "demo"), "holds a demo already")


# A full disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_while_predicting(run: Run, drawn: Path, elsewhere: Path, cli: Cli) -> None:
    source = drawn / "test_images_medseg.npy"
    with full_disk(10_000):
        refused = "masks/test_images_medseg.npy: cannot be written"
        assert_refused(cli("predict", run.path, source, "-o", "masks"), refused)
        assert_refused(cli("predict", run.path, source, "-o", "masks", "--probabilities"), "cannot be written")
    assert list(elsewhere.rglob("*")) == []


def test_full_disk_while_submitting(drawn: Path, place: Path, elsewhere: Path) -> None:
    for number in range(6):
        Image.new("L", (64, 64), 1).save(place / f"test_{number}.png")
    (elsewhere / "submission.csv").write_text("the old one")
    ended = subprocess.run(
        [*GROUNDGLASS, "submit", str(place), "--data", str(drawn)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert_refused(Answer(ended.returncode, ended.stdout, ended.stderr), "submission.csv: cannot be written")
    assert [path.name for path in elsewhere.iterdir()] == ["submission.csv"]
    assert (elsewhere / "submission.csv").read_text() == "the old one"


def test_full_disk_while_training(drawn: Path, elsewhere: Path, cli: Cli) -> None:
    from tests.conftest import TINY

    settings = [part for setting in (*TINY, "epochs=1") for part in ("--set", setting)]
    with full_disk(12_000):
        answer = cli("train", "demo", "--data", drawn, "-o", "run", *settings)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("groundglass: ")
    assert "best.pt: cannot be written" in answer.err
    assert "Traceback" not in answer.err
    assert list(elsewhere.rglob("*.partial*")) == []
    assert Run.open(elsewhere / "run").manifest.state == "interrupted"
