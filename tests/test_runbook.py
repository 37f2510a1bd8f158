"""The runbook: an entry for every alarm, alert and failure code, with commands and pages that exist.

`python -m tests.test_runbook` writes docs/runbook.md again. Its texts are those of `engine/views/runbook.py`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest
import typer
from typer.main import get_command

from refund_worker.alarms import Alarm, anchor_of, runbook_link
from refund_worker.cli.app import app, run_command
from refund_worker.engine.views.explanations import Entry
from refund_worker.engine.views.failure_codes import FAILURE_CODES
from refund_worker.engine.views.runbook import CODE_ALARMS, all_names, find_entry, sections
from refund_worker.engine.views.sending_codes import SENDING_CODES
from refund_worker.web.console.permissions import RULES
from tests.support.pages import DOCS, ROOT
from tests.test_language import HEADLESS, IDIOMS
from tests.test_readme import anchor_of as heading_anchor

PAGE = DOCS / "runbook.md"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
LINE_LENGTH = 120
COMMAND = re.compile(r"`(refund-worker [^`]+)`")
CONSOLE_PATH = re.compile(r"`(/console/[^`]*)`")
# What stands for a value in the commands.
PLACEHOLDERS = {"N": "3", "-N": "-3", "NAME": "internal_error", "CODE": "internal_error"}
EXIT_NOT_FOUND = 4

INTRODUCTION = """\
# Runbook

This page has an entry for every alarm, every condition that a metric or a page shows, and every failure code. The field
`runbook` of an alarm's log line leads to its entry here. The console's page `/console/help` and the command
`refund-worker explain NAME` show the same texts, and the command needs no database.

In the commands, words in capitals stand for your own values: `ID` is the id of a refund (`rf_…`), `WHY` your reason,
which is kept. Run them with the same settings as the processes; in a container: `docker compose exec web refund-worker`
and the rest.

| what you see | start with |
|---|---|
| you don't know yet what is wrong | `refund-worker doctor`, then the page `/console/` |
| nothing is sent | [Sending stopped](#sending-stopped), [Listing stale](#listing-stale), [Worker down](#worker-down) |
| requests answer 503 | [Database unavailable](#database-unavailable), [Database read only](#database-read-only) |
| refunds are slow | [Broker unavailable](#broker-unavailable), [Refunds overdue](#refunds-overdue) |
| refunds stay pending | [Scheduler down](#scheduler-down), [Webhooks rejected](#webhooks-rejected) |
| one refund is in trouble | `refund-worker refunds show ID`, then its failure code below |
| a customer may have been paid twice | [Refunded twice](#refunded-twice), [Refunded elsewhere](#refunded-elsewhere) |
"""


def heading_of(name: str) -> str:
    """Return the heading whose anchor is the name with hyphens."""
    return name.replace("_", " ").capitalize()


def wrapped(text: str, indent: str = "") -> str:
    """Return the text in lines that fit the page; what stands between backticks is not divided."""
    words = re.findall(r"`[^`]*`\S*|\S+", text)
    lines, line = [], ""
    for word in words:
        if line and len(line) + 1 + len(word) > LINE_LENGTH:
            lines.append(line)
            line = indent + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def written(names: tuple[str, ...], entry: Entry) -> str:
    """Return one section of the page."""
    headings = "\n\n".join(f"### {heading_of(name)}" for name in names)
    named = ", ".join(f"`{name}`" for name in names)
    steps = "\n".join(wrapped(f"{number}. {step}", "   ") for number, step in enumerate(entry.do, 1))
    parts = [
        wrapped(f"{named}: **{entry.title}.** {entry.means}"),
        wrapped(f"*The program:* {entry.by_itself}"),
        f"*What you do:*\n\n{steps}",
        wrapped(f"*When to worry:* {entry.worry}"),
        wrapped(f"*It is over when:* {entry.over}"),
    ]
    text = "\n\n".join(parts)
    for section in ("Restore", "Upgrading"):
        place = f"the section {section} of the operations page"
        words = re.escape(place).replace("\\ ", r"\s+")
        text = re.sub(words, f"the section [{section}](operations.md#{section.lower()})", text)
    return f"{headings}\n\n{text}\n"


def page() -> str:
    """Return docs/runbook.md."""
    chapters = [
        f"## {chapter}\n\n" + "\n".join(written(section.names, section.entry) for section in found)
        for chapter, found in sections().items()
    ]
    return "\n".join([INTRODUCTION, *chapters])


def texts() -> Iterator[tuple[str, str]]:
    """Yield each name and each of its texts."""
    for name in all_names():
        entry = find_entry(name)
        assert entry is not None
        for text in (entry.title, entry.means, entry.by_itself, *entry.do, entry.worry, entry.over):
            yield name, text


def test_page_has_the_texts_of_the_program() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it again: .venv/bin/python -m tests.test_runbook"


def test_every_name_has_one_heading_and_no_heading_is_an_orphan() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    anchors = [heading_anchor(heading) for heading in headings]
    expected = {anchor_of(name) for name in (*Alarm, *FAILURE_CODES, *SENDING_CODES)}
    assert len(anchors) == len(set(anchors))
    assert expected - set(anchors) == set()
    assert sorted(anchors) == sorted(anchor_of(name) for name in all_names())


def test_an_alarm_without_an_entry_of_its_own_is_a_failure_code() -> None:
    assert {alarm for alarm in CODE_ALARMS if find_entry(alarm) is None} == set()


@pytest.mark.parametrize("command", sorted({c for text in (page(),) for c in COMMAND.findall(text)}))
def test_each_command_is_accepted_by_the_command_line(command: str) -> None:
    """The words are parsed as a person would type them; nothing runs."""
    words = [PLACEHOLDERS.get(word, word.replace("=-N", "=-3")) for word in shlex.split(command)[1:]]
    found: typer.core.TyperGroup | typer.core.TyperCommand = get_command(app)  # type: ignore[assignment]
    path = "refund-worker"
    while isinstance(found, typer.core.TyperGroup) and words:
        name = words.pop(0)
        assert name in found.commands, f"{path} has no command {name}"
        found, path = found.commands[name], f"{path} {name}"  # type: ignore[assignment]
    if isinstance(found, typer.core.TyperGroup):
        return  # the name of a group, such as `refund-worker processors`
    required = [parameter for parameter in found.params if parameter.required]
    if words or not required:
        found.make_context(path, words)


def test_each_page_of_the_console_exists() -> None:
    paths = {path for _, text in texts() for path in CONSOLE_PATH.findall(text)} | {"/console/help"}
    served = {"/console" + re.sub(r"\{[^}]*\}", "ID", path) for method, path in RULES if method == "GET"}
    assert len(paths) > 5
    assert paths - served == set()


@pytest.mark.skipif(not ALERTS.exists(), reason="this version has no alert rules")
def test_every_alert_leads_to_an_entry() -> None:
    rules = ALERTS.read_text("utf-8")
    links = re.findall(r"docs/runbook\.md#([a-z0-9-]+)", rules)
    assert len(links) == len(re.findall(r"^\s*- alert:", rules, re.MULTILINE))
    assert set(links) - {anchor_of(name) for name in all_names()} == set()


def test_texts_are_short_plain_sentences() -> None:
    """A person who reads this at night reads one thing at a time."""
    sentences = [
        (name, sentence)
        for name, text in texts()
        for sentence in re.split(r"(?<=[.?!:;])\s", re.sub("`[^`]*`", "x", text))
    ]
    assert [(name, s) for name, s in sentences if len(s.split()) > 35] == []
    assert [(name, s) for name, s in sentences if HEADLESS.match(s) and not s.startswith("None of")] == []
    idioms = [found[0] for _, s in sentences if (found := IDIOMS.search(s))]
    assert set(idioms) - {"nobody"} == set()
    assert {name for name, text in texts() if not text.strip()} == set()


@pytest.mark.parametrize("name", ["internal_error", "balance-insufficient", "Sending_Stopped", "scheduler_down"])
def test_the_command_explains_a_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", name, "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runbook"] == runbook_link(told["name"])
    assert run_command(["explain", name]) == 0
    text = capsys.readouterr().out
    assert "What you do:" in text
    assert "`" not in text


def test_the_command_lists_all_names_and_refuses_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain"]) == 0
    listed = capsys.readouterr().out
    assert {name for name in all_names() if name not in listed} == set()
    assert run_command(["explain", "no_such_code"]) == EXIT_NOT_FOUND


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
