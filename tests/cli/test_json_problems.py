"""Errors of commands with JSON output: the problem object that the HTTP API answers."""

from __future__ import annotations

import json

from refund_worker.cli.output import problem
from refund_worker.errors import KeyReused, NotFound
from refund_worker.web.problems import problem_of


def test_json_error_is_the_problem_of_the_http_api() -> None:
    for error in (KeyReused("k1", ("credits", "reason")), NotFound("refund rf_1 is not known")):
        assert problem(error, error.message) == json.loads(bytes(problem_of(error).body))
    assert problem(KeyReused("k1", ("credits", "reason")), "differs")["fields"] == ["credits", "reason"]
