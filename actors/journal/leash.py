"""A program that becomes another one and is stopped when its parent dies: this is the leash around a child.

Run as a script, `python -I -S leash.py <parent's pid> <program> <arguments…>`: code of ours between fork and exec could
deadlock in a parent with threads. The kernel counts the thread that forked as the parent, so that thread must live as
long as the child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def run(parent: int, command: list[str]) -> None:
    """Become `command`, which gets SIGTERM when `parent` dies (on Linux; elsewhere there is no such signal)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent died before its child began")
    os.execv(command[0], command)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2:])
