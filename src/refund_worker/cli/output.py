"""Output of the command line: tables for people, JSON for programs, errors in one line.

Rich is imported where it is used, because most commands that programs run do not need it.
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

from refund_worker.errors import InvalidRequest, RefundWorkerError, problem_of_error
from refund_worker.redaction import to_redacted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Json = dict[str, Any]

# In a pipe each row is one line: programs split the output by lines, and half an id is useless.
PIPE_COLUMNS = 1000


class Output(StrEnum):
    """The form of a command's output."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Text is never cut off: it wraps to the next line if the column is too narrow."""

    title: str
    right: bool = False
    whole: bool = False  # never wrapped, because people copy it
    only_wide: bool = False  # omitted if the terminal has fewer than `WIDE_COLUMNS` columns


WIDE_COLUMNS = 110
# The space between two columns, and the shortest part into which a long word is wrapped.
GAP_COLUMNS, WORD_PART_COLUMNS = 2, 8


def console(*, stderr: bool = False) -> Console:
    """Return the console for tables.

    It is as wide as the terminal or the variable COLUMNS says, and uses colour only if the terminal wants it.
    """
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS", "").isdecimal() else PIPE_COLUMNS
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def print_json(value: object) -> None:
    """Print a value as indented JSON on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str = "nothing found") -> None:
    """Print a table of plain text, or the text `empty` if there are no rows. Cells are never read as markup.

    If the terminal is too narrow for a table, each row is printed with one column per line, and no column is omitted.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    out = console()
    shown = [place for place, column in enumerate(columns) if out.width >= WIDE_COLUMNS or not column.only_wide]
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
    """Return the least width at which a column is readable: ids and numbers whole, other words in parts."""
    if column.whole:
        return max(map(len, (column.title, *cells))) + GAP_COLUMNS
    longest = max((len(word) for text in (column.title, *cells) for word in text.split()), default=0)
    return (longest if column.right else min(longest, WORD_PART_COLUMNS)) + GAP_COLUMNS


def _print_line_by_line(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        if number:
            print()
        for column, text in zip(columns, row, strict=True):
            if text:
                print(f"{column.title or 'is'}: {text}")


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair per line. Values that are None or empty are omitted."""
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
    """Print the table without the spaces at line ends, which would be copied with the text."""
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def plain(value: object) -> str:
    """Return the text of a cell on one line, without characters that control a terminal."""
    text = "" if value is None else yes_no(value) if isinstance(value, bool) else str(value)
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def yes_no(value: bool) -> str:
    """Return a truth value as a word."""
    return "yes" if value else "no"


def print_ids(ids: Iterable[str]) -> None:
    """Print ids, one on each line, for other programs."""
    for each in ids:
        print(plain(each))


def count(number: int) -> str:
    """Return an integer with thousands separators."""
    return f"{number:,}"


def moment(iso: str | None) -> str:
    """Return an ISO 8601 time of a JSON object as `YYYY-MM-DD HH:MM` in UTC, or an empty text."""
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M") if iso else ""


def print_error(error: RefundWorkerError, output: Output) -> None:
    """Print an error as one line on stderr, and with JSON output also as a problem object on a second line."""
    message = to_redacted(plain(error.explained))
    others = error.errors[1:] if isinstance(error, InvalidRequest) else ()
    every = "; ".join([message, *(to_redacted(plain(f"{other.field}: {other.detail}")) for other in others)])
    print_line(f"error: {every} ({error.code})")
    if output is Output.JSON:
        print_line(json.dumps(problem(error, message)))


def problem(error: RefundWorkerError, message: str) -> Json:
    """Return an error as the RFC 9457 problem object that the HTTP API answers."""
    return problem_of_error(error, message)


def print_line(line: str) -> None:
    """Print a line for people on stderr, so that it never mixes with the data on stdout."""
    print(line, file=sys.stderr, flush=True)


def as_json(instance: Any) -> Json:
    """Return the fields of a dataclass instance as a JSON object."""
    return asdict(instance)
