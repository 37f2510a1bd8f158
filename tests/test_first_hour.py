"""Run the commands and the code of the README, the quickstart and the API page, in the order of a new reader."""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refund_worker.client import Client
from refund_worker.settings import PREFIX
from tests.support.pages import DOCS, ROOT
from tests.support.processes import free_port

README, QUICKSTART, API = ROOT / "README.md", DOCS / "quickstart.md", DOCS / "api.md"
SECONDS_MAX = 120
BLOCKS = {
    page: re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for page in (README, QUICKSTART, API)
}


def block(page: Path, language: str, holding: str) -> str:
    """Return the one block of this page and language that holds this text."""
    (found,) = [text for kind, text in BLOCKS[page] if kind == language and holding in text]
    return found


def wait_for(path: Path, pattern: str, process: subprocess.Popen[bytes], times: int = 1) -> list[Any]:
    """Return all matches of `pattern` in the file, once there are at least `times` of them."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        found = re.findall(pattern, path.read_text("utf-8"))
        if len(found) >= times:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{pattern} did not come up in:\n{path.read_text('utf-8')}")


@dataclass
class Walk:
    """`make dev` as it runs in a folder, and the receiver of its notifications."""

    folder: Path
    environment: dict[str, str]
    ours: dict[str, str]  # text of the pages → its replacement in this test
    told: Path

    def adapted(self, text: str) -> str:
        for there, here in self.ours.items():
            text = text.replace(there, here)
        return text

    def run(self, *command: str) -> str:
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=SECONDS_MAX
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def shell(self, text: str) -> str:
        lines = [line for line in self.adapted(text).splitlines() if not line.startswith("export KEY")]
        return self.run("bash", "-euc", "\n".join(lines))

    def python(self, text: str) -> str:
        return self.run(sys.executable, "-c", self.adapted(text))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("hour")
    web, ear = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment["COLUMNS"] = "80"  # a narrow terminal: what is printed to be copied must stay in one piece
    environment[PREFIX + "NOTIFY_URL"] = f"http://127.0.0.1:{ear}/"
    environment[PREFIX + "NOTIFY_SECRET"] = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    said, told = folder / "said.txt", folder / "told.txt"
    dev = [sys.executable, "-m", "refund_worker", "dev", "--port", str(web)]
    receiver = block(API, "python", "serve_forever").replace("9000", str(ear))
    with said.open("wb") as out, told.open("wb") as heard:
        processes = [
            subprocess.Popen(dev, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True),
            subprocess.Popen([sys.executable, "-c", receiver], env=environment, stdout=heard, stderr=heard),
        ]
        try:
            (environment["KEY"],) = wait_for(said, r"API key .*?: (rw_\S+)", processes[0])
            environment |= dict(wait_for(said, rf"(?m)^export ({PREFIX}\w+)=(\S+)$", processes[0], 3))
            (broker,) = wait_for(said, r"send_task: (redis://\S+)", processes[0])
            program = f"{shlex.quote(sys.executable)} -m refund_worker "
            ours = {"127.0.0.1:8000": f"127.0.0.1:{web}", "redis://…": broker, "refund-worker ": program}
            yield Walk(folder, environment, ours, told)
        finally:
            os.killpg(processes[0].pid, signal.SIGHUP)  # as a terminal that is closed
            processes[1].send_signal(signal.SIGTERM)
            codes = [process.wait(SECONDS_MAX) for process in processes]
            assert codes[0] == 0, said.read_text()


def settled(client: Client, keys: list[str]) -> dict[str, Any]:
    """The refunds under these keys, once all of them are at their end."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        found = {key: next(client.refunds(idempotency_key=key), None) for key in keys}
        if all(refund and refund["status"] in ("succeeded", "failed") for refund in found.values()):
            return found
        time.sleep(0.2)
    raise AssertionError(found)


def requested(client: Client, key: str) -> Any:
    """The payout under this key, once it was accepted."""
    deadline = time.monotonic() + SECONDS_MAX
    while (found := next(client.payouts(idempotency_key=key), None)) is None:
        assert time.monotonic() < deadline, key
        time.sleep(0.2)
    return found


def test_every_block_of_code_is_run() -> None:
    """A new `sh` or `python` block needs its place in the tests below."""
    counts = {page.name: Counter(kind for kind, _ in blocks if kind) for page, blocks in BLOCKS.items()}
    assert counts == {
        "README.md": {"sh": 1, "python": 1},
        "quickstart.md": {"sh": 4},
        "api.md": {"python": 7},
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_hour_goes_as_the_pages_say(walk: Walk) -> None:
    bought = block(QUICKSTART, "sh", "bought 500 credits")
    assert "/v1/customers/mia/transactions" in bought
    walk.shell(bought)
    # A shell of its own for each block, so the helper that the first one made is made again.
    helper = next(line for line in bought.splitlines() if line.startswith("api()"))
    twice = walk.shell(f"{helper}\n{block(QUICKSTART, 'sh', 'the same request again')}")
    assert re.findall(r'"code":"(\w+)"', twice) == ["idempotency_key_reused", "exceeds_refundable"]
    walk.shell(f"{helper}\n{block(QUICKSTART, 'sh', 'leo')}")
    walk.python(block(API, "python", 'request_refund",'))
    walk.python(block(API, "python", "    request_refund("))
    assert walk.python(block(API, "python", "ApiError")) == ""
    walk.shell(block(README, "sh", "curl"))
    walk.python(block(README, "python", "Session(engine)"))

    url = walk.adapted("http://127.0.0.1:8000")
    with Client(url, walk.environment["KEY"]) as client:
        keys = ["ticket-1", "ticket-2", "ticket-4", "ticket-5", "ticket-6", "ticket-7", "ticket-8", "ticket-9"]
        found = settled(client, keys)
        assert {key: (refund["status"], refund["credits"]) for key, refund in found.items()} == {
            "ticket-1": ("succeeded", 60),
            "ticket-2": ("succeeded", 200),
            "ticket-4": ("succeeded", 40),
            "ticket-5": ("succeeded", 40),
            "ticket-6": ("succeeded", 50),
            "ticket-7": ("succeeded", 10),
            "ticket-8": ("succeeded", 10),
            "ticket-9": ("succeeded", 400),
        }
        legs = [(leg["processor_account"], leg["amount_minor"]) for leg in found["ticket-9"]["legs"]]
        assert legs == [("paypal", 3000), ("stripe", 1000)]
        assert found["ticket-2"]["amounts"] == [{"currency": "USD", "requested_minor": 2000, "succeeded_minor": 2000}]
        assert '"id":"' + found["ticket-2"]["id"] in twice
        assert next(client.refunds(idempotency_key="ticket-3"), None) is None
        assert client.customer("mia")["balance"] == 500 - 120 + 60 - 200 - 40 - 40 - 50 - 10 - 10
        walk.python(block(API, "python", 'request_payout",'))
        first = requested(client, "payout-1")
        said = walk.python(block(API, "python", " request_payout("))
        second = requested(client, "payout-2")
        assert (first["payee_id"], first["amount_minor"], first["description"]) == ("performer-ana", 1000, "November")
        assert (second["id"], second["amount_minor"], second["description"]) == (said.strip(), 3000, "")
    assert re.search(r"agrees +yes", walk.shell(block(QUICKSTART, "sh", "reconcile")))

    deadline = time.monotonic() + SECONDS_MAX
    while len(heard := re.findall(r"refund\.succeeded (ticket-\d)", walk.told.read_text())) < len(keys):
        assert time.monotonic() < deadline, walk.told.read_text()
        time.sleep(0.2)
    assert sorted(heard) == keys


@pytest.mark.slow
def test_the_fixture_of_the_api_page_works_in_a_suite_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_toy.py").write_text(block(API, "python", "def test_a_cancelled_order"), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_toy.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
