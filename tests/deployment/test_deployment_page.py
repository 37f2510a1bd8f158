"""docs/deployment.md: its files, services, commands and calls of the client exist."""

from __future__ import annotations

import ast
import inspect
import re

import yaml
from tests.deployment.names import SECRET_FILES, SETTINGS, runs
from tests.support.pages import DOCS, ROOT

from refund_worker.settings import PREFIX
from refund_worker_client import Client

PAGE = (DOCS / "deployment.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def test_files_of_the_page_exist() -> None:
    named = set(re.findall(r"\bdeploy/[\w./-]*\w", PAGE)) - {"deploy/refund-worker-web"}
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_services_and_settings_of_the_page_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    table = PAGE.partition("| service | what it does |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))) == set(services)
    assert set(re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", PAGE)) <= SETTINGS | SECRET_FILES | {PREFIX + "WEB_SERVICE_HOST"}


def test_commands_of_the_page_exist() -> None:
    commands = re.findall(r"(?:exec \S+ |-- |`)refund-worker ((?:doctor|health|keys|users|db)[^\n`]*)", PAGE)
    assert len(commands) >= 4
    for command in commands:
        runs(["refund-worker", *command.split()])


def test_client_takes_the_call_of_the_django_example() -> None:
    tree = ast.parse(BLOCKS["python"])
    calls = {ast.unparse(call.func): call for call in ast.walk(tree) if isinstance(call, ast.Call)}
    arguments = {keyword.arg: None for keyword in calls["client.create_refund"].keywords if keyword.arg}
    inspect.signature(Client.create_refund).bind(None, **arguments)
    inspect.signature(Client).bind(*calls["Client"].args)


def test_secrets_of_the_units_are_those_of_the_page() -> None:
    units = "".join(unit.read_text("utf-8") for unit in (ROOT / "deploy" / "systemd").iterdir())
    needed = set(re.findall(r"/etc/refund-worker/secrets/(\w+)", units))
    listed = re.search(r"for root alone: (.*?)\. systemd", PAGE, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == needed
