"""The actions of others: their page, their answers over HTTP, and their errors."""

from __future__ import annotations

import json
import re
import urllib.request

from tests.support.pages import ROOT

from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.sandbox.calls import ENDPOINTS
from refund_worker.processors.sandbox.charges import OPTIONS
from refund_worker.processors.sandbox.fields import FIELDS
from refund_worker.processors.sandbox.outside import ACTIONS, Action

PAGE = (ROOT / "docs/sandbox.md").read_text("utf-8")


def test_page_lists_every_action_with_its_fields() -> None:
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)}
    documented = {
        name: (frozenset(re.findall(r"\*\*(\w+)\*\*", fields)), frozenset(re.findall(r"\w+", fields)))
        for name, fields in rows.items()
    }
    assert documented == {name: (each.required, _named(each)) for name, each in ACTIONS.items()}


def _named(action: Action) -> frozenset[str]:
    """Return the action's fields; the page calls the options of a payment `options`."""
    fields = action.required | action.optional
    return (fields - OPTIONS.keys()) | {"options"} if fields >= OPTIONS.keys() else fields


def test_page_lists_every_path_of_stripe() -> None:
    for _, path, _ in ENDPOINTS:
        assert f"{path.replace('{}', '{id}')}`" in PAGE, path


def test_every_field_belongs_to_an_action_or_a_payment() -> None:
    used = set().union(*(each.required | each.optional for each in ACTIONS.values()))
    assert used | OPTIONS.keys() == set(FIELDS)


def test_actions_are_listed_over_http(sandbox: Sandbox) -> None:
    with urllib.request.urlopen(f"{sandbox.url}/_actions", timeout=5) as answer:
        listed = json.load(answer)["actions"]
    assert listed.keys() == ACTIONS.keys()
    assert listed["move_dispute"]["required"]["dispute"] == "a text of 1 to 500 characters"
