"""What the files of deploy/ may name: commands, options and settings of this version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from typer.main import get_command

from refund_worker.cli.app import app
from refund_worker.settings import PREFIX, SECRETS, Settings

PROJECT_VERSION = version("refund-worker")
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}
SECRET_FILES = {PREFIX + name.upper() + "_FILE" for name in SECRETS}

# Empty in `.env` of an installation without an account at Stripe.
STRIPE_FILES = {PREFIX + "STRIPE_API_KEY_FILE", PREFIX + "STRIPE_WEBHOOK_SECRET_FILE"}
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?P<how>:?-)(?P<default>[^${}]*)\}")


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """Return a value of a compose file as Compose gives it to a container, with these variables in `.env`."""

    def value(found: re.Match[str]) -> str:
        given = environment.get(found["name"])
        return found["default"] if given is None or (not given and found["how"] == ":-") else given

    before = ""
    while text != before:
        before, text = text, _VARIABLE.sub(value, text)
    return text


def runs(command: Sequence[str]) -> None:
    """Check that a command line names a command of ours with options and arguments that it takes, without running it.

    Raises `AssertionError` or the error of the command line's parser.
    """
    program, *arguments = command
    assert program == "refund-worker", command
    found = get_command(app)
    context = found.make_context("refund-worker", [], resilient_parsing=True)
    while hasattr(found, "get_command"):
        name = arguments.pop(0)
        inner = found.get_command(context, name)
        assert inner is not None, f"there is no command {name} in {command}"
        found = inner
    found.make_context(found.name, arguments)
