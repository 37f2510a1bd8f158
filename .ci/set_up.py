"""Make .venv hold exactly what a lock file says, and both projects here: `python3 .ci/set_up.py runtime|dev`.

Quick when nothing changed (a stamp remembers the interpreter, the place and the hashes of the inputs); a .venv that is
half-made, moved, or made by another Python is made anew. Only the standard library, and nothing newer than Python 3.11.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "set-up.json"
PROJECTS = (".", "client")
LOCKS = {"runtime": "requirements.lock", "dev": "requirements-dev.lock"}
PROGRESS_SECONDS = 10


def say(text: str) -> None:
    sys.stderr.write(f"set-up: {text}\n")
    sys.stderr.flush()


def origin() -> dict[str, str]:
    """What a virtual environment is tied to: the interpreter it was made by, and its own place."""
    return {"python": sys.version.split()[0], "base": os.path.realpath(sys.base_prefix), "venv": str(VENV)}


def digest(name: str) -> str:
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()


def inputs(level: str) -> dict[str, str]:
    """The hashes of the files that `level` follows. The development lock holds the runtime lock's packages too."""
    locks = LOCKS.values() if level == "dev" else (LOCKS[level],)
    return {name: digest(name) for name in (*locks, "pyproject.toml", "client/pyproject.toml")}


def read_stamp() -> dict[str, object]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(**content: object) -> None:
    part = STAMP.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(STAMP)


def is_current(stamp: dict[str, object], level: str) -> bool:
    """Whether the stamp promises all that `level` needs."""
    done = stamp.get("inputs")
    if stamp.get("origin") != origin() or stamp.get("unfinished") or not isinstance(done, dict):
        return False
    return all(done.get(name) == value for name, value in inputs(level).items()) and works(
        "import refund_worker, refund_worker_client"
    )


def works(statement: str) -> bool:
    """Whether the Python in .venv is there and runs this statement without an error."""
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-c", statement], capture_output=True, check=False).returncode == 0


def same_origin() -> bool:
    """Whether .venv runs, belongs to this interpreter, and can install."""
    same = f"import os, sys; sys.exit(os.path.realpath(sys.base_prefix) != {origin()['base']!r})"
    return works(same) and works("import pip")


def make_venv(stamp: dict[str, object]) -> None:
    """A virtual environment fit to install into: the one that is there, if it is sound, or a new one."""
    moved = bool(stamp) and stamp.get("origin") != origin()
    if same_origin() and not moved and not stamp.get("unfinished"):
        return
    if VENV.exists():
        say(".venv is unfinished, moved, or another Python's: making it anew")
        shutil.rmtree(VENV)
    say(f"making .venv with Python {sys.version.split()[0]}")
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(f"set-up: no virtual environment could be made:\n{made.stdout}{made.stderr}")


def pip_install(*arguments: str) -> None:
    """Run pip silently but for a line of progress now and then; its whole output is shown only if it fails."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    environment = {**os.environ, "PIP_USER": "0", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [*command, *arguments], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output: list[str] = []
    collected, told_at = 0, time.monotonic()
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        collected += line.startswith(("Collecting ", "Processing "))
        if line.startswith("Installing collected") and collected:
            say(f"{collected} packages fetched, unpacking them: half a minute more")
            told_at = float("inf")  # nothing more to count
        elif time.monotonic() - told_at > PROGRESS_SECONDS:
            told_at = time.monotonic()
            say(f"{collected} packages so far")
    if process.wait():
        # An orderly failure leaves sound packages, so the next run goes on from here; only a killed one starts over.
        write_stamp(origin=origin())
        sys.stderr.writelines(output)
        sys.exit("set-up: pip failed, see above; run make again when the cause is gone")


def main(level: str) -> None:
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once take turns
        stamp = read_stamp()
        if is_current(stamp, level):
            return
        started = time.monotonic()
        make_venv(stamp)
        write_stamp(origin=origin(), unfinished=True)
        lock_file = LOCKS[level]
        count = sum("==" in line for line in (ROOT / lock_file).read_text(encoding="utf-8").splitlines())
        say(f"installing the {count} packages of {lock_file}; the first time this takes a minute or two")
        # Wheels only: building a package would fetch build tools that no hash vouches for.
        pip_install("--require-hashes", "--only-binary=:all:", "-r", lock_file)
        editable = (argument for project in PROJECTS for argument in ("--editable", f"./{project}"))
        pip_install("--no-deps", "--no-build-isolation", *editable)
        write_stamp(origin=origin(), inputs=inputs(level))
        say(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in LOCKS:
        sys.exit(f"usage: set_up.py {'|'.join(LOCKS)}")
    main(sys.argv[1])
