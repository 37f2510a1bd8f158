"""Follow the instructions of deploy/Dockerfile in clean Debian roots.

Debian's own Python takes the place of the official image's, which is built on the same Debian. RUN sees pip's settings
of this machine and the folders that they name, because there is no other way to its packages. Their content is not in
the result.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.image.dockerfile import FILE, Instruction, instructions_of
from tests.image.roots import Root
from tests.support.pages import ROOT

IGNORED = {"LABEL", "EXPOSE", "CMD"}


class Build:
    """The stages of a build. `result` is the last one, with its environment, folder and user."""

    def __init__(self, folder: Path, base: Path) -> None:
        self._folder, self._base = folder, base
        self._stages: list[Root] = []
        self._names: dict[str, Root] = {}
        self.entrypoint: list[str] = []

    @property
    def result(self) -> Root:
        """The stage that the last instruction left."""
        return self._stages[-1]

    def run(self) -> None:
        """Follow all instructions. Raises `RuntimeError` for a step that fails or an instruction that is unknown."""
        for each in instructions_of(FILE.read_text("utf-8")):
            if each.name not in IGNORED and not (each.name == "ARG" and not self._stages):
                print(f"  {each.name} {each.value[:100]}", flush=True)
                self._follow(each)

    def _follow(self, instruction: Instruction) -> None:
        name, value = instruction
        if name == "FROM":
            self._begin_stage(value.partition(" AS ")[2])
        elif name == "RUN":
            shown, variables = access_of_pip()
            stage = replace(self.result, shown=shown, environment={**self.result.environment, **variables})
            stage.run(["/bin/sh", "-c", value])
        elif name == "COPY":
            self._copy(value.split())
        elif name == "ENV":
            self._change(environment={**self.result.environment, **self._variables(value)})
        elif name == "WORKDIR":
            (self.result.folder / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            self._change(workdir=value)
        elif name == "USER":
            self._change(user=value)
        elif name == "ENTRYPOINT":
            self.entrypoint = json.loads(value)
        else:
            raise RuntimeError(f"the instruction {name} is not known here")

    def _begin_stage(self, name: str) -> None:
        folder = self._folder / f"stage-{len(self._stages)}"
        subprocess.run(["cp", "-a", "--reflink=auto", str(self._base), str(folder)], check=True)
        self._stages.append(Root(folder))
        self._names[name] = self.result

    def _change(self, **changes: object) -> None:
        stage = replace(self.result, **changes)  # type: ignore[arg-type]
        self._names = {name: stage if root is self.result else root for name, root in self._names.items()}
        self._stages[-1] = stage

    def _variables(self, value: str) -> dict[str, str]:
        known = self.result.environment
        pairs = (part.partition("=") for part in shlex.split(value))
        return {name: re.sub(r"\$(\w+)", lambda m: known.get(m[1], ""), text) for name, _, text in pairs}

    def _copy(self, words: list[str]) -> None:
        options = [word for word in words if word.startswith("--")]
        *sources, target = (word for word in words if not word.startswith("--"))
        context = ROOT
        for option in options:
            name, _, value = option.partition("=")
            if name != "--from":
                raise RuntimeError(f"the option {name} of COPY is not known here")
            context = self._names[value].folder
        inside = self.result.folder / str(Path(self.result.workdir, target)).lstrip("/")
        for source in sources:
            path = context / source.lstrip("/")
            if path.is_dir():
                shutil.copytree(
                    path, inside, symlinks=True, dirs_exist_ok=True, ignore=ignored if context == ROOT else None
                )
            else:
                into_folder = target.endswith("/") or len(sources) > 1
                shutil.copy(path, inside / path.name if into_folder else inside)


def ignored(_folder: str, names: list[str]) -> list[str]:
    """Return the names that .dockerignore leaves out below a folder."""
    return [name for name in names if name == "__pycache__"]


def access_of_pip() -> tuple[dict[str, Path], dict[str, str]]:
    """Return what lets pip in a root reach the packages that it reaches here: files to show, and variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True, check=True
    ).stdout
    files = [Path(name) for name in re.findall(r"^\s+(/\S+), exists: True$", listed, re.MULTILINE)]
    files += [Path(name) for name in ("/etc/resolv.conf", "/etc/hosts")]
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name.lower() in ("http_proxy", "https_proxy", "no_proxy", "ssl_cert_file")
    }
    values = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    for name in re.findall(r"(?:file://)?(/[^\s'\"]+)", re.sub(r"https?://\S+", "", values)):
        path = Path(name)
        # A repository's folder may be named by the list of its packages.
        files.append(path.parent if path.name == "simple" else path)
    return {str(path): path.resolve() for path in files if path.exists()}, variables


def access_of_apt() -> dict[str, Path]:
    """Return the files that let apt in a root reach the packages that it reaches here."""
    files = [Path("/etc/resolv.conf"), Path("/etc/hosts"), *sorted(Path("/etc/apt/apt.conf.d").glob("*"))]
    return {str(path): path.resolve() for path in files if path.is_file()}
