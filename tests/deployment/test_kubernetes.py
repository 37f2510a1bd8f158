"""deploy/kubernetes: valid for the cluster, unprivileged, probed by commands that exist, and time to stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deployment.names import PROJECT_VERSION, runs
from tests.support.pages import ROOT

from refund_worker.dangers import dangers_of
from refund_worker.settings import PREFIX, SECRETS, load_settings
from refund_worker.web.server import GRACE_SECONDS
from refund_worker.worker.supervisor import STOP_SECONDS_MAX

FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
FILES = sorted(FOLDER.glob("*.yaml"))
EXAMPLE = FOLDER / "secret.example.yaml"
# The oldest one that gets corrections, by then some years old, and the newest one known.
VERSIONS = ("1.29", kubernetes_validate.latest_version())


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text("utf-8")))


OBJECTS = [each for file in FILES if file.name != "kustomization.yaml" for each in documents(file)]
WORKLOADS = {
    each["metadata"]["labels"]["app.kubernetes.io/component"]: each
    for each in OBJECTS
    if each["kind"] in ("Deployment", "Job")
}
PODS = {name: each["spec"]["template"] for name, each in WORKLOADS.items()}
CONTAINERS = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}
# Secrets that not every installation has.
OPTIONAL = {"processors", "destinations_key"}
CONFIG: dict[str, str] = next(each["data"] for each in OBJECTS if each["kind"] == "ConfigMap")
LONG_RUNNING = {"web", "worker", "bulk", "scheduler"}


def of_kind(kind: str) -> Iterator[dict[str, Any]]:
    yield from (each for each in OBJECTS if each["kind"] == kind)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_in_old_and_new_clusters(version: str) -> None:
    assert len(OBJECTS) > 12
    for each in OBJECTS:
        kubernetes_validate.validate(each, version, strict=True)


def test_kustomization_has_every_file_but_the_example() -> None:
    files = {file.name for file in FILES}
    assert set(KUSTOMIZATION["resources"]) == files - {"kustomization.yaml", EXAMPLE.name}
    (image,) = KUSTOMIZATION["images"]
    assert {container["image"] for container in CONTAINERS.values()} == {f"{image['name']}:{PROJECT_VERSION}"}
    assert str(image["newTag"]) == PROJECT_VERSION


def test_processes_are_the_promised_ones() -> None:
    assert set(WORKLOADS) == LONG_RUNNING | {"migrate"}
    assert [CONTAINERS[name]["args"][0] for name in ("web", "worker", "bulk", "scheduler")] == [
        "web",
        "worker",
        "worker",
        "scheduler",
    ]
    for name in LONG_RUNNING:
        runs(["refund-worker", *CONTAINERS[name]["args"]])
    shell, option, script = CONTAINERS["migrate"]["command"]
    assert (shell, option) == ("sh", "-c")
    for command in script.split(" && "):
        runs(command.split())


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_are_unprivileged_and_bounded(name: str) -> None:
    pod, container = PODS[name]["spec"], CONTAINERS[name]
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert container["resources"]["limits"]["memory"]
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_can_write_where_the_program_does_and_read_their_secrets(name: str) -> None:
    volumes = {volume["name"]: volume for volume in PODS[name]["spec"]["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in CONTAINERS[name]["volumeMounts"]}
    environment = {each["name"]: each["value"] for each in CONTAINERS[name].get("env", [])}
    if "envFrom" in CONTAINERS[name]:
        assert CONTAINERS[name]["envFrom"] == [{"configMapRef": {"name": "refund-worker"}}]
        environment |= CONFIG
    for place in ("/tmp", str(Path(environment[PREFIX + "RUNTIME_DIR"]).parent)):
        assert "emptyDir" in mounts[place]
        assert mounts[place]["emptyDir"]["sizeLimit"]
    secret = {each["metadata"]["name"]: each["stringData"] for each in of_kind("Secret")}
    given = mounts["/run/secrets/refund-worker"]["secret"]
    assert given["defaultMode"] == 0o440
    for variable, path in environment.items():
        if variable.endswith("_FILE"):
            assert Path(path).parent == Path("/run/secrets/refund-worker")
            assert Path(path).name in secret[given["secretName"]], variable
    assert (given["secretName"] == "refund-worker-owner") == (name == "migrate")


def test_secrets_are_an_example_without_values() -> None:
    """Secrets that not every installation has are offered in a comment."""
    assert {each["metadata"]["name"] for each in documents(EXAMPLE)} == {"refund-worker", "refund-worker-owner"}
    assert all(value == "" for each in of_kind("Secret") for value in each["stringData"].values())
    assert {path.split("/")[-1] for path in CONFIG.values() if "/run/secrets/" in path} == set(SECRETS) - OPTIONAL
    assert re.findall(
        "^  # (REFUND_WORKER_[A-Z_]*): (.*)$", (FOLDER / "configmap.yaml").read_text("utf-8"), re.MULTILINE
    ) == [
        (PREFIX + "PROCESSORS_FILE", "/run/secrets/refund-worker/processors"),
        (PREFIX + "DESTINATIONS_KEY_FILE", "/run/secrets/refund-worker/destinations_key"),
    ]


def test_settings_start_in_production_with_variables_of_services(tmp_path: Path) -> None:
    values = {
        "database_url": "postgres://refund_worker_app:p@db.example/refunds?sslmode=require",
        "broker_url": "rediss://:p@redis.example:6379/0",
        "stripe_api_key": "sk_live_x",
        "stripe_webhook_secret": "whsec_x",
        "notify_secret": "whsec_" + "A" * 44,
    }
    for name, value in values.items():
        (tmp_path / name).write_text(value)
    environment = {name: value.replace("/run/secrets/refund-worker", str(tmp_path)) for name, value in CONFIG.items()}
    for service in of_kind("Service"):
        name = service["metadata"]["name"].upper().replace("-", "_")
        environment |= {
            f"{name}_SERVICE_HOST": "10.0.0.1",
            f"{name}_SERVICE_PORT": "80",
            f"{name}_SERVICE_PORT_HTTP": "80",
            f"{name}_PORT": "tcp://10.0.0.1:80",
            f"{name}_PORT_80_TCP": "tcp://10.0.0.1:80",
            f"{name}_PORT_80_TCP_PROTO": "tcp",
            f"{name}_PORT_80_TCP_PORT": "80",
            f"{name}_PORT_80_TCP_ADDR": "10.0.0.1",
        }
    settings = load_settings({**environment, PREFIX + "STRICT": "on"})
    assert settings.environment == "production"
    assert dangers_of(settings) == ()


def test_stop_leaves_time_for_running_work() -> None:
    grace = {name: PODS[name]["spec"].get("terminationGracePeriodSeconds", 30) for name in LONG_RUNNING}
    (_, pause) = CONTAINERS["web"]["lifecycle"]["preStop"]["exec"]["command"]
    assert grace["web"] > GRACE_SECONDS + int(pause)
    assert min(grace["worker"], grace["bulk"]) > STOP_SECONDS_MAX
    assert grace["scheduler"] > 30


def test_probes_ask_what_each_process_answers() -> None:
    web = CONTAINERS["web"]
    paths = {probe: web[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    # A liveness probe that asks the database would restart every web process in an outage of the database.
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for name in ("worker", "bulk", "scheduler"):
        for probe in ("startupProbe", "livenessProbe"):
            command = CONTAINERS[name][probe]["exec"]["command"]
            assert command == ["refund-worker", "health", {"bulk": "worker"}.get(name, name)]
            assert CONTAINERS[name][probe]["timeoutSeconds"] >= 5
            runs(command)


def test_names_ports_and_selectors_fit_together() -> None:
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]
    for each in OBJECTS:
        spec = each.get("spec", {})
        if each["kind"] in ("Deployment", "PodDisruptionBudget"):
            wanted = spec["selector"]["matchLabels"]
        elif each["kind"] == "NetworkPolicy":
            wanted = spec["podSelector"]["matchLabels"]
        elif each["kind"] == "Service":
            wanted = spec["selector"]
        else:
            continue
        assert any(wanted.items() <= label.items() for label in labels), each["metadata"]["name"]
    (port,) = CONTAINERS["web"]["ports"]
    assert [str(port["containerPort"])] == re.findall(r"'--port', '(\d+)'", str(CONTAINERS["web"]["args"]))
    (service,) = of_kind("Service")
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    (ingress,) = of_kind("Ingress")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]}}
    for budget in of_kind("PodDisruptionBudget"):
        component = budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        # A budget of all replicas would never let a node be emptied.
        assert budget["spec"]["minAvailable"] < WORKLOADS[component]["spec"]["replicas"]


def test_only_web_can_be_reached_and_the_cloud_s_credentials_cannot() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    assert policies["refund-worker"]["ingress"] == []
    assert policies["refund-worker"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "refund-worker"}
    assert policies["refund-worker-web"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "web"
    names, others = policies["refund-worker"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert all(block["ipBlock"]["except"] for block in others["to"])
    assert {port["port"] for port in others["ports"]} == {5432, 6379, 5671, 443}
