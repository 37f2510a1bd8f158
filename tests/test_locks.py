"""The lock files belong to pyproject.toml, have a hash for every byte, and name no host to fetch from."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from refund_worker.tracing import ENDPOINTS

ROOT = Path(__file__).parent.parent
PROJECT, CLIENT = (
    tomllib.loads((ROOT / name).read_text(encoding="utf-8")) for name in ("pyproject.toml", "client/pyproject.toml")
)
LOCK_FILES = ("requirements.lock", "requirements-dev.lock")
HOST_OR_PATH = re.compile(
    r"[a-z+]+://|--(extra-)?index-url|--find-links|--trusted-host|@ file:|(^|\s)/\w+/", re.MULTILINE
)


def declared(*groups: str) -> list[Requirement]:
    """The requirements of both projects, with those of some dependency groups."""
    lines = PROJECT["project"]["dependencies"] + CLIENT["project"]["dependencies"]
    for group in groups:
        lines += PROJECT["dependency-groups"][group]
    return [Requirement(line) for line in lines]


def locked(text: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Return the pins of a lock file by package, each with its number of hashes. Platforms may have different pins."""
    pins: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        pin = entry.split(" \\\n")[0].strip()
        if pin and not pin.startswith(("#", "-")):
            requirement = Requirement(pin)
            hashes = len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry))
            pins.setdefault(canonicalize_name(requirement.name), []).append((requirement, hashes))
    return pins


def complaints(requirements: list[Requirement], text: str) -> list[str]:
    """Return the faults of a lock file: requirements without a fitting pin, pins without a hash, hosts and paths."""
    found = [f"names a host or a path: {match.group()!r}" for match in HOST_OR_PATH.finditer(text)]
    pins = locked(text)
    for requirement in requirements:
        versions = [
            str(pin.specifier).removeprefix("==") for pin, _ in pins.get(canonicalize_name(requirement.name), [])
        ]
        if not versions or not all(requirement.specifier.contains(version) for version in versions):
            found.append(f"{requirement} is not met: make lock")
    for name, entries in pins.items():
        if any(hashes == 0 or not str(pin.specifier).startswith("==") for pin, hashes in entries):
            found.append(f"{name} has no exact version or no hash")
    return found


@pytest.mark.parametrize(
    ("lock_file", "groups"), [("requirements.lock", ["build"]), ("requirements-dev.lock", ["build", "dev"])]
)
def test_each_lock_file_meets_pyproject(lock_file: str, groups: list[str]) -> None:
    text = (ROOT / lock_file).read_text(encoding="utf-8")
    assert complaints(declared(*groups), text) == []
    assert len(locked(text)) > len(declared(*groups))


@pytest.mark.parametrize("group", ["mutation", "openapi-client"])
def test_the_lock_file_of_an_environment_of_its_own_meets_its_group(group: str) -> None:
    text = (ROOT / f"requirements-{group}.lock").read_text(encoding="utf-8")
    assert complaints([Requirement(line) for line in PROJECT["dependency-groups"][group]], text) == []


def test_both_lock_files_pin_the_same_versions() -> None:
    runtime, dev = (locked((ROOT / name).read_text(encoding="utf-8")) for name in LOCK_FILES)
    assert set(runtime) < set(dev)
    assert {name: [str(pin) for pin, _ in entries] for name, entries in runtime.items()} == {
        name: [str(pin) for pin, _ in dev[name]] for name in runtime
    }


def test_the_image_has_every_package_that_sends_traces() -> None:
    wanted = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["otel"]]
    assert wanted
    assert complaints(wanted, (ROOT / "requirements.lock").read_text(encoding="utf-8")) == []
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert [name for name in ENDPOINTS if f"{name}: ${{{name}:-}}" not in compose] == []


GOOD = f"# comment\nredis==8.1.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD.replace("redis", "rediss"), "redis>=5 is not met"),
        (GOOD.replace("8.1.0", "4.6.0"), "redis>=5 is not met"),
        (GOOD.replace("--hash=sha256:", "--hash=md5:"), "no exact version or no hash"),
        (GOOD.replace("==", ">="), "no exact version or no hash"),
        ("--index-url https" + "://example.test/simple\n" + GOOD, "names a host or a path"),
        (GOOD + "local @ file:" + "///srv/wheels/local.whl\n", "names a host or a path"),
        (GOOD.replace("# comment", "# made in /home/somebody/project"), "names a host or a path"),
    ],
)
def test_lock_file_that_does_not_fit_has_complaints(text: str, complaint: str) -> None:
    assert any(complaint in each for each in complaints([Requirement("redis>=5")], text))


def test_lock_file_that_fits_has_no_complaint() -> None:
    assert complaints([Requirement("redis>=5")], GOOD) == []


def test_the_third_party_server_is_pinned_by_hash_and_names_no_host() -> None:
    text = (ROOT / "tests" / "thirdparty" / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = {path: entry for path, entry in json.loads(text)["packages"].items() if path}
    assert "node_modules/stripe-stateful-mock" in packages
    assert [path for path, entry in packages.items() if not entry.get("integrity", "").startswith("sha512-")] == []
