"""A disk of its own for a test: a file system in a file, which can be filled, and whose power can be cut."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SMALL = 192 << 20


class Disk:
    """An ext4 file system in the file `image`, mounted at `path`."""

    def __init__(self, image: Path, path: Path) -> None:
        self.path = path
        self._image = image
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

    def freeze(self) -> Path:
        """What is on the disk right now, without what is still on its way there."""
        copy = self._image.with_name(f"cut-{secrets.token_hex(4)}.img")
        subprocess.run(["cp", "--sparse=always", self._image, copy], check=True)
        return copy

    def come_back_as(self, copy: Path) -> None:
        """Take the copy for the disk; nobody may have a file open on it."""
        subprocess.run(["umount", self.path], check=True)
        checked = subprocess.run(["e2fsck", "-fy", copy], capture_output=True)
        assert checked.returncode in (0, 1), checked.stdout.decode()
        copy.replace(self._image)
        subprocess.run(["mount", "-o", "loop", self._image, self.path], check=True)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Disk]:
    """A disk of so many bytes, until left; the test is skipped where nobody may mount one."""
    image, path = folder / "disk.img", folder / "disk"
    path.mkdir()
    image.touch()
    os.truncate(image, size)
    _or_skip("mkfs.ext4", "-q", "-m", "0", image)
    _or_skip("mount", "-o", "loop", image, path)
    try:
        yield Disk(image, path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that is soon full."""
    with mounted(tmp_path, SMALL) as disk:
        yield disk


def _or_skip(*command: str | Path) -> None:
    try:
        made = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no disk can be made here: {error}")
    if made.returncode:
        pytest.skip(f"no disk can be made here: {made.stderr.strip()}")
