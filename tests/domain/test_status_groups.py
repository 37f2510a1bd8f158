"""The groups of statuses: each covers what it should, and nothing outside of the domain lists statuses of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import refund_worker
from refund_worker import api_schema
from refund_worker.domain import refund as refunds
from refund_worker.domain.refund import LIVE_OBJECT_STATES, UNPAID_OBJECT_STATES, LegStatus, ObjectState, RefundStatus
from refund_worker.domain.state_machine import ACTIVE, AWAITING_SEND, FINAL_LEGS, MAY_BE_SENT
from refund_worker.store import tables

SOURCE = Path(refund_worker.__file__).parent
STATUSES = frozenset({*RefundStatus, *LegStatus, *ObjectState})
# The migrations and the indices' conditions are stored text. The sandboxes are other programs, which speak as
# processors do. The schema of the API is a promise of its own: tests/test_api_schema.py compares it with the domain.
SANDBOXES = ("processors/sandbox/", "processors/paypal/sandbox/")
EXEMPT = ("domain/", "store/migrations/", "store/tables.py", *SANDBOXES, "api_schema.py")
_LISTED = r"""["']({one})["'](\s*,\s*["']({one})["'])+""".format(one="|".join(sorted(STATUSES)))
_IN_TEXT = re.compile(rf"(?:\bin|\bIN)\s*[\[(]\s*{_LISTED}\s*[\])]")


def literal_groups(source: Path) -> Iterator[str]:
    """Each place below `source` that lists two statuses or more as text: in Python, in its SQL or in a template."""
    for path in sorted((*source.rglob("*.py"), *source.rglob("*.html"))):
        place = path.relative_to(source).as_posix()
        if place.startswith(EXEMPT):
            continue
        content = path.read_text("utf-8")
        yield from (f"{place}: {found[0]}" for found in _IN_TEXT.finditer(content))
        if path.suffix == ".py":
            yield from (f"{place}:{line}" for line in _python_groups(ast.parse(content)))


def _python_groups(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            texts = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            if len(texts) > 1 and len(texts) == len(node.elts) and all(text in STATUSES for text in texts):
                yield node.lineno


def test_no_list_of_statuses_is_written_outside_of_the_domain() -> None:
    assert list(literal_groups(SOURCE)) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("store/x.py", 'ENDS = ("succeeded", "failed")'),
        ("store/x.py", 'query.where(c.status.in_(["queued", "sending"]))'),
        ("web/x.py", 'if status in {"failed", "canceled"}: pass'),
        ("store/x.py", "query = text(\"SELECT 1 WHERE status NOT IN ('succeeded', 'failed')\")"),
        ("web/x.html", '{% if status in ("needs_attention", "failed") %}'),
    ],
)
def test_list_of_statuses_elsewhere_is_found(tmp_path: Path, file: str, content: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(content, "utf-8")
    assert len(list(literal_groups(tmp_path))) == 1


def test_groups_of_refunds_cover_every_status_once() -> None:
    assert sorted((*refunds.ENDED_PAID, *refunds.ENDED_UNPAID, *refunds.NON_FINAL)) == sorted(RefundStatus)
    assert sorted((*refunds.UNDER_WAY, *refunds.WAITING_FOR_PERSON)) == sorted(refunds.NON_FINAL)
    assert sorted((*refunds.NOT_YET_POSTED, *refunds.POSTED_UNENDED)) == sorted(refunds.NON_FINAL)
    assert refunds.UNDER_WAY == ("queued", "sending", "pending", "reversing")
    assert refunds.POSTED_UNENDED == ("sending", "pending", "reversing", "needs_attention")


def test_groups_of_legs_and_objects_cover_every_status_once() -> None:
    assert sorted((*ACTIVE, *FINAL_LEGS)) == sorted(LegStatus)
    assert sorted((*AWAITING_SEND, "sending")) == sorted(MAY_BE_SENT)
    assert MAY_BE_SENT < ACTIVE
    assert sorted((*LIVE_OBJECT_STATES, *UNPAID_OBJECT_STATES)) == sorted(ObjectState)
    assert sorted(UNPAID_OBJECT_STATES) == ["canceled", "failed"]


def test_conditions_of_the_indices_name_the_same_statuses() -> None:
    assert str(tables.TROUBLED) == f"status IN ({_quoted(refunds.TROUBLED)})"
    assert str(tables.IN_FLIGHT) == f"status NOT IN ({_quoted(FINAL_LEGS)})"


def test_statuses_of_the_api_are_those_of_the_domain() -> None:
    assert get_args(api_schema.RefundStatus) == tuple(RefundStatus)
    assert get_args(api_schema.LegStatus) == tuple(LegStatus)


def _quoted(statuses: tuple[str, ...]) -> str:
    return ", ".join(f"'{status}'" for status in statuses)
