from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.index.folder import Changes, Skipped, index_folder
from actors.index.store import IndexUnusable, Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "mill.md").write_text("# Mills\n\nA mill grinds grain.\n")
    (folder / "deep" / "bread.txt").write_text("Bread is baked.")
    (folder / ".hidden").write_text("secret")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "index.db", create=True)
    yield store
    store.close()


def test_passages_say_where_they_stand(store: Store, folder: Path) -> None:
    assert index_folder(store, folder) == Changes(added=2)
    assert [found.source for found in store.search("grain", 1)] == ["docs/mill.md:1"]
    assert store.search("secret", 1) == []


def test_a_second_run_reads_only_what_changed(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_folder(store, folder)
    (folder / "mill.md").write_text("A mill saws wood.")
    (folder / "new.txt").write_text("Paper is pressed.")
    assert index_folder(store, folder) == Changes(added=1, changed=1, unchanged=1)
    os.utime(folder / "new.txt")
    assert index_folder(store, folder) == Changes(unchanged=3)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    assert index_folder(store, folder) == Changes(unchanged=3)
    assert store.search("grain", 1) == []


def test_what_is_gone_is_taken_out_and_another_folder_stays(store: Store, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "bread.txt").write_text("Rye bread.")
    index_folder(store, folder)
    index_folder(store, other)
    (folder / "deep" / "bread.txt").unlink()
    assert index_folder(store, folder) == Changes(unchanged=1, removed=1)
    assert [found.source for found in store.search("bread", 3)] == ["other/bread.txt:1"]


def test_bad_files_are_named_and_skipped_and_all_others_indexed(store: Store, folder: Path) -> None:
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    (folder / "gone").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe")
    Path(os.fsdecode(bytes(folder) + b"/\xff.txt")).write_text("text")
    changes = index_folder(store, folder)
    assert changes.added == 2
    assert {skipped.path: skipped.reason.split(":")[0] for skipped in changes.skipped} == {
        "picture.png": "it is no UTF-8 text (byte 0)",
        "gone": "No such file or directory",
        "pipe": "it is no ordinary file",
        "\N{REPLACEMENT CHARACTER}.txt": "its name is no UTF-8",
    }


def test_what_is_indexed_of_a_file_that_went_bad_stays(store: Store, folder: Path) -> None:
    index_folder(store, folder)
    (folder / "mill.md").write_bytes(b"\xff\xff")
    [skipped] = index_folder(store, folder).skipped
    assert (skipped.path, skipped.kept) == ("mill.md", True)
    assert str(skipped).endswith("what is indexed of it stays")
    assert store.search("grain", 1)


def test_what_is_in_a_folder_that_cannot_be_read_stays(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_folder(store, folder)
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert index_folder(store, folder) == Changes(
        unchanged=1, skipped=[Skipped("deep/", "this folder cannot be read", kept=True)]
    )
    assert store.search("bread", 1)


def test_progress_is_told_before_each_file_and_at_the_end(store: Store, folder: Path) -> None:
    heard: list[tuple[int, int, str]] = []
    index_folder(store, folder, heard=lambda *said: heard.append(said))
    assert heard == [(0, 2, "mill.md"), (1, 2, "deep/bread.txt"), (2, 2, "")]


def test_no_folder_is_an_error_that_says_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(IndexUnusable, match="name the folder that has the documents"):
        index_folder(store, tmp_path / "nowhere")


DIES = """
import os, signal, sys
from pathlib import Path
from actors.index.folder import index_folder
from actors.index.store import Store

def dies(done, total, path):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

index_folder(Store.open(Path(sys.argv[1]), create=True), Path(sys.argv[2]), heard=dies)
"""


def test_a_run_that_was_killed_is_gone_on_with(folder: Path, tmp_path: Path) -> None:
    """Killed again and again, each time further on: nothing is lost, nothing is there twice or done again."""
    for n in range(6):
        (folder / f"{n}.txt").write_text(f"Text number {n}, which is about nothing else.")
    for at in (0, 3, 7):
        killed = subprocess.run([sys.executable, "-c", DIES, tmp_path / "k.db", folder, str(at)])
        assert killed.returncode == -signal.SIGKILL
        with_some = Store.open(tmp_path / "k.db")
        assert with_some.count() == (at, at)
        with_some.close()
    last = Store.open(tmp_path / "k.db")
    assert index_folder(last, folder) == Changes(added=1, unchanged=7)
    last.close()
