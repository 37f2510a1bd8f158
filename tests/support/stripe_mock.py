"""stripe-stateful-mock, a third party's imitation of Stripe, as a separate process.

It tests our adapter against code that is not ours. It imitates idempotent replay and mismatch, refunds above the
charge, charge_already_refunded, charge_disputed and paging. It does not imitate PaymentIntents, pending or failed
refunds, webhooks, or keys that expire. It speaks Stripe's API of 2020.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from tests.support.processes import ServerProcess

FOLDER = Path(__file__).parent.parent / "thirdparty"
STAMP = FOLDER / "node_modules" / ".installed-lock"
INSTALL_SECONDS_MAX = 180
API_KEY = "sk_test_third_party"

# The package's own command listens on every address of the machine.
SERVE = "require('stripe-stateful-mock').createExpressApp().listen(Number(process.argv[1]), '127.0.0.1')"


class ThirdPartyMissing(RuntimeError):
    """The third party's server is not available on this machine. The message contains the reason."""


def install() -> None:
    """Install what package-lock.json pins by hash, unless it is installed already.

    Raise `ThirdPartyMissing` on failure.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise ThirdPartyMissing(f"{program} is not installed")
    wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    with (FOLDER / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test process at a time
        if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
            return
        try:
            subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=FOLDER,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS_MAX,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise ThirdPartyMissing(f"npm could not fetch it: {' '.join(error.stderr.split())[:300]}") from error
        except subprocess.TimeoutExpired as error:
            raise ThirdPartyMissing(f"npm took more than {INSTALL_SECONDS_MAX} s to fetch it") from error
        STAMP.write_text(wanted, encoding="utf-8")


class ThirdPartyStripe(ServerProcess):
    """The running server: `base_url` for an adapter, `create_charge` for a charge to refund."""

    api_key = API_KEY

    def __init__(self) -> None:
        install()
        super().__init__("stripe-stateful-mock")
        self._client = httpx.Client(base_url=self.base_url, auth=(API_KEY, ""), timeout=10, trust_env=False)

    @property
    def base_url(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command that serves on our port of 127.0.0.1."""
        node = shutil.which("node")
        assert node is not None
        return [node, "--eval", SERVE, str(self.port)]

    def environment(self) -> Mapping[str, str]:
        """Return our environment, with the folder of the installed package."""
        return {**os.environ, "NODE_PATH": str(FOLDER / "node_modules")}

    def answers(self) -> bool:
        """Return True if the server answers."""
        try:
            return self._client.get("/").is_success
        except httpx.TransportError:
            return False

    def create_charge(self, amount_minor: int, currency: str = "gbp") -> str:
        """Create a payment with a test card. Return its id, `ch_…`."""
        return self._charge(amount_minor, currency, "tok_visa")

    def create_disputed_charge(self, amount_minor: int, currency: str = "gbp") -> str:
        """Create a payment that the card holder disputes at once. Return its id, `ch_…`."""
        return self._charge(amount_minor, currency, "tok_createDispute")

    def refunds(self, charge_id: str) -> list[dict[str, object]]:
        """Return the refund objects of a charge from the server's own book, newest first (at most 100)."""
        answer = self._client.get("/v1/refunds", params={"charge": charge_id, "limit": "100"})
        answer.raise_for_status()
        data: list[dict[str, object]] = answer.json()["data"]
        return data

    def close(self) -> None:
        """Close the client and end the server."""
        self._client.close()
        super().close()

    def _charge(self, amount_minor: int, currency: str, source: str) -> str:
        form = {"amount": str(amount_minor), "currency": currency, "source": source}
        answer = self._client.post("/v1/charges", data=form)
        answer.raise_for_status()
        charge_id: str = answer.json()["id"]
        return charge_id
