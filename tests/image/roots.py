"""Programs inside another root folder: chroot in a mount namespace of their own, which ends with the program."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# What every container has, without our environment variables.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Root:
    """A root folder, and how a program in it sees the world.

    `shown` maps paths in the root to files and folders of this machine, which appear there read-only. `memory` lists
    folders that are in memory and belong to the program's user. With `read_only` everything else is so too.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))
    workdir: str = "/"
    user: str = "0:0"
    shown: Mapping[str, Path] = field(default_factory=dict)
    memory: Sequence[str] = ()
    writable: Mapping[str, Path] = field(default_factory=dict)
    read_only: bool = False

    def command(self, program: Sequence[str]) -> list[str]:
        """Return the command that replaces itself by the program, so that its process id is the program's."""
        root = shlex.quote(str(self.folder))
        steps = ["set -e", f"mount --bind {root} {root}"]
        for place, path in {**self.shown, **self.writable}.items():
            inside = self.folder / place.lstrip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                inside.mkdir(exist_ok=True)
            elif not inside.exists():
                inside.touch()
        steps += [f"mount --rbind /{name} {root}/{name}" for name in ("proc", "dev")]
        if self.read_only:
            steps.append(f"mount -o remount,bind,ro {root}")
        for place, path in self.shown.items():
            target = shlex.quote(str(self.folder / place.lstrip("/")))
            steps += [f"mount --bind {shlex.quote(str(path))} {target}", f"mount -o remount,bind,ro {target}"]
        for place, path in self.writable.items():
            steps.append(f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(self.folder / place.lstrip('/')))}")
        uid, _, gid = self.user.partition(":")
        for place in self.memory:
            steps.append(f"mount -t tmpfs -o uid={uid},gid={gid},mode=0700 tmpfs {root}{place}")
        variables = " ".join(shlex.quote(f"{name}={value}") for name, value in self.environment.items())
        drop = f"setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        prefix = "" if self.user == "0:0" else f"{drop} --"
        inner = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(program)}"
        steps.append(f"exec chroot {root} {prefix} /usr/bin/env -i {variables} /bin/sh -c {shlex.quote(inner)}")
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(steps)]

    def run(self, program: Sequence[str], seconds: float = 900) -> str:
        """Run a program to its end and return its output. Raises `RuntimeError` with the output if it fails."""
        done = subprocess.run(self.command(program), capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(program)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def start(self, program: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program and return its process."""
        return subprocess.Popen(self.command(program), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def run_beside(self, process: subprocess.Popen[bytes], program: Sequence[str]) -> int:
        """Run a program as `docker exec` does: with the mounts and the root of a running one. Return its exit code."""
        uid, _, gid = self.user.partition(":")
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        inner = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(program)}"
        command = ["nsenter", "--target", str(process.pid), "--mount", "--root", "--setgid", gid, "--setuid", uid]
        done = subprocess.run(
            [*command, "/usr/bin/env", "-i", *variables, "/bin/sh", "-c", inner],
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode


def make_debian(folder: Path, suite: str, packages: Sequence[str]) -> None:
    """Make a Debian root with debootstrap, from the mirror that this machine's apt uses. It may take some minutes."""
    part = folder.with_name(folder.name + ".part")
    subprocess.run(["rm", "-rf", "--one-file-system", str(part)], check=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(part)]
    with (folder.parent / "debootstrap.log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=dict(os.environ), timeout=1800, check=False)
    if done.returncode:
        raise RuntimeError(f"debootstrap failed: see {folder.parent / 'debootstrap.log'}")
    part.rename(folder)
