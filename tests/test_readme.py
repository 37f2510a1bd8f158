"""What the README says of the code is made from the code, or held against it.

`python -m tests.test_readme` writes the diagrams anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refund_worker.domain import diagram
from refund_worker.settings import Settings

README = Path(__file__).parent.parent / "README.md"


DIAGRAMS = {"refund diagram": diagram.refund_diagram(), "leg diagram": diagram.leg_diagram()}


def block(made: str) -> str:
    return f"```mermaid\n{made}\n```\n"


def between(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_diagrams_are_the_tables(name: str) -> None:
    assert between(name) == block(DIAGRAMS[name])


def test_every_setting_is_in_the_table_and_no_other() -> None:
    rows = [line for line in README.read_text("utf-8").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert named == {name.upper() for name in Settings.model_fields}


def write() -> None:
    text = README.read_text("utf-8")
    for name, made in DIAGRAMS.items():
        text = text.replace(between(name), block(made))
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
