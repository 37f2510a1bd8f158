"""A real browser and a real server: an installed chromium, else Debian's package, else Playwright's own."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, Error, Playwright

from refund_worker.settings import Settings
from refund_worker.web.app import create_app

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-dev-shm-usage"]
# Required packages include a font with Latin letters; the recommended ones are for desktops.
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=120", "-qq")
INSTALL_SECONDS_MAX = 240
START_SECONDS_MAX = 20.0


# Failures of this process, so that each test file does not try again.
_failed: list[str] = []


class NoBrowser(Exception):
    """No browser is there and none can be installed; the message says what was tried and why it failed."""


def launch(playwright: Playwright) -> Browser:
    """Start a headless chromium. Raises `NoBrowser`."""
    path = os.environ.get("TEST_CHROMIUM") or _found()
    if not path and not _failed:
        path = _installed(_from_debian) or _installed(lambda: _own(playwright))
    if path:
        try:
            return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error as error:
            _failed.append(f"{path} does not start: {str(error).strip().splitlines()[0]}")
    raise NoBrowser("; ".join(["no chromium that runs", *_failed]))


def _found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def _installed(install: Callable[[], str | None]) -> str | None:
    """Install a browser in one test process; the others wait and use it."""
    with (Path(tempfile.gettempdir()) / f"refund-worker-chromium-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _found() or install()


def _from_debian() -> str | None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        _failed.append("Debian's package is for root on a Debian")
        return None
    update, install = (*APT, "update"), (*APT, "install", "-y", "--no-install-recommends", "chromium")
    return _found() if _runs(update) and _runs(install) else None


def _own(playwright: Playwright) -> str | None:
    """Return Playwright's own browser, which is stored in a folder of the user."""
    path = Path(playwright.chromium.executable_path)
    return str(path) if path.exists() or _runs((sys.executable, "-m", "playwright", "install", "chromium")) else None


def _runs(command: Sequence[str]) -> bool:
    """Return True if the command succeeds; otherwise record how it failed."""
    said = f"`{' '.join('python' if part == sys.executable else part for part in command)}`"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS_MAX, env=environment)
    except subprocess.TimeoutExpired:
        _failed.append(f"{said} took more than {INSTALL_SECONDS_MAX} s")
        return False
    except OSError as error:
        _failed.append(f"{said}: {error}")
        return False
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).decode(errors="replace").splitlines()]
        # Both commands report the error in one line among others.
        why = next((line for line in lines if line.startswith(("E:", "Error"))), lines[-1] if lines else "no word")
        _failed.append(f"{said} ended with {done.returncode}: {why[:200]}")
    return done.returncode == 0


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """Serve the application on a free port of 127.0.0.1 and give its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(create_app(settings), log_level="error", access_log=False, lifespan="on", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS_MAX
        while not server.started:
            assert thread.is_alive(), "the server ended early"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(15)


class Aside:
    """Runs work in another thread: Playwright uses this thread's event loop, and our code needs its own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)

    def do(self, work, *arguments, seconds=60, **named):  # type: ignore[no-untyped-def]
        return self._pool.submit(work, *arguments, **named).result(seconds)

    def close(self) -> None:
        self._pool.shutdown()
