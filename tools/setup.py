"""Make `.venv`: what the lock for this kind of machine names, and this project on top. `make setup` runs it.

Only the standard library is used, as nothing else is there yet. A second run finds its stamp and does nothing, so it
needs no network. A run that does not finish leaves no `.venv` behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "headrace.stamp"

CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch's own builds for CPU are; PyPI has only those for CUDA."""

COME_TO = ("Collecting ", "Processing ")
"""How pip's lines about a package begin: one from an index, one from a file."""


class SetupError(Exception):
    """The environment cannot be made. The message says what to do."""


def main() -> None:
    lock = ROOT / "locks" / f"{_kind()}.txt"
    environment, project = _digest(lock), _digest(ROOT / "pyproject.toml")
    with _alone():
        made, installed = _stamp()
        if made != environment:
            with _whole_or_nothing():
                _make(lock)
                _install_project()
                STAMP.write_text(f"{environment} {project}")
        elif installed != project:
            _install_project()
            STAMP.write_text(f"{environment} {project}")


def _kind() -> str:
    """`gpu` where an NVIDIA GPU answers, else `cpu`."""
    try:
        answer = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if answer.returncode == 0 and answer.stdout.startswith(b"GPU ") else "cpu"


def _digest(file: Path) -> str:
    """What `.venv` is made from: the file's bytes, where it stands (scripts hold their own path), and the Python."""
    of = f"{file}\n{platform.python_version()}\n".encode() + file.read_bytes()
    return hashlib.sha256(of).hexdigest()


def _stamp() -> tuple[str, str]:
    """What the `.venv` that is there was made from; empty when there is none that is finished and has its Python."""
    try:
        made, installed = STAMP.read_text().split()
    except (OSError, ValueError):
        return "", ""
    return (made, installed) if PYTHON.exists() else ("", "")


def _make(lock: Path) -> None:
    _say(f"Making .venv with Python {platform.python_version()} from {lock.relative_to(ROOT)} (some minutes, once)")
    try:
        venv.create(VENV, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError as error:
        raise SetupError(
            "This Python cannot make a virtual environment; on Debian and Ubuntu install python3-venv."
        ) from error
    if lock.stem == "cpu":
        _install_cpu_torch(lock)
    _pip_install("--no-deps", "--requirement", str(lock), packages=len(_pins(lock)))


def _install_cpu_torch(lock: Path) -> None:
    """Install torch first when pip's own settings do not know its CPU build: PyTorch's index, for torch and only it."""
    torch = next(pin for pin in _pins(lock) if pin.startswith("torch=="))
    probe = [str(PYTHON), "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", torch]
    if subprocess.run(probe, capture_output=True).returncode != 0:
        _pip_install("--no-deps", "--index-url", CPU_TORCH_INDEX, torch, packages=1)


def _install_project() -> None:
    _pip_install("--no-deps", "--no-build-isolation", "--editable", str(ROOT), packages=1)


def _pins(lock: Path) -> list[str]:
    return [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]


def _pip_install(*arguments: str, packages: int) -> None:
    """Run `pip install`, showing which of the packages it has come to. Raises SetupError with pip's own words."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                said.append(line)
                _show_progress(line, sum(line.startswith(COME_TO) for line in said), packages)
        except BaseException:
            pip.kill()
            raise
    if pip.returncode != 0:
        _show("")
        raise SetupError(_reason(said))


def _show_progress(line: str, collected: int, packages: int) -> None:
    if line.startswith(COME_TO):
        _show(f"  {collected} of {packages}: {Path(line.split()[1]).name}")
    elif line.startswith("Installing collected "):
        _show(f"  installing {collected or packages} …", last=True)


def _reason(said: Sequence[str]) -> str:
    errors = [line.strip() for line in said if line.startswith("ERROR")] or [line.strip() for line in said[-5:]]
    return "\n".join(["pip could not install what the lock names:", *errors, "Is the package index reachable?"])


def _show(line: str, *, last: bool = False) -> None:
    """Progress: one line that changes on a terminal; elsewhere only where it stands in the end."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        sys.stderr.flush()
    elif last:
        _say(line)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the project's folder against a second setup; the kernel lets go of it however this process ends."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _whole_or_nothing() -> Iterator[None]:
    """Begin without a `.venv`; end without one if the body does not finish."""
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(VENV, ignore_errors=True)
        raise


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - make may have been given an older one
        sys.exit("Headrace needs Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3.11")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        main()
    except SetupError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
