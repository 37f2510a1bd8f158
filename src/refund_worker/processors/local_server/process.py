"""A server for tests as a separate process, controlled over its own endpoints."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0


class LocalServerError(Exception):
    """The server did not start, or refused a control request. The message contains the reason."""


class LocalServer:
    """A server on 127.0.0.1: `with LocalServer(…) as server: … server.url`.

    The process ends with the block, and also if the process that started it dies. `program` is the module that serves;
    it takes `--port` and `--until-stdin-closes`, and prints a line with its address once it listens. `options` are its
    other arguments, `environment` its variables (default: ours). Raises `FAULT`, the subclass's own error.
    """

    TITLE: ClassVar[str]
    FAULT: ClassVar[type[LocalServerError]]

    def __init__(
        self, program: str, port: int, options: list[str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self._command = [sys.executable, "-m", program, "--until-stdin-closes"]
        self._options = options
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end. It stays the same over a restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process. Raises `FAULT` if it is not running."""
        if self._process is None:
            raise self.FAULT(f"{self.TITLE} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it listens. Raises `FAULT` if it does not."""
        process = subprocess.Popen(
            [*self._command, "--port", str(self.port), *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C is for the process that started it, which still needs its answers
        )
        assert process.stdout is not None
        alarm = threading.Timer(START_SECONDS_MAX, process.kill)
        alarm.start()
        try:
            line = process.stdout.readline()
        finally:
            alarm.cancel()
        self._process = process
        if "listening on" not in line:
            self.kill()
            raise self.FAULT(f"{self.TITLE} did not start; its standard error says why")
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self) -> None:
        """Stop the process in order (SIGTERM), or kill it if it does not end."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """Kill the process at once (SIGKILL), as a crash would. `start` starts it again on the same port."""
        self._end(subprocess.Popen.kill)

    def close(self) -> None:
        """Stop the process, and remove what belongs to it."""
        self.stop()

    def _end(self, how: Callable[[subprocess.Popen[str]], None]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a control request and return its answer. Raises `FAULT` with the reason if it is refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            reply: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise self.FAULT(str(reply["error"]["message"]))
        return reply
