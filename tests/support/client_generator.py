"""openapi-python-client in an environment of its own, since it needs another Typer than the command line.

The environment is made once, from `requirements-openapi-client.lock`, and made anew when that file or the interpreter
changes. A test that cannot have it is skipped, and says so loudly.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.skipped import leave_out

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements-openapi-client.lock"
FOLDER = ROOT / ".openapi-client"
PACKAGE = "generated_client"
INSTALL_SECONDS_MAX = 240


def generator_python() -> Path:
    """Return the interpreter of the environment, and make it if it is not there. Skips the test if it cannot be."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "stamp"
    wanted = f"{sys.version.split()[0]} {FOLDER} {hashlib.sha256(LOCK.read_bytes()).hexdigest()}"
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once take turns
        if stamp.is_file() and stamp.read_text("utf-8") == wanted:
            return python
        shutil.rmtree(FOLDER, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(FOLDER)],
            [
                *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
                *("--require-hashes", "--only-binary=:all:", "-r", str(LOCK)),
            ],
        ):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False)
            except subprocess.TimeoutExpired:
                leave_out("no client was generated: ", "installing openapi-python-client took too long")
            if done.returncode:
                why = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
                leave_out("no client was generated: ", f"openapi-python-client cannot be installed ({why})")
        stamp.write_text(wanted, "utf-8")
    return python


def generate(document: dict[str, Any], folder: Path) -> str:
    """Generate the package `PACKAGE` in `folder` from an OpenAPI document. Return what the generator printed."""
    python = generator_python()
    (folder / "openapi.json").write_text(json.dumps(document), "utf-8")
    (folder / "config.json").write_text(json.dumps({"package_name_override": PACKAGE, "post_hooks": []}), "utf-8")
    command = [
        *(str(python), "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"),
        *("--path", "openapi.json", "--config", "config.json", "--output-path", PACKAGE),
    ]
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return printed


def run_with_client(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that imports the generated package."""
    (folder / "script.py").write_text(script, "utf-8")
    return subprocess.run(
        [str(generator_python()), "script.py", *arguments],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _environment() -> dict[str, str]:
    """Return our environment without what would make the other interpreter import our packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
