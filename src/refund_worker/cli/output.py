"""How things look on the command line: tables for people, JSON for programs, errors in one line.

Rich and Babel are imported where they are used: most commands that programs run need neither.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from refund_worker.errors import RefundWorkerError
from refund_worker.redaction import to_redacted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Json = dict[str, Any]

# Into a pipe, one line for each row: whoever reads it there cuts lines, and half an id is of no use.
PIPE_COLUMNS = 1000


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. No text is cut: where there is no room it goes on in the next line."""

    title: str
    right: bool = False
    whole: bool = False  # never broken: what people copy
    only_wide: bool = False  # left out below `WIDE` columns


WIDE = 110
# Between columns, and what a word is at least cut into where there is no room for the whole of it.
GAP, PIECE = 2, 8


def console(*, stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal or COLUMNS says, without colour where it is not wanted."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS", "").isdecimal() else PIPE_COLUMNS
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str = "nothing found") -> None:
    """A table of plain text, cells never read as markup; `empty` is said where there are no rows.

    Where the terminal is too narrow for a table, each row is told line by line, nothing left out.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    out = console()
    shown = [place for place, column in enumerate(columns) if out.width >= WIDE or not column.only_wide]
    texts = [[plain(cell) for cell in row] for row in rows]
    if not texts:
        out.print(empty)
        return
    if out.width < sum(_width_needed(columns[place], [row[place] for row in texts]) for place in shown):
        _print_line_by_line(columns, texts)
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False, header_style="bold")
    for place in shown:
        column = columns[place]
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, overflow="fold", no_wrap=column.whole)
    for row in texts:
        table.add_row(*(Text(row[place]) for place in shown))
    _print_trimmed(out, table)


def _width_needed(column: Column, cells: Sequence[str]) -> int:
    """How narrow a column can be and still be read: ids and numbers whole, other words in pieces of some letters."""
    if column.whole:
        return max(map(len, (column.title, *cells))) + GAP
    word = max((len(word) for text in (column.title, *cells) for word in text.split()), default=0)
    return (word if column.right else min(word, PIECE)) + GAP


def _print_line_by_line(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        if number:
            print()
        for column, text in zip(columns, row, strict=True):
            if text:
                print(f"{column.title or 'is'}: {text}")


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; what is None or empty is left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, "", [], {}):
            table.add_row(name, Text(plain(value)))
    _print_trimmed(console(), table)


def _print_trimmed(out: Console, table: Table) -> None:
    """Without the spaces that fill each line to the table's width: they only get in the way where text is copied."""
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def plain(value: object) -> str:
    """A cell's text: in one line, with nothing in it that a terminal would obey."""
    text = "" if value is None else str(value)
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def count(number: int) -> str:
    """An integer for people."""
    return f"{number:,}"


def moment(iso: str | None) -> str:
    """A time of the JSON objects as people read it, in UTC."""
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M") if iso else ""


def print_error(error: RefundWorkerError, output: Output) -> None:
    """One line on stderr, and for programs the same as a JSON problem in a second one."""
    message = to_redacted(plain(error.message))
    say(f"error: {message} ({error.code})")
    if output is Output.JSON:
        say(json.dumps(problem(error, message)))


def problem(error: RefundWorkerError, message: str) -> Json:
    told: Json = {
        "type": "about:blank",
        "title": error.code.replace("_", " "),
        "status": error.status,
        "detail": message,
        "code": error.code,
        "retryable": error.retryable,
    }
    return told | ({"field": error.field} if error.field else {})


def say(line: str) -> None:
    """A line for people on stderr, where it can't get into the data."""
    print(line, file=sys.stderr, flush=True)


def as_json(refund_object: Any) -> Json:
    """A dataclass as JSON."""
    return asdict(refund_object)
