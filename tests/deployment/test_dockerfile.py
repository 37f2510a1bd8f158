"""deploy/Dockerfile and .dockerignore: a pinned base, packages by hash, no root, nothing but what is needed."""

from __future__ import annotations

import re
from importlib.metadata import version

from tests.image.dockerfile import FILE, Instruction, instructions_of
from tests.support.pages import ROOT

INSTRUCTIONS = instructions_of(FILE.read_text("utf-8"))
STAGES = [number for number, each in enumerate(INSTRUCTIONS) if each.name == "FROM"]
LAST = INSTRUCTIONS[STAGES[-1] :]


def named(name: str, among: list[Instruction] = INSTRUCTIONS) -> list[str]:
    return [each.value for each in among if each.name == name]


def test_base_is_an_exact_version_and_takes_a_digest() -> None:
    base, digest = named("ARG")
    assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert digest == "BASE_DIGEST="
    assert [each.split(" AS ")[0] for each in named("FROM")] == ["${BASE}${BASE_DIGEST:+@${BASE_DIGEST}}"] * 2


def test_packages_are_installed_by_hash_and_from_wheels_alone() -> None:
    installs = [part for run in named("RUN") for part in run.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert "--require-hashes --only-binary=:all: -r requirements.lock" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]
    for tool in ("curl", "wget", "apt-get", "git clone"):
        assert tool not in " ".join(named("RUN"))


def test_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    # Kubernetes can verify runAsNonRoot by a number only.
    assert named("USER", LAST) == ["10001:10001"]
    assert named("ENTRYPOINT", LAST) == ['["refund-worker"]']
    assert [each.name for each in LAST].index("USER") < [each.name for each in LAST].index("ENTRYPOINT")
    assert not any(re.search("SECRET|PASSWORD|API_KEY|TOKEN", each.value) for each in INSTRUCTIONS)


def test_context_holds_only_what_the_dockerfile_copies() -> None:
    copied = {name for value in named("COPY") if "--from" not in value for name in value.split()[:-1]}
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_header_builds_the_version_of_the_project() -> None:
    assert f"-t refund-worker:{version('refund-worker')} ." in FILE.read_text("utf-8")
