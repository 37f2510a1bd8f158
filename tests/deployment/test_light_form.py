"""deploy/compose.light.yml and .env.example: tried with one command, without an account or a secret."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from tests.deployment.names import STRIPE_FILES
from tests.support.pages import ROOT

from refund_worker.cli.app import run_command
from refund_worker.settings import PREFIX, SECRETS, Settings, load_settings

LIGHT = ROOT / "deploy" / "compose.light.yml"
FILES = [ROOT / "docker-compose.yml", LIGHT]
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
LINES = re.findall(r"^# ([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE, re.MULTILINE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_compose_files_are_valid_by_the_compose_specification(file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check_jsonschema(["--builtin-schema", "vendor.compose-spec", str(file)], standalone_mode=True)
    assert ended.value.code == 0, capsys.readouterr()


def test_light_form_needs_no_account_no_password_and_no_other_server() -> None:
    (service,) = yaml.safe_load(LIGHT.read_text("utf-8"))["services"].values()
    text = LIGHT.read_text("utf-8")
    assert ":?" not in text
    assert not re.search("PASSWORD|SECRET|API_KEY", text)
    assert "environment" not in service
    assert service["ports"] == ["127.0.0.1:${WEB_PORT:-8000}:8000"]
    assert (service["user"], service["read_only"], service["cap_drop"]) == ("10001:10001", True, ["ALL"])
    assert (LIGHT.parent / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_light_form_runs_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    (service,) = yaml.safe_load(LIGHT.read_text("utf-8"))["services"].values()
    name, *options = service["command"]
    assert run_command([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in options if option.startswith("--"))
    assert service["healthcheck"]["test"][:4] == ["CMD", "refund-worker", "health", "web"]


def test_env_example_has_every_setting_with_its_default_and_no_secret() -> None:
    assert [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")] == []
    given = {name: value for name, value in LINES if name.startswith(PREFIX)}
    shown = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
    shown["processors"] = shown.pop("processors_file")
    assert {shown.pop(name.removeprefix(PREFIX).lower()) for name in STRIPE_FILES} == {""}
    assert len(shown) + len(STRIPE_FILES) == len(given) == sum(name.startswith(PREFIX) for name, _ in LINES)
    assert set(shown) == set(Settings.model_fields)
    for name, value in shown.items():
        default = Settings.model_fields[name].default
        assert value == ("" if default is None or name in SECRETS else str(default)), name
    assert load_settings(given) == load_settings({})


def test_env_example_has_every_variable_of_the_compose_files() -> None:
    used = {match for file in FILES for match in re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", file.read_text("utf-8"))} - {
        *(PREFIX + name.upper() for name in Settings.model_fields),
        PREFIX + "PROCESSORS_FILE",
        *STRIPE_FILES,
    }
    assert {name for name, _ in LINES if not name.startswith(PREFIX)} == used
    text = "".join(file.read_text("utf-8") for file in FILES)
    for name, value in LINES:
        if not name.startswith(PREFIX) and value:
            assert f"${{{name}:-{value}}}" in text, name
