"""All files of deploy/ together: they name only settings that exist, and hold no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.deployment.names import PROJECT_VERSION, SECRET_FILES, SETTINGS
from tests.support.pages import ROOT

FILES = [
    *(file for file in sorted((ROOT / "deploy").rglob("*")) if file.is_file()),
    ROOT / "docker-compose.yml",
    ROOT / ".env.example",
]
# Forms of real secrets: Stripe's keys, our API keys, private keys, an URL with a password.
SECRET = re.compile(r"(sk|rk)_(test|live)_\w{8}|whsec_\w{8}|rw_[\w-]{43}|BEGIN [A-Z ]*PRIVATE|://[^\s:/]*:[^\s@%]+@")
PLACEHOLDER = re.compile(r"://[^\s:/]*:(PASSWORD|%s)@")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_name_only_settings_that_exist_and_no_secret(file: Path) -> None:
    text = file.read_text("utf-8")
    named = set(re.findall(r"REFUND_WORKER_[A-Z_]+(?<!_)", text))
    assert named <= SETTINGS | SECRET_FILES
    assert not SECRET.search(PLACEHOLDER.sub("", text))


def test_every_image_tag_is_the_projects_version() -> None:
    for file in FILES:
        for tag in re.findall(r"refund-worker[:}]+(?:\$\{IMAGE_TAG:-)?(\d[\w.]*)", file.read_text("utf-8")):
            assert tag == PROJECT_VERSION, file
