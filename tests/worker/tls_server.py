"""A TLS server with a certificate of localhost or of another host. It records what clients send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
HERE, ANOTHER = "localhost", "other.example"
SILENT_SECONDS = 1.0


def _amqp_start() -> bytes:
    """Return Connection.Start of AMQP 0-9-1: no properties, PLAIN, en_US.

    A client that receives it answers with name and password.
    """
    words = b"".join(struct.pack(">I", len(word)) + word for word in (b"PLAIN", b"en_US"))
    method = struct.pack(">HHBBI", 10, 10, 0, 9, 0) + words
    return struct.pack(">BHI", 1, 0, len(method)) + method + b"\xce"


class TlsServer:
    """Listens on a free port of 127.0.0.1.

    `received` is everything that came through TLS, from all clients. No login succeeds.
    """

    def __init__(self, certificate: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(CERTIFICATES / f"{certificate}.pem", CERTIFICATES / "server.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.received, self.clients = b"", 0
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.clients += 1
            client.settimeout(SILENT_SECONDS)
            with client, contextlib.suppress(OSError), self._context.wrap_socket(client, server_side=True) as secure:
                self._hear(secure)

    def _hear(self, client: ssl.SSLSocket) -> None:
        first = client.recv(4096)
        self.received += first
        if first.startswith(b"AMQP"):
            client.sendall(_amqp_start())
            self.received += client.recv(4096)
        else:
            client.sendall(b"-ERR nobody is let in\r\n" * 3)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
