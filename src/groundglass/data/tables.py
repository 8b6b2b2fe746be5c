"""CSV tables beside the images: read whole, with a defect for each row that cannot be used."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundglass.data.dataset import Defect

SLICES = "slices.csv"
_REST = "(too many)"


@dataclass(frozen=True)
class Table:
    """columns: names in lower case; rows: (number from 1, cell by column, stripped), the unusable left out."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[int, Mapping[str, str]], ...] = ()


def read_table(path: Path, needed: Sequence[str], expected: Sequence[str], defects: list[Defect]) -> Table:
    """Read a table with `,` or `;` between cells that has at least the columns `needed`.

    `expected`: all columns that mean something, for the message. Nothing is raised: a table that cannot be read has no
    columns, one without a needed column has no rows, and a `bad-table` defect says so.
    """

    def bad(text: str, line: int | None = None) -> None:
        defects.append(Defect("error", "bad-table", path.name, line, text))

    try:
        text = path.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = ";" if ";" in header and "," not in header else ","
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey=_REST)
        records = [{(key or "").strip().lower(): value for key, value in record.items()} for record in reader]
        columns = tuple((name or "").strip().lower() for name in reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        bad(f"is not a readable table ({getattr(error, 'strerror', None) or error})")
        return Table()
    lacking = [name for name in needed if name not in columns]
    if lacking:
        there = ", ".join(columns) or "none"
        bad(f"has no column '{lacking[0]}'; the columns are {there}, expected {', '.join(expected)}")
        return Table(columns)
    rows = []
    for line, record in enumerate(records, start=1):
        if _REST in record:
            bad("has more cells than the header; quote cells that hold a comma", line)
        else:
            rows.append((line, {name: (record.get(name) or "").strip() for name in columns}))
    return Table(columns, tuple(rows))


def slices_columns(folder: Path) -> frozenset[str]:
    """The columns of slices.csv in `folder`: none without the file or with a manifest, which says more; `?` where the
    file cannot be read."""
    if not (folder / SLICES).is_file() or (folder / "manifest.csv").is_file():
        return frozenset()
    return frozenset(read_table(folder / SLICES, (), (), []).columns) or frozenset("?")


def read_slices(
    folder: Path,
    columns: Sequence[str],
    stem: Callable[[Mapping[str, str]], str],
    images: Mapping[str, str],
    defects: list[Defect],
) -> dict[str, tuple[int, Mapping[str, str]]]:
    """(row number, cells) of slices.csv by the stem of the image that a row is about.

    columns: those that must be there; stem: cells -> stem, `ValueError` where they name none; images: stem -> file.
    Rows without an image, images without a row, repeated rows and bad cells become defects.
    """
    table = read_table(folder / SLICES, columns, columns, defects)
    if not set(columns) <= set(table.columns):
        return {}
    found: dict[str, tuple[int, Mapping[str, str]]] = {}
    for line, cells in table.rows:
        try:
            name = stem(cells)
        except ValueError:
            shown = ", ".join(f"{column} '{cells[column]}'" for column in columns)
            defects.append(Defect("error", "bad-table", SLICES, line, f"names no slice: {shown[:80]}"))
            continue
        if name in found:
            text = f"is about {name}, as row {found[name][0]} is"
            defects.append(Defect("error", "bad-table", SLICES, line, text))
        elif name not in images:
            defects.append(Defect("error", "missing-file", SLICES, line, f"there is no image {name[:80]}"))
        else:
            found[name] = line, cells
    for name, file in images.items():
        if name not in found:
            defects.append(Defect("error", "missing-partner", file, None, f"has no row in {SLICES}"))
    return found
