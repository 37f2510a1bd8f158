"""Run a command that ends when its parent does: `python kill_on_exit.py SIGNAL UID:GID PARENT_PID command …`.

A killed test run executes no `finally` that would stop its servers. On Linux the kernel then sends SIGNAL instead. On
other systems only an orderly end stops them. The command runs as UID:GID, or as the current user if that is `-`.

This is a separate script that uses only the standard library, because preexec_fn is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(signal_name: str, identity: str, parent: str, *command: str) -> None:
    """Arrange the signal, change the user, and replace this process with the command."""
    if identity != "-":
        uid, gid = (int(part) for part in identity.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user, because that clears the setting.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.Signals[signal_name]), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent ended before its child began")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
