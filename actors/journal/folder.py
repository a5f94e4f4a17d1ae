"""A data folder that one program at a time may use."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from actors.contracts.errors import HeadraceError

LOCK = "lock"
POLL_S = 0.05


class FolderError(HeadraceError):
    """The data folder cannot be used; the message says what to do."""


class DataInUse(FolderError):
    """Another program has the data folder; `pid` is its process, if it left word."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        by = f"process {pid}" if pid else "another process"
        super().__init__(f"{folder} is in use by {by}: stop that one, or choose another data folder")
        self.pid = pid


class DataFolder:
    """A folder with a lock on it, made, closed to other users, if it is not there.

    The lock is held until this process and every child that was given `lock_fd` are gone: a server that outlives a
    killed parent by a moment still has its folder to itself. A holder that is such an orphan is waited for.
    """

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        self.path = path.absolute()
        self.lock_fd = -1
        self._patience = patience

    async def __aenter__(self) -> Self:
        """Raises DataInUse, or FolderError when the folder cannot be written."""
        self._open()
        try:
            await self._take()
        except BaseException:
            self._close()
            raise
        self.note()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def note(self, *children: int) -> None:
        """Leave word who has the lock: this process, and the children that hold it too."""
        line = " ".join(map(str, (os.getpid(), *children))).encode()
        # Only a message is the poorer without it; a full disk is for those to say who need the room.
        with suppress(OSError):
            os.ftruncate(self.lock_fd, os.pwrite(self.lock_fd, line, 0))

    def write(self, name: str, data: bytes) -> Path:
        """Replace a file at one stroke, readable by this user only. Raises FolderError."""
        target, draft = self.path / name, self.path / f"{name}.new"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError as error:
            raise _unusable(self.path, error) from error
        return target

    def _open(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock_fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(self.path, error) from error

    async def _take(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                while not self._try():
                    owner = next(iter(self._holders()), None)
                    if owner is not None and _is_alive(owner):
                        raise DataInUse(self.path, owner)
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise DataInUse(self.path, next(filter(_is_alive, self._holders()), None)) from None

    def _try(self) -> bool:
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise _unusable(self.path, error) from error
        return True

    def _holders(self) -> list[int]:
        return [int(word) for word in os.pread(self.lock_fd, 200, 0).split() if word.isdigit()]

    def _close(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def _unusable(path: Path, error: OSError) -> FolderError:
    return FolderError(
        f"cannot keep data in {path} ({error.strerror}): make room and write access, or choose another folder"
    )


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
