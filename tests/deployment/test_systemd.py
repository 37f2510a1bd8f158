"""deploy/systemd: units that systemd accepts, hardened, with secrets in files and time to stop."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.deployment.names import SECRET_FILES, SETTINGS, runs
from tests.support.debian import program
from tests.support.pages import ROOT

from refund_worker.settings import PREFIX
from refund_worker.worker.queues import QUEUES
from refund_worker.worker.supervisor import STOP_SECONDS_MAX

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
INSTALLED = "/opt/refund-worker/"
# Out of 100; systemd calls 20 and less OK, and a service without any of it UNSAFE at 96.
EXPOSURE_MAX = 20


def values(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


def offered(unit: Path, name: str) -> list[str]:
    """Return the values in lines that a person may switch on by removing the `#`."""
    return re.findall(rf"^#{name}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


def commands(unit: Path) -> list[list[str]]:
    return [shlex.split(line) for line in values(unit, "ExecStart")]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Give the units with programs that exist here: systemd looks them up."""
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    for unit in UNITS:
        text = re.sub(rf"{INSTALLED}\S+", str(tmp_path / "program"), unit.read_text("utf-8"))
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def analyze(*arguments: str, units: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("systemd-analyze"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        timeout=60,
        check=False,
    )


def test_systemd_accepts_every_unit_without_a_warning(copies: Path) -> None:
    names = [unit.name.replace("@.", "@refunds.") for unit in UNITS]
    ran = analyze("verify", "--man=no", *(str(copies / name) for name in names), units=copies)
    ours = [line for line in (ran.stdout + ran.stderr).splitlines() if "refund-worker" in line]
    assert (ran.returncode, ours) == (0, [])


def test_systemd_notices_a_wrong_unit(copies: Path) -> None:
    web = copies / "refund-worker-web.service"
    web.write_text(web.read_text().replace("KillMode=mixed", "KillMode=gentle").replace(str(copies / "program"), "/no"))
    ran = analyze("verify", "--man=no", str(web), units=copies)
    assert "gentle" in ran.stderr
    assert "/no" in ran.stderr


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_services_are_hardened(unit: Path, copies: Path) -> None:
    copy = copies / unit.name.replace("@.", "@refunds.")
    if not copy.exists():
        copy.write_text((copies / unit.name).read_text())
    ran = analyze("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX}", str(copy), units=copies)
    assert ran.returncode == 0, ran.stdout[-300:]
    assert values(unit, "User") == ["refund-worker"]
    assert values(unit, "SystemCallErrorNumber") == ["EPERM"]  # a forbidden call is an error, not a kill


def test_commands_exist_and_cover_all_queues() -> None:
    for unit in SERVICES:
        for command in commands(unit):
            assert command[0].startswith(INSTALLED)
            if Path(command[0]).name == "refund-worker":
                runs(["refund-worker", *(part.replace("%i", "bulk") for part in command[1:])])
            else:
                assert (ROOT / command[0].removeprefix(INSTALLED)).is_file()
    wanted = set(" ".join(values(FOLDER / "refund-worker.target", "Wants")).split())
    assert {f"refund-worker-worker@{queue}.service" for queue in QUEUES} < wanted
    known = {unit.name for unit in UNITS}
    assert {re.sub("@.*[.]", "@.", name) for name in wanted} <= known


def test_stop_reaches_the_main_process_and_leaves_time() -> None:
    for name in ("web", "worker@", "scheduler"):
        unit = FOLDER / f"refund-worker-{name}.service"
        assert values(unit, "KillMode") == ["mixed"]
        assert values(unit, "Restart") == ["always"]
        (seconds,) = values(unit, "TimeoutStopSec")
        assert int(seconds) > (STOP_SECONDS_MAX if name == "worker@" else 30)


def test_secrets_are_credentials_and_everything_else_is_a_setting() -> None:
    for unit in SERVICES:
        given = {line.partition(":")[0]: line.partition(":")[2] for line in values(unit, "LoadCredential")}
        files = dict(line.split("=", 1) for line in values(unit, "Environment"))
        for variable, value in files.items():
            if variable.startswith(PREFIX):
                assert variable in SETTINGS | SECRET_FILES
            if variable.endswith("_FILE"):
                assert value.removeprefix("%d/") in given, variable
        assert all(path == f"/etc/refund-worker/secrets/{name}" for name, path in given.items())
    for name in ("web", "worker@", "scheduler"):
        unit = FOLDER / f"refund-worker-{name}.service"
        optional = ("processors", "destinations_key")
        assert offered(unit, "LoadCredential") == [f"{name}:/etc/refund-worker/secrets/{name}" for name in optional]
        assert offered(unit, "Environment") == [f"{PREFIX}{name.upper()}_FILE=%d/{name}" for name in optional]
        given_files = values(unit, "Environment") + offered(unit, "Environment")
        assert {line.split("=")[0] for line in given_files} >= SECRET_FILES
    owner = [unit.stem for unit in SERVICES if "owner_database_url" in unit.read_text("utf-8")]
    assert owner == ["refund-worker-migrate"]


def test_units_are_for_production_unless_the_settings_say_other() -> None:
    for name in ("web", "worker@", "scheduler", "migrate"):
        unit = FOLDER / f"refund-worker-{name}.service"
        assert f"{PREFIX}ENVIRONMENT=production" in values(unit, "Environment")
    # An empty or absent line of the file keeps the unit's value: so the example must not set another one.
    assert not re.search(rf"^{PREFIX}ENVIRONMENT=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE)
    guide = (ROOT / "docs" / "deployment.md").read_text("utf-8").partition("## systemd")[2].partition("\n## ")[0]
    assert "TRUSTED_PROXIES" in guide


def test_processes_of_a_machine_share_a_runtime_folder() -> None:
    for name in ("web", "worker@", "scheduler", "migrate"):
        unit = FOLDER / f"refund-worker-{name}.service"
        assert values(unit, "RuntimeDirectory") == ["refund-worker"]
        assert values(unit, "RuntimeDirectoryPreserve") == ["yes"]
        assert f"{PREFIX}RUNTIME_DIR=/run/refund-worker" in values(unit, "Environment")
