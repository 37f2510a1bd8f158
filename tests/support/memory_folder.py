"""A folder in memory for what the tests write: databases, servers' data, files.

Most of the tests' time on a disk is waiting for its writes. A test that crashes a server crashes its process, not the
machine, so the kernel's memory keeps as much as a disk would.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
FREE_BYTES_MIN = 4 * 1024**3


def use_memory_folder(folder: Path = SHARED_MEMORY) -> bool:
    """Let this process and its children write temporary files to `folder`, and return True.

    Without effect, and False, if TMPDIR is set, or if the folder is missing, small, or holds no programs (`noexec`).
    """
    if os.environ.get("TMPDIR") or not folder.is_dir() or not os.access(folder, os.W_OK):
        return False
    facts = os.statvfs(folder)
    if facts.f_bavail * facts.f_frsize < FREE_BYTES_MIN or facts.f_flag & os.ST_NOEXEC:
        return False
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # so that the environment is read again
    return True
