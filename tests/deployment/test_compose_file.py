"""docker-compose.yml, read as Compose does: no open ports, no default secret, no start before the dependencies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from refund_worker.cli.app import run_command
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.supervisor import STOP_SECONDS_MAX

FILE = Path(__file__).parents[2] / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "refund-worker"}
LONG_RUNNING = {"web", "worker", "bulk", "scheduler"}
# KEY_LIFE_SECONDS is how long a key lives, not a key.
SECRETS = re.compile(r"PASS|SECRET|KEY(?!_LIFE_SECONDS)|AUTH")
# The first belongs to a profile that may be unused; without the second no notification is sent.
MAY_BE_LEFT_OUT = {"RABBITMQ_PASSWORD", PREFIX + "NOTIFY_SECRET"}


def test_promised_services_start_and_the_rest_needs_a_profile() -> None:
    always = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert always == {"postgres", "redis", "migrate", *LONG_RUNNING}
    assert {name: service["profiles"] for name, service in SERVICES.items() if service.get("profiles")} == {
        "rabbitmq": ["rabbitmq"],
        "prometheus": ["monitoring"],
    }
    assert set(OURS) == {"migrate", *LONG_RUNNING}


def test_every_port_is_published_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_has_a_default(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        used = re.findall(r"\$\{(\w+)(:[-?])?([^}]*)", value)
        if SECRETS.search(variable):
            assert used, f"{variable} is written down in the file"
        for inner, how, rest in used:
            if SECRETS.search(inner) and how != ":?":
                # An optional variable is then empty, and nothing else.
                assert inner in MAY_BE_LEFT_OUT
                assert (how, rest) == (":-", "")
    for password in re.findall(r"://\w*:([^@]*)@", str(SERVICES[name].get("environment", {}))):
        assert password.startswith("${")


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_can_write_only_to_their_tmpfs(name: str) -> None:
    service = OURS[name]
    assert service["user"] == "10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "volumes" not in service
    assert {mount.split(":")[0] for mount in service["tmpfs"]} == {"/run/refund-worker", "/tmp"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_containers_have_no_new_privileges_and_limited_resources(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "devices", "pid", "ipc"} & set(service)
    assert service["mem_limit"]
    assert 0 < service["pids_limit"] <= 512
    # Capabilities with which a server makes its volume its own and then changes its user; none of the network or the
    # kernel.
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    if name in OURS:
        assert "cap_add" not in service


def test_only_redis_of_the_other_servers_is_read_only() -> None:
    assert {name for name, service in SERVICES.items() if service.get("read_only")} == {*OURS, "redis"}
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(OURS)))
def test_foreign_images_have_an_exact_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?[0-9]+(\.[0-9]+){1,2}(@sha256:[0-9a-f]{64})?", SERVICES[name]["image"])


def test_our_image_is_slim_hash_locked_and_not_root() -> None:
    lines = OURS["web"]["build"]["dockerfile_inline"].splitlines()
    assert lines[0] == "FROM python:3.13-slim"
    assert any("--require-hashes -r requirements.lock" in line for line in lines)
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER refund-worker"]
    assert "--uid 10001" in "\n".join(lines)
    assert lines.index("USER refund-worker") < lines.index('ENTRYPOINT ["refund-worker"]')


def test_services_wait_until_their_dependencies_are_healthy() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in LONG_RUNNING:
        needs = SERVICES[name]["depends_on"]
        assert needs["migrate"] == {"condition": "service_completed_successfully"}
        assert needs["redis"] == {"condition": "service_healthy"}
        assert needs["rabbitmq"] == {"condition": "service_healthy", "required": False}
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed], needed


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_health_command_checks_each_process_of_ours(name: str) -> None:
    kind = {"bulk": "worker"}.get(name, name)
    assert SERVICES[name]["healthcheck"]["test"][:4] == ["CMD", "refund-worker", "health", kind]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_stop_grace_period_covers_running_work() -> None:
    for name in ("worker", "bulk"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= STOP_SECONDS_MAX


def test_application_does_not_own_its_tables() -> None:
    url = PREFIX + "DATABASE_URL"
    assert {name: re.findall(r"//(\w+):", service["environment"][url])[0] for name, service in OURS.items()} == {
        "migrate": "refund_worker",
        **dict.fromkeys(LONG_RUNNING, "refund_worker_app"),
    }
    assert "db grant refund_worker_app" in SERVICES["migrate"]["entrypoint"][-1]
    assert "CREATE ROLE refund_worker_app LOGIN" in COMPOSE["configs"]["application-role"]["content"]


@pytest.mark.parametrize(("name", "server"), [("redis", "redis-server"), ("rabbitmq", "rabbitmq-server")])
def test_server_started_by_a_shell_still_drops_root(name: str, server: str) -> None:
    shell, option, script = SERVICES[name]["command"]
    assert (shell, option) == ("sh", "-c")
    assert f"exec docker-entrypoint.sh {server}" in script


def test_commands_in_the_header_exist(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(
        r"^#   docker compose exec web refund-worker (\w+ \w+) NAME (.*?)  ", FILE.read_text("utf-8"), re.M
    )
    assert [command for command, _ in commands] == ["keys create", "users create"]
    for command, options in commands:
        assert run_command([*command.split(), "--help"]) == 0
        output = capsys.readouterr().out
        assert all(option in output for option in re.findall("--[a-z-]+", options))


def test_rabbitmq_does_not_start_without_a_password() -> None:
    assert 'test -n "$$RABBITMQ_DEFAULT_PASS"' in SERVICES["rabbitmq"]["command"][-1]


def test_our_processes_accept_every_setting_and_nothing_else() -> None:
    for name in LONG_RUNNING:
        given = {variable.removeprefix(PREFIX).lower() for variable in SERVICES[name]["environment"]}
        assert given == set(Settings.model_fields)
    assert set(SERVICES["migrate"]["environment"]) == {PREFIX + "DATABASE_URL"}


def test_unexported_variable_counts_as_unset() -> None:
    given = SERVICES["web"]["environment"]
    # The others are literals, must be set, or have a default in the file.
    optional = {variable for variable, value in given.items() if value == f"${{{variable}:-}}"}
    required = {"ENVIRONMENT", "DATABASE_URL", "BROKER_URL", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"}
    assert optional == set(given) - {PREFIX + name for name in required}
    assert load_settings(dict.fromkeys(optional, "")) == load_settings({})


def test_prometheus_scrapes_from_the_network_of_the_web() -> None:
    assert SERVICES["prometheus"]["network_mode"] == "service:web"
    scraped = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
    assert scraped["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:8000"]}]


def test_no_inline_config_goes_into_a_read_only_container() -> None:
    written_here = {name for name, config in COMPOSE["configs"].items() if "content" in config}
    assert written_here
    for name, service in SERVICES.items():
        given = {config["source"] for config in service.get("configs", [])}
        assert not (service.get("read_only") and given & written_here), f"Compose refuses to start {name}"


def test_volumes_and_configs_are_exactly_the_used_ones() -> None:
    volumes = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    configs = {c["source"] for service in SERVICES.values() for c in service.get("configs", [])}
    assert volumes == set(COMPOSE["volumes"])
    assert configs == set(COMPOSE["configs"])
