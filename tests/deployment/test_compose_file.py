"""docker-compose.yml, read as Compose does: no open ports, secrets in files only, no start before the dependencies."""

from __future__ import annotations

import re
from importlib.metadata import version
from ipaddress import ip_network
from typing import Any

import pytest
import yaml
from tests.deployment.names import STRIPE_FILES, interpolated, runs
from tests.support.pages import ROOT

from refund_worker.cli.app import run_command
from refund_worker.settings import PREFIX, SECRETS, Settings, load_settings
from refund_worker.worker.supervisor import STOP_SECONDS_MAX

FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OUR_IMAGE = "${IMAGE:-refund-worker}:${IMAGE_TAG:-0.1.0}"
OURS = {name: service for name, service in SERVICES.items() if service["image"] == OUR_IMAGE}
LONG_RUNNING = {"web", "worker", "bulk", "scheduler"}
# KEY_LIFE_SECONDS is how long a key lives, not a key.
SECRET_NAMES = re.compile(r"PASS|SECRET(?!S_DIR)|KEY(?!_LIFE_SECONDS)|AUTH|DATABASE_URL|BROKER_URL")
LOOPBACK = ("127.0.0.1:", "${PUBLIC_ADDRESS:-127.0.0.1}:")


def test_promised_services_start_and_the_rest_needs_a_profile() -> None:
    always = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert always == {"postgres", "redis", "migrate", "proxy", "backup", *LONG_RUNNING}
    assert {name: service["profiles"] for name, service in SERVICES.items() if service.get("profiles")} == {
        "rabbitmq": ["rabbitmq"],
        "prometheus": ["monitoring"],
    }
    assert set(OURS) == {"migrate", *LONG_RUNNING}


def test_every_port_is_published_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith(LOOPBACK)] == []
    assert [name for name, service in SERVICES.items() if "PUBLIC_ADDRESS" in str(service)] == ["proxy"]
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_secret_has_a_default(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        # The names of two fields in the metadata of payments are no secrets.
        if SECRET_NAMES.search(variable) and not variable.startswith("REFUND_WORKER_PAYMENTS_"):
            # A secret reaches a container as a file, never as a variable, so that no `docker inspect` shows it.
            assert variable.endswith("_FILE"), f"{variable} holds a secret itself"
            assert interpolated(value, {}) in {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]}
    assert re.findall(r"://[^@/\s]*:([^@]*)@", yaml.safe_dump(SERVICES[name])) == []


def test_only_the_files_of_stripe_can_be_left_out() -> None:
    for name in LONG_RUNNING:
        given = SERVICES[name]["environment"]
        files = {each: value for each, value in given.items() if each.removesuffix("_FILE") != each}
        without = {each for each, value in files.items() if interpolated(value, dict.fromkeys(files, "")) == ""}
        assert without - {PREFIX + "PROCESSORS_FILE", PREFIX + "MESSAGES_FILE"} == STRIPE_FILES


def test_every_secret_is_a_file_that_make_secrets_writes() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert all(how == {"file": f"${{SECRETS_DIR:-./secrets}}/{secret}"} for secret, how in COMPOSE["secrets"].items())
    assert re.search(r"^/secrets/$", (ROOT / ".gitignore").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_can_write_only_to_their_tmpfs(name: str) -> None:
    service = OURS[name]
    assert service["user"] == "10001:10001"
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
    assert service["cpus"]
    assert 0 < service["pids_limit"] <= 512
    # Without a bound a log fills the disk.
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    # Capabilities with which a server makes its volume its own and then changes its user; none of the network or the
    # kernel.
    network = {"NET_BIND_SERVICE"} if name == "proxy" else set()
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"} | network
    if name in OURS:
        assert "cap_add" not in service


def test_only_postgres_and_rabbitmq_are_not_read_only() -> None:
    assert {name for name, service in SERVICES.items() if not service.get("read_only")} == {"postgres", "rabbitmq"}
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(OURS)))
def test_foreign_images_have_an_exact_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?[0-9]+(\.[0-9]+){1,2}(@sha256:[0-9a-f]{64})?", SERVICES[name]["image"])


def test_our_image_is_built_once_and_has_the_version_as_its_tag() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["web"]
    assert SERVICES["web"]["build"]["dockerfile"] == "deploy/Dockerfile"
    assert OUR_IMAGE.endswith(f":-{version('refund-worker')}}}")


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
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > STOP_SECONDS_MAX


def test_application_does_not_own_its_tables() -> None:
    url = PREFIX + "DATABASE_URL_FILE"
    assert {name: service["environment"][url] for name, service in OURS.items()} == {
        "migrate": "/run/secrets/owner_database_url",
        **dict.fromkeys(LONG_RUNNING, "/run/secrets/database_url"),
    }
    assert [name for name, service in SERVICES.items() if "owner_database_url" in service.get("secrets", [])] == [
        "migrate"
    ]
    assert "db grant refund_worker_app" in SERVICES["migrate"]["entrypoint"][-1]


def test_databases_and_brokers_reach_nobody_outside() -> None:
    assert COMPOSE["networks"]["data"] == {"internal": True}
    for name in ("postgres", "redis", "rabbitmq", "migrate", "backup"):
        assert SERVICES[name]["networks"] == ["data"], name
        assert "ports" not in SERVICES[name]
    for name in ("proxy", "prometheus"):
        assert "data" not in SERVICES[name]["networks"], name


def test_only_the_proxy_is_a_trusted_proxy() -> None:
    address = SERVICES["proxy"]["networks"]["front"]["ipv4_address"]
    assert SERVICES["web"]["environment"][PREFIX + "TRUSTED_PROXIES"] == f"${{{PREFIX}TRUSTED_PROXIES:-{address}}}"
    (pool,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    network, proxy = (ip_network(re.sub(r"\$\{\w+:-(.*)\}", r"\1", text)) for text in (pool["subnet"], address))
    # Docker gives addresses from the start of a network: web, which starts first, must not get the proxy's.
    assert proxy.network_address in [*network.hosts()][-10:]


def test_commands_in_the_header_exist(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(
        r"^#   docker compose exec web refund-worker (\w+ \w+) NAME (.*?)  ", FILE.read_text("utf-8"), re.M
    )
    assert [command for command, _ in commands] == ["keys create", "users create"]
    for command, options in commands:
        assert run_command([*command.split(), "--help"]) == 0
        output = capsys.readouterr().out
        assert all(option in output for option in re.findall("--[a-z-]+", options))


def test_our_processes_accept_every_setting_and_nothing_else() -> None:
    secrets = {PREFIX + secret.upper() + "_FILE" for secret in SECRETS}
    settings = {PREFIX + name.upper() for name in Settings.model_fields if name not in SECRETS}
    for name in LONG_RUNNING:
        assert {each for each in SERVICES[name]["environment"] if not each.startswith("OTEL_")} == secrets | settings
    assert set(SERVICES["migrate"]["environment"]) == {PREFIX + "DATABASE_URL_FILE", PREFIX + "DATABASE_SCHEMA"}


def test_unexported_variable_counts_as_unset() -> None:
    given = SERVICES["web"]["environment"]
    # The others are literals, or have a default in the file.
    optional = {variable for variable, value in given.items() if value == f"${{{variable}:-}}"}
    fixed = {
        "ENVIRONMENT",
        "RUNTIME_DIR",
        "TRUSTED_PROXIES",
        *(each.upper() + "_FILE" for each in SECRETS if each != "processors"),
    }
    assert optional == set(given) - {PREFIX + name for name in fixed}
    assert load_settings(dict.fromkeys(optional, "")) == load_settings({})


def test_prometheus_shows_a_key_and_shares_nobodys_network() -> None:
    assert not any("network_mode" in service for service in SERVICES.values())
    file = ROOT / COMPOSE["configs"]["prometheus"]["file"]
    (job,) = yaml.safe_load(file.read_text("utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["web:8000"]}]
    assert job["authorization"] == {"credentials_file": f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"}
    # Its port is its own: a busy 9090 stops nobody who does not use the profile.
    assert "9090" not in str(SERVICES["web"]["ports"])


def test_prometheus_reads_the_alert_rules() -> None:
    shown = {
        each["target"]: ROOT / COMPOSE["configs"][each["source"]]["file"] for each in SERVICES["prometheus"]["configs"]
    }
    asked = yaml.safe_load(shown["/etc/prometheus/prometheus.yml"].read_text("utf-8"))["rule_files"]
    assert asked
    assert all(yaml.safe_load(shown[path].read_text("utf-8"))["groups"] for path in asked)


def test_configs_are_files_of_the_project() -> None:
    # Compose can copy a config that is written in the file only into a container that is not read-only.
    for name, config in COMPOSE["configs"].items():
        assert set(config) == {"file"}, name
        assert (ROOT / config["file"]).is_file()


def test_volumes_and_configs_are_exactly_the_used_ones() -> None:
    volumes = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    configs = {config["source"] for service in SERVICES.values() for config in service.get("configs", [])}
    networks = {network for service in SERVICES.values() for network in service["networks"]}
    assert volumes == set(COMPOSE["volumes"])
    assert configs == set(COMPOSE["configs"])
    assert networks == set(COMPOSE["networks"])


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_our_services_run_commands_that_exist(name: str) -> None:
    runs(["refund-worker", *SERVICES[name]["command"]])
    runs(SERVICES[name]["healthcheck"]["test"][1:])
