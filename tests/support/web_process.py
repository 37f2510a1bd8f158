"""The web as a process of its own, or as several behind one socket."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import httpx

from refund_worker.settings import PREFIX
from tests.support.processes import ServerProcess

WEBHOOK_SECRET = "whsec_for_this_test"
SERVE = """
import sys
from refund_worker.settings import load_settings
from refund_worker.web.run import run_web
if __name__ == "__main__":
    sys.exit(run_web(load_settings(), int(sys.argv[1]), workers=int(sys.argv[2])))
"""


class WebProcess(ServerProcess):
    """Serves the database at `url` from `workers` processes; `settings` as in the environment, without the prefix."""

    # Several processes of Python, each with all its imports, on a machine that runs other tests beside them.
    start_seconds_max = 120

    def __init__(self, url: str, workers: int = 1, **settings: str) -> None:
        super().__init__("web")
        self._workers = workers
        self._settings = {"DATABASE_URL": url, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET, **settings}
        (self.folder / "serve.py").write_text(SERVE, encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [sys.executable, str(self.folder / "serve.py"), str(self.port), str(self._workers)]

    def environment(self) -> Mapping[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return others | {PREFIX + name: value for name, value in self._settings.items()}

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False
