"""`make setup`, on a project so small that it needs no network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools import setup

ROOT = Path(__file__).resolve().parent.parent.parent

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1"
"""

BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/small-1-py3-none-any.whl", "w") as wheel:
        for name, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n",
            "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"small-1.dist-info/{name}", text)
    return "small-1-py3-none-any.whl"
"""


class Project:
    """A folder with the setup of ours, on a machine with a GPU: the GPU's lock needs nothing of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / ".venv"
        for name in ("tools", "locks", "bin"):
            (folder / name).mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "setup.py", folder / "tools")
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "backend.py").write_text(BACKEND)
        self.need("gpu")
        nvidia_smi = folder / "bin" / "nvidia-smi"
        nvidia_smi.write_text("#!/bin/sh\necho 'GPU 0: one of them'\n")
        nvidia_smi.chmod(0o755)

    def need(self, kind: str, *pins: str) -> None:
        (self.folder / "locks" / f"{kind}.txt").write_text("\n".join(["# pinned", *pins, ""]))

    def start(self, **environment: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PIP_NO_INDEX": "1", **environment}
        command = [sys.executable, "tools/setup.py"]
        return subprocess.Popen(command, cwd=self.folder, env=env, stderr=subprocess.PIPE, text=True)

    def set_up(self, **environment: str) -> tuple[int, str]:
        """Run it to its end: the exit status, and what it said."""
        process = self.start(**environment)
        _, said = process.communicate(timeout=100)
        return process.returncode, said


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_second_run_does_nothing_and_a_changed_lock_begins_anew(project: Project) -> None:
    assert project.set_up()[0] == 0
    (project.venv / "left").touch()
    assert project.set_up() == (0, "")
    assert (project.venv / "left").exists()
    project.need("gpu", "# another version")
    status, said = project.set_up()
    assert status == 0
    assert "locks/gpu.txt" in said
    assert not (project.venv / "left").exists()


def test_an_install_that_fails_says_why_and_leaves_no_venv(project: Project) -> None:
    project.need("gpu", "no-such-package==1.0")
    status, said = project.set_up()
    assert status == 1
    assert "no-such-package==1.0" in said
    assert not project.venv.exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_venv(project: Project, stop: signal.Signals) -> None:
    project.need("gpu", "never-answered==1.0")
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.settimeout(50)
        process = project.start(PIP_NO_INDEX="0", PIP_INDEX_URL=f"http://127.0.0.1:{index.getsockname()[1]}")
        connection, _ = index.accept()
        assert project.venv.exists()
        process.send_signal(stop)
        process.communicate(timeout=50)
        connection.close()
    assert process.returncode == 130
    assert not project.venv.exists()


@pytest.mark.parametrize(("known", "indexes"), [(True, []), (False, [setup.CPU_TORCH_INDEX])])
def test_pytorchs_index_is_asked_only_where_pip_does_not_know_the_cpu_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool, indexes: list[str]
) -> None:
    lock = tmp_path / "cpu.txt"
    lock.write_text("# pinned\nother==1\ntorch==2.13.0+cpu\n")
    asked: list[str] = []

    def pip_install(*arguments: str, packages: int) -> None:
        assert arguments[-1] == "torch==2.13.0+cpu"
        asked.append(arguments[arguments.index("--index-url") + 1])

    def probe(command: list[str], capture_output: bool) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 0 if known else 1)

    monkeypatch.setattr(setup, "_pip_install", pip_install)
    monkeypatch.setattr(subprocess, "run", probe)
    setup._install_cpu_torch(lock)
    assert asked == indexes


def test_every_pin_of_the_locks_is_exact() -> None:
    for lock in (ROOT / "locks").glob("*.txt"):
        assert all(pin.count("==") == 1 for pin in setup._pins(lock))
