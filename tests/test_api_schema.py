"""The API's JSON objects are described once: every closed list of names in them is the domain's own."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, get_args

import pytest

from refund_worker import api_schema
from refund_worker.domain import refund
from refund_worker.domain.state_machine import Action
from refund_worker.web.schemas import ResolveBody


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (api_schema.Kind, refund.Kind),
        (api_schema.To, refund.To),
        (api_schema.RefundStatus, refund.RefundStatus),
        (api_schema.LegStatus, refund.LegStatus),
        (api_schema.Action, Action),
    ],
)
def test_each_list_of_names_is_the_domains(names: Any, values: type[StrEnum]) -> None:
    assert list(get_args(names)) == [value.value for value in values]


def test_the_outcomes_are_those_that_resolve_takes() -> None:
    assert api_schema.Outcome == ResolveBody.model_fields["outcome"].annotation
