"""The prose of the code is plain English: no private idioms, no sentences without a subject.

It reads the docstrings and comments of the folders in `CLEAN`. Add a folder there once its prose is clean.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLEAN = ("src/refund_worker", "tests/cli", "tests/domain", "tests/engine", "tests/store", "tests/web", "tests/worker")
# Sentences that may stay, exactly as they are written.
ALLOWED = frozenset({"what the worker gave back because no money could be sent is none."})

# An opening that promises a subject and does not name one.
HEADLESS = re.compile(
    r"(What|Who|Whoever|Whose|Whatever|Which|So many|So long|So old|Nobody|Somebody|Anybody|Those|None )\b"
)
IDIOMS = re.compile(
    r"\b(told|heard|hears?|heed|anew|all the same|at the most|whoever|nobody|somebody|held against|set back|looked at"
    r"|taken in|taken for|goes? on|by itself|for want of|is none|in the place of|stands? in|put aside|the word of"
    r"|given up|by hand)\b",
    re.IGNORECASE,
)
# A name in backticks that only code writes so: it has an underscore. `ch_NAME` and the like are patterns of ids.
NAMED = re.compile(r"`(?:\w+\.)*([a-z][a-z0-9]*_\w+|_\w+)(?:\([^`]*\))?`")
NOT_OURS = frozenset({"ch_X", "pi_X", "ch_NAME", "raw_request"})
TEST_NAME, TEST_NAME_MAX = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE), 65
NO_PROSE = ("# noqa", "# type:", "#!", "# ---", "# pragma", "# fmt:")
HAS_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings_of(source: str) -> Iterator[str]:
    """Yield the docstrings of the module, its classes and its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, HAS_DOCSTRING):
            yield ast.get_docstring(node) or ""


def comments_of(source: str) -> Iterator[str]:
    """Yield the comments; comments on successive lines are one text."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(NO_PROSE):
            if token.start[0] != last + 1:
                yield " ".join(block)
                block = []
            block.append(token.string.lstrip("# "))
            last = token.start[0]
    yield " ".join(block)


def sentences_of(source: str) -> Iterator[str]:
    """Yield each sentence, or part of one before a colon or semicolon, of three words or more."""
    for text in [*docstrings_of(source), *comments_of(source)]:
        for paragraph in text.split("\n\n"):
            for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split())):
                if len(sentence.split()) >= 3:
                    yield sentence


def faults_of(source: str) -> list[str]:
    """Return each sentence that begins without a subject or contains an idiom."""
    found = (s for s in sentences_of(source) if HEADLESS.match(s) or IDIOMS.search(s.replace("is None", "")))
    return [sentence for sentence in found if sentence not in ALLOWED]


@pytest.mark.parametrize("folder", CLEAN)
def test_prose_is_plain_english(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    faults = [f"{file.relative_to(ROOT)}: {fault}" for file in files for fault in faults_of(file.read_text("utf-8"))]
    assert faults == []


@pytest.mark.parametrize(
    "source",
    [
        '"""What the processor says of it."""',
        'def pay():\n    """Send it. Who asked is not checked."""',
        "x = 1  # whatever nobody was told of",
        "# The caller is\n# told of it later.\nx = 1",
        'class Leg:\n    """A leg that was given up, all the same."""',
    ],
)
def test_fault_in_the_prose_is_found(source: str) -> None:
    assert faults_of(source) != []


@pytest.mark.parametrize(
    "source",
    [
        '"""Return the status. A leg without one is new."""',
        'said = "nobody was told of it"  # noqa: S105',
        '"""Return the leg if it is None of the others."""',
    ],
)
def test_plain_prose_and_strings_have_no_fault(source: str) -> None:
    assert faults_of(source) == []


def names_of(source: str) -> Iterator[str]:
    """Yield every word of the code, its texts included, but not of its docstrings and comments."""
    prose = set(docstrings_of(source))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_prose = token.type == tokenize.STRING and inspect.cleandoc(token.string.strip("\"'r")) in prose
        if token.type != tokenize.COMMENT and not is_prose:
            yield from re.findall(r"\w+", token.string)


def test_names_in_docstrings_and_comments_exist() -> None:
    """A rename that forgets a docstring leaves a name that nobody can look up."""
    sources = {
        file: file.read_text("utf-8")
        for folder in ("src", "client/src", "tests")
        for file in sorted((ROOT / folder).rglob("*.py"))
    }
    known = {name for source in sources.values() for name in names_of(source)} | NOT_OURS
    known |= {file.stem for file in sources}
    unknown = [
        f"{file.relative_to(ROOT)}: {name}"
        for file, source in sources.items()
        for text in (*docstrings_of(source), *comments_of(source))
        for name in NAMED.findall(text)
        if name not in known
    ]
    assert unknown == []


def test_names_of_tests_are_short() -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert [name for source in sources for name in TEST_NAME.findall(source) if len(name) > TEST_NAME_MAX] == []
