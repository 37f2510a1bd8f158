"""Run a command that ends when its parent does: `python kill_on_exit.py SIGNAL UID:GID PARENT_PID command …`.

A test run that is killed leaves no `finally` to stop its servers; on Linux the kernel then sends SIGNAL in its place.
Elsewhere only an orderly end stops them. UID:GID, or `-` to stay who we are, is given up before the command starts. It
runs as a script by itself, with the standard library only, because preexec_fn is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(signal_name: str, identity: str, parent: str, *command: str) -> None:
    if identity != "-":
        uid, gid = (int(part) for part in identity.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user, which would clear it again.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.Signals[signal_name]), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent ended before its child began")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
