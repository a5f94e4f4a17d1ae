"""The processes of an installation, and how busy each role keeps the machine."""

from __future__ import annotations

import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import psutil

Shares = dict[str, float]
"""By role, how many cores it kept busy."""

CLIENT = "client"
LEAST = 0.005

_REPLICA = re.compile(r"ray::ServeReplica:([^:]+)")
_ROLES = ("nats-server", "haproxy", "raylet", "gcs_server", "ServeController", "VLLM")


class Processes:
    """What a process started, by role, and ourselves as the client."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    @contextmanager
    def watched(self) -> Iterator[Shares]:
        """How busy each role is inside the `with`; filled in when that ends."""
        shares: Shares = {}
        before, own, began = self._cpu(), time.process_time(), time.perf_counter()
        yield shares
        spent, after = time.perf_counter() - began, self._cpu()
        shares[CLIENT] = (time.process_time() - own) / spent
        shares.update({role: (after[role] - before.get(role, 0.0)) / spent for role in after})

    def _cpu(self) -> dict[str, float]:
        """CPU time of each role so far, in seconds."""
        used: defaultdict[str, float] = defaultdict(float)
        for process in [self._root, *self._root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                times = process.cpu_times()
                used[_role(" ".join(process.cmdline()))] += times.user + times.system
        return used


def typical(watched: Sequence[Shares]) -> Shares:
    """The median of each role, the busiest first; those that did next to nothing are left out."""
    roles = {role for shares in watched for role in shares}
    medians = {role: round(median(shares.get(role, 0.0) for shares in watched), 3) for role in roles}
    return {role: share for role, share in sorted(medians.items(), key=lambda m: -m[1]) if share >= LEAST}


def _role(command: str) -> str:
    if found := _REPLICA.match(command):
        return found[1]
    return next((role for role in _ROLES if role in command), "other")
