"""A certificate and signatures as PayPal's webhooks have them, made by the openssl command line.

Nothing here uses the code under test: openssl makes the key and each signature.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from refund_worker.processors.paypal.sandbox.signing import signed_headers

COMMON_NAME = "messageverificationcerts.sandbox.paypal.com"
SECONDS_MAX = 60


OPENSSL = shutil.which("openssl")
WITHOUT_OPENSSL = "openssl is not installed: it makes the signatures of these tests"


class Signer:
    """An RSA key with its certificate. Raises `FileNotFoundError` where openssl is not installed."""

    def __init__(self, *, bits: int = 2_048, common_name: str = COMMON_NAME, days: int = 3_650) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="paypal-signer-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._key, certificate = self._folder / "key.pem", self._folder / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-days", str(days), "-sha256"]
        subject = ["-subj", f"/C=US/O=PayPal, Inc./CN={common_name}"]
        files = ["-keyout", str(self._key), "-out", str(certificate)]
        subprocess.run([*command, *subject, *files], check=True, capture_output=True, timeout=SECONDS_MAX)
        self.certificate_pem = certificate.read_text("ascii")

    def sign(self, message: bytes) -> bytes:
        """Return openssl's RSA signature with SHA-256 of a message."""
        command = ["openssl", "dgst", "-sha256", "-sign", str(self._key)]
        return subprocess.run(command, input=message, check=True, capture_output=True, timeout=SECONDS_MAX).stdout

    def headers(
        self, body: bytes, *, webhook_id: str, at: float, certificate_url: str, transmission_id: str = "69cd13f0-d67a"
    ) -> dict[str, str]:
        """Return the headers, by lower-case name, of an event that is signed at `at` (epoch seconds)."""
        return signed_headers(
            self.sign,
            body,
            webhook_id=webhook_id,
            at=at,
            certificate_url=certificate_url,
            transmission_id=transmission_id,
        )


_lock = threading.Lock()
_signers: list[Signer] = []


def signer() -> Signer:
    """Return the key of this process's servers: making one takes a while. Any thread may call it."""
    with _lock:
        if not _signers:
            _signers.append(Signer())
        return _signers[0]
