"""Files that are whole or not there: atomic writes, folders filled in one go, and errors in one line."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from groundglass.errors import GroundglassError

_PARTIAL = ".partial"


class WriteError(GroundglassError):
    """A file could not be written; nothing half-written is left behind."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it is flushed and renamed to `path`, else removed.

    The temporary name keeps the suffix, since many writers choose the format by it. Missing folders are made, and
    removed again when the write fails. Raises `WriteError` when the folder cannot be made or the disk refuses.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        with _made(target.parent):
            try:
                handle, name = tempfile.mkstemp(
                    prefix=f".{target.stem}.", suffix=f"{_PARTIAL}{target.suffix}", dir=target.parent
                )
                os.close(handle)
                temporary = Path(name)
                yield temporary
                with open(temporary, "rb") as written:
                    os.fsync(written.fileno())
                os.chmod(temporary, 0o666 & ~_umask())
                os.replace(temporary, target)
            finally:
                if temporary is not None:
                    temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"{target}: cannot be written ({error.strerror or error}); nothing was changed") from error


@contextmanager
def staged(folder: str | os.PathLike[str], names: Sequence[str]) -> Iterator[Path]:
    """Yield an empty hidden folder inside `folder`; on success its files `names` are moved to `folder` in that order,
    each replacing an old one at once; on an error before that, `folder` is as it was, or not there as before.

    Raises `WriteError`: for a name that is taken by a folder before anything is yielded, and when the disk refuses.
    """
    target = Path(folder)
    try:
        with (
            _made(target),
            tempfile.TemporaryDirectory(prefix=".groundglass.", suffix=_PARTIAL, dir=target) as stage,
        ):
            for name in names:
                if (target / name).is_dir():
                    raise WriteError(f"{target / name}: cannot be written (a folder has this name)")
            try:
                yield Path(stage)
            except WriteError as error:
                # A person knows a file by its place, not by where it waited for it.
                raise WriteError(str(error).replace(str(Path(stage)), str(target))) from error
            for name in names:
                os.replace(Path(stage) / name, target / name)
    except OSError as error:
        raise WriteError(f"{target}: cannot be written ({error.strerror or error})") from error


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in `folder` and below: all files and folders named
    `.*.partial*`, of whatever age. To be called only where no other process is writing. Raises `WriteError`."""
    try:
        for left in sorted(folder.rglob(f".*{_PARTIAL}*")):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be tidied ({error.strerror or error})") from error


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents; on an error, remove those again that were missing and are empty."""
    missing = [level for level in (folder, *folder.parents) if not level.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for level in missing:
            with suppress(OSError):
                level.rmdir()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically. Raises `WriteError`."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically; NaN and infinity become null, so that every reader accepts the file."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """Plain values with NaN and infinity as None, for JSON."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table atomically; floats with six significant digits, missing values empty."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(column)) for column in columns])


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
