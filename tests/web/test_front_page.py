"""The address without a path leads people to the console and programs to the API's description."""

from __future__ import annotations

import pytest
from tests.web.client import Web

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_browser_is_led_to_the_console(web: Web) -> None:
    answer = web.call("GET", "/", key=None, headers={"Accept": BROWSER})
    assert (answer.status_code, answer.headers["location"]) == (307, "/console/")


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_program_gets_addresses_that_exist(web: Web, accept: str) -> None:
    answer = web.call("GET", "/", key=None, headers={"Accept": accept})
    assert answer.status_code == 200
    told = answer.json()
    assert told["service"] == "refund-worker"
    for name in ("console", "reference", "openapi", "health", "ready"):
        assert web.call("GET", told[name], key=None).status_code in (200, 303, 307), name


def test_other_methods_of_the_front_page_are_refused(web: Web) -> None:
    assert web.call("POST", "/", {}).status_code == 405
    assert web.call("HEAD", "/", key=None).status_code == 200
