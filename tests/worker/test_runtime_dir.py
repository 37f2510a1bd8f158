"""The folder of heartbeats and of the embedded broker: chosen by a setting, and a folder that cannot be written to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.heartbeat import Heartbeat, check_heartbeat
from refund_worker.worker.runtime_dir import runtime_folder


def settings_of(folder: Path | None, database: str = "postgresql+psycopg://h/d", **more: str) -> Settings:
    chosen = {"DATABASE_URL": database, "BROKER_URL": "redis://127.0.0.1:1/0"} | more
    if folder is not None:
        chosen["RUNTIME_DIR"] = str(folder)
    return load_settings({PREFIX + name: value for name, value in chosen.items()})


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A folder where this user may not write; root may not either, in a process of `without_root_rights`."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    return folder


def without_root_rights(*command: str) -> Sequence[str]:
    """Return the command with ordinary rights on files, also for root."""
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search", *command) if os.geteuid() == 0 else command


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    chosen = {PREFIX + "RUNTIME_DIR": str(folder), PREFIX + "DATABASE_URL": f"sqlite:///{folder.parent}/refunds.db"}
    return subprocess.run(
        without_root_rights(sys.executable, "-m", "refund_worker", *arguments),
        env=others | chosen | {PREFIX + name: value for name, value in more.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("database", ["postgresql+psycopg://h/d", "sqlite:////var/lib/refunds.db", "sqlite:///r.db"])
def test_all_files_are_in_the_chosen_folder(tmp_path: Path, database: str) -> None:
    settings = settings_of(tmp_path / "chosen", database)
    Heartbeat("worker", settings, ["bulk"]).beat()
    assert [file.name for file in (tmp_path / "chosen").rglob("*") if file.is_file()] == ["worker-bulk.alive"]
    assert check_heartbeat("worker", runtime_folder(settings), "bulk")[0]


def test_deployments_with_one_chosen_folder_are_told_apart(tmp_path: Path) -> None:
    databases = ("postgresql+psycopg://h/d", "postgresql+psycopg://h/e", "sqlite:////a/r.db", "sqlite:////b/r.db")
    folders = [runtime_folder(settings_of(tmp_path, database)) for database in databases]
    folders.append(runtime_folder(settings_of(tmp_path, DATABASE_SCHEMA="refunds")))
    assert len({*folders}) == 5
    assert {folder.parent for folder in folders} == {tmp_path}


def test_schemas_of_one_database_are_told_apart_by_default() -> None:
    assert runtime_folder(settings_of(None)) != runtime_folder(settings_of(None, DATABASE_SCHEMA="refunds"))


def test_health_check_finds_the_chosen_folder(tmp_path: Path) -> None:
    more = {"DATABASE_URL": "postgresql+psycopg://h/d", "DATABASE_SCHEMA": "refunds"}
    assert run(tmp_path, "health", "worker", **more).returncode == 1
    Heartbeat("worker", settings_of(tmp_path, DATABASE_SCHEMA="refunds")).beat()
    assert run(tmp_path, "health", "worker", **more).returncode == 0


def test_heartbeat_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    heartbeat = Heartbeat("worker", settings_of(tmp_path / "file"))
    for _ in range(3):
        heartbeat.beat()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "REFUND_WORKER_RUNTIME_DIR" in caplog.text
    assert str(tmp_path / "file") in caplog.text
    (tmp_path / "file").unlink()
    heartbeat.beat()
    assert heartbeat.path.exists()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("process", ["worker", "scheduler"])
def test_embedded_broker_needs_a_folder_to_write(locked: Path, process: str) -> None:
    ran = run(locked, process, DATABASE_URL="postgresql+psycopg://127.0.0.1:1/d")
    assert ran.returncode == 2, ran.stderr
    assert "REFUND_WORKER_BROKER_URL=embedded keeps its files in" in ran.stderr
    assert "Permission denied" in ran.stderr
    assert "REFUND_WORKER_RUNTIME_DIR" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert [*locked.iterdir()] == []


def test_doctor_finds_a_folder_that_cannot_be_written_to(locked: Path, tmp_path: Path) -> None:
    ran = run(locked, "doctor", "-o", "json")
    assert ran.returncode == 1
    assert '"runtime folder", "verdict": "fail"' in " ".join(ran.stdout.split())
    ran = run(tmp_path, "doctor", "-o", "json")
    assert '"runtime folder", "verdict": "ok"' in " ".join(ran.stdout.split())
    assert ran.returncode == 0
