"""A data folder has one owner at a time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from actors.journal.folder import DataFolder, DataInUse, FolderError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_second_owner_is_told_who_has_it_and_what_to_do(tmp_path: Path) -> None:
    async with DataFolder(tmp_path):
        with pytest.raises(DataInUse) as caught:
            await DataFolder(tmp_path).__aenter__()
    assert caught.value.pid == os.getpid()
    assert (
        str(caught.value)
        == f"{tmp_path} is in use by process {os.getpid()}: stop that one, or choose another data folder"
    )


async def test_a_folder_that_was_let_go_can_be_taken(tmp_path: Path) -> None:
    async with DataFolder(tmp_path):
        pass
    async with DataFolder(tmp_path) as folder:
        assert folder.path == tmp_path


async def test_a_holder_that_left_no_word_is_reported_without_a_number(tmp_path: Path) -> None:
    async with DataFolder(tmp_path) as folder:
        os.ftruncate(folder.lock_fd, 0)
        with pytest.raises(DataInUse, match="in use by another process: stop") as caught:
            await DataFolder(tmp_path, patience=0).__aenter__()
    assert caught.value.pid is None


async def test_the_lock_is_held_until_those_who_were_given_it_are_gone(tmp_path: Path) -> None:
    async with DataFolder(tmp_path) as folder:
        given = os.dup(folder.lock_fd)
    try:
        with pytest.raises(DataInUse):
            await DataFolder(tmp_path, patience=0).__aenter__()
    finally:
        os.close(given)
    async with DataFolder(tmp_path, patience=0):
        pass


async def test_a_new_folder_is_closed_to_others_and_an_old_one_left_as_it_is(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    async with DataFolder(tmp_path), DataFolder(tmp_path / "deep" / "new") as new:
        assert mode(tmp_path) == 0o755
        assert mode(new.path) == 0o700


async def test_what_is_written_is_for_this_user_only(tmp_path: Path) -> None:
    async with DataFolder(tmp_path) as folder:
        folder.write("secret", b"one")
        written = folder.write("secret", b"two")
    assert written.read_bytes() == b"two"
    assert mode(written) == 0o600
    assert set(os.listdir(tmp_path)) == {"lock", "secret"}


async def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        FolderError, match=r"cannot keep data in .*: make room and write access, or choose another folder"
    ):
        await DataFolder(tmp_path / "file" / "data").__aenter__()
