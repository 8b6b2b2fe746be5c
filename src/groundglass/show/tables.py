"""Numbers as a reader wants them, in the terminal and on pages."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def format_value(value: Any) -> str:
    """One cell: floats with three decimals, `(value, low, high)` as `0.712 [0.65, 0.77]`, no number as `n/a`.

    Floats that three decimals would turn into zero, and very large ones, are written with an exponent.
    """
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and len(value) == 3:
        middle, low, high = value
        return format_value(middle) if isnan(low) or isnan(high) else f"{format_value(middle)} [{low:.2f}, {high:.2f}]"
    # NumPy's scalars too: only what knows its own `is_integer` but is no int is a float.
    if hasattr(value, "is_integer") and not isinstance(value, int) and not hasattr(value, "denominator"):
        return _format_float(float(value))
    return str(value)


def _format_float(value: float) -> str:
    if isnan(value):
        return "n/a"
    if not isfinite(value):
        return "∞" if value > 0 else "−∞"
    if value and (abs(value) < 0.0005 or abs(value) >= 1e6):
        return f"{value:.2e}"
    return f"{value + 0.0:.3f}"


def is_number(value: Any) -> bool:
    """Whether a cell belongs on the right-hand side of its column."""
    return value is None or (not isinstance(value, bool | str) and (isinstance(value, tuple) or hasattr(value, "real")))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", console: Console | None = None
) -> None:
    """Print a table to `console`, or to standard output. Cells are taken literally: no markup in them is obeyed."""
    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold")
    for place, column in enumerate(columns):
        numeric = bool(rows) and all(is_number(row[place]) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(format_value(value)) for value in row))
    (console or Console()).print(table)
