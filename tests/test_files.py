"""A file is whole or not there."""

from __future__ import annotations

import csv
import json
import os
import stat
from pathlib import Path

import pytest

from groundglass.files import WriteError, atomic, staged, sweep, write_csv, write_json, write_text


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), atomic(target) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_new_file_replaces_the_old_at_once(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "file.nii.gz"
    with atomic(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.endswith(".gz")
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot be written"):
        write_text(tmp_path / "file" / "below.txt", "y")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="folder: cannot be written"):
        write_text(tmp_path / "folder", "y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_is_met_when_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    write_text(tmp_path / "file.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_json_that_every_reader_accepts(tmp_path: Path) -> None:
    write_json(
        tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), 1.5, (2, -float("inf"))], 3: "é", "n": None}
    )
    text = (tmp_path / "a.json").read_text(encoding="utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [None, 1.5, [2, None]], "3": "é", "n": None}
    assert text.endswith("}\n")
    assert "é" in text


def test_csv_has_only_the_columns_and_empty_cells_for_what_is_missing(tmp_path: Path) -> None:
    rows = [{"a": 1 / 3, "b": float("nan"), "x": 1}, {"a": "one, two", "b": None}, {"b": 0.0}]
    write_csv(tmp_path / "t.csv", ["b", "a"], rows)
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["b", "a"], ["", "0.333333"], ["", "one, two"], ["0", ""]]
    assert b"\r" not in (tmp_path / "t.csv").read_bytes()


def test_a_failed_write_removes_only_the_folders_it_made(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(RuntimeError), atomic(tmp_path / "mine" / "new" / "er" / "file.txt"):
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    with pytest.raises(RuntimeError), atomic(tmp_path / "new" / "file.txt"):  # noqa: PT012
        (tmp_path / "new" / "of another").write_text("x")
        raise RuntimeError
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "of another"]


def test_staged_files_come_all_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with staged(folder, ["a.txt", "b.txt"]) as stage:
        write_text(stage / "b.txt", "new b")
        write_text(stage / "a.txt", "new a")
        write_text(stage / "scratch.txt", "not named")
        assert [path.name[0] for path in folder.iterdir()] == ["."]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.txt": "new a", "b.txt": "new b"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_when_staging_fails_nothing_has_changed(error: type[BaseException], tmp_path: Path) -> None:
    write_text(tmp_path / "old" / "a.txt", "old")
    for folder in (tmp_path / "old", tmp_path / "new" / "er"):
        with pytest.raises(error), staged(folder, ["a.txt", "b.txt"]) as stage:  # noqa: PT012
            write_text(stage / "a.txt", "new")
            raise error
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    assert {path.name: path.read_text() for path in (tmp_path / "old").iterdir()} == {"a.txt": "old"}


def test_the_error_of_a_staged_file_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    for folder in ("out", "."):
        with pytest.raises(WriteError) as refused, staged(folder, ["a.txt"]) as stage:
            write_text(stage / "a.txt", "new")
        assert str(refused.value).startswith(f"{folder}/a.txt: cannot be written (No space left on device)")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(WriteError, match=r"b\.txt: cannot be written \(a folder"), staged(tmp_path, ["a.txt", "b.txt"]):
        raise AssertionError
    assert list(tmp_path.iterdir()) == [tmp_path / "b.txt"]


def test_sweep_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    kept = [tmp_path / "best.pt", tmp_path / "weights" / "last.ckpt", tmp_path / ".hidden", tmp_path / "a.partial.txt"]
    for path in kept:
        write_text(path, "x")
    # A kill cannot be played in one process: the temporary files are copied while they are there.
    with atomic(tmp_path / "weights" / "last.ckpt") as temporary, staged(tmp_path / "masks", ["a.txt"]) as stage:
        for path in (temporary, stage / "a.txt"):
            path.write_text("half")
        left = [temporary.with_name(temporary.name.replace(".partial", "0.partial")), stage.with_name(f"{stage.name}0")]
        left[0].write_text("half")
        write_text(left[1] / "a.txt", "half")
    assert all(path.exists() for path in left)
    sweep(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*kept, tmp_path / "masks" / "a.txt"}
    assert not left[1].exists()
    sweep(tmp_path / "nowhere")
