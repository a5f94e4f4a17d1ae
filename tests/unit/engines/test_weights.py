"""How much of a model's weights a process has read is seen from outside; the process here is a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from actors.engines.weights import Weights

SIZE = 16 << 20
NEARLY = 0.02
"""The kernel maps what lies around a page, too."""

READER = """
import mmap, sys
name, share = sys.argv[1], float(sys.argv[2])
with open(name, "rb") as file:
    weights = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(weights[at] for at in range(0, int(len(weights) * share), 4096))
    print("read", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten files in whose order nobody is to go by the letter."""
    made = [tmp_path / f"model-{n}-of-10.safetensors" for n in range(1, 11)]
    for file in made:
        with file.open("wb") as empty:
            empty.truncate(SIZE)
    return made


@contextmanager
def reader(file: Path, share: float) -> Iterator[psutil.Process]:
    """The parent of a process that has read so much of a file."""
    command = [sys.executable, "-c", READER, str(file), str(share)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reading:
        assert reading.stdout
        assert reading.stdout.readline() == b"read\n"
        yield psutil.Process()
        reading.communicate()


@pytest.mark.parametrize(("at", "share", "done"), [(0, 0.5, 0.05), (1, 1.0, 0.2), (9, 0.5, 0.95), (9, 1.0, 1.0)])
def test_a_load_is_as_far_as_its_last_file_was_read(files: list[Path], at: int, share: float, done: float) -> None:
    weights = Weights.of(str(files[0].parent))
    assert weights.size == 10 * SIZE
    with reader(files[at], share) as process:
        assert weights.read_by(process) == pytest.approx(done, abs=NEARLY)
    assert weights.read_by(process) is None


def test_nothing_is_known_of_a_model_without_such_files(tmp_path: Path, files: list[Path]) -> None:
    with reader(files[0], 1.0) as process:
        assert Weights.of(str(tmp_path / "elsewhere")).read_by(process) is None


def a_safetensors(size: int) -> bytes:
    """A file of weights with one tensor of so many bytes."""
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "U8", "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


@pytest.mark.parametrize("there", [1_000, 60, 4])
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, there: int) -> None:
    file, whole = tmp_path / "model.safetensors", a_safetensors(2_000)
    file.write_bytes(whole)
    assert Weights.of(str(tmp_path)).mistake is None
    file.write_bytes(whole[:there])
    assert f"{file} has {there:,} bytes and should have" in (Weights.of(str(tmp_path)).mistake or "")
