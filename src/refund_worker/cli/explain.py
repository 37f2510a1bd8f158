"""`refund-worker explain`: the runbook's entry for an alarm or a failure code. It needs no database and no setting."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.alarms import runbook_link
from refund_worker.cli.options import OutputOption, command
from refund_worker.cli.output import Column, Output, as_json, print_json, print_table
from refund_worker.errors import NotFound

if TYPE_CHECKING:
    from refund_worker.engine.views.explanations import Entry

COLUMNS = 100


def add_to(app: typer.Typer) -> None:
    """Register the command `explain`."""

    @command(app, "explain", "explain balance_insufficient")
    def explain(
        name: Annotated[str, typer.Argument(metavar="NAME", help="an alarm or a failure code; all if missing")] = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Explain an alarm or a failure code, and list the steps to take."""
        from refund_worker.engine.views.runbook import find_entry

        if not name:
            _list(output)
            return
        entry = find_entry(name)
        if entry is None:
            raise NotFound(f"{name} has no entry: refund-worker explain lists all names")
        name = name.strip().lower().replace("-", "_")
        if output is Output.JSON:
            print_json({"name": name} | as_json(entry) | {"runbook": runbook_link(name)})
        else:
            print("\n".join(_lines(name, entry)))


def without_marks(text: str) -> str:
    """Return the text without the marks around commands and names."""
    return text.replace("`", "")


def _list(output: Output) -> None:
    from refund_worker.engine.views.runbook import sections

    rows = [
        {"name": name, "chapter": chapter, "title": section.entry.title}
        for chapter, found in sections().items()
        for section in found
        for name in section.names
    ]
    if output is Output.JSON:
        print_json({"data": rows, "has_more": False})
    else:
        columns = Column("name", whole=True), Column("title")
        print_table(columns, ((row["name"], row["title"]) for row in rows))


def _lines(name: str, entry: Entry) -> list[str]:
    """Return the entry as lines for people."""
    steps = [f"{number}. {step}" for number, step in enumerate(entry.do, 1)]
    parts = [
        ("What it means", [entry.means]),
        ("What the program does", [entry.by_itself]),
        ("What you do", steps),
        ("When to worry", [entry.worry]),
        ("How you see that it is over", [entry.over]),
    ]
    lines = [f"{name}: {entry.title}"]
    for title, texts in parts:
        lines += ["", f"{title}:"]
        for text in texts:
            lines += textwrap.wrap(
                without_marks(text),
                COLUMNS,
                initial_indent="  ",
                subsequent_indent="     " if text[:1].isdecimal() else "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
    return [*lines, "", f"The same with its neighbours: {runbook_link(name)}, or the console's page /console/help."]
