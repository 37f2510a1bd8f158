"""The web server as a separate process, or as several behind one socket."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

import httpx

from refund_worker.settings import PREFIX
from tests.support.processes import ServerProcess

WEBHOOK_SECRET = "whsec_for_this_test"
SERVE = """
import json, sys
from refund_worker.settings import load_settings
from refund_worker.web.http_protocol import Limits
from refund_worker.web.server import run_web
if __name__ == "__main__":
    port, workers, limits = map(json.loads, sys.argv[1:])
    sys.exit(run_web(load_settings(), port, workers=workers, limits=Limits(**limits)))
"""


class WebProcess(ServerProcess):
    """Serves the database at `url` from `workers` processes.

    `settings` are named as in the environment, without the prefix.

    `limits` overrides fields of `Limits`, for example with shorter deadlines.
    """

    # Several Python processes, each with all its imports, on a machine that runs other tests at the same time.
    start_seconds_max = 120

    def __init__(self, url: str, workers: int = 1, limits: Mapping[str, float] | None = None, **settings: str) -> None:
        super().__init__("web")
        self._workers, self._limits = workers, dict(limits or {})
        self._settings = {"DATABASE_URL": url, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET, **settings}
        (self.folder / "serve.py").write_text(SERVE, encoding="utf-8")

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command that serves on our port."""
        script = str(self.folder / "serve.py")
        return [sys.executable, script, str(self.port), str(self._workers), json.dumps(self._limits)]

    def environment(self) -> Mapping[str, str]:
        """Return our environment, with only the given settings of refund-worker."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return others | {PREFIX + name: value for name, value in self._settings.items()}

    def answers(self) -> bool:
        """Return True if the server is ready."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False
