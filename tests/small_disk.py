"""A disk of its own for a test, small enough to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE = 192 << 20


class SmallDisk:
    """An ext4 file system in a file, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.path).free

    def fill(self, *, leave: int) -> None:
        """Take all of it but so many bytes."""
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free - leave)

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A mounted disk; the test is skipped where nobody may mount one."""
    image, path = tmp_path / "disk.img", tmp_path / "disk"
    path.mkdir()
    image.touch()
    os.truncate(image, SIZE)
    commands: list[list[str | Path]] = [
        ["mkfs.ext4", "-q", "-m", "0", image],
        ["mount", "-o", "loop", image, path],
    ]
    for command in commands:
        try:
            made = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no disk to fill can be made here: {error}")
        if made.returncode:
            pytest.skip(f"no disk to fill can be made here: {made.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
